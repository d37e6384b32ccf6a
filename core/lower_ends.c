/* lower_ends.c: the blocks that are no layers: embedding, head with loss, stage boundaries, and the
 * single block of a stage in scenarios that give pass times instead of a model. */
#include "lower_build.h"

static void norm_param(tdm_draft *draft)
{
    const tdm_model *m = &draft->dims->scenario->model;
    uint64_t vectors = m->norm == TDM_NORM_LAYER ? 2 : 1;
    tdm_draft_param(draft, "norm", vectors * m->hidden_size)->sync_tp =
        draft->dims->sequence_parallel;
}

/* Rows of the gradient, through dropout, are added to those of their words and positions. */
static void embedding_backward(tdm_draft *draft, bool dropout, uint16_t mask)
{
    const tdm_dims *d = draft->dims;
    const tdm_model *m = &d->scenario->model;
    uint64_t full_bytes = d->tokens * m->hidden_size * d->element;
    uint64_t sum_bytes = /* of gradients that are read and written */
        2 * (uint64_t)m->hidden_size * tdm_dtype_bytes(d->scenario->training.grad_dtype);
    bool positions = m->position == TDM_POSITION_LEARNED, is_next = true;
    uint16_t rows = TDM_SLOT_DX;
    if (dropout || positions) {
        uint64_t bytes = d->x_bytes;
        bytes += dropout ? d->x_bytes + d->x_bytes / d->element : 0;
        bytes += positions ? d->residual_tokens / d->scenario->micro_batch_size * sum_bytes : 0;
        tdm_draft_op *op = tdm_draft_memory(draft, TDM_PASS_W, "position.wgrad", bytes, 0);
        tdm_read_next(op, TDM_SLOT_DX);
        if (dropout) {
            rows = tdm_draft_slot(draft, "dsum", d->x_bytes, 0);
            tdm_write(tdm_read(op, mask), rows);
            is_next = false;
        }
    }
    if (d->sequence_parallel) {
        uint16_t full = tdm_draft_slot(draft, "drows", full_bytes, 0);
        tdm_draft_op *op = tdm_draft_collective(draft, TDM_PASS_W, "lookup.wgather",
                                                TDM_OP_ALL_GATHER, TDM_GROUP_TP, full_bytes);
        tdm_write(tdm_read_of(op, rows, is_next), full);
        rows = full;
        is_next = false;
    }
    tdm_read_of(
        tdm_draft_memory(draft, TDM_PASS_W, "lookup.wgrad", full_bytes + d->tokens * sum_bytes, 0),
        rows, is_next);
}

/* Looks up the rank's share of the vocabulary; the sum over TP completes the rows. With sequence
 * parallelism positions are added to each rank's own rows; Megatron adds them to all rows on every
 * rank, after an all-reduce. */
void tdm_lower_embedding(tdm_arena *arena, const tdm_dims *d, tdm_kind *kind)
{
    const tdm_model *m = &d->scenario->model;
    uint64_t full_bytes = d->tokens * m->hidden_size * d->element;
    tdm_draft *draft = tdm_draft_new(arena, d, "embedding");
    tdm_param *words =
        tdm_draft_param(draft, "words", (uint64_t)m->vocab_size / d->tp * m->hidden_size);
    words->embedding = !m->untie_embeddings && d->ends_apart;
    if (m->position == TDM_POSITION_LEARNED)
        tdm_draft_param(draft, "positions", (uint64_t)m->max_position_embeddings * m->hidden_size)
            ->sync_tp = d->sequence_parallel;

    tdm_draft_op *op = tdm_draft_memory(draft, TDM_PASS_F, "lookup", 2 * full_bytes, 0);
    uint16_t rows = TDM_SLOT_X;
    if (d->sequence_parallel) {
        rows = tdm_draft_slot(draft, "rows", full_bytes, 0);
        tdm_write(op, rows);
        op = tdm_draft_collective(draft, TDM_PASS_F, "lookup.reduce", TDM_OP_REDUCE_SCATTER,
                                  TDM_GROUP_TP, full_bytes);
        tdm_write_next(tdm_read(op, rows), TDM_SLOT_X);
    } else {
        tdm_write_next(op, TDM_SLOT_X);
        if (d->tp > 1)
            tdm_update_next(tdm_draft_collective(draft, TDM_PASS_F, "lookup.reduce",
                                                 TDM_OP_ALL_REDUCE, TDM_GROUP_TP, full_bytes),
                            TDM_SLOT_X);
    }
    bool dropout = m->hidden_dropout > 0 && d->train;
    uint64_t mask_bytes = dropout ? d->x_bytes / d->element : 0;
    uint16_t mask = 0;
    if (dropout || m->position == TDM_POSITION_LEARNED) {
        op = tdm_draft_memory(draft, TDM_PASS_F, "position", 2 * d->x_bytes + mask_bytes, 0);
        tdm_update_next(op, TDM_SLOT_X);
        if (dropout)
            tdm_write(op, mask = tdm_draft_slot(draft, "mask", mask_bytes, 0));
    }
    if (d->train)
        embedding_backward(draft, dropout, mask);
    tdm_draft_finish(draft, kind);
}

/* Over TP, in fp32. */
static void reduce_loss(tdm_draft *draft, const char *name, uint16_t slot, uint64_t bytes)
{
    if (draft->dims->tp == 1)
        return;
    tdm_draft_op *op =
        tdm_draft_collective(draft, TDM_PASS_F, name, TDM_OP_ALL_REDUCE, TDM_GROUP_TP, bytes);
    op->op.dtype = TDM_DTYPE_FP32;
    tdm_update(op, slot);
}

/* Final norm, logits of the rank's share of the vocabulary in fp32, and cross-entropy over TP:
 * maximum, then sum of exponentials and the target's logit together. Source: Megatron Core's
 * fused_vocab_parallel_cross_entropy. */
static void head_loss(tdm_draft *draft, uint16_t logits, uint64_t logits_bytes)
{
    const tdm_dims *d = draft->dims;
    uint16_t max = tdm_draft_slot(draft, "loss.max", d->tokens * 4, 0);
    uint16_t sums = tdm_draft_slot(draft, "loss.sums", d->tokens * 8, 0);
    tdm_write(tdm_read(tdm_draft_memory(draft, TDM_PASS_F, "loss.max", logits_bytes, 0), logits),
              max);
    reduce_loss(draft, "loss.max.reduce", max, d->tokens * 4);
    tdm_draft_op *op = tdm_draft_memory(draft, TDM_PASS_F, "loss.exp", 2 * logits_bytes, 0);
    tdm_write(tdm_update(tdm_read(op, max), logits), sums);
    reduce_loss(draft, "loss.sums.reduce", sums, d->tokens * 8);
    op = tdm_draft_memory(draft, TDM_PASS_F, "loss", 2 * logits_bytes,
                          0); /* softmax stays in place of the logits */
    tdm_update(tdm_read(op, sums), logits);
}

static void head_backward(tdm_draft *draft, uint16_t logits, uint16_t nf, uint64_t logits_bytes)
{
    const tdm_dims *d = draft->dims;
    const tdm_model *m = &d->scenario->model;
    uint64_t h = m->hidden_size, v = m->vocab_size / d->tp, full_bytes = d->tokens * h * d->element;
    uint16_t dlogits = tdm_draft_slot(draft, "dlogits", d->tokens * v * d->element, 0);
    tdm_draft_op *op = tdm_draft_memory(draft, TDM_PASS_B, "loss.bwd",
                                        logits_bytes + d->tokens * v * d->element, 0);
    tdm_write(tdm_read(op, logits), dlogits);
    uint16_t nf_full = nf;
    if (d->sequence_parallel) {
        nf_full = tdm_draft_slot(draft, "nf.again", full_bytes, 0);
        op = tdm_draft_collective(draft, TDM_PASS_W, "norm.wgather", TDM_OP_ALL_GATHER,
                                  TDM_GROUP_TP, full_bytes);
        tdm_write(tdm_read(op, nf), nf_full);
    }
    uint16_t dnf = tdm_draft_slot(draft, "dnf", full_bytes, 0);
    tdm_write(
        tdm_read(tdm_draft_gemm(draft, TDM_PASS_B, "logits.dgrad", d->tokens, h, v, 1), dlogits),
        dnf);
    if (d->sequence_parallel) {
        uint16_t shard = tdm_draft_slot(draft, "dnf.shard", d->x_bytes, 0);
        op = tdm_draft_collective(draft, TDM_PASS_B, "logits.dreduce", TDM_OP_REDUCE_SCATTER,
                                  TDM_GROUP_TP, full_bytes);
        tdm_write(tdm_read(op, dnf), shard);
        dnf = shard;
    } else if (d->tp > 1) {
        tdm_update(tdm_draft_collective(draft, TDM_PASS_B, "logits.dreduce", TDM_OP_ALL_REDUCE,
                                        TDM_GROUP_TP, full_bytes),
                   dnf);
    }
    tdm_read(
        tdm_read(tdm_draft_gemm(draft, TDM_PASS_W, "logits.wgrad", h, v, d->tokens, 1), nf_full),
        dlogits);
    op = tdm_draft_memory(draft, TDM_PASS_B, "norm.bwd", 3 * d->x_bytes, 0);
    tdm_write(tdm_read(tdm_read(op, dnf), TDM_SLOT_X), TDM_SLOT_DX);
}

void tdm_lower_head(tdm_arena *arena, const tdm_dims *d, tdm_kind *kind)
{
    const tdm_model *m = &d->scenario->model;
    uint64_t h = m->hidden_size, v = m->vocab_size / d->tp, logits_bytes = d->tokens * v * 4;
    tdm_draft *draft = tdm_draft_new(arena, d, "head");
    norm_param(draft);
    if (m->untie_embeddings || d->ends_apart)
        tdm_draft_param(draft, "words", v * h)->embedding = !m->untie_embeddings;

    uint16_t nf = tdm_draft_slot(draft, "nf", d->x_bytes, 0);
    tdm_write(tdm_read(tdm_draft_memory(draft, TDM_PASS_F, "norm", 2 * d->x_bytes, 0), TDM_SLOT_X),
              nf);
    uint16_t full = nf;
    if (d->sequence_parallel) {
        uint64_t bytes = d->tokens * h * d->element;
        full = tdm_draft_slot(draft, "nf.full", bytes, 0);
        tdm_draft_op *op = tdm_draft_collective(draft, TDM_PASS_F, "norm.gather", TDM_OP_ALL_GATHER,
                                                TDM_GROUP_TP, bytes);
        tdm_write(tdm_read(op, nf), full);
    }
    uint16_t logits = tdm_draft_slot(draft, "logits", logits_bytes, 0);
    tdm_write(tdm_read(tdm_draft_gemm(draft, TDM_PASS_F, "logits", d->tokens, v, h, 1), full),
              logits);
    if (d->train) {
        head_loss(draft, logits, logits_bytes);
        head_backward(draft, logits, nf, logits_bytes);
    }
    tdm_draft_finish(draft, kind);
}

/* From the previous stage: receives the activation, sends its gradient back. */
void tdm_lower_boundary_in(tdm_arena *arena, const tdm_dims *d, bool back, tdm_kind *kind)
{
    tdm_draft *draft = tdm_draft_new(arena, d, back ? "boundary-in-back" : "boundary-in");
    draft->back = back;
    tdm_write_next(
        tdm_draft_p2p(draft, TDM_PASS_F, "recv", TDM_OP_RECV, TDM_PEER_PREVIOUS, d->x_bytes),
        TDM_SLOT_X);
    if (d->train)
        tdm_read_next(tdm_draft_p2p(draft, TDM_PASS_B, "send.grad", TDM_OP_SEND, TDM_PEER_PREVIOUS,
                                    d->x_bytes),
                      TDM_SLOT_DX);
    tdm_draft_finish(draft, kind);
}

/* To the next stage: sends the activation, receives its gradient. */
void tdm_lower_boundary_out(tdm_arena *arena, const tdm_dims *d, bool back, tdm_kind *kind)
{
    tdm_draft *draft = tdm_draft_new(arena, d, back ? "boundary-out-back" : "boundary-out");
    draft->back = back;
    tdm_read(tdm_draft_p2p(draft, TDM_PASS_F, "send", TDM_OP_SEND, TDM_PEER_NEXT, d->x_bytes),
             TDM_SLOT_X);
    if (d->train)
        tdm_write(
            tdm_draft_p2p(draft, TDM_PASS_B, "recv.grad", TDM_OP_RECV, TDM_PEER_NEXT, d->x_bytes),
            TDM_SLOT_DX);
    tdm_draft_finish(draft, kind);
}

/* The times of a stage are shared out evenly over its chunks. The first virtual stage has no x to
 * read and the last none to write. */
void tdm_lower_timed(tdm_arena *arena, const tdm_dims *d, uint32_t virtual_stage, tdm_kind *kind)
{
    const tdm_pass_times *times = &d->scenario->pass_times;
    uint32_t stage = tdm_placement_stage(d->placement, d->pp, virtual_stage);
    tdm_draft *draft = tdm_draft_new(arena, d, tdm_arena_printf(arena, "stage-%u", virtual_stage));
    bool first = virtual_stage == 0, last = virtual_stage + 1 == d->pp * d->vpp;
    tdm_draft_op *op =
        tdm_draft_timed(draft, TDM_PASS_F, "forward", times->forward_s[stage] / d->vpp);
    if (!first)
        tdm_read(op, TDM_SLOT_X);
    if (!last)
        tdm_write_next(op, TDM_SLOT_X);
    if (d->train) {
        op = tdm_draft_timed(draft, TDM_PASS_B, "backward-input",
                             times->backward_input_s[stage] / d->vpp);
        if (!last)
            tdm_read_next(op, TDM_SLOT_DX);
        if (!first)
            tdm_write(op, TDM_SLOT_DX);
        tdm_draft_timed(draft, TDM_PASS_W, "backward-weight",
                        times->backward_weight_s[stage] / d->vpp);
    }
    tdm_draft_finish(draft, kind);
}
