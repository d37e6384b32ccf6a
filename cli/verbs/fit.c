/* fit.c: `tandem fit`: what nccl-tests measured at a site, as numbers of its topology file. */
#include "fit.h"
#include "core/files.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { FEWEST_SIZES = 4 }; /* half of them are held back */

typedef struct arguments {
    const char *topology, *collective, *gpu, *gpus, *output;
    tdm_cli_strings logs, sets;
} arguments;

static int parse(tdm_arena *arena, int argc, char **argv, arguments *a)
{
    const tdm_cli_option options[] = {
        {.name = "--topology",
         .value_name = "MACHINE",
         .text = "the machine that was measured: a topology, or what tandem topo reads",
         .value = &a->topology},
        {.name = "--collective",
         .value_name = "NAME",
         .text = "what the logs measure, where they do not say; others are refused",
         .value = &a->collective},
        {.name = "--gpu",
         .value_name = "DEVICE",
         .text = "the GPU, where the machine's file does not say: a device, or sm86",
         .value = &a->gpu},
        {.name = "--gpus", .value_name = "N", .text = "the first N GPUs only", .value = &a->gpus},
        {.name = "--set",
         .value_name = "NCCL_NAME=VALUE",
         .text = "a variable of NCCL that it was measured with",
         .values = &a->sets},
        {.name = "--output",
         .value_name = "FILE",
         .text = "write a copy of the topology file with the numbers in it (default: print them)",
         .value = &a->output},
        {0},
    };
    int code =
        tdm_cli_parse(arena, tdm_verb_find("fit"), options, argc, argv, 1, SIZE_MAX, &a->logs);
    if (code == TDM_CLI_GO_ON && !a->topology)
        return tdm_cli_complain(TDM_E_INVALID,
                                "fit: --topology is missing: the machine that was measured");
    return code;
}

/* The file that --output copies. */
static tdm_code find_file(tdm_arena *arena, const arguments *a, const char **path, tdm_error *err)
{
    struct stat status;
    size_t n = strlen(a->topology);
    bool is_yaml = n > 5 && strcmp(a->topology + n - 5, ".yaml") == 0;
    tdm_node node = {.kind = TDM_NODE_SCALAR, .path = "topology", .text = a->topology};
    if (!a->output)
        return TDM_OK;
    if (!is_yaml && stat(a->topology, &status) == 0)
        return tdm_error_add(err, TDM_E_INVALID,
                             "tandem: fit: --output: %s is no topology file that a site could go "
                             "into; without --output the block is printed",
                             a->topology);
    return tdm_file_find(arena, &tdm_file_topology, tdm_cli_root(arena), ".", &node, path, err);
}

/* Refuses a log of something else than what is fitted. */
static tdm_code check_log(const arguments *a, const tdm_fit *fit, const char *path,
                          const tdm_nccl_log *log, tdm_nccl_func func, tdm_error *err)
{
    tdm_nccl_func measured;
    char program[64] = "";
    if (a->collective && log->program) {
        snprintf(program, sizeof program, "%.*s", (int)(strlen(log->program) - strlen("_perf")),
                 log->program);
        if (tdm_nccl_func_find(program, &measured) && measured != func)
            return tdm_error_add(
                err, TDM_E_INVALID, "%s: measures %s, by its program %s, not %s (--collective)",
                path, tdm_nccl_func_name(measured), log->program, tdm_nccl_func_name(func));
    }
    if (log->n_ranks > 0 && log->n_ranks != fit->comm.n_ranks)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: lists %u ranks; %s has %u GPUs%s (--gpus takes the first ones)",
                             path, log->n_ranks, fit->machine, fit->comm.n_ranks,
                             a->gpus ? ", as --gpus says" : "");
    uint32_t n_sizes = 0;
    for (uint32_t i = 0; i < log->n_rows; i++) {
        uint32_t j = 0;
        while (log->rows[j].bytes != log->rows[i].bytes)
            j++;
        n_sizes += j == i;
    }
    if (n_sizes < FEWEST_SIZES)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: %u size%s: a fit takes at least %d, every other one of which is "
                             "held back (nccl-tests -b 8 -e 8G -f 2)",
                             path, n_sizes, n_sizes == 1 ? "" : "s", FEWEST_SIZES);
    return TDM_OK;
}

static tdm_code read_log(tdm_arena *arena, const arguments *a, const tdm_fit *fit, const char *path,
                         tdm_fit_log *out, tdm_error *err)
{
    tdm_nccl_log log;
    tdm_nccl_func func;
    tdm_code code = tdm_nccl_log_read(arena, path, &log, err);
    if (code == TDM_OK)
        code = tdm_comm_find_func(arena, "fit", a->collective, &log, &func, err);
    if (code == TDM_OK)
        code = check_log(a, fit, path, &log, func, err);
    if (code != TDM_OK)
        return code;
    uint64_t *bytes = TDM_ALLOC(arena, uint64_t, log.n_rows);
    double *time_s = TDM_ALLOC(arena, double, log.n_rows);
    for (uint32_t i = 0; i < log.n_rows; i++) {
        bytes[i] = log.rows[i].bytes;
        time_s[i] = log.rows[i].time_s;
    }
    *out = (tdm_fit_log){.path = path,
                         .measured = {&fit->comm, func, log.n_rows, bytes, time_s},
                         .bytes = TDM_ALLOC(arena, uint64_t, log.n_rows),
                         .held = TDM_ALLOC(arena, double, log.n_rows)};
    return TDM_OK;
}

static tdm_code read_all(tdm_arena *arena, const arguments *a, tdm_fit *fit, tdm_error *err)
{
    tdm_graph graph;
    tdm_nccl_settings settings = tdm_nccl_settings_default();
    tdm_code code = TDM_OK;
    for (size_t i = 0; i < a->sets.n; i++)
        if (tdm_nccl_settings_assign(&settings, "tandem: fit: --set", a->sets.items[i], err) !=
            TDM_OK)
            code = TDM_E_INVALID;
    if (code == TDM_OK)
        code = tdm_comm_load_machine(arena, a->topology, a->gpu, &graph, err);
    if (code == TDM_OK)
        code = tdm_comm_build(arena, "fit", &graph, a->gpus, &settings, &fit->comm, err);
    if (code != TDM_OK)
        return code;
    fit->machine = graph.name;
    fit->before = graph.site;
    fit->comm.site = NULL;
    fit->logs = TDM_ALLOC(arena, tdm_fit_log, a->logs.n);
    for (size_t i = 0; i < a->logs.n; i++)
        if (read_log(arena, a, fit, a->logs.items[i], &fit->logs[fit->n_logs++], err) != TDM_OK)
            code = TDM_E_INVALID;
    return code;
}

static const char *describe(tdm_arena *arena, const tdm_fit *fit)
{
    const char *text = "tandem fit to";
    for (uint32_t l = 0; l < fit->n_logs; l++) {
        const char *name = strrchr(fit->logs[l].path, '/');
        char quoted[TDM_QUOTE_SIZE];
        tdm_node_quote(quoted, name ? name + 1 : fit->logs[l].path);
        for (char *c = quoted; *c; c++)
            *c = *c == '"' || *c == '\\' ? '_' : *c;
        text = tdm_arena_printf(arena, "%s%s %s (%s, %u sizes)", text, l ? "," : "", quoted,
                                tdm_nccl_func_name(fit->logs[l].measured.func),
                                fit->logs[l].measured.n);
    }
    return tdm_arena_printf(arena, "%s, %u ranks on %u node%s", text, fit->comm.n_ranks,
                            fit->comm.n_nodes, fit->comm.n_nodes == 1 ? "" : "s");
}

static tdm_code make(tdm_arena *arena, const arguments *a, tdm_fit *fit, tdm_error *err)
{
    tdm_nccl_site_fit half;
    tdm_code code = read_all(arena, a, fit, err);
    if (code != TDM_OK)
        return code;
    tdm_nccl_measured *sets = TDM_ALLOC(arena, tdm_nccl_measured, fit->n_logs);
    for (uint32_t l = 0; l < fit->n_logs; l++)
        sets[l] = fit->logs[l].measured;
    code = tdm_nccl_site_fit_logs(arena, sets, fit->n_logs, true, &half, err);
    if (code == TDM_OK)
        code = tdm_nccl_site_fit_logs(arena, sets, fit->n_logs, false, &fit->whole, err);
    for (uint32_t l = 0; code == TDM_OK && l < fit->n_logs; l++)
        code = tdm_nccl_site_errors(arena, &sets[l], &half.site, fit->logs[l].bytes,
                                    fit->logs[l].held, err);
    fit->whole.site.source = describe(arena, fit);
    return code;
}

static tdm_code write_output(tdm_arena *arena, const arguments *a, const char *path,
                             const tdm_fit *fit, tdm_error *err)
{
    if (!a->output) {
        printf("\nfor the topology file (--output FILE writes a copy with it)\n\n%s",
               tdm_nccl_site_write(arena, &fit->whole.site));
        return TDM_OK;
    }
    tdm_code code = tdm_fit_write(arena, path, &fit->whole.site, a->output, err);
    if (code == TDM_OK)
        printf("\n%s: %s with %s block site; nothing else differs\n", a->output, path,
               fit->before ? "another" : "a");
    return code;
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    arguments a = {0};
    tdm_fit fit = {0};
    const char *path = NULL;
    int code = parse(&arena, argc, argv, &a);
    if (code == TDM_CLI_GO_ON) {
        code = find_file(&arena, &a, &path, err);
        if (code == TDM_OK)
            code = make(&arena, &a, &fit, err);
        if (code == TDM_OK) {
            tdm_fit_report(&arena, &fit);
            code = write_output(&arena, &a, path, &fit, err);
        }
        code = code == TDM_OK ? tdm_cli_finish(code) : tdm_cli_fail(err);
    }
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_fit = {
    .name = "fit",
    .usage = "LOG... --topology MACHINE [options]",
    .summary = "fit launch floor, network efficiency and ramps of a site to nccl-tests",
    .run = run,
};
