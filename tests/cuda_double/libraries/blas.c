/* blas.c: a double of cuBLAS and cuBLASLt for tests: products on the CPU, enqueued on the streams
 * of CUDA's double. It holds callers to what the libraries ask for: layouts that fit each other,
 * operands as aligned as was promised when the algorithm was chosen. */
#include "backend/cuda/blas_api.h"
#include "tests/cuda_double/double.h"
#include "tests/cuda_double/libraries/libraries.h"

#include <stdlib.h>
#include <string.h>

/* ---- numbers ---- */

static size_t bytes_of(int type)
{
    return type == BLAS_32F ? 4 : 2;
}

/* Source: IEEE 754-2019, section 3.4, binary16. */
static float half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 0x1fu,
             fraction = half & 0x3ffu;
    float value;
    if (exponent == 0) {
        value = (float)fraction / 16777216.0F; /* 2^24 */
        return sign ? -value : value;
    }
    uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t float_to_half(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u)
        return sign | 0x7e00u;
    if (bits >= 0x477ff000u) /* 65520, which rounds beyond the largest */
        return sign | 0x7c00u;
    if (bits < 0x38800000u) { /* less than 2^-14 */
        float magnitude;
        memcpy(&magnitude, &bits, sizeof magnitude);
        float shifted = magnitude + 0.5F; /* whose last place is 2^-24: rounded to even */
        memcpy(&bits, &shifted, sizeof bits);
        return sign | (uint16_t)(bits - 0x3f000000u);
    }
    bits += 0xfffu + (bits >> 13 & 1u);
    return sign | (uint16_t)((bits - 0x38000000u) >> 13);
}

float double_number(int type, const void *data, size_t i)
{
    const uint16_t *half = data;
    if (type == BLAS_32F)
        return ((const float *)data)[i];
    if (type == BLAS_16F)
        return half_to_float(half[i]);
    uint32_t bits = (uint32_t)half[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void double_set_number(int type, void *data, size_t i, float value)
{
    uint16_t *half = data;
    uint32_t bits;
    if (type == BLAS_32F) {
        ((float *)data)[i] = value;
        return;
    }
    memcpy(&bits, &value, sizeof bits);
    half[i] = type == BLAS_16F ? float_to_half(value)
              : (bits & 0x7fffffffu) > 0x7f800000u
                  ? (uint16_t)(bits >> 16 | 0x40u)
                  : (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* ---- products, column by column ---- */

typedef struct operand {
    char *data;
    int type;
    uint64_t rows, columns; /* as stored */
    int64_t ld, stride;
    bool transposed;
} operand;

typedef struct product {
    uint64_t m, n, k;
    uint32_t batch;
    operand a, b, c;
    float alpha, beta;
    const char *bias; /* [m]; NULL: none */
} product;

static void touch(const operand *o, uint32_t i, bool write)
{
    const char *first = o->data + (size_t)o->stride * i * bytes_of(o->type);
    for (uint64_t column = 0; column < o->columns; column++)
        cuda_double_touch(first + column * (uint64_t)o->ld * bytes_of(o->type),
                          o->rows * bytes_of(o->type), write);
}

/* [rows][columns] of the operand as it enters the product, row by row. */
static float *load(const operand *o, uint32_t i, uint64_t rows, uint64_t columns)
{
    float *out = malloc(rows * columns * sizeof *out + 1);
    const char *first = o->data + (size_t)o->stride * i * bytes_of(o->type);
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t column = 0; column < columns; column++) {
            uint64_t at =
                o->transposed ? r * (uint64_t)o->ld + column : column * (uint64_t)o->ld + r;
            out[r * columns + column] = double_number(o->type, first, at);
        }
    return out;
}

static void multiply_one(const product *p, uint32_t i)
{
    float *a = load(&p->a, i, p->m, p->k), *b = load(&p->b, i, p->k, p->n),
          *sums = calloc(p->m * p->n + 1, sizeof *sums);
    char *c = p->c.data + (size_t)p->c.stride * i * bytes_of(p->c.type);
    for (uint64_t row = 0; row < p->m; row++)
        for (uint64_t k = 0; k < p->k; k++)
            for (uint64_t column = 0; column < p->n; column++)
                sums[row * p->n + column] += a[row * p->k + k] * b[k * p->n + column];
    for (uint64_t column = 0; column < p->n; column++)
        for (uint64_t row = 0; row < p->m; row++) {
            uint64_t at = column * (uint64_t)p->c.ld + row;
            float value = p->alpha * sums[row * p->n + column];
            if (p->beta != 0)
                value += p->beta * double_number(p->c.type, c, at);
            if (p->bias)
                value += double_number(p->c.type, p->bias, row);
            double_set_number(p->c.type, c, at, value);
        }
    free(a);
    free(b);
    free(sums);
}

static void multiply(const product *p)
{
    for (uint32_t i = 0; i < p->batch; i++) {
        if (p->k > 0) {
            touch(&p->a, i, false);
            touch(&p->b, i, false);
        }
        if (p->beta != 0)
            touch(&p->c, i, false);
        touch(&p->c, i, true);
        multiply_one(p, i);
    }
    if (p->bias)
        cuda_double_touch(p->bias, p->m * bytes_of(p->c.type), false);
}

/* ---- cuBLASLt ---- */

enum { INVALID = 7 };

/* Descriptor, layout and preference alike. */
struct blas_opaque {
    int type;
    int32_t trans[2], batch;
    uint32_t epilogue, alignment[4];
    const char *bias;
    uint64_t rows, columns, workspace;
    int64_t ld, stride;
};

static int make(blas_object *object)
{
    *object = calloc(1, sizeof **object);
    (*object)->batch = 1;
    return BLAS_SUCCESS;
}

static int destroy(blas_object object)
{
    free(object);
    return BLAS_SUCCESS;
}

static int make_desc(blas_object *desc, int compute, int scale_type)
{
    return compute == BLAS_COMPUTE_32F && scale_type == BLAS_32F ? make(desc) : BLAS_NOT_SUPPORTED;
}

static int make_layout(blas_object *layout, int type, uint64_t rows, uint64_t columns, int64_t ld)
{
    if (ld < (int64_t)rows)
        return INVALID;
    make(layout);
    (*layout)->type = type;
    (*layout)->rows = rows;
    (*layout)->columns = columns;
    (*layout)->ld = ld;
    return BLAS_SUCCESS;
}

static int take(void *to, size_t size, const void *value, size_t bytes)
{
    if (bytes != size)
        return INVALID;
    memcpy(to, value, bytes);
    return BLAS_SUCCESS;
}

static int set_desc(blas_object desc, int attribute, const void *value, size_t bytes)
{
    switch (attribute) {
    case BLAS_DESC_TRANSA:
    case BLAS_DESC_TRANSB:
        return take(&desc->trans[attribute - BLAS_DESC_TRANSA], sizeof desc->trans[0], value,
                    bytes);
    case BLAS_DESC_EPILOGUE:
        return take(&desc->epilogue, sizeof desc->epilogue, value, bytes);
    case BLAS_DESC_BIAS_POINTER:
        return take(&desc->bias, sizeof desc->bias, value, bytes);
    default:
        return BLAS_NOT_SUPPORTED;
    }
}

static int set_layout(blas_object layout, int attribute, const void *value, size_t bytes)
{
    if (attribute == BLAS_LAYOUT_BATCH_COUNT)
        return take(&layout->batch, sizeof layout->batch, value, bytes);
    return attribute == BLAS_LAYOUT_STRIDED_BATCH_OFFSET
               ? take(&layout->stride, sizeof layout->stride, value, bytes)
               : BLAS_NOT_SUPPORTED;
}

static int set_preference(blas_object preference, int attribute, const void *value, size_t bytes)
{
    if (attribute == BLAS_PREF_MAX_WORKSPACE_BYTES)
        return take(&preference->workspace, sizeof preference->workspace, value, bytes);
    int i = attribute - BLAS_PREF_MIN_ALIGNMENT_A_BYTES;
    return i >= 0 && i < 4
               ? take(&preference->alignment[i], sizeof preference->alignment[i], value, bytes)
               : BLAS_NOT_SUPPORTED;
}

static bool fits(blas_object desc, blas_object a, blas_object b, blas_object c, product *p)
{
    bool at = desc->trans[0] == BLAS_OP_T, bt = desc->trans[1] == BLAS_OP_T;
    *p = (product){.m = c->rows,
                   .n = c->columns,
                   .k = at ? a->rows : a->columns,
                   .batch = (uint32_t)c->batch,
                   .bias = desc->epilogue == BLAS_EPILOGUE_BIAS ? desc->bias : NULL};
    p->a = (operand){NULL, a->type, a->rows, a->columns, a->ld, a->stride, at};
    p->b = (operand){NULL, b->type, b->rows, b->columns, b->ld, b->stride, bt};
    p->c = (operand){NULL, c->type, c->rows, c->columns, c->ld, c->stride, false};
    return (at ? a->columns : a->rows) == p->m && (bt ? b->columns : b->rows) == p->k &&
           (bt ? b->rows : b->columns) == p->n && a->batch == c->batch && b->batch == c->batch &&
           a->type == b->type && (c->type == a->type || c->type == BLAS_32F);
}

static int choose(blas_lt_handle handle, blas_object desc, blas_object a, blas_object b,
                  blas_object c, blas_object d, blas_object preference, int n_wanted,
                  blas_heuristic *results, int *n_results)
{
    (void)handle;
    product p;
    if (!fits(desc, a, b, c, &p) || c != d || n_wanted < 1)
        return INVALID;
    memset(results, 0, sizeof *results);
    memcpy(results->algo.data, preference->alignment, sizeof preference->alignment);
    results->workspace_bytes = preference->workspace < 4096 ? preference->workspace : 4096;
    *n_results = 1;
    return BLAS_SUCCESS;
}

static void run(void *data)
{
    multiply(data);
    free(data);
}

static bool aligned(const void *data, uint32_t to)
{
    return to > 0 && (uintptr_t)data % to == 0;
}

static int lt_multiply(blas_lt_handle handle, blas_object desc, const void *alpha, const void *a,
                       blas_object a_layout, const void *b, blas_object b_layout, const void *beta,
                       const void *c, blas_object c_layout, void *d, blas_object d_layout,
                       const blas_algo *algo, void *workspace, size_t workspace_bytes,
                       cudaStream_t stream)
{
    (void)handle;
    product *p = malloc(sizeof *p);
    uint32_t alignment[4];
    memcpy(alignment, algo->data, sizeof alignment);
    if (!fits(desc, a_layout, b_layout, c_layout, p) || c != d || c_layout != d_layout ||
        (workspace_bytes > 0 && !workspace)) {
        free(p);
        return INVALID;
    }
    if (!aligned(a, alignment[0]) || !aligned(b, alignment[1]) || !aligned(d, alignment[3]))
        cuda_double_fault("a product's operands are less aligned than was said when its algorithm "
                          "was chosen");
    p->a.data = (char *)(uintptr_t)a;
    p->b.data = (char *)(uintptr_t)b;
    p->c.data = d;
    p->alpha = *(const float *)alpha;
    p->beta = *(const float *)beta;
    return cuda_double_enqueue(stream, run, p, "a product") == cudaSuccess ? BLAS_SUCCESS : 13;
}

static int lt_create(blas_lt_handle *handle)
{
    *handle = malloc(1);
    return BLAS_SUCCESS;
}

static int lt_destroy(blas_lt_handle handle)
{
    free(handle);
    return BLAS_SUCCESS;
}

static size_t version(void)
{
    return 130100;
}

const blas_lt_api *blas_lt_open(char *problem, size_t n_bytes)
{
    (void)problem;
    (void)n_bytes;
    static const blas_lt_api api = {.Create = lt_create,
                                    .Destroy = lt_destroy,
                                    .GetVersion = version,
                                    .MatmulDescCreate = make_desc,
                                    .MatmulDescDestroy = destroy,
                                    .MatmulDescSetAttribute = set_desc,
                                    .MatrixLayoutCreate = make_layout,
                                    .MatrixLayoutDestroy = destroy,
                                    .MatrixLayoutSetAttribute = set_layout,
                                    .MatmulPreferenceCreate = make,
                                    .MatmulPreferenceDestroy = destroy,
                                    .MatmulPreferenceSetAttribute = set_preference,
                                    .MatmulAlgoGetHeuristic = choose,
                                    .Matmul = lt_multiply};
    return &api;
}

/* ---- cuBLAS: grouped products ---- */

struct cublasContext {
    cudaStream_t stream;
};

static int create(blas_handle *handle)
{
    *handle = calloc(1, sizeof **handle);
    return BLAS_SUCCESS;
}

static int destroy_handle(blas_handle handle)
{
    free(handle);
    return BLAS_SUCCESS;
}

static int set_stream(blas_handle handle, cudaStream_t stream)
{
    handle->stream = stream;
    return BLAS_SUCCESS;
}

static int set_workspace(blas_handle handle, void *workspace, size_t bytes)
{
    (void)handle;
    return workspace || bytes == 0 ? BLAS_SUCCESS : INVALID;
}

/* The operands' addresses are on the GPU, read when the products' turn has come. */
typedef struct grouped {
    uint32_t n;
    const void *const *a, *const *b;
    void *const *c;
    product products[];
} grouped;

static void run_grouped(void *data)
{
    grouped *g = data;
    cuda_double_touch(g->a, g->n * sizeof *g->a, false);
    cuda_double_touch(g->b, g->n * sizeof *g->b, false);
    cuda_double_touch(g->c, g->n * sizeof *g->c, false);
    for (uint32_t i = 0; i < g->n; i++) {
        g->products[i].a.data = (char *)(uintptr_t)g->a[i];
        g->products[i].b.data = (char *)(uintptr_t)g->b[i];
        g->products[i].c.data = g->c[i];
        multiply(&g->products[i]);
    }
    free(g);
}

static int multiply_grouped(blas_handle handle, const int *trans_a, const int *trans_b,
                            const int *m, const int *n, const int *k, const void *alpha,
                            const void *const *a, int a_type, const int *lda, const void *const *b,
                            int b_type, const int *ldb, const void *beta, void *const *c,
                            int c_type, const int *ldc, int n_groups, const int *group_size,
                            int compute)
{
    if (a_type != b_type || a_type != c_type || compute != BLAS_COMPUTE_32F)
        return BLAS_NOT_SUPPORTED;
    grouped *g = calloc(1, sizeof *g + (size_t)n_groups * sizeof g->products[0]);
    g->n = (uint32_t)n_groups;
    g->a = a;
    g->b = b;
    g->c = c;
    for (int i = 0; i < n_groups; i++) {
        bool at = trans_a[i] == BLAS_OP_T, bt = trans_b[i] == BLAS_OP_T;
        uint64_t rows = (uint64_t)m[i], columns = (uint64_t)n[i], inner = (uint64_t)k[i];
        if (group_size[i] != 1 || m[i] <= 0 || n[i] <= 0 || k[i] <= 0 ||
            lda[i] < (at ? k[i] : m[i]) || ldb[i] < (bt ? n[i] : k[i]) || ldc[i] < m[i]) {
            free(g);
            return INVALID;
        }
        g->products[i] = (product){
            .m = rows,
            .n = columns,
            .k = inner,
            .batch = 1,
            .a = {NULL, a_type, at ? inner : rows, at ? rows : inner, lda[i], 0, at},
            .b = {NULL, b_type, bt ? columns : inner, bt ? inner : columns, ldb[i], 0, bt},
            .c = {NULL, c_type, rows, columns, ldc[i], 0, false},
            .alpha = ((const float *)alpha)[i],
            .beta = ((const float *)beta)[i]};
    }
    cudaError_t error = cuda_double_enqueue(handle->stream, run_grouped, g, "grouped products");
    return error == cudaSuccess ? BLAS_SUCCESS : 13;
}

static const char *status_text(int status)
{
    return status == BLAS_NOT_SUPPORTED ? "not supported" : "failed";
}

const blas_api *blas_open(char *problem, size_t n_bytes)
{
    (void)problem;
    (void)n_bytes;
    static const blas_api api = {.Create = create,
                                 .Destroy = destroy_handle,
                                 .SetStream = set_stream,
                                 .SetWorkspace = set_workspace,
                                 .GemmGroupedBatchedEx = multiply_grouped,
                                 .GetStatusString = status_text};
    return &api;
}
