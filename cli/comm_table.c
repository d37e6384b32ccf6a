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
static uint64_t count(const tdm_comm_table *table, uint64_t bytes)
{
    bool parts = table->func == TDM_NCCL_ALL_GATHER || table->func == TDM_NCCL_REDUCE_SCATTER ||
                 table->func == TDM_NCCL_ALL_TO_ALL;
    return bytes / ELEMENT_BYTES / (parts ? table->comm.n_ranks : 1);
}

static bool reduces(const tdm_comm_table *table)
{
    return table->func == TDM_NCCL_ALL_REDUCE || table->func == TDM_NCCL_REDUCE ||
           table->func == TDM_NCCL_REDUCE_SCATTER;
}

static double bus_gb_per_s(const tdm_comm_table *table, const tdm_comm_row *row)
{
    return (double)row->bytes / row->time_s * 1e-9 *
           tdm_nccl_bus_factor(table->func, table->comm.n_ranks);
}

static void print_head(const tdm_comm_table *table)
{
    const tdm_nccl_comm *comm = &table->comm;
    printf("# %s of %s, %u ranks on %u node%s, predicted as NCCL 2.28 chooses\n",
           tdm_nccl_func_name(table->func), table->machine, comm->n_ranks, comm->n_nodes,
           comm->n_nodes == 1 ? "" : "s");
    printf("# channels: ring %u x %g GB/s, tree %u x %g GB/s", comm->ring.n_channels,
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

void tdm_comm_print_text(tdm_arena *arena, const tdm_comm_table *table)
{
    static const char *const plain[] = {"size",  "count", "type",      "redop",    "time",
                                        "algbw", "busbw", "algorithm", "protocol", "channels"};
    static const char *const beside[] = {"size",  "count",   "type",      "measured", "time",
                                         "busbw", "error %", "algorithm", "protocol", "channels"};
    static const char *const units[2][7] = {
        {"(B)", "(elements)", "", "", "(us)", "(GB/s)", "(GB/s)"},
        {"(B)", "(elements)", "", "(us)", "(us)", "(GB/s)", ""}};
    bool against = table->n_rows > 0 && table->rows[0].measured_s > 0;
    tdm_table out = {.arena = arena};
    tdm_style style = {0};
    for (size_t i = 0; i < TDM_COUNT(plain); i++)
        tdm_table_head(&out, against ? beside[i] : plain[i]);
    for (size_t i = 0; i < TDM_COUNT(plain); i++)
        tdm_table_cell(&out, "%s", i < 7 ? units[against][i] : "");
    for (uint32_t i = 0; i < table->n_rows; i++) {
        const tdm_comm_row *row = &table->rows[i];
        const tdm_nccl_pick *pick = &row->cost.pick;
        tdm_table_cell(&out, "%llu", (unsigned long long)row->bytes);
        tdm_table_cell(&out, "%llu", (unsigned long long)count(table, row->bytes));
        tdm_table_cell(&out, "float");
        if (against)
            tdm_table_cell(&out, "%.2f", row->measured_s * 1e6);
        else
            tdm_table_cell(&out, "%s", reduces(table) ? "sum" : "none");
        tdm_table_cell(&out, "%.2f", row->time_s * 1e6);
        if (!against)
            tdm_table_cell(&out, "%.2f", (double)row->bytes / row->time_s * 1e-9);
        tdm_table_cell(&out, "%.2f", bus_gb_per_s(table, row));
        if (against)
            tdm_table_cell(&out, "%+.1f", 100 * (row->time_s / row->measured_s - 1));
        tdm_table_cell(&out, "%s", tdm_nccl_algo_name(pick->algo));
        tdm_table_cell(&out, "%s", tdm_nccl_proto_name(pick->proto));
        tdm_table_cell(&out, "%u", pick->n_channels);
    }
    print_head(table);
    tdm_table_print(&out, &style, stdout);
    if (against)
        print_bands(arena, table);
}

void tdm_comm_print_csv(const tdm_comm_table *table)
{
    printf(
        "size_bytes,count,time_us,algbw_GBps,busbw_GBps,algorithm,protocol,channels,measured_us\n");
    for (uint32_t i = 0; i < table->n_rows; i++) {
        const tdm_comm_row *row = &table->rows[i];
        printf("%llu,%llu,%.4f,%.4f,%.4f,%s,%s,%u,", (unsigned long long)row->bytes,
               (unsigned long long)count(table, row->bytes), row->time_s * 1e6,
               (double)row->bytes / row->time_s * 1e-9, bus_gb_per_s(table, row),
               tdm_nccl_algo_name(row->cost.pick.algo), tdm_nccl_proto_name(row->cost.pick.proto),
               row->cost.pick.n_channels);
        if (row->measured_s > 0)
            printf("%.4f", row->measured_s * 1e6);
        printf("\n");
    }
}

static json_t *json_row(const tdm_comm_table *table, const tdm_comm_row *row)
{
    json_t *place =
        json_pack("{s:f, s:f, s:f}", "time", row->time_s * 1e6, "alg_bw",
                  (double)row->bytes / row->time_s * 1e-9, "bus_bw", bus_gb_per_s(table, row));
    json_t *item = json_pack(
        "{s:I, s:I, s:s, s:s, s:s, s:o, s:s, s:s, s:i}", "size", (json_int_t)row->bytes, "count",
        (json_int_t)count(table, row->bytes), "type", "float", "redop",
        reduces(table) ? "sum" : "none", "root", "-1", "out_of_place", place, "algorithm",
        tdm_nccl_algo_name(row->cost.pick.algo), "protocol",
        tdm_nccl_proto_name(row->cost.pick.proto), "channels", (int)row->cost.pick.n_channels);
    if (row->measured_s > 0)
        json_object_set_new(item, "measured_time", json_real(row->measured_s * 1e6));
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
