/* support_rules_etp.c: experts split over ETP groups, recounted. */
#include "tests/support_rules.h"

#include "tests/support_planes.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

uint64_t rules_rows(const tdm_plan *plan)
{
    const tdm_model *m = &plan->model;
    uint64_t tokens = (uint64_t)plan->micro_batch_size * plan->seq_length / plan->mesh.tp;
    uint64_t pairs = tokens * m->moe_router_topk;
    if (!plan->routing_spec.pad_to_capacity)
        return pairs;
    double even = (double)pairs / m->num_experts;
    return m->num_experts * (uint64_t)ceil(even * plan->routing_spec.capacity_factor);
}

/* Rows that one rank's all-to-all brings it: its column of its EP group's counts. */
static uint64_t column(const tdm_plan *plan, uint32_t rank, const tdm_instance *in)
{
    tdm_group group = tdm_mesh_group(&plan->mesh, TDM_GROUP_EP, rank);
    const uint32_t *sent = tdm_plan_sent(plan, rank, in->layer, in->pass.microbatch);
    uint64_t rows = 0;
    for (uint32_t i = 0; i < group.size; i++)
        rows += sent[(size_t)i * group.size + tdm_group_index(&group, rank)];
    return rows;
}

/* Rows of the whole ETP group. */
static uint64_t group_rows(const tdm_plan *plan, uint32_t rank, const tdm_instance *in)
{
    tdm_group group = tdm_mesh_group(&plan->mesh, TDM_GROUP_ETP, rank);
    uint64_t rows = 0;
    for (uint32_t i = 0; i < group.size; i++)
        rows += column(plan, tdm_group_member(&group, i), in);
    return rows;
}

/* A gather brings every member the rows of the others, a reduce-scatter takes them from it; rings
 * over several ports round up to whole bytes on each edge. NCCL moves uneven shares as even ones of
 * the same sum, and by some algorithms more. */
static void check_flows(const char *what, const tdm_plan *plan, tdm_net *net, uint32_t rank,
                        const tdm_instance *in)
{
    const tdm_topology *topology = tdm_net_topology(net);
    tdm_group group = tdm_mesh_group(&plan->mesh, TDM_GROUP_ETP, rank);
    tdm_transfer transfer = tdm_comm_transfer(plan, net, rank, in);
    bool gathers = in->op->kind == TDM_OP_ALL_GATHER;
    uint64_t all = group_rows(plan, rank, in) * in->op->u.collective.token_bytes;
    for (uint32_t i = 0; i < group.size; i++) {
        uint32_t member = tdm_group_member(&group, i);
        uint64_t others = all - column(plan, member, in) * in->op->u.collective.token_bytes;
        uint64_t moved = support_gpu_bytes(net, &transfer, member, gathers);
        if (topology->graph)
            RULE(what, moved >= all - all / group.size, "rank %u op %u: member %u\n", rank,
                 in->index, i);
        else
            RULE(what, moved >= others && moved < others + 2 * topology->n_gpus,
                 "rank %u op %u: member %u moves %llu of %llu\n", rank, in->index, i,
                 (unsigned long long)moved, (unsigned long long)others);
    }
}

/* What a rank does over ETP in a pass F, and in the passes of the gradient. */
typedef struct tally {
    uint64_t gathers[2], scatters[2], layers;
    double flops[2]; /* of the experts: forward, and gradient */
} tally;

static void check_op(const char *what, const tdm_plan *plan, tdm_net *net, uint32_t rank,
                     const tdm_instance *in, tally *t)
{
    const tdm_op *op = in->op;
    bool back = in->pass.kind != TDM_PASS_F;
    uint64_t rows = group_rows(plan, rank, in);
    if (op->kind == TDM_OP_GROUPED_GEMM) {
        double flops = 2.0 * (double)rows * (double)op->u.grouped.n * (double)op->u.grouped.k;
        RULE(what, fabs(flops - tdm_op_flops(plan, rank, in)) <= 0, "rank %u op %u\n", rank,
             in->index);
        t->flops[back] += op->recompute ? 0 : flops;
        return;
    }
    if (!tdm_op_is_collective(op->kind) || op->u.collective.group != TDM_GROUP_ETP)
        return;
    uint64_t bytes = rows * plan->model.hidden_size * tdm_dtype_bytes(plan->training.dtype);
    RULE(what, tdm_figures_op_bytes(plan, rank, in) == bytes, "rank %u op %u: %llu bytes\n", rank,
         in->index, (unsigned long long)tdm_figures_op_bytes(plan, rank, in));
    RULE(what, op->kind == TDM_OP_ALL_GATHER || op->kind == TDM_OP_REDUCE_SCATTER, "rank %u\n",
         rank);
    check_flows(what, plan, net, rank, in);
    if (!op->recompute)
        (op->kind == TDM_OP_ALL_GATHER ? t->gathers : t->scatters)[back]++;
}

static void check_rank(const char *what, const tdm_plan *plan, tdm_net *net, uint32_t rank)
{
    const tdm_model *m = &plan->model;
    tally t = {0};
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, plan, rank);
    double columns = (m->swiglu ? 3.0 : 2.0) * m->moe_ffn_hidden_size / plan->mesh.etp, worked = 0;
    for (tdm_instance in; tdm_cursor_next(&cursor, &in);) {
        if (!in.kind || strcmp(in.kind->name, "moe-layer") != 0)
            continue;
        check_op(what, plan, net, rank, &in, &t);
        if (strcmp(in.op->name, "unpermute") == 0) { /* once a layer and microbatch */
            t.layers++;
            worked += 2.0 * (double)group_rows(plan, rank, &in) * m->hidden_size * columns;
        }
    }
    uint64_t expected = plan->mesh.etp > 1 ? t.layers : 0;
    for (int back = 0; back <= plan->train; back++)
        RULE(what, t.gathers[back] == expected && t.scatters[back] == expected,
             "rank %u: %llu gathers of %llu\n", rank, (unsigned long long)t.gathers[back],
             (unsigned long long)expected);
    RULE(what, fabs(t.flops[0] - worked) <= 1e-9 * worked, "rank %u: %g, not %g\n", rank,
         t.flops[0], worked);
    RULE(what, !plan->train || fabs(t.flops[1] - 2 * worked) <= 1e-9 * worked,
         "rank %u: gradient %g, not %g\n", rank, t.flops[1], 2 * worked);
}

/* Every expert's matrices are once on the ranks of an ETP group; its output's bias is on each. */
static void check_params(const char *what, const tdm_plan *plan)
{
    const tdm_model *m = &plan->model;
    for (uint32_t k = 0; k < plan->n_kinds; k++) {
        uint64_t held = 0, h = m->hidden_size, f = m->moe_ffn_hidden_size;
        for (uint32_t i = 0; i < plan->kinds[k].n_params; i++)
            held += plan->kinds[k].params[i].expert ? plan->kinds[k].params[i].count : 0;
        if (strcmp(plan->kinds[k].name, "moe-layer") != 0) {
            RULE(what, held == 0, "kind %s\n", plan->kinds[k].name);
            continue;
        }
        uint64_t f1 = m->swiglu ? 2 * f : f, expert = h * f1 + f * h;
        if (m->add_bias_linear)
            expert += f1 + plan->mesh.etp * h;
        RULE(what, held * plan->mesh.ep * plan->mesh.etp == expert * m->num_experts,
             "%llu of an expert's parameters\n", (unsigned long long)held);
    }
}

void rules_etp(const char *what, const tdm_plan *plan, const tdm_topology *topology)
{
    tdm_arena scratch = {0};
    tdm_net *net = tdm_net_new(&scratch, topology);
    check_params(what, plan);
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++)
        check_rank(what, plan, net, rank);
    tdm_arena_free(&scratch);
}
