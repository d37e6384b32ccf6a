/* multiply.c: matrix products by cuBLASLt. What it says is best for a product, it is asked once;
 * then the answer, with the product's descriptors, is kept for the rank's whole run.
 *
 * cuBLASLt's matrices lie column by column: the product of the transposes, which are the same
 * bytes, with the operands' places changed. */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

enum { N_SLOTS = 1024, N_OPERANDS = 4 };

/* What an algorithm depends on; zero in between, to be compared as bytes. */
typedef struct plan_key {
    uint64_t m, n, k, ld[3], stride[3];
    uint32_t batch, alignment[3];
    int32_t type, c_type;
    uint8_t transposed[2], adds, biased;
    uint32_t unused;
} plan_key;

struct cuda_plan {
    plan_key key;
    cuda_plan *next;
    blas_object desc, a, b, c;
    blas_algo algo;
    size_t workspace_bytes;
};

static int blas_type_of(tdm_cuda_type type)
{
    static const int types[] = {
        [TDM_CUDA_BF16] = BLAS_16BF, [TDM_CUDA_FP16] = BLAS_16F, [TDM_CUDA_FP32] = BLAS_32F};
    return types[type];
}

/* Powers of two up to what allocations have. */
static uint32_t alignment_of(const void *data)
{
    uintptr_t bits = (uintptr_t)data | TDM_ALIGNMENT;
    return (uint32_t)(bits & (~bits + 1));
}

static plan_key key_of(const cuda_call *c, const cuda_product *p)
{
    plan_key key;
    memset(&key, 0, sizeof key);
    const cuda_matrix *operands[] = {&p->a, &p->b, &p->c};
    key.m = p->m;
    key.n = p->n;
    key.k = p->k;
    for (int i = 0; i < 3; i++) {
        key.ld[i] = operands[i]->ld;
        key.stride[i] = p->batch > 1 ? operands[i]->stride : 0;
        key.alignment[i] = alignment_of(operands[i]->data);
    }
    key.batch = p->batch;
    key.type = (int32_t)c->type;
    key.c_type = (int32_t)p->c_type;
    key.transposed[0] = p->a.transposed;
    key.transposed[1] = p->b.transposed;
    key.adds = p->beta != 0;
    key.biased = p->bias != NULL;
    return key;
}

/* FNV-1a. */
static uint32_t slot_of(const plan_key *key)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    const unsigned char *bytes = (const unsigned char *)key;
    for (size_t i = 0; i < sizeof *key; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)((hash ^ hash >> 32) % N_SLOTS);
}

/* ---- choosing ---- */

/* The layout of a matrix as it is stored, [rows][columns] row by row. */
static int make_layout(const blas_lt_api *lt, const cuda_product *p, const cuda_matrix *matrix,
                       uint64_t rows, uint64_t columns, int type, blas_object *layout)
{
    if (matrix->transposed) {
        uint64_t stored = rows;
        rows = columns;
        columns = stored;
    }
    int status = lt->MatrixLayoutCreate(layout, type, columns, rows, (int64_t)matrix->ld);
    if (status == BLAS_SUCCESS && p->batch > 1) {
        int32_t batch = (int32_t)p->batch;
        int64_t stride = (int64_t)matrix->stride;
        status =
            lt->MatrixLayoutSetAttribute(*layout, BLAS_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
        if (status == BLAS_SUCCESS)
            status = lt->MatrixLayoutSetAttribute(*layout, BLAS_LAYOUT_STRIDED_BATCH_OFFSET,
                                                  &stride, sizeof stride);
    }
    return status;
}

/* Its first operand is our second. */
static int describe(const blas_lt_api *lt, const cuda_call *c, const cuda_product *p,
                    cuda_plan *plan)
{
    int32_t first = p->b.transposed ? BLAS_OP_T : BLAS_OP_N,
            second = p->a.transposed ? BLAS_OP_T : BLAS_OP_N;
    int type = blas_type_of(c->type);
    int status = lt->MatmulDescCreate(&plan->desc, BLAS_COMPUTE_32F, BLAS_32F);
    if (status == BLAS_SUCCESS)
        status = lt->MatmulDescSetAttribute(plan->desc, BLAS_DESC_TRANSA, &first, sizeof first);
    if (status == BLAS_SUCCESS)
        status = lt->MatmulDescSetAttribute(plan->desc, BLAS_DESC_TRANSB, &second, sizeof second);
    if (status == BLAS_SUCCESS && p->bias) {
        uint32_t epilogue = BLAS_EPILOGUE_BIAS;
        status =
            lt->MatmulDescSetAttribute(plan->desc, BLAS_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    }
    if (status == BLAS_SUCCESS)
        status = make_layout(lt, p, &p->a, p->m, p->k, type, &plan->a);
    if (status == BLAS_SUCCESS)
        status = make_layout(lt, p, &p->b, p->k, p->n, type, &plan->b);
    if (status == BLAS_SUCCESS)
        status = make_layout(lt, p, &p->c, p->m, p->n, blas_type_of(p->c_type), &plan->c);
    return status;
}

static int choose(const blas_lt_api *lt, blas_lt_handle handle, cuda_plan *plan)
{
    const uint32_t *alignment = plan->key.alignment;
    const uint32_t alignments[N_OPERANDS] = {alignment[1], alignment[0], alignment[2],
                                             alignment[2]};
    blas_object preference = NULL;
    blas_heuristic found = {0};
    int n_found = 0;
    uint64_t workspace = CUDA_BLAS_WORKSPACE;
    int status = lt->MatmulPreferenceCreate(&preference);
    if (status != BLAS_SUCCESS)
        return status;
    status = lt->MatmulPreferenceSetAttribute(preference, BLAS_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                              sizeof workspace);
    for (int i = 0; i < N_OPERANDS && status == BLAS_SUCCESS; i++)
        status = lt->MatmulPreferenceSetAttribute(preference, BLAS_PREF_MIN_ALIGNMENT_A_BYTES + i,
                                                  &alignments[i], sizeof alignments[i]);
    if (status == BLAS_SUCCESS)
        status = lt->MatmulAlgoGetHeuristic(handle, plan->desc, plan->b, plan->a, plan->c, plan->c,
                                            preference, 1, &found, &n_found);
    lt->MatmulPreferenceDestroy(preference);
    if (status == BLAS_SUCCESS && n_found == 0)
        status = BLAS_NOT_SUPPORTED;
    plan->algo = found.algo;
    plan->workspace_bytes = found.workspace_bytes;
    return status;
}

static void forget(const blas_lt_api *lt, cuda_plan *plan)
{
    blas_object layouts[] = {plan->a, plan->b, plan->c};
    for (size_t i = 0; i < TDM_COUNT(layouts); i++)
        if (layouts[i])
            lt->MatrixLayoutDestroy(layouts[i]);
    if (plan->desc)
        lt->MatmulDescDestroy(plan->desc);
    free(plan);
}

/* The plan for the product, made when it is new. */
static tdm_code plan_for(const cuda_call *c, const cuda_product *p, cuda_plan **out, tdm_error *err)
{
    cuda_blas *blas = &c->rank->blas;
    const blas_lt_api *lt = c->rank->cuda->lt;
    plan_key key = key_of(c, p);
    cuda_plan **slot = &blas->plans[slot_of(&key)];
    for (cuda_plan *plan = *slot; plan; plan = plan->next)
        if (memcmp(&plan->key, &key, sizeof key) == 0) {
            *out = plan;
            return TDM_OK;
        }
    cuda_plan *made = calloc(1, sizeof *made);
    if (!made)
        return tdm_error_add(err, TDM_E_INTERNAL, "out of memory");
    made->key = key;
    int status = describe(lt, c, p, made);
    if (status == BLAS_SUCCESS)
        status = choose(lt, blas->lt, made);
    if (status != BLAS_SUCCESS) {
        forget(lt, made);
        return cuda_blas_ok(c, status, err);
    }
    made->next = *slot;
    *slot = *out = made;
    return TDM_OK;
}

tdm_code cuda_multiply(const cuda_call *c, const cuda_product *p, tdm_error *err)
{
    const blas_lt_api *lt = c->rank->cuda->lt;
    cuda_plan *plan = NULL;
    if (p->m == 0 || p->n == 0)
        return TDM_OK;
    tdm_code code = plan_for(c, p, &plan, err);
    if (code != TDM_OK)
        return code;
    int status = BLAS_SUCCESS;
    if (p->bias)
        status = lt->MatmulDescSetAttribute(plan->desc, BLAS_DESC_BIAS_POINTER, &p->bias,
                                            sizeof p->bias);
    void *out = (void *)(uintptr_t)p->c.data;
    if (status == BLAS_SUCCESS)
        status = lt->Matmul(c->rank->blas.lt, plan->desc, &p->alpha, p->b.data, plan->b, p->a.data,
                            plan->a, &p->beta, out, plan->c, out, plan->c, &plan->algo,
                            c->rank->blas.workspace, plan->workspace_bytes, c->stream);
    return cuda_blas_ok(c, status, err);
}

/* ---- a rank's ---- */

tdm_code cuda_blas_open(cuda_rank *rank, tdm_error *err)
{
    const tdm_cuda *cuda = rank->cuda;
    cuda_blas *blas = &rank->blas;
    tdm_code code =
        cuda_allocate(rank, CUDA_WORKSPACES, CUDA_BLAS_WORKSPACE, &blas->workspace, err);
    if (code != TDM_OK)
        return code;
    blas->plans = calloc(N_SLOTS, sizeof(cuda_plan *));
    if (!blas->plans)
        return tdm_error_add(err, TDM_E_INTERNAL, "out of memory");
    int status = cuda->lt->Create(&blas->lt);
    if (status == BLAS_SUCCESS)
        status = cuda->blas->Create(&blas->handle);
    if (status == BLAS_SUCCESS)
        status = cuda->blas->SetStream(blas->handle, rank->streams[TDM_STREAM_COMPUTE]);
    if (status == BLAS_SUCCESS) /* after the stream, which resets it */
        status = cuda->blas->SetWorkspace(blas->handle, blas->workspace, CUDA_BLAS_WORKSPACE);
    if (status != BLAS_SUCCESS)
        return tdm_error_add(err, TDM_E_DEVICE, "rank %u on GPU %d: cuBLAS does not start: %s",
                             rank->of->rank, rank->gpu, cuda->blas->GetStatusString(status));
    return TDM_OK;
}

void cuda_blas_close(cuda_rank *rank)
{
    cuda_blas *blas = &rank->blas;
    for (uint32_t i = 0; blas->plans && i < N_SLOTS; i++)
        for (cuda_plan *plan = blas->plans[i], *next; plan; plan = next) {
            next = plan->next;
            forget(rank->cuda->lt, plan);
        }
    free(blas->plans);
    if (blas->lt)
        rank->cuda->lt->Destroy(blas->lt);
    if (blas->handle)
        rank->cuda->blas->Destroy(blas->handle);
}
