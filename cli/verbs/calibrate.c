/* calibrate.c: `tandem calibrate`: measures this machine and writes its profile. */
#include "calibrate.h"
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RANKS = 1024 };

static int take_ranks(const char *text, uint32_t *ranks)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < 1 ||
        value > MOST_RANKS)
        return tdm_cli_complain(TDM_E_INVALID,
                                "calibrate: --ranks: '%s' is not a whole number from 1 to %d", text,
                                MOST_RANKS);
    *ranks = (uint32_t)value;
    return TDM_CLI_GO_ON;
}

static int parse(tdm_arena *arena, int argc, char **argv, tdm_calibrate_options *o)
{
    static const char *const devices[] = {"host", NULL};
    const char *device = "host", *ranks = NULL;
    tdm_cli_strings operands, sets;
    const tdm_cli_option options[] = {
        {.name = "--device",
         .value_name = "DEVICE",
         .text = "what is measured: host, this machine's cores (default host)",
         .choices = devices,
         .value = &device},
        {.name = "--set",
         .value_name = "KEY=VALUE",
         .text = "set a key of the scenario",
         .values = &sets},
        {.name = "--ranks",
         .value_name = "N",
         .text = "ranks that the topology is for (default 16)",
         .value = &ranks},
        {.name = "--name",
         .value_name = "NAME",
         .text = "of the topology and the device (default host)",
         .value = &o->name},
        {.name = "--out-dir",
         .value_name = "DIR",
         .text = "folder for NAME.yaml and devices/NAME.yaml (default: the topologies of tandem)",
         .value = &o->folder},
        {.name = "--quick", .text = "fewer sizes, fewer repetitions", .flag = &o->quick},
        {.name = "-q", .text = "print nothing but errors", .flag = &o->quiet},
        {0},
    };
    int code =
        tdm_cli_parse(arena, tdm_verb_find("calibrate"), options, argc, argv, 0, 1, &operands);
    if (code != TDM_CLI_GO_ON)
        return code;
    o->root = tdm_cli_root(arena);
    if (!o->root)
        return tdm_cli_complain(TDM_E_INVALID, "calibrate: no folder with scenarios/ and "
                                               "topologies/ (set TANDEM_ROOT)");
    if (tdm_host_missing())
        return tdm_cli_complain(TDM_E_INVALID, "calibrate: %s", tdm_host_missing());
    if (operands.n > 0)
        o->scenario = tdm_cli_scenario(arena, o->root, operands.items[0]);
    else if (sets.n > 0)
        return tdm_cli_complain(TDM_E_INVALID, "calibrate: --set needs a scenario");
    if (strchr(o->name, '/') || *o->name == '\0')
        return tdm_cli_complain(TDM_E_INVALID,
                                "calibrate: --name: '%s' is no name for a file "
                                "(--out-dir says where it goes)",
                                o->name);
    o->sets = sets.items;
    o->n_sets = sets.n;
    o->is_apart = o->folder != NULL;
    if (!o->folder)
        o->folder = tdm_arena_printf(arena, "%s/topologies", o->root);
    return ranks ? take_ranks(ranks, &o->ranks) : TDM_CLI_GO_ON;
}

static void report(const tdm_calibrate_options *o, const tdm_calibration *c)
{
    const tdm_cores *cores = &c->machine.cores;
    printf("%u core%s of %s, measured in %.1f s\n", cores->n_cores, cores->n_cores == 1 ? "" : "s",
           c->machine.cpu, c->seconds);
    printf("  products, fp32, 384 x 384   %8.1f GFLOP/s and core\n",
           c->machine.peak_flops_per_s / 1e9);
    printf("  copies                      %8.1f GB/s\n", cores->copy_bytes_per_s / 1e9);
    printf("  sums                        %8.1f GB/s\n", cores->reduce_bytes_per_s / 1e9);
    printf("  next op of a stream         %8.2f us\n", cores->turn_s * 1e6);
    printf("  thread that waited goes on  %8.2f us of a core, %.2f us where one is idle\n",
           cores->switch_s * 1e6, cores->wake_s * 1e6);
    printf("  slice of a busy thread      %8.2f ms\n", cores->slice_s * 1e3);
    printf("  %u kernels by name (half of their times within %.1f %%), %u shapes of products\n",
           c->n_kernels, 100 * c->kernel_error, c->n_products);
    if (c->crowd_ranks > 0) {
        printf("  fitted: %u ranks' step of %.1f ms (%.1f ms with %.2f us of a core, as measured "
               "alone),\n",
               c->crowd_ranks, c->crowd_s * 1e3, c->crowd_predicted_s * 1e3,
               c->switch_alone_s * 1e6);
        printf("          2 ranks' step of %.1f ms (%.1f ms with %.2f us where one is idle)\n",
               c->pair_s * 1e3, c->pair_predicted_s * 1e3, c->wake_alone_s * 1e6);
    }
    if (c->machine.other_load > 0.05)
        printf("  Other programs took %.0f %% of the cores: measure again when they are idle.\n",
               100 * c->machine.other_load);
    printf("Wrote %s and %s.\n", c->topology_path, c->device_path);
    printf("Predict a run on them: tandem sim SCENARIO --set topology=%s\n",
           o->is_apart ? c->topology_path : o->name);
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    tdm_calibrate_options options = {.name = "host", .ranks = 16};
    tdm_calibration calibration;
    int code = parse(&arena, argc, argv, &options);
    if (code == TDM_CLI_GO_ON) {
        tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
        code = tdm_calibrate_host(&arena, &options, &calibration, err);
        if (code != TDM_OK) {
            code = tdm_cli_fail(err);
        } else if (!options.quiet) {
            report(&options, &calibration);
            code = tdm_cli_finish(TDM_OK);
        }
    }
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_calibrate = {
    .name = "calibrate",
    .usage = "[SCENARIO] [options]",
    .summary = "measure this machine into a device profile and a topology",
    .run = run,
};
