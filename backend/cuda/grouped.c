/* grouped.c: one product per expert of this rank, in one call of cuBLAS where it has them for these
 * types, else one after the other.
 *
 * The call reads its operands' addresses from the GPU's memory. A rank's tensors lie where they lie
 * in every step, so those of an op are sent once and stay. */
#include "parts.h"

#include <stdlib.h>

/* Of all experts; those without rows are left out of `rows`. */
typedef struct group {
    const cuda_call *c;
    uint32_t n;               /* products with rows */
    const uint32_t *received; /* [n_local] */
    uint32_t n_local;
    uint64_t rows; /* of all */
} group;

/* How the operands of an expert follow from its rows. */
typedef struct shape {
    uint64_t m, n, k; /* 0: the expert's rows */
    const void *a, *b, *c;
    uint64_t a_step, b_step, c_step; /* numbers from expert to expert; 0: by rows */
    uint64_t a_ld, b_ld, c_ld;
    bool a_transposed, b_transposed;
    float beta;
    tdm_cuda_type c_type;
} shape;

static uint64_t bytes_of(tdm_cuda_type type)
{
    return type == TDM_CUDA_FP32 ? 4 : 2;
}

static group group_of(const cuda_call *c)
{
    group g = {.c = c};
    g.received = tdm_call_received(&c->of, &g.n_local);
    for (uint32_t e = 0; e < g.n_local; e++) {
        g.n += g.received[e] > 0;
        g.rows += g.received[e];
    }
    return g;
}

static const void *operand(const void *first, uint64_t step, uint64_t columns, uint32_t expert,
                           uint64_t row, uint64_t element)
{
    return (const char *)first + (step > 0 ? expert * step : row * columns) * element;
}

static cuda_product product_of(const cuda_call *c, const shape *s, uint32_t expert, uint64_t row,
                               uint64_t rows)
{
    return (cuda_product){.m = s->m > 0 ? s->m : rows,
                          .n = s->n,
                          .k = s->k > 0 ? s->k : rows,
                          .a = {operand(s->a, s->a_step, s->a_ld, expert, row, c->element), s->a_ld,
                                s->a_transposed, 0},
                          .b = {operand(s->b, s->b_step, s->b_ld, expert, row, c->element), s->b_ld,
                                s->b_transposed, 0},
                          .c = {operand(s->c, s->c_step, s->c_ld, expert, row, bytes_of(s->c_type)),
                                s->c_ld, false, 0},
                          .c_type = s->c_type,
                          .alpha = 1,
                          .beta = s->beta};
}

static tdm_code one_by_one(const group *g, const shape *s, tdm_error *err)
{
    uint64_t row = 0;
    tdm_code code = TDM_OK;
    for (uint32_t e = 0; e < g->n_local && code == TDM_OK; e++) {
        cuda_product p = product_of(g->c, s, e, row, g->received[e]);
        if (g->received[e] > 0)
            code = cuda_multiply(g->c, &p, err);
        row += g->received[e];
    }
    return code;
}

/* ---- all at once ---- */

/* Arguments of the call, on the host [n]; its operands' places are changed as in multiply.c. */
typedef struct arguments {
    int *trans_a, *trans_b, *m, *n, *k, *lda, *ldb, *ldc, *size;
    float *alpha, *beta;
    const void **pointers; /* [3 n]: A, B, C */
} arguments;

static bool allocate(arguments *a, uint32_t n)
{
    enum { N_INTS = 9, N_FLOATS = 2 };
    int *ints = calloc((size_t)n * N_INTS, sizeof *ints);
    float *floats = calloc((size_t)n * N_FLOATS, sizeof *floats);
    a->pointers = calloc(3 * (size_t)n, sizeof *a->pointers);
    a->trans_a = ints;
    a->alpha = floats;
    if (!ints || !floats || !a->pointers)
        return false;
    int **members[N_INTS] = {&a->trans_a, &a->trans_b, &a->m,   &a->n,   &a->k,
                             &a->lda,     &a->ldb,     &a->ldc, &a->size};
    for (uint32_t i = 0; i < N_INTS; i++)
        *members[i] = ints + (size_t)i * n;
    a->beta = floats + n;
    return true;
}

static void release(const arguments *a)
{
    free(a->trans_a);
    free(a->alpha);
    free(a->pointers);
}

static void fill(const group *g, const shape *s, const arguments *a)
{
    uint64_t row = 0;
    for (uint32_t e = 0, i = 0; e < g->n_local; row += g->received[e++]) {
        if (g->received[e] == 0)
            continue;
        cuda_product p = product_of(g->c, s, e, row, g->received[e]);
        a->trans_a[i] = p.b.transposed ? BLAS_OP_T : BLAS_OP_N;
        a->trans_b[i] = p.a.transposed ? BLAS_OP_T : BLAS_OP_N;
        a->m[i] = (int)p.n;
        a->n[i] = (int)p.m;
        a->k[i] = (int)p.k;
        a->lda[i] = (int)p.b.ld;
        a->ldb[i] = (int)p.a.ld;
        a->ldc[i] = (int)p.c.ld;
        a->size[i] = 1;
        a->alpha[i] = p.alpha;
        a->beta[i] = p.beta;
        a->pointers[i] = p.b.data;
        a->pointers[g->n + i] = p.a.data;
        a->pointers[2 * g->n + i] = p.c.data;
        i++;
    }
}

static int blas_type_of(tdm_cuda_type type)
{
    return type == TDM_CUDA_BF16 ? BLAS_16BF : type == TDM_CUDA_FP16 ? BLAS_16F : BLAS_32F;
}

/* The op's addresses on the GPU, sent when it is issued for the first time. */
static tdm_code send_pointers(const group *g, const arguments *a, const void ***there,
                              tdm_error *err)
{
    cuda_tables *tables = &g->c->rank->tables;
    uint32_t op = g->c->of.in->index;
    *there = tables->pointers + tables->first_pointer[op];
    if (tables->filled[op])
        return TDM_OK;
    tables->filled[op] = true;
    /* From pageable memory: read before the call returns. */
    return cuda_ok(g->c,
                   cudaMemcpyAsync(*there, a->pointers, 3 * g->n * sizeof *a->pointers,
                                   cudaMemcpyHostToDevice, g->c->stream),
                   err);
}

static tdm_code at_once(const group *g, const shape *s, bool *supported, tdm_error *err)
{
    cuda_rank *rank = g->c->rank;
    const void **there = NULL;
    arguments a;
    if (!allocate(&a, g->n)) {
        release(&a);
        return tdm_error_add(err, TDM_E_INTERNAL, "out of memory");
    }
    fill(g, s, &a);
    tdm_code code = send_pointers(g, &a, &there, err);
    if (code == TDM_OK) {
        int type = blas_type_of(g->c->type);
        int status = rank->cuda->blas->GemmGroupedBatchedEx(
            rank->blas.handle, a.trans_a, a.trans_b, a.m, a.n, a.k, a.alpha, there, type, a.lda,
            there + g->n, type, a.ldb, a.beta, (void *const *)(there + 2 * (size_t)g->n),
            blas_type_of(s->c_type), a.ldc, (int)g->n, a.size, BLAS_COMPUTE_32F);
        *supported = status != BLAS_NOT_SUPPORTED;
        code = *supported ? cuda_blas_ok(g->c, status, err) : TDM_OK;
    }
    release(&a);
    return code;
}

/* Source: cuBLAS documentation, cublasGemmGroupedBatchedEx, table of types: all three the same. */
static tdm_code multiply(const group *g, const shape *s, tdm_error *err)
{
    cuda_blas *blas = &g->c->rank->blas;
    bool supported = s->c_type == g->c->type && !blas->no_grouped && g->n > 1;
    if (g->n == 0)
        return TDM_OK;
    tdm_code code = supported ? at_once(g, s, &supported, err) : TDM_OK;
    if (code == TDM_OK && !supported) {
        blas->no_grouped |= s->c_type == g->c->type && g->n > 1;
        code = one_by_one(g, s, err);
    }
    return code;
}

/* ---- works ---- */

tdm_code cuda_grouped(const cuda_call *c, tdm_error *err)
{
    uint64_t n = c->of.op->u.grouped.n, k = c->of.op->u.grouped.k;
    group g = group_of(c);
    const uint32_t *counts = c->rank->tables.received + cuda_route_row(c) * g.n_local;
    tdm_code code = multiply(&g,
                             &(shape){.n = n,
                                      .k = k,
                                      .a = cuda_tensor(c, 0),
                                      .a_ld = k,
                                      .b = c->of.weight->weight,
                                      .b_step = k * n,
                                      .b_ld = n,
                                      .c = cuda_tensor(c, 1),
                                      .c_ld = n,
                                      .c_type = c->type},
                             err);
    if (code == TDM_OK && c->of.bias)
        code = cuda_ok(c,
                       tdm_cuda_bias(c->stream, c->type, c->of.bias->weight, counts, g.n_local,
                                     g.rows, n, cuda_tensor(c, 1)),
                       err);
    return code;
}

tdm_code cuda_grouped_dgrad(const cuda_call *c, tdm_error *err)
{
    uint64_t n = c->of.op->u.grouped.n, k = c->of.op->u.grouped.k;
    group g = group_of(c);
    return multiply(&g,
                    &(shape){.n = n,
                             .k = k,
                             .a = cuda_tensor(c, 0),
                             .a_ld = k,
                             .b = c->of.weight->weight,
                             .b_step = k * n,
                             .b_ld = k,
                             .b_transposed = true,
                             .c = cuda_tensor(c, 1),
                             .c_ld = n,
                             .c_type = c->type},
                    err);
}

tdm_code cuda_grouped_wgrad(const cuda_call *c, tdm_error *err)
{
    uint64_t n = c->of.op->u.grouped.n, k = c->of.op->u.grouped.k;
    group g = group_of(c);
    const uint32_t *counts = c->rank->tables.received + cuda_route_row(c) * g.n_local;
    tdm_code code = multiply(&g,
                             &(shape){.m = k,
                                      .n = n,
                                      .a = cuda_tensor(c, 0),
                                      .a_ld = k,
                                      .a_transposed = true,
                                      .b = cuda_tensor(c, 1),
                                      .b_ld = n,
                                      .c = c->of.weight->gradient,
                                      .c_step = k * n,
                                      .c_ld = n,
                                      .beta = 1,
                                      .c_type = c->gradient_type},
                             err);
    if (code == TDM_OK && c->of.bias)
        code = cuda_ok(c,
                       tdm_cuda_bias_backward(c->stream, c->type, c->gradient_type,
                                              cuda_tensor(c, 1), counts, g.n_local, g.rows, n,
                                              c->of.bias->gradient, c->rank->scratch),
                       err);
    return code;
}
