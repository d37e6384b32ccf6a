/* dump.c: what a run computed, in files that other programs read: for every step the words, weights
 * and gradients of the whole model, put together from all ranks' pieces, in NumPy's format.
 * Source: numpy.lib.format, "Format Version 1.0". */
#include "parts.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* A parameter of the whole model. */
typedef struct entry {
    const tdm_kind *kind;
    const tdm_param *param;
    uint32_t layer;
    uint64_t rows, columns;
    float **weights, **gradients; /* [n_steps][rows * columns] */
} entry;

struct tdm_host_dump {
    tdm_arena *arena;
    const tdm_plan *plan;
    uint32_t n_steps, n_entries;
    entry *entries;
    pthread_mutex_t mutex;
};

/* ---- taking ---- */

static entry *find(const tdm_host_dump *d, const tdm_piece *piece)
{
    for (uint32_t i = 0; i < d->n_entries; i++) {
        entry *e = &d->entries[i];
        if (e->layer == piece->layer && strcmp(e->kind->name, piece->kind->name) == 0 &&
            strcmp(e->param->name, piece->param->name) == 0)
            return e;
    }
    return NULL;
}

static float *values_of(tdm_arena *arena, const entry *e, float **step)
{
    if (!*step)
        *step = TDM_ALLOC(arena, float, e->rows * e->columns);
    return *step;
}

void tdm_host_dump_take(void *context, const tdm_piece *piece)
{
    tdm_host_dump *d = context;
    tdm_shape shape = tdm_shape_of(d->plan, piece->kind, piece->param, piece->rank);
    pthread_mutex_lock(&d->mutex);
    entry *e = find(d, piece);
    float *weights = values_of(d->arena, e, &e->weights[piece->step]),
          *gradients = values_of(d->arena, e, &e->gradients[piece->step]);
    for (uint64_t i = 0; i < piece->count; i++) {
        uint64_t at = tdm_shape_global(&shape, piece->first + i);
        weights[at] = piece->weight[i];
        gradients[at] = piece->gradient[i];
    }
    pthread_mutex_unlock(&d->mutex);
}

/* Lists the model's parameters; a piece's last element says how large the whole is. */
static void list_entries(tdm_host_dump *d, const tdm_chunk *chunk, uint32_t rank)
{
    for (uint32_t b = 0; b < chunk->n_blocks; b++)
        for (uint32_t i = 0; i < chunk->blocks[b].count; i++) {
            const tdm_kind *kind = &d->plan->kinds[chunk->blocks[b].kind];
            for (uint32_t k = 0; k < kind->n_params; k++) {
                tdm_piece piece = {.layer = chunk->blocks[b].first_layer + i,
                                   .kind = kind,
                                   .param = &kind->params[k]};
                tdm_shape shape = tdm_shape_of(d->plan, kind, piece.param, rank);
                entry *e = find(d, &piece);
                if (!e) {
                    e = &d->entries[d->n_entries++];
                    *e = (entry){.kind = kind, .param = piece.param, .layer = piece.layer};
                    e->columns = shape.columns * shape.n_parts;
                    e->weights = TDM_ALLOC(d->arena, float *, d->n_steps);
                    e->gradients = TDM_ALLOC(d->arena, float *, d->n_steps);
                }
                uint64_t last = tdm_shape_global(&shape, piece.param->count - 1);
                if (last / e->columns + 1 > e->rows)
                    e->rows = last / e->columns + 1;
            }
        }
}

tdm_host_dump *tdm_host_dump_new(tdm_arena *arena, const tdm_plan *plan, uint32_t n_steps)
{
    tdm_host_dump *d = TDM_ALLOC(arena, tdm_host_dump, 1);
    *d = (tdm_host_dump){.arena = arena, .plan = plan, .n_steps = n_steps};
    pthread_mutex_init(&d->mutex, NULL);
    uint32_t most = 0;
    for (uint32_t k = 0; k < plan->n_kinds; k++)
        most += plan->kinds[k].n_params;
    d->entries = TDM_ALLOC(arena, entry, most * ((size_t)plan->model.num_layers + 1));
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        const tdm_role *role = &plan->roles[plan->role_of[rank]];
        for (uint32_t c = 0; c < role->n_chunks; c++)
            list_entries(d, &role->chunks[c], rank);
    }
    return d;
}

/* ---- writing ---- */

typedef struct array {
    const char *type; /* NumPy's: "<f4" */
    const void *data;
    uint64_t size; /* of an element */
    uint32_t n_axes;
    uint64_t axes[4];
} array;

static tdm_code complain(const char *path, tdm_error *err)
{
    return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
}

static tdm_code write_array(const char *path, const array *a, tdm_error *err)
{
    enum { PREFIX = 10, BLOCK = 64 };
    char axes[120] = "", text[256];
    uint64_t count = 1;
    int n = 0;
    for (uint32_t i = 0; i < a->n_axes; i++) {
        n += snprintf(axes + n, sizeof axes - (size_t)n, "%llu,", (unsigned long long)a->axes[i]);
        count *= a->axes[i];
    }
    n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                 a->type, axes);
    int padded = (PREFIX + n + 1 + BLOCK - 1) / BLOCK * BLOCK - PREFIX;
    FILE *file = fopen(path, "wb");
    if (!file)
        return complain(path, err);
    fwrite("\x93NUMPY\x01\x00", 1, 8, file);
    fputc(padded % 256, file);
    fputc(padded / 256, file);
    fprintf(file, "%-*s\n", padded - 1, text);
    fwrite(a->data, a->size, count, file);
    bool failed = ferror(file) != 0;
    return fclose(file) != 0 || failed ? complain(path, err) : TDM_OK;
}

static tdm_code write_words(const tdm_host_dump *d, uint32_t step, const char *folder,
                            tdm_error *err)
{
    uint64_t samples =
        (uint64_t)d->plan->num_microbatches * d->plan->mesh.dp * d->plan->micro_batch_size;
    uint64_t s = d->plan->seq_length + 1; /* the last is a target only */
    uint32_t *words = TDM_ALLOC(d->arena, uint32_t, samples * s);
    for (uint64_t i = 0; i < samples * s; i++)
        words[i] = tdm_data_word(d->plan, step * samples + i / s, i % s);
    return write_array(tdm_arena_printf(d->arena, "%s/words.npy", folder),
                       &(array){"<u4", words, sizeof *words, 2, {samples, s}}, err);
}

static tdm_code write_params(const tdm_host_dump *d, uint32_t step, const char *folder,
                             tdm_error *err)
{
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < 2 * d->n_entries && code == TDM_OK; i++) {
        const entry *e = &d->entries[i / 2];
        const float *values = i % 2 ? e->gradients[step] : e->weights[step];
        uint64_t rows = e->param->expert ? d->plan->model.num_experts : e->rows;
        const char *name = strstr(e->kind->name, "layer")
                               ? tdm_arena_printf(d->arena, "layer-%u", e->layer)
                               : e->kind->name;
        if (values)
            code = write_array(
                tdm_arena_printf(d->arena, "%s/%s.%s.%s.npy", folder, i % 2 ? "gradient" : "weight",
                                 name, e->param->name),
                &(array){"<f4", values, sizeof *values, 2, {rows, e->rows * e->columns / rows}},
                err);
    }
    return code;
}

static tdm_code write_model(const tdm_host_dump *d, const char *path, tdm_error *err)
{
    const tdm_plan *plan = d->plan;
    const tdm_model *m = &plan->model;
    FILE *file = fopen(path, "w");
    if (!file)
        return complain(path, err);
    fprintf(file,
            "{\"num_layers\": %u, \"hidden_size\": %u, \"num_attention_heads\": %u,\n"
            " \"num_query_groups\": %u, \"kv_channels\": %u, \"num_experts\": %u,\n"
            " \"moe_router_topk\": %u, \"vocab_size\": %u, \"swiglu\": %s, \"qk_layernorm\": %s,\n"
            " \"rms_norm\": %s, \"rope\": %s, \"seq_length\": %u, \"clip_grad\": %.17g,\n"
            " \"dropout\": %s, \"n_steps\": %u}\n",
            m->num_layers, m->hidden_size, m->num_attention_heads, m->num_query_groups,
            m->kv_channels, m->num_experts, m->moe_router_topk, m->vocab_size,
            m->swiglu ? "true" : "false", m->qk_layernorm ? "true" : "false",
            m->norm == TDM_NORM_RMS ? "true" : "false",
            m->position == TDM_POSITION_ROPE ? "true" : "false", plan->seq_length,
            plan->training.clip_grad,
            m->hidden_dropout > 0 || m->attention_dropout > 0 ? "true" : "false", d->n_steps);
    bool failed = ferror(file) != 0;
    return fclose(file) != 0 || failed ? complain(path, err) : TDM_OK;
}

static tdm_code write_step(const tdm_host_dump *d, const tdm_host *host, uint32_t step,
                           const char *folder, tdm_error *err)
{
    double loss = tdm_host_loss(host, step), norm = tdm_host_grad_norm(host, step);
    if (mkdir(folder, 0777) != 0)
        return complain(folder, err);
    tdm_code code = write_words(d, step, folder, err);
    if (code == TDM_OK)
        code = write_params(d, step, folder, err);
    if (code == TDM_OK)
        code = write_array(tdm_arena_printf(d->arena, "%s/loss.npy", folder),
                           &(array){"<f8", &loss, sizeof loss, 0, {0}}, err);
    if (code == TDM_OK)
        code = write_array(tdm_arena_printf(d->arena, "%s/grad-norm.npy", folder),
                           &(array){"<f8", &norm, sizeof norm, 0, {0}}, err);
    return code;
}

tdm_code tdm_host_dump_write(tdm_host_dump *d, const tdm_host *host, const char *folder,
                             tdm_error *err)
{
    const tdm_routes *r = &host->routes;
    const char *part = tdm_arena_printf(d->arena, "%s.part", folder);
    if (mkdir(part, 0777) != 0)
        return complain(part, err);
    tdm_code code = write_model(d, tdm_arena_printf(d->arena, "%s/model.json", part), err);
    uint64_t samples = (uint64_t)r->n_microbatches * r->n_replicas * d->plan->micro_batch_size;
    if (code == TDM_OK && r->choices)
        code =
            write_array(tdm_arena_printf(d->arena, "%s/routing.npy", part),
                        &(array){"<i4",
                                 r->choices,
                                 sizeof *r->choices,
                                 4,
                                 {d->plan->model.num_layers, samples, d->plan->seq_length, r->k}},
                        err);
    for (uint32_t i = 0; i < d->n_steps && code == TDM_OK; i++)
        code = write_step(d, host, i, tdm_arena_printf(d->arena, "%s/step-%u", part, i + 1), err);
    if (code == TDM_OK && rename(part, folder) != 0)
        code = complain(folder, err);
    return code;
}
