/* fuzz_nccl_comm.c: any bytes as a machine's wiring, as for fuzz_topology; what reads as one gives
 * a communicator whose operations take finite times, alone at least what NCCL's tables say, or it
 * is refused with messages. */
#include "core/import.h"
#include "core/nccl/concurrent.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_GPUS = 8, MOST_VERTICES = 100 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

static void require(bool condition, const char *text)
{
    if (condition)
        return;
    fprintf(stderr, "%s\n", text);
    abort();
}

static void check_operation(tdm_arena *arena, tdm_nccl_user *user, uint64_t n_bytes)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_nccl_operation both[] = {{.user = user, .bytes = n_bytes},
                                 {.user = user, .bytes = n_bytes}};
    tdm_nccl_operation alone = both[0];
    tdm_code code = tdm_nccl_run_together(arena, &alone, 1, err);
    require((code == TDM_OK) == (err->n_messages == 0), "code and messages differ");
    if (code != TDM_OK)
        return;
    require(isfinite(alone.end_s) && alone.end_s >= alone.cost.time_s * (1 - 1e-6),
            "faster than alone");
    require(tdm_nccl_run_together(arena, both, 2, err) == TDM_OK, "refused together");
    require(both[0].end_s >= alone.end_s * (1 - 1e-6) &&
                both[0].end_s <= 2 * alone.end_s * (1 + 1e-6),
            "two take less than one, or more than two in turn");
}

static void check_comm(tdm_arena *arena, const tdm_graph *graph)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_nccl_settings settings = tdm_nccl_settings_default();
    tdm_nccl_comm comm;
    uint32_t ranks[MOST_GPUS];
    for (uint32_t r = 0; r < graph->n_gpus; r++)
        ranks[r] = r;
    tdm_code code = tdm_nccl_comm_build(arena, graph, ranks, graph->n_gpus, &settings, &comm, err);
    require((code == TDM_OK) == (err->n_messages == 0), "code and messages differ");
    for (int f = 0; code == TDM_OK && f < TDM_NCCL_N_FUNCS; f++) {
        tdm_nccl_user user = {.comm = &comm, .func = (tdm_nccl_func)f};
        check_operation(arena, &user, 1 << 10);
        check_operation(arena, &user, 1 << 26);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    tdm_arena arena = {0};
    tdm_graph graph;
    uint8_t given = n_bytes > 0 ? bytes[0] : 0;
    const tdm_import_options options = {.sm = given & 2 ? 70 : 90,
                                        .nvlinks = given & 4 ? 0 : 18,
                                        .wiring = (tdm_nvlink_wiring)((given >> 3) % 5),
                                        .pcie_generation = 4,
                                        .nic_bytes_per_s = given & 64 ? 0 : 25e9,
                                        .gpu_at = given & 128 ? "0000:01:00.0" : NULL};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1), *notes = TDM_ALLOC(&arena, tdm_error, 1);
    tdm_code code = tdm_import_text(&arena, "fuzz", (const char *)bytes + (n_bytes > 0),
                                    n_bytes - (n_bytes > 0), &options, &graph, notes, err);
    bool known = code == TDM_OK && graph.n_gpus <= MOST_GPUS && graph.n_vertices <= MOST_VERTICES;
    for (uint32_t g = 0; known && g < graph.n_gpus; g++)
        known = graph.vertices[graph.gpus[g]].sm > 0;
    if (known)
        check_comm(&arena, &graph);
    tdm_arena_free(&arena);
    return 0;
}
