/* rank.c: ranks and their parameters, and what an op of a rank works on, see rank.h. */
#include "rank.h"

#include <math.h>
#include <string.h>

/* ---- parameters ---- */

/* The head of a tied model holds the embedding's words. */
static const char *key_kind(const tdm_plan *plan, const tdm_rank_param *p)
{
    if (strcmp(p->kind->name, "head") == 0 && !plan->model.untie_embeddings &&
        strcmp(p->param->name, "words") == 0)
        return "embedding";
    return strstr(p->kind->name, "layer") ? "layer" : p->kind->name;
}

/* Evenly within +-1 / sqrt(inputs), biases and embeddings included. Source: torch.nn.Linear,
 * reset_parameters. Norms start at 1 and without shift. */
tdm_start tdm_start_of(const tdm_plan *plan, const tdm_rank_param *p, const tdm_shape *shape)
{
    uint64_t vectors = plan->model.norm == TDM_NORM_LAYER ? 2 : 1, seed = plan->routing_spec.seed;
    return (tdm_start){.bound = shape->fan_in > 0 ? 1 / sqrt((double)shape->fan_in) : 0,
                       .key = tdm_data_key(seed, key_kind(plan, p), p->param->name, p->layer),
                       .n_start = p->param->count / vectors,
                       .start = shape->start};
}

/* What the rank's optimizer updates, and whether its gradient counts in the norm. */
static void share_out(const tdm_plan *plan, uint32_t rank, tdm_rank_param *p)
{
    tdm_group_kind kind = p->param->expert ? TDM_GROUP_EDP : TDM_GROUP_DP;
    tdm_group group = tdm_mesh_group(&plan->mesh, kind, rank);
    tdm_shape shape = tdm_shape_of(plan, p->kind, p->param, rank);
    uint32_t index = tdm_group_index(&group, rank);
    uint64_t count = p->param->count;
    bool copy = p->param->embedding && strcmp(p->kind->name, "head") == 0;
    p->n_replicas = plan->parallel.distributed_optimizer ? group.size : 1;
    uint64_t run = tdm_ceil_div(count, p->n_replicas);
    p->first = p->n_replicas > 1 && index * run < count ? index * run : 0;
    p->count = index * run < count || p->n_replicas == 1 ? run : 0;
    if (p->count > count - p->first)
        p->count = count - p->first;
    tdm_group_kind parts = p->param->expert ? TDM_GROUP_ETP : TDM_GROUP_TP;
    bool is_first = tdm_mesh_group(&plan->mesh, parts, rank).rank0 == rank;
    p->counted = !copy && (is_first || !shape.replicated) && (p->n_replicas > 1 || index == 0);
}

/* Lists the parameters in the layout's order. */
static void list_params(tdm_arena *arena, tdm_rank *rank, const tdm_role *role)
{
    const tdm_plan *plan = rank->plan;
    uint32_t **first = TDM_ALLOC(arena, uint32_t *, role->n_chunks), n = 0;
    for (int fill = 0; fill < 2; fill++) {
        n = 0;
        for (uint32_t c = 0; c < role->n_chunks; c++) {
            const tdm_chunk *chunk = &role->chunks[c];
            first[c] = fill ? first[c] : TDM_ALLOC(arena, uint32_t, chunk->n_positions);
            uint32_t position = 0;
            for (uint32_t b = 0; b < chunk->n_blocks; b++)
                for (uint32_t i = 0; i < chunk->blocks[b].count; i++) {
                    const tdm_kind *kind = &plan->kinds[chunk->blocks[b].kind];
                    first[c][position++] = n;
                    for (uint32_t k = 0; k < kind->n_params; k++, n++)
                        if (fill)
                            rank->params[n] =
                                (tdm_rank_param){.kind = kind,
                                                 .param = &kind->params[k],
                                                 .layer = chunk->blocks[b].first_layer + i};
                }
        }
        if (!fill)
            rank->params = TDM_ALLOC(arena, tdm_rank_param, n);
    }
    rank->n_params = n;
    rank->first_param = (const uint32_t *const *)first;
    for (uint32_t i = 0; i < n; i++)
        share_out(plan, rank->rank, &rank->params[i]);
}

/* So many bytes, and the alignment's rest behind them. */
static void *take(unsigned char **next, uint64_t bytes)
{
    unsigned char *room = *next;
    *next += tdm_ceil_div(bytes, TDM_ALIGNMENT) * TDM_ALIGNMENT;
    return room;
}

uint64_t tdm_rank_place(tdm_rank *rank, void *statics)
{
    const tdm_training *training = &rank->plan->training;
    uint64_t weight_bytes = tdm_dtype_bytes(training->dtype),
             gradient_bytes = tdm_dtype_bytes(training->grad_dtype);
    bool masters = training->dtype != TDM_DTYPE_FP32;
    unsigned char *next = statics;
    for (uint32_t i = 0; i < rank->n_params; i++)
        rank->params[i].weight = take(&next, rank->params[i].param->count * weight_bytes);
    for (uint32_t i = 0; rank->plan->train && i < rank->n_params; i++)
        rank->params[i].gradient = take(&next, rank->params[i].param->count * gradient_bytes);
    for (uint32_t i = 0; rank->plan->train && i < rank->n_params; i++) {
        tdm_rank_param *p = &rank->params[i];
        uint64_t run = tdm_ceil_div(p->param->count, p->n_replicas);
        float *state = take(&next, (masters ? 3 : 2) * run * sizeof *state);
        p->master = masters ? state : NULL;
        p->first_moment = state + (masters ? run : 0);
        p->second_moment = p->first_moment + run;
    }
    return (uint64_t)(next - (unsigned char *)statics);
}

/* ---- ranks ---- */

static const tdm_work *const *works_of(tdm_arena *arena, const tdm_program *program)
{
    const tdm_work **works = TDM_ALLOC(arena, const tdm_work *, program->n_ops);
    for (uint32_t i = 0; i < program->n_ops; i++)
        if (!tdm_op_is_comm(program->ops[i].op))
            works[i] = tdm_work_of(&program->ops[i]);
    return works;
}

tdm_rank *tdm_ranks_new(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                        const tdm_routes *routes)
{
    enum { N_LISTS = 6 };
    tdm_rank *ranks = TDM_ALLOC(arena, tdm_rank, plan->mesh.world);
    const tdm_work *const **works = TDM_ALLOC(arena, const tdm_work *const *, plan->n_roles);
    for (uint32_t r = 0; r < plan->n_roles; r++)
        works[r] = works_of(arena, &programs[r]);
    for (uint32_t r = 0; r < plan->mesh.world; r++) {
        tdm_group tp = tdm_mesh_group(&plan->mesh, TDM_GROUP_TP, r),
                  dp = tdm_mesh_group(&plan->mesh, TDM_GROUP_DP, r),
                  ep = tdm_mesh_group(&plan->mesh, TDM_GROUP_EP, r),
                  etp = tdm_mesh_group(&plan->mesh, TDM_GROUP_ETP, r);
        ranks[r] = (tdm_rank){.plan = plan,
                              .routes = routes,
                              .rank = r,
                              .tp = tdm_group_index(&tp, r),
                              .dp = tdm_group_index(&dp, r),
                              .ep = tdm_group_index(&ep, r),
                              .etp = tdm_group_index(&etp, r),
                              .shares = TDM_ALLOC(arena, uint64_t, etp.size),
                              .works = works[plan->role_of[r]]};
        list_params(arena, &ranks[r], &plan->roles[plan->role_of[r]]);
        ranks[r].segments = TDM_ALLOC(arena, tdm_exec_segment, N_LISTS * (size_t)ranks[r].n_params);
    }
    return ranks;
}

/* ---- calls ---- */

const tdm_rank_param *tdm_call_param(const tdm_call *c, const char *name)
{
    const tdm_kind *kind = c->in->kind;
    for (uint32_t i = 0; kind && i < kind->n_params; i++)
        if (strcmp(kind->params[i].name, name) == 0)
            return &c->rank->params[c->rank->first_param[c->in->pass.chunk][c->in->position] + i];
    return NULL;
}

/* On a single stage the head of a tied model has no words of its own. */
static const tdm_rank_param *find_weight(const tdm_call *c)
{
    const tdm_rank_param *own = c->work->weight ? tdm_call_param(c, c->work->weight) : NULL;
    if (own || !c->work->weight || strcmp(c->work->weight, "words") != 0)
        return own;
    for (uint32_t i = 0; i < c->rank->n_params; i++)
        if (strcmp(c->rank->params[i].param->name, "words") == 0)
            return &c->rank->params[i];
    return NULL;
}

tdm_call tdm_call_of(tdm_rank *rank, const tdm_exec_op *op)
{
    const tdm_plan *plan = rank->plan;
    tdm_call c = {.plan = plan,
                  .model = &plan->model,
                  .rank = rank,
                  .in = op->instance,
                  .op = op->instance->op,
                  .work = rank->works[op->instance->index],
                  .tensors = op->tensors,
                  .step = op->step,
                  .h = plan->model.hidden_size,
                  .s = plan->seq_length,
                  .tokens = (uint64_t)plan->micro_batch_size * plan->seq_length,
                  .sp = plan->parallel.sequence_parallel && plan->mesh.tp > 1};
    c.shard = c.tokens / plan->mesh.tp;
    c.residual = c.sp ? c.shard : c.tokens;
    c.row0 = c.sp ? rank->tp * c.shard : 0;
    if (c.work) {
        c.weight = find_weight(&c);
        c.bias = c.work->bias ? tdm_call_param(&c, c.work->bias) : NULL;
    }
    return c;
}

/* Samples of a step are shared out microbatch by microbatch, replica by replica; every step has
 * others. */
uint64_t tdm_call_sample(const tdm_call *c, uint64_t token)
{
    const tdm_plan *plan = c->plan;
    uint64_t b = plan->micro_batch_size, dp = plan->mesh.dp;
    uint64_t of_step = ((uint64_t)c->in->pass.microbatch * dp + c->rank->dp) * b + token / c->s;
    return (uint64_t)c->step * plan->num_microbatches * dp * b + of_step;
}

uint64_t tdm_call_key(const tdm_call *c, const char *what)
{
    return tdm_data_key(c->plan->routing_spec.seed, "op", what, c->in->layer);
}

uint64_t tdm_call_own_rows(const tdm_call *c, uint32_t ref, uint64_t row_bytes)
{
    bool whole = c->tensors[ref].bytes > c->shard * row_bytes;
    return whole && c->work->way == TDM_WAY_LOCAL ? c->rank->tp * c->shard : 0;
}

bool tdm_call_adds_bias(const tdm_call *c)
{
    uint32_t member = c->op->kind == TDM_OP_GROUPED_GEMM ? c->rank->etp : c->rank->tp;
    return c->bias && (c->work->way != TDM_WAY_ROWS || member == 0);
}

uint64_t tdm_call_inner(const tdm_call *c)
{
    const tdm_model *m = c->model;
    if (c->op->u.memory.bytes.per_token > 0)
        return m->moe_ffn_hidden_size / c->plan->mesh.etp;
    bool shared = strncmp(c->op->name, "shared.", 7) == 0;
    return (shared ? m->moe_shared_expert_intermediate_size : m->ffn_hidden_size) /
           c->plan->mesh.tp;
}

tdm_heads tdm_heads_of(const tdm_call *c)
{
    const tdm_model *m = c->model;
    return (tdm_heads){.size = m->kv_channels,
                       .q = m->num_attention_heads / c->plan->mesh.tp,
                       .kv = m->num_query_groups / c->plan->mesh.tp,
                       .per_group = m->num_attention_heads / m->num_query_groups};
}

/* Row of routing tables for the op's layer and microbatch. */
static uint64_t row_of(const tdm_call *c)
{
    return (uint64_t)c->in->layer * c->plan->num_microbatches + c->in->pass.microbatch;
}

const uint32_t *tdm_call_rows_sent(const tdm_call *c, uint32_t rank)
{
    const tdm_routes *r = c->rank->routes;
    return r->rows + (row_of(c) * r->n_in_stage + rank % c->plan->mesh.per_stage) * r->n_experts;
}

const int32_t *tdm_call_choices(const tdm_call *c)
{
    const tdm_routes *r = c->rank->routes;
    uint64_t token = c->rank->tp * c->shard;
    return r->choices + ((row_of(c) * r->n_replicas + c->rank->dp) * r->tokens + token) * r->k;
}

uint32_t tdm_call_n_senders(const tdm_call *c)
{
    return c->plan->mesh.etp * c->plan->mesh.ep;
}

uint32_t tdm_call_sender(const tdm_call *c, uint32_t i)
{
    const tdm_mesh *mesh = &c->plan->mesh;
    tdm_group etp = tdm_mesh_group(mesh, TDM_GROUP_ETP, c->rank->rank),
              ep = tdm_mesh_group(mesh, TDM_GROUP_EP, tdm_group_member(&etp, i / mesh->ep));
    return tdm_group_member(&ep, i % mesh->ep);
}

uint32_t tdm_call_n_experts(const tdm_call *c)
{
    return c->model->num_experts / c->plan->mesh.ep;
}

uint32_t tdm_call_first_expert(const tdm_call *c)
{
    return c->rank->ep * tdm_call_n_experts(c);
}

uint64_t tdm_call_rows(const tdm_call *c, uint32_t local)
{
    uint64_t rows = 0;
    for (uint32_t i = 0; i < tdm_call_n_senders(c); i++)
        rows += tdm_call_rows_sent(c, tdm_call_sender(c, i))[tdm_call_first_expert(c) + local];
    return rows;
}
