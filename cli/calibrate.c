/* calibrate.c: measures the cores, then runs small plans, one rank per core, and takes the times of
 * their kernels: the very code that a run executes, with its caches as a run has them. */
#include "calibrate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct variant {
    const char *scenario; /* in scenarios/calibrate */
    uint32_t hidden, micro_batch, seq;
    bool in_quick;
} variant;

/* Sizes by which ranks of small models differ: widths from 32 (64 over tensor parallelism of 2) to
 * 256, rows from 16 to 512. */
static const variant variants[] = {
    {"gelu", 64, 2, 32, true},     {"gelu", 128, 2, 64, true},   {"gelu", 256, 2, 128, true},
    {"gelu", 32, 1, 32, true},     {"gelu", 64, 2, 128, false},  {"gelu", 128, 1, 16, false},
    {"gelu", 256, 1, 32, false},   {"swiglu", 64, 2, 32, true},  {"swiglu", 128, 2, 64, true},
    {"swiglu", 256, 2, 128, true}, {"swiglu", 64, 1, 16, false}, {"swiglu", 128, 1, 256, false},
    {"swiglu", 256, 1, 32, false},
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void show_progress(const tdm_calibrate_options *o, uint32_t done, uint32_t all)
{
    enum { WIDTH = 24 };
    if (o->quiet || !isatty(STDERR_FILENO))
        return;
    if (done == all) {
        fprintf(stderr, "\r\033[K");
        return;
    }
    fprintf(stderr, "\rcalibrate [");
    for (uint32_t i = 0; i < WIDTH; i++)
        fputc(i * all < done * WIDTH ? '#' : '.', stderr);
    fprintf(stderr, "] %u of %u runs", done, all);
}

/* One rank per core; experts over two ranks where they pair, so that rows are sorted by expert as
 * behind an all-to-all. */
static const char **sets_for(tdm_arena *arena, const variant *v, uint32_t n_cores, size_t *n)
{
    enum { MOST = 16 };
    const char **sets = TDM_ALLOC(arena, const char *, MOST);
    const struct {
        const char *key;
        uint32_t value;
    } sizes[] = {
        {"model.hidden_size", v->hidden},
        {"model.num_attention_heads", v->hidden / 16},
        {"model.ffn_hidden_size", 4 * v->hidden},
        {"model.moe_ffn_hidden_size", 2 * v->hidden},
        {"batch.micro_batch_size", v->micro_batch},
        {"batch.seq_length", v->seq},
        {"parallel.data_parallel_size", n_cores},
        {"parallel.expert_model_parallel_size", n_cores % 2 == 0 ? 2 : 1},
    };
    for (size_t i = 0; i < TDM_COUNT(sizes); i++)
        sets[(*n)++] = tdm_arena_printf(arena, "%s=%u", sizes[i].key, sizes[i].value);
    return sets;
}

/* The scenario's own model and batch, whole on every core. */
static const char **own_sets(tdm_arena *arena, const tdm_calibrate_options *o, uint32_t n_cores,
                             size_t *n)
{
    static const char *const whole[] = {"parallel.tensor_model_parallel_size=1",
                                        "parallel.pipeline_model_parallel_size=1",
                                        "parallel.expert_model_parallel_size=1",
                                        "parallel.expert_tensor_parallel_size=1",
                                        "parallel.sequence_parallel=false",
                                        "schedule.name=zb-h1",
                                        "schedule.num_microbatches=4"};
    const char **sets = TDM_ALLOC(arena, const char *, o->n_sets + TDM_COUNT(whole) + 1);
    for (size_t i = 0; i < o->n_sets; i++)
        sets[(*n)++] = o->sets[i];
    for (size_t i = 0; i < TDM_COUNT(whole); i++)
        sets[(*n)++] = whole[i];
    sets[(*n)++] = tdm_arena_printf(arena, "parallel.data_parallel_size=%u", n_cores);
    return sets;
}

/* Another program disturbs a round, not both: the shorter time of each sample counts. */
static void keep_shorter(const tdm_kernel_samples *from, tdm_kernel_samples *to)
{
    for (uint32_t i = 0; i < to->n && from->n == to->n; i++)
        to->items[i].seconds = fmin(to->items[i].seconds, from->items[i].seconds);
    to->turn_s = fmin(to->turn_s, from->turn_s);
}

static void keep(tdm_arena *arena, const tdm_kernel_samples *from, tdm_kernel_samples *to)
{
    if (to->n > 0) {
        keep_shorter(from, to);
        return;
    }
    to->n = from->n;
    to->turn_s = from->turn_s;
    to->items = TDM_ALLOC(arena, tdm_kernel_sample, from->n);
    for (uint32_t i = 0; i < from->n; i++) {
        to->items[i] = from->items[i];
        to->items[i].name = tdm_arena_printf(arena, "%s", from->items[i].name);
    }
}

/* Runs a plan on the host device and takes its samples. */
static tdm_code run_plan(tdm_arena *arena, const char *root, const char *path, const char **sets,
                         size_t n_sets, tdm_kernel_samples *samples, tdm_error *err)
{
    tdm_arena scratch = {0};
    const tdm_run_options run = {.device = "host", .transport = "threads", .n_steps = 3};
    const tdm_predict_options options = {.root = root,
                                         .scenario_path = path,
                                         .sets = sets,
                                         .n_sets = n_sets,
                                         .engine = "host",
                                         .run = &run};
    tdm_result *result = TDM_ALLOC(&scratch, tdm_result, 1);
    tdm_code code = tdm_predict(&scratch, &options, result, err);
    if (code == TDM_OK) {
        tdm_kernel_samples seen =
            tdm_kernel_samples_of(&scratch, &result->step.plan, &result->step.trace);
        keep(arena, &seen, samples);
    }
    tdm_arena_free(&scratch);
    return code;
}

static tdm_code run_round(tdm_arena *arena, const tdm_calibrate_options *o, uint32_t n_cores,
                          uint32_t *done, uint32_t all, tdm_kernel_samples *samples, uint32_t *n,
                          tdm_error *err)
{
    tdm_code code = TDM_OK;
    *n = 0;
    for (size_t i = 0; i <= TDM_COUNT(variants) && code == TDM_OK; i++) {
        size_t n_sets = 0;
        bool own = i == TDM_COUNT(variants);
        if (own ? !o->scenario : o->quick && !variants[i].in_quick)
            continue;
        show_progress(o, (*done)++, all);
        const char **sets = own ? own_sets(arena, o, n_cores, &n_sets)
                                : sets_for(arena, &variants[i], n_cores, &n_sets);
        const char *path = own ? o->scenario
                               : tdm_arena_printf(arena, "%s/scenarios/calibrate/%s.yaml", o->root,
                                                  variants[i].scenario);
        code = run_plan(arena, o->root, path, sets, n_sets, &samples[(*n)++], err);
    }
    return code;
}

/* samples: zeroed. */
static tdm_code run_all(tdm_arena *arena, const tdm_calibrate_options *o, uint32_t n_cores,
                        tdm_kernel_samples *samples, uint32_t *n, tdm_error *err)
{
    enum { ROUNDS = 2 };
    tdm_code code = TDM_OK;
    uint32_t all = o->scenario ? 1 : 0, done = 0;
    for (size_t i = 0; i < TDM_COUNT(variants); i++)
        all += !o->quick || variants[i].in_quick;
    for (int round = 0; round < ROUNDS && code == TDM_OK; round++)
        code = run_round(arena, o, n_cores, &done, ROUNDS * all, samples, n, err);
    show_progress(o, done, done);
    return code;
}

static int by_shape(const void *a, const void *b)
{
    const tdm_kernel_sample *x = a, *y = b;
    const double keys[][2] = {
        {x->grouped, y->grouped}, {x->way, y->way}, {x->m, y->m}, {x->n, y->n}, {x->k, y->k},
        {x->seconds, y->seconds}};
    for (size_t i = 0; i < TDM_COUNT(keys); i++)
        if (keys[i][0] < keys[i][1] || keys[i][0] > keys[i][1])
            return keys[i][0] < keys[i][1] ? -1 : 1;
    return 0;
}

/* All products, one of each shape: the median of those that several runs had. */
static tdm_kernel_samples join_products(tdm_arena *arena, const tdm_kernel_samples *samples,
                                        uint32_t n)
{
    uint32_t most = 0, n_all = 0;
    for (uint32_t s = 0; s < n; s++)
        most += samples[s].n;
    tdm_kernel_samples out = {.items = TDM_ALLOC(arena, tdm_kernel_sample, most)};
    tdm_kernel_sample *all = TDM_ALLOC(arena, tdm_kernel_sample, most);
    for (uint32_t s = 0; s < n; s++)
        for (uint32_t i = 0; i < samples[s].n; i++)
            if (samples[s].items[i].is_product)
                all[n_all++] = samples[s].items[i];
    qsort(all, n_all, sizeof *all, by_shape);
    for (uint32_t first = 0, end; first < n_all; first = end) {
        for (end = first + 1; end < n_all; end++) {
            const tdm_kernel_sample *a = &all[first], *b = &all[end];
            if (a->grouped != b->grouped || a->way != b->way || a->m != b->m || a->n != b->n ||
                a->k != b->k)
                break;
        }
        out.items[out.n++] = all[first + (end - first) / 2];
    }
    return out;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_error(tdm_arena *arena, const tdm_kernel_samples *samples, uint32_t n,
                           const tdm_kernel_rate *kernels, uint32_t n_kernels)
{
    uint32_t most = 0, n_errors = 0;
    for (uint32_t s = 0; s < n; s++)
        most += samples[s].n;
    double *errors = TDM_ALLOC(arena, double, most);
    for (uint32_t s = 0; s < n; s++)
        for (uint32_t i = 0; i < samples[s].n; i++) {
            const tdm_kernel_sample *x = &samples[s].items[i];
            for (uint32_t k = 0; k < n_kernels && !x->is_product; k++)
                if (kernels[k].optimizer == x->optimizer && strcmp(kernels[k].name, x->name) == 0)
                    errors[n_errors++] = fabs(
                        (kernels[k].floor_s + x->work / (x->by_flops ? kernels[k].flops_per_s
                                                                     : kernels[k].bytes_per_s)) /
                            x->seconds -
                        1);
        }
    qsort(errors, n_errors, sizeof *errors, by_size);
    return n_errors > 0 ? errors[n_errors / 2] : 0;
}

static double median_turn(tdm_arena *arena, const tdm_kernel_samples *samples, uint32_t n)
{
    double *turns = TDM_ALLOC(arena, double, n);
    for (uint32_t s = 0; s < n; s++)
        turns[s] = samples[s].turn_s;
    qsort(turns, n, sizeof *turns, by_size);
    return n > 0 ? turns[n / 2] : 0;
}

tdm_code tdm_calibrate_host(tdm_arena *arena, const tdm_calibrate_options *o,
                            tdm_calibration *calibration, tdm_error *err)
{
    double from_s = now_s();
    tdm_calibration c = {0};
    tdm_kernel_samples samples[TDM_COUNT(variants) + 1] = {0};
    uint32_t n = 0;
    tdm_code code = tdm_host_measure(arena, o->quick, &c.machine, err);
    if (code == TDM_OK)
        code = run_all(arena, o, c.machine.cores.n_cores, samples, &n, err);
    if (code != TDM_OK)
        return code;
    tdm_kernel_samples products = join_products(arena, samples, n);
    tdm_kernel_rate *kernels = tdm_kernel_fit(arena, samples, n, &c.n_kernels);
    c.n_products = products.n;
    c.kernel_error = median_error(arena, samples, n, kernels, c.n_kernels);
    c.machine.cores.turn_s = median_turn(arena, samples, n);
    code = tdm_calibrate_write(arena, o, &products, kernels, &c, err);
    if (code == TDM_OK)
        code = tdm_calibrate_crowd(arena, o, &products, kernels, &c, err);
    c.seconds = now_s() - from_s;
    *calibration = c;
    return code;
}
