/* comm_machine.c: what `tandem comm` and `tandem fit` are told of a machine and of a log. */
#include "comm.h"
#include "core/schema.h"
#include "topo.h"

#include <stdlib.h>
#include <string.h>

/* NCCL chooses by the generation of the GPUs. */
tdm_code tdm_comm_load_machine(tdm_arena *arena, const char *machine, const char *gpu,
                               tdm_graph *graph, tdm_error *err)
{
    const char *root = tdm_cli_root(arena);
    const tdm_topo_given given = {.gpu = gpu};
    tdm_error *notes = TDM_ALLOC(arena, tdm_error, 1);
    if (!root)
        return tdm_error_add(err, TDM_E_INVALID,
                             "tandem: no folder with scenarios/ and topologies/ (set TANDEM_ROOT "
                             "to it)");
    tdm_code code = tdm_topo_load(arena, root, machine, &given, graph, notes, err);
    if (code != TDM_OK)
        return code;
    tdm_cli_warn(notes->text);
    for (uint32_t g = 0; g < graph->n_gpus; g++)
        if (graph->vertices[graph->gpus[g]].sm == 0)
            return tdm_error_add(err, TDM_E_INVALID,
                                 "%s: the compute capability of its GPUs is not known, on which "
                                 "NCCL's choices depend (compute_capability in the device's file, "
                                 "or --gpu)",
                                 graph->name);
    return TDM_OK;
}

tdm_code tdm_comm_find_func(tdm_arena *arena, const char *verb, const char *name,
                            const tdm_nccl_log *log, tdm_nccl_func *func, tdm_error *err)
{
    static const char *const names[] = {"all-reduce", "all-gather", "reduce-scatter", "broadcast",
                                        "reduce",     "all-to-all", "send-recv"};
    if (!name && log->program)
        name = tdm_arena_strndup(arena, log->program, strlen(log->program) - strlen("_perf"));
    if (!name)
        return tdm_error_add(err, TDM_E_INVALID,
                             "tandem: %s: --collective is missing: all-reduce, all-gather, "
                             "reduce-scatter, broadcast, reduce, all-to-all or send-recv",
                             verb);
    if (tdm_nccl_func_find(name, func))
        return TDM_OK;
    const char *near = tdm_suggest(name, names, TDM_COUNT(names));
    return tdm_error_add(err, TDM_E_INVALID,
                         "tandem: %s: --collective: '%.40s' is none of all-reduce, all-gather, "
                         "reduce-scatter, broadcast, reduce, all-to-all, send-recv%s%s%s",
                         verb, name, near ? " (did you mean " : "", near ? near : "",
                         near ? "?)" : "");
}

tdm_code tdm_comm_count_gpus(const char *verb, const char *gpus, const tdm_graph *graph,
                             uint32_t *n, tdm_error *err)
{
    char *end;
    *n = graph->n_gpus;
    if (!gpus)
        return TDM_OK;
    unsigned long value = strtoul(gpus, &end, 10);
    if (!*gpus || *end || value < 1 || value > graph->n_gpus)
        return tdm_error_add(err, TDM_E_INVALID, "tandem: %s: --gpus: '%.20s': %s has 1 to %u",
                             verb, gpus, graph->name, graph->n_gpus);
    *n = (uint32_t)value;
    return TDM_OK;
}

tdm_code tdm_comm_build(tdm_arena *arena, const char *verb, const tdm_graph *graph,
                        const char *gpus, const tdm_nccl_settings *settings, tdm_nccl_comm *comm,
                        tdm_error *err)
{
    uint32_t n;
    tdm_code code = tdm_comm_count_gpus(verb, gpus, graph, &n, err);
    if (code != TDM_OK)
        return code;
    uint32_t *ranks = TDM_ALLOC(arena, uint32_t, n);
    for (uint32_t i = 0; i < n; i++)
        ranks[i] = i;
    code = tdm_nccl_comm_build(arena, graph, ranks, n, settings, comm, err);
    if (code == TDM_OK)
        comm->site = graph->site;
    return code;
}
