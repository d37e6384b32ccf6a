/* tables.c: what lies on the GPU for a rank's whole run beside its tensors: words of a step, the
 * planned choices of experts and what follows from them, lists of parameters. */
#include "parts.h"

#include <stdlib.h>

/* On the compute stream, like all that fills the GPU's memory: the default stream, which functions
 * without one use, waits for no other. From pageable memory, which is read before the call returns.
 */
static tdm_code send(const cuda_rank *rank, void *to, const void *from, uint64_t bytes,
                     tdm_error *err)
{
    cudaError_t error =
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, rank->streams[TDM_STREAM_COMPUTE]);
    return cuda_rank_ok(rank, "tables", error, err);
}

static tdm_code clear(const cuda_rank *rank, void *to, uint64_t bytes, tdm_error *err)
{
    cudaError_t error = cudaMemsetAsync(to, 0, bytes, rank->streams[TDM_STREAM_COMPUTE]);
    return cuda_rank_ok(rank, "tables", error, err);
}

/* Room on the GPU, with these contents (NULL: zero). */
static tdm_code place(cuda_rank *rank, const void *from, uint64_t bytes, void **to, tdm_error *err)
{
    tdm_code code = cuda_allocate(rank, CUDA_TABLES, bytes, to, err);
    if (code != TDM_OK || bytes == 0)
        return code;
    return from ? send(rank, *to, from, bytes, err) : clear(rank, *to, bytes, err);
}

/* ---- routes ---- */

static bool is_topk(const cuda_rank *rank, uint32_t op)
{
    const tdm_work *work = rank->of->works[op];
    return work && work->work == TDM_WORK_TOPK;
}

/* Numbers the expert layers of the rank; returns how many it has. */
static uint32_t number_layers(const cuda_rank *rank, uint32_t *row_of_layer)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < rank->cuda->plan->model.num_layers; i++)
        row_of_layer[i] = UINT32_MAX;
    for (uint32_t op = 0; op < rank->program->n_ops; op++) {
        uint32_t layer = rank->program->ops[op].layer;
        if (is_topk(rank, op) && row_of_layer[layer] == UINT32_MAX)
            row_of_layer[layer] = n++;
    }
    return n;
}

/* In this process's memory, as cuda_tables has them on the GPU. */
typedef struct routes {
    int32_t *choices;
    uint32_t *counts, *received;
    uint64_t pairs;
    uint32_t ep, n_local;
} routes;

static void fill_row(const cuda_rank *rank, const tdm_call *c, uint64_t row, const routes *r)
{
    tdm_group group = tdm_mesh_group(&rank->cuda->plan->mesh, TDM_GROUP_EP, rank->of->rank);
    uint32_t n_local;
    const int32_t *choices = tdm_call_choices(c);
    const uint32_t *received = tdm_call_received(c, &n_local);
    for (uint64_t i = 0; i < r->pairs; i++)
        r->choices[row * r->pairs + i] = choices[i];
    for (uint32_t e = 0; e < n_local; e++)
        r->received[row * n_local + e] = received[e];
    for (uint32_t i = 0; i < group.size; i++) {
        const uint32_t *sent = tdm_call_counts(c, tdm_group_member(&group, i));
        for (uint32_t e = 0; e < n_local; e++)
            r->counts[(row * group.size + i) * n_local + e] =
                sent[(size_t)rank->of->ep * n_local + e];
    }
}

static tdm_code place_routes(tdm_arena *arena, cuda_rank *rank, tdm_error *err)
{
    const tdm_plan *plan = rank->cuda->plan;
    const tdm_program *p = rank->program;
    cuda_tables *t = &rank->tables;
    uint32_t *row_of_layer = TDM_ALLOC(arena, uint32_t, plan->model.num_layers);
    uint64_t rows = (uint64_t)number_layers(rank, row_of_layer) * plan->num_microbatches;
    t->row_of_layer = row_of_layer;
    if (rows == 0)
        return TDM_OK;
    uint64_t shard = (uint64_t)plan->micro_batch_size * plan->seq_length / plan->mesh.tp;
    routes r = {.pairs = shard * rank->of->routes->k, .ep = plan->mesh.ep};
    r.n_local = rank->of->routes->n_experts / r.ep;
    tdm_arena scratch = {0};
    r.choices = TDM_ALLOC(&scratch, int32_t, rows * r.pairs);
    r.counts = TDM_ALLOC(&scratch, uint32_t, rows * r.ep * r.n_local);
    r.received = TDM_ALLOC(&scratch, uint32_t, rows * r.n_local);
    for (uint32_t op = 0; op < p->n_ops; op++) {
        const tdm_exec_op of = {.rank = rank->of->rank, .instance = &p->ops[op]};
        tdm_call c = tdm_call_of(rank->of, &of);
        if (is_topk(rank, op))
            fill_row(rank, &c,
                     (uint64_t)row_of_layer[c.in->layer] * plan->num_microbatches +
                         c.in->pass.microbatch,
                     &r);
    }
    tdm_code code =
        place(rank, r.choices, rows * r.pairs * sizeof *r.choices, (void **)&t->choices, err);
    if (code == TDM_OK)
        code = place(rank, NULL, rows * r.pairs * sizeof *t->places, (void **)&t->places, err);
    if (code == TDM_OK)
        code = place(rank, r.counts, rows * r.ep * r.n_local * sizeof *r.counts,
                     (void **)&t->counts, err);
    if (code == TDM_OK)
        code = place(rank, r.received, rows * r.n_local * sizeof *r.received, (void **)&t->received,
                     err);
    tdm_arena_free(&scratch);
    return code;
}

/* Addresses of the operands of grouped products: three for each local expert. */
static tdm_code place_pointers(tdm_arena *arena, cuda_rank *rank, tdm_error *err)
{
    const tdm_program *p = rank->program;
    uint32_t *first = TDM_ALLOC(arena, uint32_t, p->n_ops), n = 0;
    uint32_t n_local = rank->cuda->plan->model.num_experts / rank->cuda->plan->mesh.ep;
    for (uint32_t op = 0; op < p->n_ops; op++) {
        first[op] = p->ops[op].op->kind == TDM_OP_GROUPED_GEMM ? n : UINT32_MAX;
        n += p->ops[op].op->kind == TDM_OP_GROUPED_GEMM ? 3 * n_local : 0;
    }
    rank->tables.first_pointer = first;
    rank->tables.filled = TDM_ALLOC(arena, bool, p->n_ops);
    return place(rank, NULL, (uint64_t)n * sizeof(void *), (void **)&rank->tables.pointers, err);
}

/* ---- words, positions, results ---- */

static bool uses(const cuda_rank *rank, tdm_work_kind kind)
{
    for (uint32_t op = 0; op < rank->program->n_ops; op++)
        if (rank->of->works[op] && rank->of->works[op]->work == kind)
            return true;
    return false;
}

static tdm_code place_words(cuda_rank *rank, tdm_error *err)
{
    const tdm_plan *plan = rank->cuda->plan;
    if (!uses(rank, TDM_WORK_LOOKUP) && !uses(rank, TDM_WORK_LOSS_EXP))
        return TDM_OK;
    uint64_t n = (uint64_t)plan->num_microbatches * plan->micro_batch_size *
                 ((uint64_t)plan->seq_length + 1);
    return place(rank, NULL, n * sizeof(int32_t), (void **)&rank->tables.words, err);
}

static tdm_code place_rope(cuda_rank *rank, tdm_error *err)
{
    const tdm_plan *plan = rank->cuda->plan;
    uint64_t size = plan->model.kv_channels, s = plan->seq_length;
    cuda_tables *t = &rank->tables;
    if (!uses(rank, TDM_WORK_ROPE))
        return TDM_OK;
    tdm_code code = place(rank, NULL, s * (size / 2) * 2 * sizeof(float), (void **)&t->rope, err);
    if (code != TDM_OK)
        return code;
    cudaError_t error =
        tdm_cuda_rope_table(rank->streams[TDM_STREAM_COMPUTE], s, size, TDM_ROPE_BASE, t->rope);
    return cuda_rank_ok(rank, "rotary positions", error, err);
}

static tdm_code place_results(cuda_rank *rank, tdm_error *err)
{
    cuda_tables *t = &rank->tables;
    uint64_t bytes = rank->cuda->options.n_steps * sizeof(double);
    tdm_code code = place(rank, NULL, sizeof *t->norm, (void **)&t->norm, err);
    if (code == TDM_OK)
        code = place(rank, NULL, bytes, (void **)&t->loss, err);
    if (code == TDM_OK)
        code = place(rank, NULL, bytes, (void **)&t->grad_norm, err);
    if (code == TDM_OK)
        code = place(rank, NULL, rank->of->n_params * sizeof *t->all, (void **)&t->all, err);
    if (code == TDM_OK)
        code =
            place(rank, NULL, rank->of->n_params * sizeof *t->counted, (void **)&t->counted, err);
    rank->of->norm = t->norm;
    return code;
}

tdm_code cuda_tables_open(tdm_arena *arena, cuda_rank *rank, tdm_error *err)
{
    tdm_code code = place_words(rank, err);
    if (code == TDM_OK)
        code = place_routes(arena, rank, err);
    if (code == TDM_OK)
        code = place_pointers(arena, rank, err);
    if (code == TDM_OK)
        code = place_rope(rank, err);
    if (code == TDM_OK)
        code = place_results(rank, err);
    return code;
}

/* ---- parameters ---- */

static tdm_cuda_piece piece_of(const tdm_plan *plan, const tdm_rank_param *p)
{
    uint64_t weight = tdm_dtype_bytes(plan->training.dtype),
             gradient = tdm_dtype_bytes(plan->training.grad_dtype);
    return (tdm_cuda_piece){.weight = (char *)p->weight + p->first * weight,
                            .master = p->master,
                            .gradient = (char *)p->gradient + p->first * gradient,
                            .first_moment = p->first_moment,
                            .second_moment = p->second_moment,
                            .count = p->count};
}

/* Lists the parameters that this rank updates, and of them those that count in the norm. */
static tdm_code list_pieces(cuda_rank *rank, tdm_error *err)
{
    const tdm_rank *of = rank->of;
    cuda_tables *t = &rank->tables;
    tdm_cuda_piece *all = calloc(2 * (size_t)of->n_params + 1, sizeof *all);
    if (!all)
        return tdm_error_add(err, TDM_E_INTERNAL, "out of memory");
    tdm_cuda_piece *counted = all + of->n_params;
    t->n_all = t->n_counted = 0;
    for (uint32_t i = 0; i < of->n_params; i++) {
        if (of->params[i].count == 0)
            continue;
        all[t->n_all++] = piece_of(of->plan, &of->params[i]);
        if (of->params[i].counted)
            counted[t->n_counted++] = piece_of(of->plan, &of->params[i]);
    }
    t->all_blocks = tdm_cuda_pieces_number(all, t->n_all);
    t->counted_blocks = tdm_cuda_pieces_number(counted, t->n_counted);
    tdm_code code = send(rank, t->all, all, t->n_all * sizeof *all, err);
    if (code == TDM_OK)
        code = send(rank, t->counted, counted, t->n_counted * sizeof *all, err);
    free(all);
    return code;
}

tdm_code cuda_tables_begin(cuda_rank *rank, tdm_error *err)
{
    cuda_tables *t = &rank->tables;
    uint64_t bytes = rank->cuda->options.n_steps * sizeof(double);
    tdm_code code = rank->cuda->plan->train ? list_pieces(rank, err) : TDM_OK;
    if (code == TDM_OK)
        code = clear(rank, t->loss, bytes, err);
    if (code == TDM_OK)
        code = clear(rank, t->grad_norm, bytes, err);
    return code;
}

tdm_code cuda_tables_step(cuda_rank *rank, uint32_t step, tdm_error *err)
{
    const tdm_plan *plan = rank->cuda->plan;
    uint64_t b = plan->micro_batch_size, s = plan->seq_length;
    uint64_t key = tdm_data_purpose(plan->routing_spec.seed, "data", "words");
    tdm_code code = TDM_OK;
    for (uint32_t mb = 0; rank->tables.words && mb < plan->num_microbatches && code == TDM_OK;
         mb++) {
        const tdm_instance in = {.pass.microbatch = mb};
        const tdm_call c = {.plan = plan, .rank = rank->of, .in = &in, .step = step, .s = s};
        code = cuda_rank_ok(rank, "words",
                            tdm_cuda_words(rank->streams[TDM_STREAM_COMPUTE], key,
                                           tdm_call_sample(&c, 0), b, s, plan->model.vocab_size,
                                           rank->tables.words + mb * b * (s + 1)),
                            err);
    }
    return code;
}
