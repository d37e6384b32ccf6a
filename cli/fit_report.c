/* fit_report.c: what `tandem fit` prints. */
#include "core/stats.h"
#include "fit.h"
#include "table.h"

#include <math.h>
#include <stdio.h>

static void put_estimate(tdm_table *out, const tdm_nccl_estimate *of, double scale)
{
    tdm_table_cell(out, "%.4g", of->value * scale);
    const double most = 20; /* a wider interval says nothing */
    if (isfinite(of->high) && of->high < most * of->low)
        tdm_table_cell(out, "%.4g to %.4g", of->low * scale, of->high * scale);
    else
        tdm_table_cell(out, "not told");
}

static void print_numbers(tdm_arena *arena, const tdm_fit *fit)
{
    tdm_table out = {.arena = arena, .n_left = 1};
    tdm_style style = {0};
    tdm_table_head(&out, "");
    tdm_table_head(&out, "fitted");
    tdm_table_head(&out, "95 % confidence");
    tdm_table_head(&out, "before");
    const tdm_nccl_site *before = fit->before;
    tdm_nccl_comm comm = fit->comm;
    comm.site = before;
    tdm_table_cell(&out, "launch floor, us");
    put_estimate(&out, &fit->whole.launch_s, 1e6);
    tdm_table_cell(&out, "%.4g", tdm_nccl_launch_s(&comm) * 1e6);
    if (fit->comm.n_nodes > 1) {
        tdm_table_cell(&out, "network efficiency");
        put_estimate(&out, &fit->whole.network_efficiency, 1);
        tdm_table_cell(&out, "%.4g", before ? before->network_efficiency.value : 1);
    }
    for (uint32_t r = 0; r < fit->whole.site.n_ramps; r++) {
        static const char *const names[] = {"latency share", "efficiency", "half of it at, bytes",
                                            "power"};
        const tdm_nccl_ramp_key *key = &fit->whole.site.ramps[r].key;
        const tdm_nccl_ramp *own = tdm_nccl_site_find(before, key);
        const tdm_nccl_ramp *old = own ? own : tdm_nccl_ramp_for(key);
        const double was[] = {old->latency_share, old->efficiency, old->half_bytes, old->power};
        for (int i = 0; i < 4; i++) {
            tdm_table_cell(&out, "%s %s, %s: %s", tdm_nccl_algo_name(key->algo),
                           tdm_nccl_proto_name(key->proto),
                           key->all_reduce ? "all-reduce" : "others", names[i]);
            put_estimate(&out, &fit->whole.ramps[r][i], 1);
            tdm_table_cell(&out, "%.4g", was[i]);
        }
    }
    tdm_table_print(&out, &style, stdout);
}

/* Errors without sign of what was held back in a band, ascending; all logs. */
static uint32_t gather(const tdm_fit *fit, int band, double *errors)
{
    uint32_t n = 0;
    for (uint32_t l = 0; l < fit->n_logs; l++)
        for (uint32_t i = 0; i < fit->logs[l].measured.n; i++)
            if (tdm_nccl_is_held_back(i) && tdm_comm_band(fit->logs[l].bytes[i]) == band)
                errors[n++] = fabs(fit->logs[l].held[i]);
    if (n > 0)
        tdm_stats_sort(errors, n);
    return n;
}

static void print_held_back(tdm_arena *arena, const tdm_fit *fit)
{
    uint32_t n_rows = 0;
    for (uint32_t l = 0; l < fit->n_logs; l++)
        n_rows += fit->logs[l].measured.n;
    double *errors = TDM_ALLOC(arena, double, n_rows + 1);
    printf("\nfitted to every other size, median absolute error on the rest\n");
    for (int band = 0; band < TDM_COMM_BANDS; band++) {
        size_t low, high;
        uint32_t n = gather(fit, band, errors);
        if (n == 0)
            continue;
        printf("  %-18s %5.1f %%", tdm_comm_band_names[band],
               100 * tdm_stats_quantile(errors, n, 0.5));
        if (tdm_stats_median_ranks(n, 0.95, &low, &high))
            printf(", %.1f to %.1f %% with 95 %% confidence", 100 * errors[low - 1],
                   100 * errors[high - 1]);
        else
            printf(", too few for an interval");
        printf(" (%u size%s, largest error %.1f %%)\n", n, n == 1 ? "" : "s", 100 * errors[n - 1]);
    }
}

void tdm_fit_report(tdm_arena *arena, const tdm_fit *fit)
{
    const tdm_nccl_comm *comm = &fit->comm;
    printf("# site of %s, %u ranks on %u node%s, fitted to %u points\n", fit->machine,
           comm->n_ranks, comm->n_nodes, comm->n_nodes == 1 ? "" : "s", fit->whole.n_points);
    for (uint32_t l = 0; l < fit->n_logs; l++)
        printf("#   %s: %s, %u sizes\n", fit->logs[l].path,
               tdm_nccl_func_name(fit->logs[l].measured.func), fit->logs[l].measured.n);
    if (fit->whole.n_left_out > 0)
        printf("#   left out: %u that took more than twice as long as a larger size\n",
               fit->whole.n_left_out);
    printf("\n");
    print_numbers(arena, fit);
    print_held_back(arena, fit);
}
