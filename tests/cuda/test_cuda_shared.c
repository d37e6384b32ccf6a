/* test_cuda_shared.c: what a plan computes on the cuda device with all ranks on one GPU: losses and
 * gradients are those of one rank of the host device, in every type and split in every way.
 *
 *     test_cuda_shared [all]    every layout of support.h; without, one of eight */
#include "backend/host/host.h"
#include "tests/cuda/support_cuda.h"
#include "tests/support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static size_t spec_step = 8;
static const cuda_setting shared = {.transport = "shared"};

/* Small, and in fp32. */
static void make_small(tdm_scenario *sc)
{
    sc->training.dtype = sc->training.grad_dtype = TDM_DTYPE_FP32;
    sc->model.vocab_size = 32;
}

static void test_one_rank(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc =
        support_scenario(&arena, &(support_spec){.hidden = 32, .seq = 8, .layers = 2});
    make_small(&sc);
    cuda_compare("one rank", &sc, &shared, 1e-5, 1e-4);
    tdm_arena_free(&arena);
}

static void test_all_specs(void **state)
{
    (void)state;
    for (size_t i = 2; i < support_n_specs; i += spec_step) {
        tdm_arena arena = {0};
        support_spec spec = support_specs[i];
        spec.hidden = 16;
        spec.heads = spec.tp > 4 ? spec.tp : 4;
        spec.seq = 8;
        spec.micro_batch = 1;
        tdm_scenario sc = support_scenario(&arena, &spec);
        make_small(&sc);
        char what[64];
        snprintf(what, sizeof what, "spec %zu", i);
        if (strcmp(sc.schedule, "forward-only") != 0)
            cuda_compare(what, &sc, &shared, 1e-5, 1e-4);
        tdm_arena_free(&arena);
    }
}

/* Sixteen ranks, split in every way at once, with skewed routing and drops. */
static tdm_scenario everything(tdm_arena *arena, const char *schedule)
{
    tdm_scenario sc = support_scenario(arena, &(support_spec){.tp = 2,
                                                              .dp = 2,
                                                              .ep = 4,
                                                              .pp = 4,
                                                              .experts = 8,
                                                              .topk = 2,
                                                              .layers = 8,
                                                              .shared = 16,
                                                              .hidden = 16,
                                                              .heads = 4,
                                                              .seq = 8,
                                                              .micro_batch = 1,
                                                              .microbatches = 4,
                                                              .schedule = schedule,
                                                              .sequence_parallel = true,
                                                              .distributed_optimizer = true,
                                                              .clip = true,
                                                              .swiglu = true,
                                                              .rope = true});
    make_small(&sc);
    sc.routing.model = TDM_ROUTING_ZIPF;
    sc.routing.exponent = 1;
    sc.routing.capacity_factor = 1.25;
    return sc;
}

static void test_all_schedules(void **state)
{
    (void)state;
    for (const tdm_schedule *const *s = tdm_schedules; *s; s++) {
        tdm_arena arena = {0};
        tdm_scenario sc = everything(&arena, (*s)->name);
        if (!(*s)->needs_table && !(*s)->forward_only && support_suit(&sc))
            cuda_compare((*s)->name, &sc, &shared, 1e-5, 1e-4);
        tdm_arena_free(&arena);
    }
}

/* In the types of training: against fp32, whose numbers they round. Half a unit in the last of the
 * 8 bits of a bf16 number is 2^-9; sums of a few dozen such errors come into a gradient. */
static void test_types(void **state)
{
    (void)state;
    static const struct {
        tdm_dtype dtype, grad_dtype;
        double loss, gradient;
        bool unfused;
    } types[] = {
        {TDM_DTYPE_BF16, TDM_DTYPE_FP32, 1e-3, 5e-2, false},
        {TDM_DTYPE_BF16, TDM_DTYPE_BF16, 1e-3, 5e-2, true},
        {TDM_DTYPE_FP16, TDM_DTYPE_FP32, 1e-3, 1e-2, false},
    };
    for (size_t i = 0; i < TDM_COUNT(types); i++) {
        tdm_arena arena = {0};
        tdm_scenario sc = support_scenario(&arena, &(support_spec){.tp = 2,
                                                                   .dp = 2,
                                                                   .ep = 4,
                                                                   .pp = 2,
                                                                   .experts = 8,
                                                                   .topk = 2,
                                                                   .hidden = 32,
                                                                   .heads = 4,
                                                                   .seq = 8,
                                                                   .micro_batch = 1,
                                                                   .shared = 16,
                                                                   .sequence_parallel = true,
                                                                   .distributed_optimizer = true,
                                                                   .unfused = types[i].unfused,
                                                                   .bias = true,
                                                                   .clip = true,
                                                                   .swiglu = true,
                                                                   .rope = true});
        make_small(&sc);
        sc.training.dtype = types[i].dtype;
        sc.training.grad_dtype = types[i].grad_dtype;
        char what[64];
        snprintf(what, sizeof what, "%s, gradients %s%s", tdm_dtype_name(types[i].dtype),
                 tdm_dtype_name(types[i].grad_dtype), types[i].unfused ? ", unfused" : "");
        cuda_compare(what, &sc, &shared, types[i].loss, types[i].gradient);
        tdm_arena_free(&arena);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "all") == 0)
        spec_step = 1;
    if (tdm_host_absent()) {
        printf("skipped: %s\n", tdm_host_absent());
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_rank),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_all_specs),
        cmocka_unit_test(test_all_schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
