/* linear.c: matrix products: forward, gradient of the input, gradient of the weight, each by itself
 * and one per expert; and those of the vocabulary. */
#include "blas_api.h"
#include "parts.h"

void host_gemm(uint64_t m, uint64_t n, uint64_t k, float alpha, host_matrix a, host_matrix b,
               float beta, float *c, uint64_t ldc)
{
    if (m == 0 || n == 0)
        return;
    /* tdm_host_open has made sure that it opens. */
    host_blas_open(NULL, 0)->sgemm(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans,
                                   b.transposed ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n,
                                   (blasint)k, alpha, a.data, (blasint)a.ld, b.data, (blasint)b.ld,
                                   beta, c, (blasint)ldc);
}

static void add_bias(const float *bias, float *y, uint64_t rows, uint64_t n)
{
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t i = 0; i < n; i++)
            y[r * n + i] += bias[i];
}

static void sum_rows(const float *dy, uint64_t rows, uint64_t n, float *gradient)
{
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t i = 0; i < n; i++)
            gradient[i] += dy[r * n + i];
}

/* Reads x, writes y. */
void host_linear(const tdm_call *c)
{
    uint64_t m = c->op->u.gemm.m, n = c->op->u.gemm.n, k = c->op->u.gemm.k;
    float *x = host_f32(c, 0) + tdm_call_own_rows(c, 0, k * sizeof(float)) * k, *y = host_f32(c, 1);
    host_gemm(m, n, k, 1, (host_matrix){x, k, false},
              (host_matrix){host_weight(c->weight), n, false}, 0, y, n);
    if (tdm_call_adds_bias(c))
        add_bias(host_weight(c->bias), y, m, n);
}

/* Reads dy, writes dx; the router's adds to it. */
void host_linear_dgrad(const tdm_call *c)
{
    uint64_t m = c->op->u.gemm.m, n = c->op->u.gemm.n, k = c->op->u.gemm.k;
    host_gemm(m, n, k, 1, (host_matrix){host_f32(c, 0), k, false},
              (host_matrix){host_weight(c->weight), k, true}, c->op->refs[1].read ? 1 : 0,
              host_f32(c, 1), n);
}

/* Reads x and dy. The bias of a sum's part sees all tokens on every rank; with sequence parallelism
 * its gradient is summed over TP, so each rank takes its own tokens. */
void host_linear_wgrad(const tdm_call *c)
{
    uint64_t m = c->op->u.gemm.m, n = c->op->u.gemm.n, k = c->op->u.gemm.k;
    float *x = host_f32(c, 0) + tdm_call_own_rows(c, 0, m * sizeof(float)) * m,
          *dy = host_f32(c, 1);
    host_gemm(m, n, k, 1, (host_matrix){x, m, true}, (host_matrix){dy, n, false}, 1,
              host_gradient(c->weight), n);
    if (!c->bias)
        return;
    bool own = c->work->way == TDM_WAY_ROWS && c->sp;
    sum_rows(dy + (own ? c->row0 * n : 0), own ? c->residual : k, n, host_gradient(c->bias));
}

/* ---- one product per expert of this rank ---- */

void host_grouped(const tdm_call *c)
{
    uint64_t n = c->op->u.grouped.n, k = c->op->u.grouped.k, row = 0;
    for (uint32_t e = 0; e < tdm_call_n_experts(c); e++) {
        uint64_t rows = tdm_call_rows(c, e);
        float *y = host_f32(c, 1) + row * n;
        host_gemm(rows, n, k, 1, (host_matrix){host_f32(c, 0) + row * k, k, false},
                  (host_matrix){host_weight(c->weight) + e * k * n, n, false}, 0, y, n);
        if (tdm_call_adds_bias(c))
            add_bias(host_weight(c->bias) + e * n, y, rows, n);
        row += rows;
    }
}

void host_grouped_dgrad(const tdm_call *c)
{
    uint64_t n = c->op->u.grouped.n, k = c->op->u.grouped.k, row = 0;
    for (uint32_t e = 0; e < tdm_call_n_experts(c); e++) {
        uint64_t rows = tdm_call_rows(c, e);
        host_gemm(rows, n, k, 1, (host_matrix){host_f32(c, 0) + row * k, k, false},
                  (host_matrix){host_weight(c->weight) + e * k * n, k, true}, 0,
                  host_f32(c, 1) + row * n, n);
        row += rows;
    }
}

void host_grouped_wgrad(const tdm_call *c)
{
    uint64_t n = c->op->u.grouped.n, k = c->op->u.grouped.k, row = 0;
    for (uint32_t e = 0; e < tdm_call_n_experts(c); e++) {
        uint64_t rows = tdm_call_rows(c, e);
        float *dy = host_f32(c, 1) + row * n;
        if (rows > 0)
            host_gemm(k, n, rows, 1, (host_matrix){host_f32(c, 0) + row * k, k, true},
                      (host_matrix){dy, n, false}, 1, host_gradient(c->weight) + e * k * n, n);
        if (c->bias)
            sum_rows(dy, rows, n, host_gradient(c->bias) + e * n);
        row += rows;
    }
}

/* ---- the vocabulary: a word per row of the weight ---- */

void host_logits(const tdm_call *c)
{
    uint64_t m = c->op->u.gemm.m, n = c->op->u.gemm.n, k = c->op->u.gemm.k;
    host_gemm(m, n, k, 1, (host_matrix){host_f32(c, 0), k, false},
              (host_matrix){host_weight(c->weight), k, true}, 0, host_f32(c, 1), n);
}

void host_logits_dgrad(const tdm_call *c)
{
    uint64_t m = c->op->u.gemm.m, n = c->op->u.gemm.n, k = c->op->u.gemm.k;
    host_gemm(m, n, k, 1, (host_matrix){host_f32(c, 0), k, false},
              (host_matrix){host_weight(c->weight), n, false}, 0, host_f32(c, 1), n);
}

/* Reads the head's input and the gradient of the logits. */
void host_logits_wgrad(const tdm_call *c)
{
    uint64_t h = c->op->u.gemm.m, v = c->op->u.gemm.n, k = c->op->u.gemm.k;
    host_gemm(v, h, k, 1, (host_matrix){host_f32(c, 1), v, true},
              (host_matrix){host_f32(c, 0), h, false}, 1, host_gradient(c->weight), h);
}
