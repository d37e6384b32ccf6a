/* comm_table.c: the table of `tandem comm`, as text, CSV and JSON. */
#include "comm.h"
#include "table.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ELEMENT_BYTES = 4 }; /* float, as nccl-tests by default */

const char *const tdm_comm_band_names[TDM_COMM_BANDS] = {"up to 64 KiB", "64 KiB to 16 MiB",
                                                         "above 16 MiB"};

int tdm_comm_band(uint64_t bytes)
{
    return bytes <= 65536 ? 0 : bytes <= 16777216 ? 1 : 2;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void tdm_comm_errors(tdm_arena *arena, const tdm_comm_table *table, double errors[TDM_COMM_BANDS])
{
    for (int band = 0; band < TDM_COMM_BANDS; band++) {
        double *all = TDM_ALLOC(arena, double, table->n_rows + 1);
        uint32_t n = 0;
        for (uint32_t i = 0; i < table->n_rows; i++)
            if (table->rows[i].measured_s > 0 && tdm_comm_band(table->rows[i].bytes) == band)
                all[n++] = fabs(table->rows[i].time_s / table->rows[i].measured_s - 1);
        qsort(all, n, sizeof *all, by_value);
        errors[band] = n ? (all[(n - 1) / 2] + all[n / 2]) / 2 : -1;
    }
}

/* Elements as nccl-tests counts them: of one rank, for gathers and scatters of its part. */
static uint64_t count(const tdm_comm_table *table, uint32_t group, uint64_t bytes)
{
    bool parts = table->func == TDM_NCCL_ALL_GATHER || table->func == TDM_NCCL_REDUCE_SCATTER ||
                 table->func == TDM_NCCL_ALL_TO_ALL;
    return bytes / ELEMENT_BYTES / (parts ? table->groups[group].n_ranks : 1);
}

static bool reduces(const tdm_comm_table *table)
{
    return table->func == TDM_NCCL_ALL_REDUCE || table->func == TDM_NCCL_REDUCE ||
           table->func == TDM_NCCL_REDUCE_SCATTER;
}

static double bus_of_group(const tdm_comm_table *table, const tdm_comm_row *row, uint32_t group)
{
    return (double)row->bytes / row->parts[group].time_s * 1e-9 *
           tdm_nccl_bus_factor(table->func, table->groups[group].n_ranks);
}

static double bus_gb_per_s(const tdm_comm_table *table, const tdm_comm_row *row)
{
    return bus_of_group(table, row, row->slowest);
}

static double slow_down(const tdm_comm_part *part)
{
    return part->time_s / part->alone_s;
}

/* "8 ranks", or "4 groups of 2 to 3 ranks at once", and on how many nodes one is. */
static void print_ranks(const tdm_comm_table *table)
{
    uint32_t least = UINT32_MAX, most = 0, fewest = UINT32_MAX, nodes = 0;
    for (uint32_t g = 0; g < table->n_groups; g++) {
        const tdm_comm_group *group = &table->groups[g];
        least = group->n_ranks < least ? group->n_ranks : least;
        most = group->n_ranks > most ? group->n_ranks : most;
        nodes = group->comm.n_nodes > nodes ? group->comm.n_nodes : nodes;
        fewest = group->comm.n_nodes < fewest ? group->comm.n_nodes : fewest;
    }
    if (table->grouped)
        printf("%u group%s of ", table->n_groups, table->n_groups == 1 ? "" : "s");
    printf("%u", least);
    if (most > least)
        printf(" to %u", most);
    printf(" ranks%s on ", table->n_groups > 1 ? " at once, each" : "");
    if (fewest < nodes)
        printf("%u to ", fewest);
    printf("%u node%s", nodes, nodes == 1 ? "" : "s");
}

static void print_head(const tdm_comm_table *table)
{
    const tdm_nccl_comm *comm = &table->comm;
    printf("# %s of %s, ", tdm_nccl_func_name(table->func), table->machine);
    print_ranks(table);
    printf(", predicted as NCCL 2.28 chooses\n");
    printf("# channels%s: ring %u x %g GB/s, tree %u x %g GB/s",
           table->n_groups > 1 ? " of the first group" : "", comm->ring.n_channels,
           comm->ring.bw_intra, comm->tree.n_channels, comm->tree.bw_intra);
    if (comm->has_multicast)
        printf(", NVLS %u x %g GB/s", comm->nvls.n_channels, comm->nvls.bw_intra);
    printf("; launch %.1f us%s\n\n", table->launch_s * 1e6,
           table->launch_fitted                                          ? ", fitted to the log"
           : comm->site && table->launch_s == comm->site->launch_s.value ? ", the site's"
                                                                         : "");
}

static void print_bands(tdm_arena *arena, const tdm_comm_table *table)
{
    double errors[TDM_COMM_BANDS];
    tdm_comm_errors(arena, table, errors);
    printf("\nmedian absolute error by size\n");
    for (int band = 0; band < TDM_COMM_BANDS; band++)
        if (errors[band] >= 0)
            printf("  %-18s %5.1f %%\n", tdm_comm_band_names[band], 100 * errors[band]);
}

/* Never a negative zero. */
static double error_percent(const tdm_comm_row *row)
{
    double error = 100 * (row->time_s / row->measured_s - 1);
    return fabs(error) < 0.05 ? 0 : error;
}

/* Columns that nccl-tests does not have come and go: beside a measurement, and with groups. */
static void text_heads(tdm_table *out, bool against, bool grouped)
{
    static const char *const plain[][2] = {
        {"size", "(B)"},  {"count", "(elements)"}, {"type", ""},        {"redop", ""},
        {"time", "(us)"}, {"algbw", "(GB/s)"},     {"busbw", "(GB/s)"},
    };
    static const char *const beside[][2] = {
        {"size", "(B)"},  {"count", "(elements)"}, {"type", ""},    {"measured", "(us)"},
        {"time", "(us)"}, {"busbw", "(GB/s)"},     {"error %", ""},
    };
    static const char *const of_groups[][2] = {{"alone", "(us)"}, {"slow-down", ""}};
    static const char *const last[] = {"algorithm", "protocol", "channels"};
    for (size_t i = 0; i < TDM_COUNT(plain); i++)
        tdm_table_head(out, against ? beside[i][0] : plain[i][0]);
    for (size_t i = 0; i < TDM_COUNT(of_groups) && grouped; i++)
        tdm_table_head(out, of_groups[i][0]);
    for (size_t i = 0; i < TDM_COUNT(last); i++)
        tdm_table_head(out, last[i]);
    for (size_t i = 0; i < TDM_COUNT(plain); i++)
        tdm_table_cell(out, "%s", against ? beside[i][1] : plain[i][1]);
    for (size_t i = 0; i < TDM_COUNT(of_groups) && grouped; i++)
        tdm_table_cell(out, "%s", of_groups[i][1]);
    for (size_t i = 0; i < TDM_COUNT(last); i++)
        tdm_table_cell(out, "%s", "");
}

static void text_row(tdm_table *out, const tdm_comm_table *table, const tdm_comm_row *row,
                     bool against)
{
    const tdm_nccl_pick *pick = &row->cost.pick;
    tdm_table_cell(out, "%llu", (unsigned long long)row->bytes);
    tdm_table_cell(out, "%llu", (unsigned long long)count(table, row->slowest, row->bytes));
    tdm_table_cell(out, "float");
    if (against)
        tdm_table_cell(out, "%.2f", row->measured_s * 1e6);
    else
        tdm_table_cell(out, "%s", reduces(table) ? "sum" : "none");
    tdm_table_cell(out, "%.2f", row->time_s * 1e6);
    if (!against)
        tdm_table_cell(out, "%.2f", (double)row->bytes / row->time_s * 1e-9);
    tdm_table_cell(out, "%.2f", bus_gb_per_s(table, row));
    if (against)
        tdm_table_cell(out, "%+.1f", error_percent(row));
    if (table->grouped) {
        tdm_table_cell(out, "%.2f", row->parts[row->slowest].alone_s * 1e6);
        tdm_table_cell(out, "%.3f", slow_down(&row->parts[row->slowest]));
    }
    tdm_table_cell(out, "%s", tdm_nccl_algo_name(pick->algo));
    tdm_table_cell(out, "%s", tdm_nccl_proto_name(pick->proto));
    tdm_table_cell(out, "%u", pick->n_channels);
}

void tdm_comm_print_text(tdm_arena *arena, const tdm_comm_table *table)
{
    bool against = table->n_rows > 0 && table->rows[0].measured_s > 0;
    tdm_table out = {.arena = arena};
    tdm_style style = {0};
    text_heads(&out, against, table->grouped);
    for (uint32_t i = 0; i < table->n_rows; i++)
        text_row(&out, table, &table->rows[i], against);
    print_head(table);
    tdm_table_print(&out, &style, stdout);
    if (against)
        print_bands(arena, table);
}

static void csv_row(const tdm_comm_table *table, const tdm_comm_row *row, uint32_t group)
{
    const tdm_comm_part *part = &row->parts[group];
    const tdm_nccl_pick *pick = &part->cost.pick;
    printf("%llu,%llu,%.4f,%.4f,%.4f,%s,%s,%u,", (unsigned long long)row->bytes,
           (unsigned long long)count(table, group, row->bytes), part->time_s * 1e6,
           (double)row->bytes / part->time_s * 1e-9, bus_of_group(table, row, group),
           tdm_nccl_algo_name(pick->algo), tdm_nccl_proto_name(pick->proto), pick->n_channels);
    if (row->measured_s > 0)
        printf("%.4f", row->measured_s * 1e6);
    if (table->grouped) {
        printf(",%u,", group);
        for (uint32_t r = 0; r < table->groups[group].n_ranks; r++)
            printf("%s%u", r ? " " : "", table->groups[group].ranks[r]);
        printf(",%.4f,%.6g", part->alone_s * 1e6, slow_down(part));
    }
    printf("\n");
}

void tdm_comm_print_csv(const tdm_comm_table *table)
{
    printf(
        "size_bytes,count,time_us,algbw_GBps,busbw_GBps,algorithm,protocol,channels,measured_us%s"
        "\n",
        table->grouped ? ",group,ranks,alone_us,slow_down" : "");
    for (uint32_t i = 0; i < table->n_rows; i++)
        for (uint32_t g = 0; g < table->n_groups; g++)
            csv_row(table, &table->rows[i], g);
}

static json_t *json_groups(const tdm_comm_table *table, const tdm_comm_row *row)
{
    json_t *groups = json_array();
    for (uint32_t g = 0; g < table->n_groups; g++) {
        const tdm_comm_part *part = &row->parts[g];
        json_array_append_new(groups,
                              json_pack("{s:f, s:f, s:f, s:f, s:s, s:s, s:i}", "time",
                                        part->time_s * 1e6, "bus_bw", bus_of_group(table, row, g),
                                        "alone", part->alone_s * 1e6, "slow_down", slow_down(part),
                                        "algorithm", tdm_nccl_algo_name(part->cost.pick.algo),
                                        "protocol", tdm_nccl_proto_name(part->cost.pick.proto),
                                        "channels", (int)part->cost.pick.n_channels));
    }
    return groups;
}

static json_t *json_ranks(const tdm_comm_table *table)
{
    json_t *all = json_array();
    for (uint32_t g = 0; g < table->n_groups; g++) {
        json_t *ranks = json_array();
        for (uint32_t r = 0; r < table->groups[g].n_ranks; r++)
            json_array_append_new(ranks, json_integer(table->groups[g].ranks[r]));
        json_array_append_new(all, ranks);
    }
    return all;
}

static json_t *json_row(const tdm_comm_table *table, const tdm_comm_row *row)
{
    json_t *place =
        json_pack("{s:f, s:f, s:f}", "time", row->time_s * 1e6, "alg_bw",
                  (double)row->bytes / row->time_s * 1e-9, "bus_bw", bus_gb_per_s(table, row));
    json_t *item = json_pack(
        "{s:I, s:I, s:s, s:s, s:s, s:o, s:s, s:s, s:i}", "size", (json_int_t)row->bytes, "count",
        (json_int_t)count(table, row->slowest, row->bytes), "type", "float", "redop",
        reduces(table) ? "sum" : "none", "root", "-1", "out_of_place", place, "algorithm",
        tdm_nccl_algo_name(row->cost.pick.algo), "protocol",
        tdm_nccl_proto_name(row->cost.pick.proto), "channels", (int)row->cost.pick.n_channels);
    if (row->measured_s > 0)
        json_object_set_new(item, "measured_time", json_real(row->measured_s * 1e6));
    if (table->grouped)
        json_object_set_new(item, "groups", json_groups(table, row));
    return item;
}

void tdm_comm_print_json(tdm_arena *arena, const tdm_comm_table *table)
{
    json_t *results = json_array();
    double sum = 0, errors[TDM_COMM_BANDS];
    for (uint32_t i = 0; i < table->n_rows; i++) {
        json_array_append_new(results, json_row(table, &table->rows[i]));
        sum += bus_gb_per_s(table, &table->rows[i]);
    }
    json_t *root =
        json_pack("{s:i, s:s, s:s, s:i, s:i, s:f, s:o, s:{s:f}}", "schema_version", 1, "machine",
                  table->machine, "collective", tdm_nccl_func_name(table->func), "ranks",
                  (int)table->comm.n_ranks, "nodes", (int)table->comm.n_nodes, "launch_us",
                  table->launch_s * 1e6, "results", results, "average_bus_bandwidth", "bandwidth",
                  table->n_rows ? sum / table->n_rows : 0.0);
    if (table->grouped)
        json_object_set_new(root, "groups", json_ranks(table));
    tdm_comm_errors(arena, table, errors);
    json_t *bands = json_object();
    for (int band = 0; band < TDM_COMM_BANDS; band++)
        if (errors[band] >= 0)
            json_object_set_new(bands, tdm_comm_band_names[band], json_real(errors[band]));
    json_object_set_new(root, "median_absolute_error", bands);
    json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    printf("\n");
    json_decref(root);
}
