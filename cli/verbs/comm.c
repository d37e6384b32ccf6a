/* comm.c: `tandem comm`: how long a collective takes on a machine, alone or in several groups at
 * once, and which algorithm, protocol and channels NCCL would choose. */
#include "comm.h"
#include "core/units.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 10000 };

typedef struct arguments {
    const char *machine, *gpu, *collective, *sizes, *gpus, *groups, *algo, *proto, *launch, *format,
        *against, *tolerance, *plot;
    tdm_cli_strings sets;
} arguments;

static int parse(tdm_arena *arena, int argc, char **argv, arguments *a)
{
    static const char *const formats[] = {"text", "csv", "json", NULL};
    tdm_cli_strings operands;
    const tdm_cli_option options[] = {
        {.name = "--collective",
         .value_name = "NAME",
         .text = "all-reduce, all-gather, reduce-scatter, broadcast, reduce, all-to-all, send-recv",
         .value = &a->collective},
        {.name = "--sizes",
         .value_name = "RANGE",
         .text = "8:8GiB doubling, 8:8GiB:4 times four, 1MiB:16MiB+1MiB by steps, or one size",
         .value = &a->sizes},
        {.name = "--gpu",
         .value_name = "DEVICE",
         .text = "the GPU, where the machine's file does not say: a device, or sm86",
         .value = &a->gpu},
        {.name = "--gpus", .value_name = "N", .text = "the first N GPUs only", .value = &a->gpus},
        {.name = "--groups",
         .value_name = "SPEC",
         .text = "several groups at once: /8 (8 in a row), %2 (every second), or 0-3;4-7",
         .value = &a->groups},
        {.name = "--algo",
         .value_name = "LIST",
         .text = "as NCCL_ALGO: ring, tree, nvls, nvlstree, pat; ^ring for all but",
         .value = &a->algo},
        {.name = "--proto",
         .value_name = "LIST",
         .text = "as NCCL_PROTO: ll, ll128, simple",
         .value = &a->proto},
        {.name = "--set",
         .value_name = "NCCL_NAME=VALUE",
         .text = "any variable of NCCL that is modelled",
         .values = &a->sets},
        {.name = "--launch",
         .value_name = "TIME",
         .text = "fixed time of one operation at this site, or fit: from the log",
         .value = &a->launch},
        {.name = "--against",
         .value_name = "FILE",
         .text = "beside what nccl-tests measured: its text, its JSON, or CSV",
         .value = &a->against},
        {.name = "--tolerance",
         .value_name = "SHARE",
         .text = "exit 4 when the median error of a band of sizes is above it",
         .value = &a->tolerance},
        {.name = "--plot",
         .value_name = "DIR",
         .text = "draw prediction and measurement there, with gnuplot",
         .value = &a->plot},
        {.name = "--format",
         .value_name = "FORMAT",
         .text = "how to print",
         .choices = formats,
         .value = &a->format},
        {0},
    };
    int code = tdm_cli_parse(arena, tdm_verb_find("comm"), options, argc, argv, 1, 1, &operands);
    if (code == TDM_CLI_GO_ON)
        a->machine = operands.items[0];
    if (code == TDM_CLI_GO_ON && !a->against &&
        (a->tolerance || a->plot || (a->launch && !strcmp(a->launch, "fit"))))
        return tdm_cli_complain(TDM_E_INVALID, "comm: %s needs measurements: --against FILE",
                                a->tolerance ? "--tolerance"
                                : a->plot    ? "--plot"
                                             : "--launch fit");
    if (code == TDM_CLI_GO_ON && a->groups && a->launch && !strcmp(a->launch, "fit"))
        return tdm_cli_complain(TDM_E_INVALID,
                                "comm: --launch fit: a floor is fitted to operations "
                                "that run alone: leave --groups out");
    if (code == TDM_CLI_GO_ON && a->against && a->sizes)
        return tdm_cli_complain(TDM_E_INVALID, "comm: --sizes: the sizes are those of --against");
    return code;
}

static tdm_code read_settings(const arguments *a, tdm_nccl_settings *settings, tdm_error *err)
{
    tdm_code code = TDM_OK;
    *settings = tdm_nccl_settings_default();
    for (size_t i = 0; i < a->sets.n; i++)
        if (tdm_nccl_settings_assign(settings, "tandem: comm: --set", a->sets.items[i], err) !=
            TDM_OK)
            code = TDM_E_INVALID;
    if (a->algo && tdm_nccl_settings_set(settings, "tandem: comm: --algo", "NCCL_ALGO", a->algo,
                                         err) != TDM_OK)
        code = TDM_E_INVALID;
    if (a->proto && tdm_nccl_settings_set(settings, "tandem: comm: --proto", "NCCL_PROTO", a->proto,
                                          err) != TDM_OK)
        code = TDM_E_INVALID;
    return code;
}

static tdm_code make_rows(tdm_arena *arena, const arguments *a, const tdm_nccl_log *log,
                          tdm_comm_table *table, tdm_error *err)
{
    uint64_t first, last, factor, step, least = 1;
    const char *sizes = a->sizes ? a->sizes : "8:8GiB";
    table->rows = TDM_ALLOC(arena, tdm_comm_row, a->against ? log->n_rows : MAX_ROWS);
    for (uint32_t i = 0; a->against && i < log->n_rows; i++)
        table->rows[table->n_rows++] =
            (tdm_comm_row){.bytes = log->rows[i].bytes, .measured_s = log->rows[i].time_s};
    if (a->against)
        return TDM_OK;
    if (!tdm_comm_sizes(sizes, &first, &last, &factor, &step))
        return tdm_error_add(err, TDM_E_INVALID,
                             "tandem: comm: --sizes: '%.60s' is no range of sizes: 8:8GiB, "
                             "8:8GiB:4, 1MiB:16MiB+1MiB, or one size",
                             sizes);
    /* Parts of 16 bytes for every rank, as nccl-tests makes them. */
    if (table->func == TDM_NCCL_ALL_GATHER || table->func == TDM_NCCL_REDUCE_SCATTER ||
        table->func == TDM_NCCL_ALL_TO_ALL)
        for (uint32_t g = 0; g < table->n_groups; g++)
            if (16 * (uint64_t)table->groups[g].n_ranks > least)
                least = 16 * (uint64_t)table->groups[g].n_ranks;
    for (uint64_t size = first; size <= last; size = step ? size + step : size * factor) {
        if (table->n_rows == MAX_ROWS)
            return tdm_error_add(err, TDM_E_INVALID, "tandem: comm: --sizes: more than %d sizes",
                                 MAX_ROWS);
        uint64_t bytes = size / least * least;
        if (bytes > 0 && (table->n_rows == 0 || table->rows[table->n_rows - 1].bytes != bytes))
            table->rows[table->n_rows++] = (tdm_comm_row){.bytes = bytes};
    }
    return TDM_OK;
}

static tdm_code fit_launch(tdm_arena *arena, tdm_comm_table *table, tdm_error *err)
{
    uint64_t *bytes = TDM_ALLOC(arena, uint64_t, table->n_rows);
    double *time_s = TDM_ALLOC(arena, double, table->n_rows);
    for (uint32_t i = 0; i < table->n_rows; i++) {
        bytes[i] = table->rows[i].bytes;
        time_s[i] = table->rows[i].measured_s;
    }
    table->launch_fitted = true;
    return tdm_nccl_fit_launch(arena, &table->comm, table->func, bytes, time_s, table->n_rows,
                               &table->launch_s, err);
}

static tdm_code find_launch(tdm_arena *arena, const arguments *a, tdm_comm_table *table,
                            tdm_error *err)
{
    table->launch_s = tdm_nccl_launch_s(&table->comm);
    if (!a->launch)
        return TDM_OK;
    if (strcmp(a->launch, "fit") == 0)
        return fit_launch(arena, table, err);
    if (tdm_quantity_parse(a->launch, TDM_UNIT_SECONDS, &table->launch_s) == TDM_QUANTITY_OK &&
        table->launch_s >= 0)
        return TDM_OK;
    return tdm_error_add(err, TDM_E_INVALID, "tandem: comm: --launch: '%.40s': expected %s, or fit",
                         a->launch, tdm_unit_expected(TDM_UNIT_SECONDS));
}

static tdm_code make_table(tdm_arena *arena, const arguments *a, tdm_comm_table *table,
                           tdm_error *err)
{
    tdm_nccl_settings settings;
    tdm_nccl_log log = {0};
    tdm_graph graph = {0};
    tdm_code code = read_settings(a, &settings, err);
    if (code == TDM_OK && a->against)
        code = tdm_nccl_log_read(arena, a->against, &log, err);
    if (code == TDM_OK)
        code = tdm_comm_find_func(arena, "comm", a->collective, &log, &table->func, err);
    if (code == TDM_OK)
        code = tdm_comm_load_machine(arena, a->machine, a->gpu, &graph, err);
    if (code == TDM_OK)
        code = tdm_comm_build_groups(arena, &graph, a->gpus, a->groups, &settings, table, err);
    table->machine = graph.name;
    if (code == TDM_OK)
        code = make_rows(arena, a, &log, table, err);
    if (code == TDM_OK)
        code = find_launch(arena, a, table, err);
    if (code == TDM_OK)
        code = tdm_comm_fill(arena, table, err);
    return code;
}

/* Exit code of a comparison. */
static int judge(tdm_arena *arena, const arguments *a, const tdm_comm_table *table)
{
    double tolerance, errors[TDM_COMM_BANDS];
    int code = TDM_OK;
    if (!a->tolerance)
        return TDM_OK;
    if (tdm_quantity_parse(a->tolerance, TDM_UNIT_SHARE, &tolerance) != TDM_QUANTITY_OK ||
        tolerance < 0)
        return tdm_cli_complain(TDM_E_INVALID, "comm: --tolerance: '%s': expected a share, as 10%%",
                                a->tolerance);
    tdm_comm_errors(arena, table, errors);
    for (int band = 0; band < TDM_COMM_BANDS; band++)
        if (errors[band] > tolerance)
            code = tdm_cli_complain(TDM_E_TOLERANCE, "comm: %s: median error %.1f %%, above %g %%",
                                    tdm_comm_band_names[band], 100 * errors[band], 100 * tolerance);
    return code;
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    arguments a = {.format = "text"};
    tdm_comm_table table = {0};
    int code = parse(&arena, argc, argv, &a);
    if (code == TDM_CLI_GO_ON && make_table(&arena, &a, &table, err) != TDM_OK)
        code = tdm_cli_fail(err);
    if (code == TDM_CLI_GO_ON && a.plot &&
        tdm_comm_plot(&arena, &table, a.against, a.plot, err) != TDM_OK)
        code = tdm_cli_fail(err);
    if (code == TDM_CLI_GO_ON)
        code = judge(&arena, &a, &table);
    if (code == TDM_OK || code == TDM_E_TOLERANCE) {
        if (table.n_rows > 0 && strcmp(a.format, "csv") == 0)
            tdm_comm_print_csv(&table);
        else if (table.n_rows > 0 && strcmp(a.format, "json") == 0)
            tdm_comm_print_json(&arena, &table);
        else if (table.n_rows > 0)
            tdm_comm_print_text(&arena, &table);
        code = tdm_cli_finish(code);
    }
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_comm = {
    .name = "comm",
    .usage = "MACHINE --collective NAME [options]",
    .summary = "how long a collective takes on a machine, and what NCCL would choose for it",
    .run = run,
};
