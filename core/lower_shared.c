/* lower_shared.c: shared experts: an MLP that all tokens pass, beside the experts they are routed
 * to; parallel over TP as the dense MLP.
 *
 *     n2 -> (all-gather) -> shared.fc1 -> activation -> shared.fc2 -> (sum over TP) -> + routed
 *
 * Its first half is issued behind the dispatch and its second behind the combine, so that kernels
 * run beside both all-to-alls; the backward pass likewise. Source: Megatron Core's SharedExpertMLP
 * with moe_shared_expert_overlap. */
#include "lower_build.h"

typedef struct shared_dims {
    uint64_t h, f, f1; /* hidden size; columns of this rank; columns of fc1, twice f when gated */
} shared_dims;

static shared_dims shared_dims_of(const tdm_dims *d)
{
    const tdm_model *m = &d->scenario->model;
    uint64_t f = m->moe_shared_expert_intermediate_size / d->tp;
    return (shared_dims){.h = m->hidden_size, .f = f, .f1 = m->swiglu ? 2 * f : f};
}

void tdm_lower_shared_params(tdm_draft *draft)
{
    const tdm_dims *d = draft->dims;
    shared_dims s = shared_dims_of(d);
    tdm_draft_param(draft, "shared.fc1", s.h * s.f1);
    tdm_draft_param(draft, "shared.fc2", s.f * s.h);
    if (d->scenario->model.add_bias_linear) {
        tdm_draft_param(draft, "shared.fc1.bias", s.f1);
        tdm_draft_param(draft, "shared.fc2.bias", s.h)->sync_tp = d->sequence_parallel;
    }
}

void tdm_lower_shared_in(tdm_draft *draft, uint16_t n2)
{
    const tdm_dims *d = draft->dims;
    shared_dims s = shared_dims_of(d);
    uint16_t full =
        tdm_lower_gather(draft, TDM_PASS_F, "shared.gather", "shared.n2.full", n2, false);
    uint16_t g = tdm_draft_slot(draft, "shared.g", tdm_lower_wide(d, s.f1), 0),
             u = tdm_draft_slot(draft, "shared.u", tdm_lower_wide(d, s.f), 0);
    tdm_draft_op *op = tdm_draft_gemm(draft, TDM_PASS_F, "shared.fc1", d->tokens, s.f1, s.h, 1);
    tdm_write(tdm_read(op, full), g);
    op = tdm_draft_memory(draft, TDM_PASS_F, "shared.activation", tdm_lower_wide(d, s.f1 + s.f), 0);
    tdm_write(tdm_read(op, g), u);
}

uint16_t tdm_lower_shared_out(tdm_draft *draft)
{
    const tdm_dims *d = draft->dims;
    shared_dims s = shared_dims_of(d);
    uint16_t y = tdm_draft_slot(draft, "shared.y", tdm_lower_wide(d, s.h), 0);
    tdm_draft_op *op = tdm_draft_gemm(draft, TDM_PASS_F, "shared.fc2", d->tokens, s.h, s.f, 1);
    tdm_write(tdm_read(op, tdm_draft_find(draft, "shared.u")), y);
    return tdm_lower_reduce(draft, TDM_PASS_F, "shared.reduce", "shared.y.shard", y);
}

void tdm_lower_shared_backward_out(tdm_draft *draft, uint16_t dy, bool dy_is_next)
{
    const tdm_dims *d = draft->dims;
    shared_dims s = shared_dims_of(d);
    uint16_t full =
        tdm_lower_gather(draft, TDM_PASS_B, "shared.dgather", "shared.dy.full", dy, dy_is_next);
    bool is_next = dy_is_next && full == dy;
    uint16_t du = tdm_draft_slot(draft, "shared.du", tdm_lower_wide(d, s.f), 0),
             dg = tdm_draft_slot(draft, "shared.dg", tdm_lower_wide(d, s.f1), 0);
    tdm_draft_op *op =
        tdm_draft_gemm(draft, TDM_PASS_B, "shared.fc2.dgrad", d->tokens, s.f, s.h, 1);
    tdm_write(tdm_read_of(op, full, is_next), du);
    op = tdm_draft_gemm(draft, TDM_PASS_W, "shared.fc2.wgrad", s.f, s.h, d->tokens, 1);
    tdm_read_of(tdm_read(op, tdm_draft_find(draft, "shared.u")), full, is_next);
    op = tdm_draft_memory(draft, TDM_PASS_B, "shared.activation.bwd",
                          tdm_lower_wide(d, 2 * s.f1 + s.f), 0);
    tdm_write(tdm_read(tdm_read(op, du), tdm_draft_find(draft, "shared.g")), dg);
}

uint16_t tdm_lower_shared_backward_in(tdm_draft *draft, uint16_t n2)
{
    const tdm_dims *d = draft->dims;
    shared_dims s = shared_dims_of(d);
    uint16_t dg = tdm_draft_find(draft, "shared.dg");
    uint16_t full =
        tdm_lower_gather(draft, TDM_PASS_W, "shared.wgather", "shared.n2.again", n2, false);
    uint16_t dn = tdm_draft_slot(draft, "shared.dn2", tdm_lower_wide(d, s.h), 0);
    tdm_draft_op *op =
        tdm_draft_gemm(draft, TDM_PASS_B, "shared.fc1.dgrad", d->tokens, s.h, s.f1, 1);
    tdm_write(tdm_read(op, dg), dn);
    uint16_t sum = tdm_lower_reduce(draft, TDM_PASS_B, "shared.dreduce", "shared.dn2.shard", dn);
    op = tdm_draft_gemm(draft, TDM_PASS_W, "shared.fc1.wgrad", s.h, s.f1, d->tokens, 1);
    tdm_read(tdm_read(op, full), dg);
    return sum;
}
