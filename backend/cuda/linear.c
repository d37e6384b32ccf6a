/* linear.c: linear layers: forward, gradient of the input, gradient of the weight; and those of the
 * vocabulary. Biases go with the product where its result has their type. */
#include "parts.h"

/* The type of a matrix of so many numbers: the router's and the vocabulary's logits are fp32. */
static tdm_cuda_type type_of(const cuda_call *c, uint32_t ref, uint64_t count)
{
    return c->of.tensors[ref].bytes == count * sizeof(float) ? TDM_CUDA_FP32 : c->type;
}

/* The gradient of a result, in the type of its operands, and what is left of the scratch. */
static tdm_code take_dy(const cuda_call *c, uint32_t ref, uint64_t count, const void **dy,
                        void **rest, tdm_error *err)
{
    *dy = cuda_tensor(c, ref);
    *rest = c->rank->scratch;
    if (type_of(c, ref, count) == c->type)
        return TDM_OK;
    tdm_code code = cuda_ok(
        c, tdm_cuda_cast(c->stream, TDM_CUDA_FP32, *dy, c->type, c->rank->scratch, count), err);
    *dy = c->rank->scratch;
    *rest = (char *)c->rank->scratch + cuda_aligned(count * c->element);
    return code;
}

tdm_code cuda_linear(const cuda_call *c, tdm_error *err)
{
    uint64_t m = c->of.op->u.gemm.m, n = c->of.op->u.gemm.n, k = c->of.op->u.gemm.k;
    const void *x = cuda_at(c, cuda_tensor(c, 0), tdm_call_own_rows(&c->of, 0, k * c->element) * k);
    tdm_cuda_type type = type_of(c, 1, m * n);
    const void *bias = tdm_call_adds_bias(&c->of) ? c->of.bias->weight : NULL;
    bool apart = type != c->type;
    tdm_code code = cuda_multiply(c,
                                  &(cuda_product){.m = m,
                                                  .n = n,
                                                  .k = k,
                                                  .a = {x, k, false, 0},
                                                  .b = {c->of.weight->weight, n, false, 0},
                                                  .c = {cuda_tensor(c, 1), n, false, 0},
                                                  .c_type = type,
                                                  .alpha = 1,
                                                  .bias = apart ? NULL : bias},
                                  err);
    if (code == TDM_OK && bias && apart)
        code =
            cuda_ok(c, tdm_cuda_bias_fp32(c->stream, c->type, bias, m, n, cuda_tensor(c, 1)), err);
    return code;
}

/* Reads dy, writes dx; the router's adds to it. */
tdm_code cuda_linear_dgrad(const cuda_call *c, tdm_error *err)
{
    uint64_t m = c->of.op->u.gemm.m, n = c->of.op->u.gemm.n, k = c->of.op->u.gemm.k;
    const void *dy;
    void *rest;
    tdm_code code = take_dy(c, 0, m * k, &dy, &rest, err);
    if (code != TDM_OK)
        return code;
    return cuda_multiply(c,
                         &(cuda_product){.m = m,
                                         .n = n,
                                         .k = k,
                                         .a = {dy, k, false, 0},
                                         .b = {c->of.weight->weight, k, true, 0},
                                         .c = {cuda_tensor(c, 1), n, false, 0},
                                         .c_type = c->type,
                                         .alpha = 1,
                                         .beta = c->of.op->refs[1].read ? 1 : 0},
                         err);
}

/* Reads x and dy. The bias of a sum's part sees all tokens on every rank; with sequence parallelism
 * its gradient is summed over TP, so each rank takes its own tokens. */
tdm_code cuda_linear_wgrad(const cuda_call *c, tdm_error *err)
{
    uint64_t m = c->of.op->u.gemm.m, n = c->of.op->u.gemm.n, k = c->of.op->u.gemm.k;
    const void *x = cuda_at(c, cuda_tensor(c, 0), tdm_call_own_rows(&c->of, 0, m * c->element) * m),
               *dy;
    void *rest;
    tdm_code code = take_dy(c, 1, k * n, &dy, &rest, err);
    if (code == TDM_OK)
        code = cuda_multiply(c,
                             &(cuda_product){.m = m,
                                             .n = n,
                                             .k = k,
                                             .a = {x, m, true, 0},
                                             .b = {dy, n, false, 0},
                                             .c = {c->of.weight->gradient, n, false, 0},
                                             .c_type = c->gradient_type,
                                             .alpha = 1,
                                             .beta = 1},
                             err);
    if (code != TDM_OK || !c->of.bias)
        return code;
    bool own = c->of.work->way == TDM_WAY_ROWS && c->of.sp;
    return cuda_ok(c,
                   tdm_cuda_bias_backward(c->stream, c->type, c->gradient_type,
                                          cuda_at(c, dy, own ? c->of.row0 * n : 0), NULL, 1,
                                          own ? c->of.residual : k, n, c->of.bias->gradient, rest),
                   err);
}

/* ---- the vocabulary: a word per row of the weight ---- */

tdm_code cuda_logits(const cuda_call *c, tdm_error *err)
{
    uint64_t m = c->of.op->u.gemm.m, n = c->of.op->u.gemm.n, k = c->of.op->u.gemm.k;
    return cuda_multiply(c,
                         &(cuda_product){.m = m,
                                         .n = n,
                                         .k = k,
                                         .a = {cuda_tensor(c, 0), k, false, 0},
                                         .b = {c->of.weight->weight, k, true, 0},
                                         .c = {cuda_tensor(c, 1), n, false, 0},
                                         .c_type = type_of(c, 1, m * n),
                                         .alpha = 1},
                         err);
}

tdm_code cuda_logits_dgrad(const cuda_call *c, tdm_error *err)
{
    uint64_t m = c->of.op->u.gemm.m, n = c->of.op->u.gemm.n, k = c->of.op->u.gemm.k;
    return cuda_multiply(c,
                         &(cuda_product){.m = m,
                                         .n = n,
                                         .k = k,
                                         .a = {cuda_tensor(c, 0), k, false, 0},
                                         .b = {c->of.weight->weight, n, false, 0},
                                         .c = {cuda_tensor(c, 1), n, false, 0},
                                         .c_type = c->type,
                                         .alpha = 1},
                         err);
}

/* Reads the head's input and the gradient of the logits. */
tdm_code cuda_logits_wgrad(const cuda_call *c, tdm_error *err)
{
    uint64_t h = c->of.op->u.gemm.m, v = c->of.op->u.gemm.n, k = c->of.op->u.gemm.k;
    return cuda_multiply(c,
                         &(cuda_product){.m = v,
                                         .n = h,
                                         .k = k,
                                         .a = {cuda_tensor(c, 1), v, true, 0},
                                         .b = {cuda_tensor(c, 0), h, false, 0},
                                         .c = {c->of.weight->gradient, h, false, 0},
                                         .c_type = c->gradient_type,
                                         .alpha = 1,
                                         .beta = 1},
                         err);
}
