/* cost.c: compute ops as measured, where they were, else by the roofline. */
#include "cost.h"

#include "rates.h"

#include <assert.h>
#include <math.h>

static double peak(const tdm_device *device, tdm_dtype dtype)
{
    return device->peak_flops_per_s[dtype].value;
}

static double roofline(const tdm_device *device, tdm_dtype dtype, double flops, double efficiency,
                       double bytes)
{
    double compute_s = flops / (peak(device, dtype) * efficiency);
    double memory_s = bytes / (device->memory_bytes_per_s.value * device->memory_efficiency.value);
    return fmax(fmax(compute_s, memory_s), device->kernel_floor_s.value);
}

/* Bytes that a product moves for each element of its result. A gradient of weights is added to what
 * earlier microbatches left, in the gradients' own type: read and written. Source: Megatron-LM's
 * gradient accumulation fusion (wgrad_gemm_accum_fp32). */
static double result_bytes(const tdm_plan *plan, const tdm_op *op)
{
    if (op->pass == TDM_PASS_W)
        return 2.0 * tdm_dtype_bytes(plan->training.grad_dtype);
    return tdm_dtype_bytes(op->dtype);
}

static double gemm(const tdm_device *device, const tdm_plan *plan, const tdm_op *op, double flops)
{
    double m = (double)op->u.gemm.m, n = (double)op->u.gemm.n, k = (double)op->u.gemm.k;
    double rate =
        op->u.gemm.batch > 1 ? 0 : tdm_rate_product(device, tdm_product_way_of(op), false, m, n, k);
    if (rate > 0)
        return flops / rate;
    double bytes = ((m * k + k * n) * tdm_dtype_bytes(op->dtype) + m * n * result_bytes(plan, op)) *
                   op->u.gemm.batch;
    return roofline(device, op->dtype, flops, device->gemm_efficiency.value, bytes);
}

/* Rows of all local experts plus the weights of each of them, or their gradients. */
static double grouped(const tdm_device *device, const tdm_plan *plan, double tokens,
                      const tdm_op *op)
{
    double n = (double)op->u.grouped.n, k = (double)op->u.grouped.k;
    double n_local = (double)plan->model.num_experts / plan->mesh.ep;
    double flops = 2.0 * tokens * n * k;
    double rows = fmax(tokens / n_local, 1);
    double rate = op->u.grouped.rows_inner
                      ? tdm_rate_product(device, TDM_WGRAD, true, k, n, rows)
                      : tdm_rate_product(device, tdm_product_way_of(op), true, rows, n, k);
    if (rate > 0)
        return flops / rate;
    double matrix_bytes =
        op->u.grouped.rows_inner ? result_bytes(plan, op) : tdm_dtype_bytes(op->dtype);
    double bytes = tokens * (n + k) * tdm_dtype_bytes(op->dtype) + n_local * n * k * matrix_bytes;
    return roofline(device, op->dtype, flops, device->grouped_gemm_efficiency.value, bytes);
}

/* Causal masks let a kernel skip half of the scores. Backward reads and writes about twice what
 * forward does. */
static double attention(const tdm_device *device, const tdm_op *op, double flops)
{
    bool backward = op->kind == TDM_OP_ATTENTION_BACKWARD;
    double rows = (double)op->u.attention.batch * (double)op->u.attention.seq;
    double heads = (double)op->u.attention.heads, kv_heads = (double)op->u.attention.kv_heads;
    double bytes = rows * (double)op->u.attention.head_size * (2 * heads + 2 * kv_heads) *
                   (backward ? 2.0 : 1.0) * tdm_dtype_bytes(op->dtype);
    double efficiency =
        backward ? device->attention_backward_efficiency.value : device->attention_efficiency.value;
    /* Flash attention repeats the scores in backward: five products where tdm_op_flops counts four.
     * Source: Dao 2023, FlashAttention-2, section 3.1. */
    double work = flops * (op->u.attention.causal ? 0.5 : 1.0) * (backward ? 1.25 : 1.0);
    return roofline(device, op->dtype, work, efficiency, bytes);
}

double tdm_cost_op(const tdm_device *device, const tdm_plan *plan, const tdm_op *op,
                   uint64_t tokens)
{
    const tdm_kernel_rate *kernel = tdm_rate_kernel(device, &plan->model, op);
    if (kernel) {
        bool is_memory = op->kind == TDM_OP_MEMORY;
        return tdm_rate_kernel_s(
            kernel,
            is_memory ? (double)tdm_size_eval(op->u.memory.bytes, (tdm_routed){.tokens = tokens})
                      : 0,
            is_memory ? 0 : tdm_op_flops(plan, 0, &(tdm_instance){.op = op}));
    }
    switch (op->kind) {
    case TDM_OP_TIMED:
        return op->u.timed.seconds;
    case TDM_OP_GEMM:
        return gemm(device, plan, op, tdm_op_flops(plan, 0, &(tdm_instance){.op = op}));
    case TDM_OP_GROUPED_GEMM:
        return grouped(device, plan, (double)tokens, op);
    case TDM_OP_ATTENTION:
    case TDM_OP_ATTENTION_BACKWARD:
        return attention(device, op, tdm_op_flops(plan, 0, &(tdm_instance){.op = op}));
    case TDM_OP_MEMORY: {
        double bytes = (double)tdm_size_eval(op->u.memory.bytes, (tdm_routed){.tokens = tokens});
        return fmax(bytes / (device->memory_bytes_per_s.value * device->memory_efficiency.value),
                    device->kernel_floor_s.value);
    }
    default:
        assert(!"not a compute op");
        return 0;
    }
}

tdm_grade tdm_cost_grade(const tdm_device *device)
{
    const tdm_value *used[] = {
        &device->memory_bytes_per_s,      &device->launch_s,
        &device->kernel_floor_s,          &device->gemm_efficiency,
        &device->attention_efficiency,    &device->attention_backward_efficiency,
        &device->grouped_gemm_efficiency, &device->memory_efficiency};
    tdm_grade worst = TDM_GRADE_MEASURED;
    for (size_t i = 0; i < TDM_COUNT(used); i++)
        worst = used[i]->grade > worst ? used[i]->grade : worst;
    return worst;
}
