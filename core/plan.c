/* plan.c: names, lookups and the cursor that expands a plan into ops. */
#include "plan.h"

#include <assert.h>

const char *tdm_stream_name(tdm_stream stream)
{
    static const char *const names[TDM_N_STREAMS] = {
        "compute", "tp",           "ep",           "dp",           "pp-send",
        "pp-recv", "pp-send-grad", "pp-recv-grad", "pp-send-back", "pp-send-grad-back"};
    assert((unsigned)stream < TDM_N_STREAMS);
    return names[stream];
}

const char *tdm_pass_kind_name(tdm_pass_kind kind)
{
    static const char *const names[TDM_N_PASS_KINDS] = {"F", "B", "W", "BW", "O"};
    assert((unsigned)kind < TDM_N_PASS_KINDS);
    return names[kind];
}

const char *tdm_op_kind_name(tdm_op_kind kind)
{
    static const char *const names[TDM_N_OP_KINDS] = {
        "gemm",      "grouped-gemm", "attention",  "attention-backward", "memory",
        "timed",     "all-reduce",   "all-gather", "reduce-scatter",     "all-to-all",
        "broadcast", "send",         "recv",
    };
    assert((unsigned)kind < TDM_N_OP_KINDS);
    return names[kind];
}

const char *tdm_class_name(tdm_class class_)
{
    static const char *const names[TDM_N_CLASSES] = {"weights",    "gradients", "optimizer",
                                                     "activation", "comm",      "workspace"};
    assert((unsigned)class_ < TDM_N_CLASSES);
    return names[class_];
}

static bool walks_up(tdm_pass_kind kind)
{
    return kind == TDM_PASS_F;
}

static const tdm_chunk *cursor_chunk(const tdm_cursor *c)
{
    return &c->role->chunks[c->role->passes[c->pass].chunk];
}

/* Stands the cursor at the first block of its pass. */
static void enter_pass(tdm_cursor *c)
{
    c->op = c->repeat = c->block = c->position = 0;
    c->fresh_pass = true;
    if (c->pass >= c->role->n_passes)
        return;
    const tdm_pass *pass = &c->role->passes[c->pass];
    if (pass->kind == TDM_PASS_O || walks_up(pass->kind))
        return;
    c->block = cursor_chunk(c)->n_blocks - 1;
    c->position = cursor_chunk(c)->n_positions - 1;
}

void tdm_cursor_init(tdm_cursor *cursor, const tdm_plan *plan, uint32_t rank)
{
    assert(rank < plan->mesh.world);
    *cursor = (tdm_cursor){.plan = plan, .role = &plan->roles[plan->role_of[rank]]};
    enter_pass(cursor);
}

/* Goes to the next position of the pass; false at the pass's end. */
static bool next_position(tdm_cursor *c, tdm_pass_kind kind)
{
    const tdm_chunk *chunk = cursor_chunk(c);
    c->op = 0;
    bool last_repeat = ++c->repeat == chunk->blocks[c->block].count;
    if (last_repeat) {
        c->repeat = 0;
        if (walks_up(kind) ? c->block + 1 == chunk->n_blocks : c->block == 0)
            return false;
        c->block = walks_up(kind) ? c->block + 1 : c->block - 1;
    }
    c->position = walks_up(kind) ? c->position + 1 : c->position - 1;
    return true;
}

const tdm_template *tdm_plan_template(const tdm_plan *plan, const tdm_role *role,
                                      const tdm_pass *pass, uint32_t block)
{
    if (pass->kind == TDM_PASS_O)
        return &role->optimizer;
    return &plan->kinds[role->chunks[pass->chunk].blocks[block].kind].templates[pass->kind];
}

static void fill(const tdm_cursor *c, const tdm_pass *pass, const tdm_op *op, tdm_instance *out)
{
    *out = (tdm_instance){.op = op,
                          .index = c->index,
                          .pass_index = c->pass,
                          .pass = *pass,
                          .position = c->position,
                          .first_of_pass = c->fresh_pass};
    if (pass->kind == TDM_PASS_O)
        return;
    const tdm_block *block = &cursor_chunk(c)->blocks[c->block];
    uint32_t step = walks_up(pass->kind) ? c->repeat : block->count - 1 - c->repeat;
    out->kind = &c->plan->kinds[block->kind];
    out->layer = block->first_layer + step;
}

bool tdm_cursor_next(tdm_cursor *c, tdm_instance *instance)
{
    while (c->pass < c->role->n_passes) {
        const tdm_pass *pass = &c->role->passes[c->pass];
        const tdm_template *template = tdm_plan_template(c->plan, c->role, pass, c->block);
        if (c->op < template->n_ops) {
            fill(c, pass, &template->ops[c->op], instance);
            c->op++;
            c->index++;
            c->fresh_pass = false;
            return true;
        }
        if (pass->kind != TDM_PASS_O && next_position(c, pass->kind))
            continue;
        c->pass++;
        enter_pass(c);
    }
    return false;
}

uint32_t tdm_plan_n_ops(const tdm_plan *plan, uint32_t rank)
{
    const tdm_role *role = &plan->roles[plan->role_of[rank]];
    uint32_t n = 0;
    for (uint32_t p = 0; p < role->n_passes; p++) {
        const tdm_pass *pass = &role->passes[p];
        if (pass->kind == TDM_PASS_O) {
            n += role->optimizer.n_ops;
            continue;
        }
        const tdm_chunk *chunk = &role->chunks[pass->chunk];
        for (uint32_t b = 0; b < chunk->n_blocks; b++)
            n += chunk->blocks[b].count *
                 plan->kinds[chunk->blocks[b].kind].templates[pass->kind].n_ops;
    }
    return n;
}

const tdm_kind *tdm_plan_kind_at(const tdm_plan *plan, const tdm_chunk *chunk, uint32_t position)
{
    for (uint32_t b = 0; b < chunk->n_blocks; b++) {
        if (position < chunk->blocks[b].count)
            return &plan->kinds[chunk->blocks[b].kind];
        position -= chunk->blocks[b].count;
    }
    assert(!"position past the chunk");
    return NULL;
}

uint32_t tdm_plan_turn(const tdm_role *role, uint32_t chunk)
{
    uint32_t c = 0;
    while (c < role->n_chunks &&
           role->chunks[c].virtual_stage != role->chunks[chunk].virtual_stage + 1)
        c++;
    return c;
}

/* Row of a routing table: [replica][layer][microbatch]. */
static uint64_t routing_row(const tdm_plan *plan, uint32_t rank, uint32_t layer,
                            uint32_t microbatch)
{
    const tdm_routing_table *t = &plan->routing;
    uint32_t in_stage = rank % plan->mesh.per_stage;
    uint32_t replica = tdm_mesh_group(&plan->mesh, TDM_GROUP_EP, in_stage).id;
    assert(replica < t->n_replicas && layer < t->n_layers && microbatch < t->n_microbatches);
    return ((uint64_t)replica * t->n_layers + layer) * t->n_microbatches + microbatch;
}

const uint32_t *tdm_plan_sent(const tdm_plan *plan, uint32_t rank, uint32_t layer,
                              uint32_t microbatch)
{
    return plan->routing.sent +
           routing_row(plan, rank, layer, microbatch) * plan->routing.ep * plan->routing.ep;
}

const uint32_t *tdm_plan_experts(const tdm_plan *plan, uint32_t rank, uint32_t layer,
                                 uint32_t microbatch)
{
    return plan->routing.experts +
           routing_row(plan, rank, layer, microbatch) * plan->routing.n_experts;
}

/* Index of the rank's share of the experts, 0 .. ep - 1. */
static uint32_t expert_share(const tdm_plan *plan, uint32_t rank)
{
    return rank / plan->mesh.etp % plan->mesh.ep;
}

/* Member 0 of the rank's ETP group: those that follow are in the EP groups that follow. */
static uint32_t first_of_experts(const tdm_plan *plan, uint32_t rank)
{
    return rank - rank % plan->mesh.etp;
}

/* Rows of the table from one EP group to the next. */
static size_t rows_apart(const tdm_routing_table *t)
{
    return (size_t)t->n_layers * t->n_microbatches;
}

tdm_received tdm_plan_received(const tdm_plan *plan, uint32_t rank, uint32_t layer,
                               uint32_t microbatch)
{
    const tdm_routing_table *t = &plan->routing;
    if (t->n_layers == 0)
        return (tdm_received){.sent = NULL};
    return (tdm_received){.sent =
                              tdm_plan_sent(plan, first_of_experts(plan, rank), layer, microbatch),
                          .step = rows_apart(t) * t->ep * t->ep,
                          .ep = t->ep,
                          .dst = expert_share(plan, rank)};
}

uint64_t tdm_received_by(const tdm_received *received, uint32_t member)
{
    const uint32_t *sent = received->sent + member * received->step + received->dst;
    uint64_t rows = 0;
    for (uint32_t src = 0; src < received->ep; src++)
        rows += sent[(size_t)src * received->ep];
    return rows;
}

tdm_routed tdm_plan_routed(const tdm_plan *plan, uint32_t rank, uint32_t layer, uint32_t microbatch)
{
    tdm_received received = tdm_plan_received(plan, rank, layer, microbatch);
    tdm_routed routed = {0};
    for (uint32_t i = 0; received.sent && i < plan->mesh.etp; i++) {
        uint64_t rows = tdm_received_by(&received, i);
        routed.tokens += rows;
        routed.received = i == rank % plan->mesh.etp ? rows : routed.received;
    }
    return routed;
}

uint64_t tdm_plan_tokens(const tdm_plan *plan, uint32_t rank, uint32_t layer, uint32_t microbatch)
{
    return tdm_plan_routed(plan, rank, layer, microbatch).tokens;
}

uint64_t tdm_plan_pairs(const tdm_plan *plan, uint32_t rank, uint32_t layer, uint32_t microbatch)
{
    const tdm_routing_table *t = &plan->routing;
    if (t->n_layers == 0)
        return 0;
    uint32_t n_local = t->n_experts / t->ep;
    const uint32_t *experts =
        tdm_plan_experts(plan, first_of_experts(plan, rank), layer, microbatch) +
        (size_t)expert_share(plan, rank) * n_local;
    uint64_t pairs = 0;
    for (uint32_t i = 0; i < plan->mesh.etp; i++)
        for (uint32_t e = 0; e < n_local; e++)
            pairs += experts[i * rows_apart(t) * t->n_experts + e];
    return pairs;
}

uint32_t tdm_plan_peer(const tdm_plan *plan, uint32_t rank, const tdm_instance *instance)
{
    const tdm_role *role = &plan->roles[plan->role_of[rank]];
    uint32_t last = role->n_chunks * plan->mesh.pp - 1;
    uint32_t virtual_stage = role->chunks[instance->pass.chunk].virtual_stage;
    bool next = instance->op->u.p2p.peer == TDM_PEER_NEXT;
    if (next ? virtual_stage >= last : virtual_stage == 0)
        return UINT32_MAX;
    uint32_t stage = tdm_placement_stage(plan->placement, plan->mesh.pp,
                                         next ? virtual_stage + 1 : virtual_stage - 1);
    return tdm_mesh_at_stage(&plan->mesh, rank, stage);
}

uint64_t tdm_plan_op_bytes(const tdm_plan *plan, uint32_t rank, const tdm_instance *instance)
{
    const tdm_op *op = instance->op;
    uint64_t bytes = op->u.collective.bytes;
    if (tdm_op_is_routed_gather(op))
        bytes += op->u.collective.token_bytes *
                 tdm_plan_tokens(plan, rank, instance->layer, instance->pass.microbatch);
    return bytes;
}

double tdm_op_flops(const tdm_plan *plan, uint32_t rank, const tdm_instance *instance)
{
    const tdm_op *op = instance->op;
    switch (op->kind) {
    case TDM_OP_GEMM:
        return 2.0 * (double)op->u.gemm.m * (double)op->u.gemm.n * (double)op->u.gemm.k *
               (double)op->u.gemm.batch;
    case TDM_OP_GROUPED_GEMM:
        return 2.0 *
               (double)tdm_plan_tokens(plan, rank, instance->layer, instance->pass.microbatch) *
               (double)op->u.grouped.n * (double)op->u.grouped.k;
    case TDM_OP_ATTENTION:
    case TDM_OP_ATTENTION_BACKWARD: {
        /* Forward: scores and weighted sum, 2 x 2 b a s^2 d; backward: four products of that size
         * (the fifth, that repeats the scores, is not counted). Source: Korthikanti et al. 2022,
         * appendix A. */
        double s = (double)op->u.attention.seq;
        double forward = 4.0 * (double)op->u.attention.batch * (double)op->u.attention.heads * s *
                         s * (double)op->u.attention.head_size;
        return op->kind == TDM_OP_ATTENTION ? forward : 2.0 * forward;
    }
    default:
        return 0.0;
    }
}
