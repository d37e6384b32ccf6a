/* lower_build.c: drafts of kinds: slots, parameters, ops and their refs. */
#include "lower_build.h"

#include <assert.h>
#include <string.h>

tdm_draft *tdm_draft_new(tdm_arena *arena, const tdm_dims *dims, const char *name)
{
    tdm_draft *draft = TDM_ALLOC(arena, tdm_draft, 1);
    draft->arena = arena;
    draft->dims = dims;
    draft->name = name;
    uint16_t x = tdm_draft_slot(draft, "x", dims->x_bytes, 0);
    uint16_t dx = tdm_draft_slot(draft, "dx", dims->x_bytes, 0);
    assert(x == TDM_SLOT_X && dx == TDM_SLOT_DX);
    (void)x;
    (void)dx;
    return draft;
}

uint16_t tdm_draft_slot(tdm_draft *draft, const char *name, uint64_t fixed, uint64_t per_token)
{
    assert(draft->n_slots < TDM_MAX_DRAFT_SLOTS);
    draft->slots[draft->n_slots] = (tdm_slot){.name = name, .bytes = {fixed, per_token, 0}};
    return (uint16_t)draft->n_slots++;
}

uint16_t tdm_draft_find(const tdm_draft *draft, const char *name)
{
    for (uint32_t i = 0; i < draft->n_slots; i++)
        if (strcmp(draft->slots[i].name, name) == 0)
            return (uint16_t)i;
    assert(!"no such slot");
    return 0;
}

tdm_param *tdm_draft_param(tdm_draft *draft, const char *name, uint64_t count)
{
    assert(draft->n_params < TDM_MAX_DRAFT_PARAMS);
    tdm_param *param = &draft->params[draft->n_params++];
    *param = (tdm_param){.name = name, .count = count};
    return param;
}

static tdm_draft_op *append(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                            tdm_op_kind kind, tdm_stream stream)
{
    tdm_draft_list *list = pass == TDM_PASS_F ? &draft->forward : &draft->gradient;
    assert(list->n < TDM_MAX_DRAFT_OPS);
    tdm_draft_op *op = &list->ops[list->n++];
    op->op = (tdm_op){.name = name,
                      .kind = kind,
                      .stream = stream,
                      .pass = pass,
                      .dtype = draft->dims->scenario->training.dtype};
    return op;
}

tdm_draft_op *tdm_draft_gemm(tdm_draft *draft, tdm_pass_kind pass, const char *name, uint64_t m,
                             uint64_t n, uint64_t k, uint32_t batch)
{
    tdm_draft_op *op = append(draft, pass, name, TDM_OP_GEMM, TDM_STREAM_COMPUTE);
    op->op.u.gemm.m = m;
    op->op.u.gemm.n = n;
    op->op.u.gemm.k = k;
    op->op.u.gemm.batch = batch;
    return op;
}

tdm_draft_op *tdm_draft_grouped(tdm_draft *draft, tdm_pass_kind pass, const char *name, uint64_t n,
                                uint64_t k)
{
    tdm_draft_op *op = append(draft, pass, name, TDM_OP_GROUPED_GEMM, TDM_STREAM_COMPUTE);
    op->op.u.grouped.n = n;
    op->op.u.grouped.k = k;
    op->op.u.grouped.rows_inner = pass == TDM_PASS_W;
    return op;
}

tdm_draft_op *tdm_draft_attention(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                                  uint32_t heads, uint32_t kv_heads)
{
    const tdm_scenario *scenario = draft->dims->scenario;
    tdm_op_kind kind = pass == TDM_PASS_F ? TDM_OP_ATTENTION : TDM_OP_ATTENTION_BACKWARD;
    tdm_draft_op *op = append(draft, pass, name, kind, TDM_STREAM_COMPUTE);
    op->op.u.attention.batch = scenario->micro_batch_size;
    op->op.u.attention.seq = scenario->seq_length;
    op->op.u.attention.heads = heads;
    op->op.u.attention.kv_heads = kv_heads;
    op->op.u.attention.head_size = scenario->model.kv_channels;
    op->op.u.attention.causal = true;
    return op;
}

tdm_draft_op *tdm_draft_memory(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                               uint64_t fixed, uint64_t per_token)
{
    tdm_draft_op *op = append(draft, pass, name, TDM_OP_MEMORY, TDM_STREAM_COMPUTE);
    op->op.u.memory.bytes = (tdm_size){.fixed = fixed, .per_token = per_token};
    return op;
}

tdm_draft_op *tdm_draft_timed(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                              double seconds)
{
    tdm_draft_op *op = append(draft, pass, name, TDM_OP_TIMED, TDM_STREAM_COMPUTE);
    op->op.u.timed.seconds = seconds;
    return op;
}

tdm_draft_op *tdm_draft_collective(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                                   tdm_op_kind kind, tdm_group_kind group, uint64_t bytes)
{
    tdm_stream stream = group == TDM_GROUP_TP    ? TDM_STREAM_TP
                        : group == TDM_GROUP_ETP ? TDM_STREAM_EP
                                                 : TDM_STREAM_DP;
    tdm_draft_op *op = append(draft, pass, name, kind, stream);
    op->op.u.collective.group = group;
    op->op.u.collective.bytes = bytes;
    return op;
}

tdm_draft_op *tdm_draft_all_to_all(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                                   tdm_a2a direction, uint64_t token_bytes)
{
    tdm_draft_op *op = append(draft, pass, name, TDM_OP_ALL_TO_ALL, TDM_STREAM_EP);
    op->op.u.collective.group = TDM_GROUP_EP;
    op->op.u.collective.token_bytes = token_bytes;
    op->op.u.collective.a2a = direction;
    return op;
}

tdm_draft_op *tdm_draft_routed(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                               tdm_op_kind kind, uint64_t token_bytes)
{
    tdm_draft_op *op = tdm_draft_collective(draft, pass, name, kind, TDM_GROUP_ETP, 0);
    op->op.u.collective.token_bytes = token_bytes;
    return op;
}

tdm_draft_op *tdm_draft_p2p(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                            tdm_op_kind kind, tdm_peer peer, uint64_t bytes)
{
    bool send = kind == TDM_OP_SEND, forward = send == (peer == TDM_PEER_NEXT);
    tdm_stream sends = forward ? TDM_STREAM_PP_SEND : TDM_STREAM_PP_SEND_GRAD;
    if (draft->back)
        sends = forward ? TDM_STREAM_PP_SEND_BACK : TDM_STREAM_PP_SEND_GRAD_BACK;
    tdm_stream receives = forward ? TDM_STREAM_PP_RECV : TDM_STREAM_PP_RECV_GRAD;
    tdm_draft_op *op = append(draft, pass, name, kind, send ? sends : receives);
    op->op.u.p2p.peer = peer;
    op->op.u.p2p.bytes = bytes;
    op->waits_pass = !send;
    return op;
}

static tdm_draft_op *ref(tdm_draft_op *op, uint16_t slot, bool next, bool read, bool write)
{
    assert(op->op.n_refs < TDM_MAX_DRAFT_REFS);
    op->refs[op->op.n_refs++] = (tdm_ref){.slot = slot, .next = next, .read = read, .write = write};
    return op;
}

tdm_draft_op *tdm_read(tdm_draft_op *op, uint16_t slot)
{
    return ref(op, slot, false, true, false);
}
tdm_draft_op *tdm_write(tdm_draft_op *op, uint16_t slot)
{
    return ref(op, slot, false, false, true);
}
tdm_draft_op *tdm_update(tdm_draft_op *op, uint16_t slot)
{
    return ref(op, slot, false, true, true);
}
tdm_draft_op *tdm_read_next(tdm_draft_op *op, uint16_t slot)
{
    return ref(op, slot, true, true, false);
}
tdm_draft_op *tdm_read_of(tdm_draft_op *op, uint16_t slot, bool next)
{
    return ref(op, slot, next, true, false);
}
tdm_draft_op *tdm_write_next(tdm_draft_op *op, uint16_t slot)
{
    return ref(op, slot, true, false, true);
}
tdm_draft_op *tdm_update_next(tdm_draft_op *op, uint16_t slot)
{
    return ref(op, slot, true, true, true);
}
