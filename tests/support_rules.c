/* support_rules.c: plans and layouts recounted. */
#include "tests/support_rules.h"
#include "tests/support_planes.h"

#include "core/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* ---- passes ---- */

/* Where a microbatch stands in a chunk: nothing done, F, B, all of it. */
enum { FRESH, FORWARD, INPUT, DONE };

static void check_passes(const char *what, const tdm_plan *plan, uint32_t rank)
{
    static const struct {
        uint8_t from, to;
    } steps[TDM_N_PASS_KINDS] = {[TDM_PASS_F] = {FRESH, FORWARD},
                                 [TDM_PASS_B] = {FORWARD, INPUT},
                                 [TDM_PASS_W] = {INPUT, DONE},
                                 [TDM_PASS_BW] = {FORWARD, DONE}};
    const tdm_role *role = &plan->roles[plan->role_of[rank]];
    uint8_t at[256] = {FRESH};
    uint32_t n = plan->num_microbatches * role->n_chunks, n_passes = role->n_passes;
    RULE(what, n <= TDM_COUNT(at), "%u microbatches and chunks\n", n);
    if (plan->train && !plan->pass_times)
        RULE(what, role->passes[--n_passes].kind == TDM_PASS_O, "rank %u: no O at last\n", rank);
    for (uint32_t i = 0; i < n_passes; i++) {
        const tdm_pass *pass = &role->passes[i];
        uint32_t which = pass->chunk * plan->num_microbatches + pass->microbatch;
        RULE(what, pass->kind != TDM_PASS_O && which < n && at[which] == steps[pass->kind].from,
             "rank %u: pass %u\n", rank, i);
        at[which] = steps[pass->kind].to;
    }
    for (uint32_t i = 0; i < n; i++)
        RULE(what, at[i] == (plan->train ? DONE : FORWARD), "rank %u: microbatch %u\n", rank, i);
}

/* ---- transfers ---- */

/* [way][peer]: way 1 for chunks that run back in a V; to and from the next virtual stage, the
 * previous one. */
typedef struct traffic {
    uint64_t sent[2][2], received[2][2];
    uint32_t n_sent[2][2], n_received[2][2];
} traffic;

static traffic traffic_of(const tdm_plan *plan, uint32_t rank)
{
    traffic t = {0};
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, plan, rank);
    for (tdm_instance in; tdm_cursor_next(&cursor, &in);) {
        uint32_t way = plan->placement == TDM_PLACEMENT_V ? in.pass.chunk % 2u : 0;
        if (in.op->kind == TDM_OP_SEND) {
            t.sent[way][in.op->u.p2p.peer] += in.op->u.p2p.bytes;
            t.n_sent[way][in.op->u.p2p.peer]++;
        } else if (in.op->kind == TDM_OP_RECV) {
            t.received[way][in.op->u.p2p.peer] += in.op->u.p2p.bytes;
            t.n_received[way][in.op->u.p2p.peer]++;
        }
    }
    return t;
}

/* One transfer of the residual per microbatch, direction and pair of neighbouring chunks; before
 * and after: such pairs of this rank and way. */
static void check_way(const char *what, const tdm_plan *plan, uint32_t rank, uint32_t way,
                      uint32_t before, uint32_t after)
{
    const tdm_mesh *mesh = &plan->mesh;
    traffic here = traffic_of(plan, rank);
    /* Who takes what is sent to the next virtual stage. */
    uint32_t step = way == 0 ? mesh->per_stage : mesh->world - mesh->per_stage;
    traffic next = traffic_of(plan, (rank + step) % mesh->world);
    uint32_t back = plan->train;
    before *= plan->num_microbatches;
    after *= plan->num_microbatches;
    uint64_t tokens = (uint64_t)plan->micro_batch_size * plan->seq_length;
    uint64_t shares = plan->parallel.sequence_parallel ? mesh->tp : 1;
    uint64_t x_bytes =
        tokens / shares * plan->model.hidden_size * tdm_dtype_bytes(plan->training.dtype);
    RULE(what, here.n_sent[way][TDM_PEER_NEXT] == after, "rank %u\n", rank);
    RULE(what, here.n_received[way][TDM_PEER_NEXT] == after * back, "rank %u\n", rank);
    RULE(what, here.n_sent[way][TDM_PEER_PREVIOUS] == before * back, "rank %u\n", rank);
    RULE(what, here.n_received[way][TDM_PEER_PREVIOUS] == before, "rank %u\n", rank);
    if (after > 0) {
        RULE(what, here.sent[way][TDM_PEER_NEXT] == next.received[way][TDM_PEER_PREVIOUS],
             "rank %u\n", rank);
        RULE(what, here.received[way][TDM_PEER_NEXT] == next.sent[way][TDM_PEER_PREVIOUS],
             "rank %u\n", rank);
    }
    if (!plan->pass_times)
        RULE(what, here.sent[way][TDM_PEER_NEXT] == after * x_bytes, "rank %u: %llu bytes\n", rank,
             (unsigned long long)here.sent[way][TDM_PEER_NEXT]);
}

/* In a V nothing is sent at the turns, on the first and the last stage. */
static void check_transfers(const char *what, const tdm_plan *plan, uint32_t rank)
{
    const tdm_mesh *mesh = &plan->mesh;
    bool first = rank < mesh->per_stage, last = rank + mesh->per_stage >= mesh->world;
    uint32_t chunks = plan->roles[plan->role_of[rank]].n_chunks;
    if (plan->placement == TDM_PLACEMENT_LOOP) {
        check_way(what, plan, rank, 0, chunks - first, chunks - last);
        return;
    }
    uint32_t down = (chunks + 1) / 2, back = chunks / 2;
    check_way(what, plan, rank, 0, first ? 0 : down, last ? 0 : down);
    check_way(what, plan, rank, 1, last ? 0 : back, first ? 0 : back);
}

/* ---- routing ---- */

/* Pairs of one row: every rank dispatches its tokens topk times, and the experts get them all. */
static void check_row(const char *what, const tdm_plan *plan, uint32_t rank, uint32_t layer,
                      uint32_t microbatch)
{
    const uint32_t *sent = tdm_plan_sent(plan, rank, layer, microbatch);
    const uint32_t *experts = tdm_plan_experts(plan, rank, layer, microbatch);
    uint32_t ep = plan->mesh.ep, n_local = plan->model.num_experts / ep;
    uint64_t own = rules_rows(plan);
    if (!tdm_model_layer_has_experts(&plan->model, layer))
        own = 0;
    tdm_group group = tdm_mesh_group(&plan->mesh, TDM_GROUP_EP, rank);
    uint32_t index = tdm_group_index(&group, rank);
    uint64_t dispatched = 0, received = 0, worked = 0;
    for (uint32_t other = 0; other < ep; other++) {
        dispatched += sent[index * ep + other];
        received += sent[other * ep + index];
    }
    for (uint32_t e = 0; e < n_local; e++)
        worked += experts[index * n_local + e];
    bool pads = plan->routing_spec.pad_to_capacity;
    bool drops = plan->routing_spec.capacity_factor > 0 && !pads;
    RULE(what, drops ? dispatched <= own : dispatched == own, "rank %u layer %u: %llu\n", rank,
         layer, (unsigned long long)dispatched);
    RULE(what, pads ? received == own && worked <= received : received == worked,
         "rank %u layer %u\n", rank, layer);
    RULE(what, received == tdm_plan_routed(plan, rank, layer, microbatch).received,
         "rank %u layer %u\n", rank, layer);
}

/* Bytes that `src` moves to `dst` in an all-to-all. */
static uint64_t pair_bytes(const tdm_plan *plan, const tdm_instance *in, const tdm_group *group,
                           uint32_t src, uint32_t dst)
{
    const uint32_t *sent =
        tdm_plan_sent(plan, tdm_group_member(group, 0), in->layer, in->pass.microbatch);
    bool back = in->op->u.collective.a2a == TDM_A2A_COMBINE;
    return sent[back ? dst * group->size + src : src * group->size + dst] *
           in->op->u.collective.token_bytes;
}

/* The links of every GPU carry off its bytes and bring it its own: on bare planes of shared links
 * exactly, on ports at least what each has to move, with NCCL also what it relays. */
static void check_all_to_all(const char *what, const tdm_plan *plan, tdm_net *net, uint32_t rank,
                             const tdm_instance *in)
{
    tdm_group group = tdm_mesh_group(&plan->mesh, in->op->u.collective.group, rank);
    tdm_transfer transfer = tdm_comm_transfer(plan, net, rank, in);
    const tdm_topology *topology = tdm_net_topology(net);
    bool exact = !topology->graph && !tdm_topology_has_ports_only(topology);
    for (uint32_t i = 0; i < group.size; i++) {
        uint64_t sent = 0, received = 0;
        for (uint32_t k = 0; k < group.size; k++) {
            sent += k == i ? 0 : pair_bytes(plan, in, &group, i, k);
            received += k == i ? 0 : pair_bytes(plan, in, &group, k, i);
        }
        uint32_t gpu = tdm_group_member(&group, i);
        uint64_t out = support_gpu_bytes(net, &transfer, gpu, false),
                 back = support_gpu_bytes(net, &transfer, gpu, true);
        RULE(what, exact ? out == sent && back == received : out >= sent && back >= received,
             "rank %u op %u: member %u\n", rank, in->index, i);
    }
}

/* Layers of a rank that have experts. */
static uint32_t n_expert_layers(const tdm_plan *plan, uint32_t rank)
{
    const tdm_role *role = &plan->roles[plan->role_of[rank]];
    uint32_t n = 0;
    for (uint32_t c = 0; c < role->n_chunks; c++)
        for (uint32_t b = 0; b < role->chunks[c].n_blocks; b++) {
            const tdm_block *block = &role->chunks[c].blocks[b];
            bool layers = strstr(plan->kinds[block->kind].name, "layer") != NULL;
            for (uint32_t i = 0; layers && i < block->count; i++)
                n += tdm_model_layer_has_experts(&plan->model, block->first_layer + i);
        }
    return n;
}

/* Pairs that a rank dispatches in a layer and microbatch: all of its tokens' choices, but for what
 * is dropped. */
static uint64_t kept_pairs(const tdm_plan *plan, uint32_t rank, const tdm_instance *in)
{
    uint64_t pairs = rules_rows(plan);
    if (plan->routing_spec.capacity_factor <= 0)
        return pairs;
    const uint32_t *sent = tdm_plan_sent(plan, rank, in->layer, in->pass.microbatch);
    tdm_group group = tdm_mesh_group(&plan->mesh, TDM_GROUP_EP, rank);
    const uint32_t *own = sent + (size_t)tdm_group_index(&group, rank) * group.size;
    uint64_t kept = 0;
    for (uint32_t i = 0; i < group.size; i++)
        kept += own[i];
    return kept < pairs ? kept : pairs;
}

/* Everything a rank dispatches to its experts comes back to it: the same tokens both ways. */
static void check_round_trip(const char *what, const tdm_plan *plan, uint32_t rank)
{
    int64_t open[2] = {0}; /* bytes per token element: forward and backward dispatches less combines
                              of this rank */
    uint32_t n[2] = {0};
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, plan, rank);
    for (tdm_instance in; tdm_cursor_next(&cursor, &in);) {
        if (in.op->kind != TDM_OP_ALL_TO_ALL || in.op->recompute)
            continue;
        bool combine = in.op->u.collective.a2a == TDM_A2A_COMBINE;
        bool forward = in.pass.kind == TDM_PASS_F;
        uint64_t tokens = tdm_plan_routed(plan, rank, in.layer, in.pass.microbatch).received;
        uint64_t pairs = kept_pairs(plan, rank, &in);
        uint64_t bytes = tdm_figures_op_bytes(plan, rank, &in);
        RULE(what, bytes == (combine ? tokens : pairs) * in.op->u.collective.token_bytes,
             "rank %u op %u: %llu bytes\n", rank, in.index, (unsigned long long)bytes);
        open[!forward] += combine ? -1 : 1;
        n[!forward]++;
    }
    RULE(what, open[0] == 0 && open[1] == 0, "rank %u: dispatches without combines\n", rank);
    uint32_t expected = 2 * n_expert_layers(plan, rank) * plan->num_microbatches;
    RULE(what, n[0] == (plan->mesh.ep > 1 ? expected : 0), "rank %u: %u all-to-alls\n", rank, n[0]);
    RULE(what, n[1] == (plan->train ? n[0] : 0), "rank %u: %u of %u all-to-alls\n", rank, n[1],
         n[0]);
}

static void check_routing(const char *what, const tdm_plan *plan, const tdm_topology *topology)
{
    tdm_arena scratch = {0};
    tdm_net *net = tdm_net_new(&scratch, topology);
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        for (uint32_t layer = 0; layer < plan->model.num_layers; layer++)
            for (uint32_t mb = 0; mb < plan->num_microbatches; mb++)
                check_row(what, plan, rank, layer, mb);
        check_round_trip(what, plan, rank);
        tdm_cursor cursor;
        tdm_cursor_init(&cursor, plan, rank);
        for (tdm_instance in; tdm_cursor_next(&cursor, &in);)
            if (in.op->kind == TDM_OP_ALL_TO_ALL)
                check_all_to_all(what, plan, net, rank, &in);
    }
    tdm_arena_free(&scratch);
}

/* ---- gradients ---- */

/* Every gradient is reduced once over the ranks that hold the same parameter: those of an expert
 * over EDP, the others over DP. */
static void check_reductions(const char *what, const tdm_plan *plan, uint32_t rank)
{
    const tdm_role *role = &plan->roles[plan->role_of[rank]];
    uint64_t due[TDM_N_GROUP_KINDS] = {0}, reduced[TDM_N_GROUP_KINDS] = {0};
    for (uint32_t c = 0; c < role->n_chunks; c++)
        for (uint32_t b = 0; b < role->chunks[c].n_blocks; b++) {
            const tdm_block *block = &role->chunks[c].blocks[b];
            for (uint32_t i = 0; i < plan->kinds[block->kind].n_params; i++) {
                const tdm_param *param = &plan->kinds[block->kind].params[i];
                tdm_group_kind group = param->expert ? TDM_GROUP_EDP : TDM_GROUP_DP;
                if (tdm_mesh_group(&plan->mesh, group, rank).size > 1)
                    due[group] += param->count * block->count;
            }
        }
    for (uint32_t i = 0; i < role->optimizer.n_ops; i++) {
        const tdm_op *op = &role->optimizer.ops[i];
        if (op->kind == TDM_OP_ALL_REDUCE || op->kind == TDM_OP_REDUCE_SCATTER)
            reduced[op->u.collective.group] +=
                op->u.collective.bytes / tdm_dtype_bytes(plan->training.grad_dtype);
    }
    RULE(what,
         due[TDM_GROUP_DP] == reduced[TDM_GROUP_DP] && due[TDM_GROUP_EDP] == reduced[TDM_GROUP_EDP],
         "rank %u: gradients\n", rank);
}

void rules_plan(const char *what, const tdm_plan *plan, const tdm_topology *topology)
{
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        check_passes(what, plan, rank);
        check_transfers(what, plan, rank);
        if (plan->train && !plan->pass_times)
            check_reductions(what, plan, rank);
    }
    if (!plan->pass_times && plan->model.num_experts > 0)
        check_routing(what, plan, topology);
    if (!plan->pass_times && plan->model.num_experts > 0)
        rules_etp(what, plan, topology);
}

/* ---- layouts ---- */

static uint32_t layer_at(const tdm_chunk *chunk, uint32_t position)
{
    uint32_t b = 0;
    for (; position >= chunk->blocks[b].count; b++)
        position -= chunk->blocks[b].count;
    return chunk->blocks[b].first_layer + position;
}

/* Adds the bytes that an op's births take, or its deaths give back. */
static void count_refs(const tdm_plan *plan, uint32_t rank, const tdm_instance *in, bool deaths,
                       uint64_t live[TDM_N_CLASSES])
{
    const tdm_role *role = &plan->roles[plan->role_of[rank]];
    for (uint32_t r = 0; r < in->op->n_refs; r++) {
        const tdm_ref *ref = &in->op->refs[r];
        if (!(deaths ? ref->death : ref->birth))
            continue;
        const tdm_chunk *chunk = &role->chunks[in->pass.chunk];
        uint32_t position = in->position + ref->next;
        if (position == chunk->n_positions) { /* the turn of a V */
            RULE("turn", plan->placement == TDM_PLACEMENT_V, "rank %u: past its chunk\n", rank);
            chunk++;
            position = 0;
        }
        const tdm_slot *slot = &tdm_plan_kind_at(plan, chunk, position)->slots[ref->slot];
        tdm_routed routed = {0};
        if (slot->bytes.per_token + slot->bytes.per_received > 0)
            routed = tdm_plan_routed(plan, rank, layer_at(chunk, position), in->pass.microbatch);
        uint64_t bytes = slot->bytes.fixed + slot->bytes.per_token * routed.tokens +
                         slot->bytes.per_received * routed.received;
        live[slot->class_] += deaths ? -bytes : bytes;
    }
}

static uint64_t sum(const uint64_t bytes[TDM_N_CLASSES])
{
    uint64_t total = 0;
    for (uint32_t k = 0; k < TDM_N_CLASSES; k++)
        total += bytes[k];
    return total;
}

void rules_layout(const char *what, const tdm_plan *plan, const tdm_layout *layout)
{
    uint64_t at_rest[TDM_N_CLASSES], live[TDM_N_CLASSES], peak = 0;
    uint64_t class_peak[TDM_N_CLASSES] = {0};
    tdm_layout_static(plan, layout->rank, at_rest);
    memcpy(live, at_rest, sizeof live);
    uint32_t pass = 0;
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, plan, layout->rank);
    for (tdm_instance in; tdm_cursor_next(&cursor, &in);) {
        for (; pass < in.pass_index; pass++)
            RULE(what, sum(layout->timeline + (size_t)pass * TDM_N_CLASSES) == sum(live),
                 "rank %u after pass %u\n", layout->rank, pass);
        count_refs(plan, layout->rank, &in, false, live);
        peak = sum(live) > peak ? sum(live) : peak;
        for (uint32_t k = 0; k < TDM_N_CLASSES; k++)
            class_peak[k] = live[k] > class_peak[k] ? live[k] : class_peak[k];
        count_refs(plan, layout->rank, &in, true, live);
    }
    RULE(what, memcmp(live, at_rest, sizeof live) == 0, "rank %u: left alive\n", layout->rank);
    RULE(what, layout->live_peak_bytes == peak, "rank %u: %llu, counted %llu\n", layout->rank,
         (unsigned long long)layout->live_peak_bytes, (unsigned long long)peak);
    RULE(what, sum(layout->class_at_peak) == peak, "rank %u\n", layout->rank);
    RULE(what, memcmp(class_peak, layout->class_peak, sizeof class_peak) == 0, "rank %u\n",
         layout->rank);
    RULE(what, layout->arena_bytes >= peak && layout->static_bytes >= sum(at_rest), "rank %u\n",
         layout->rank);
}
