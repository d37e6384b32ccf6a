/* calibrate_write.c: a profile as the two files that scenarios name. */
#include "calibrate.h"
#include "output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

static const char *source_of(tdm_arena *arena, const tdm_host_machine *machine)
{
    char date[16] = "";
    time_t now = time(NULL);
    struct tm local;
    struct utsname system;
    if (localtime_r(&now, &local))
        strftime(date, sizeof date, "%Y-%m-%d", &local);
    if (uname(&system) != 0)
        *system.sysname = *system.release = '\0';
    return tdm_arena_printf(
        arena, "tandem calibrate, %s, %u core%s of %s, %s %s; other programs took %.0f %% of them",
        date, machine->cores.n_cores, machine->cores.n_cores == 1 ? "" : "s", machine->cpu,
        system.sysname, system.release, 100 * machine->other_load);
}

static void write_topology(tdm_arena *arena, const tdm_calibrate_options *o,
                           const tdm_host_machine *m, FILE *file)
{
    const tdm_cores *c = &m->cores;
    fprintf(
        file,
        "description: up to %u ranks as threads on %u core%s, as the host device runs them\n"
        "group: Processor cores\nfabric: cores\ndevice: %s%s%s\nsource: \"%s\"\ngrade: measured\n\n"
        "ranks: %u\ncores: %u\n",
        o->ranks, c->n_cores, c->n_cores == 1 ? "" : "s", o->is_apart ? "devices/" : "", o->name,
        o->is_apart ? ".yaml" : "", source_of(arena, m), o->ranks, c->n_cores);
    fprintf(file, "copy: %.4gGB/s\nreduce: %.4gGB/s\n", c->copy_bytes_per_s / 1e9,
            c->reduce_bytes_per_s / 1e9);
    fprintf(file, "slice: %.4gms\nhold: %.4gms\nturn: %.4gus\nswitch: %.4gus\nwake: %.4gus\n",
            c->slice_s * 1e3, c->hold_s * 1e3, c->turn_s * 1e6, c->switch_s * 1e6, c->wake_s * 1e6);
}

/* The largest rate of the products asked for, as a share of the peak. */
static double efficiency(const tdm_kernel_samples *products, bool grouped, double peak)
{
    double most = 0;
    for (uint32_t i = 0; i < products->n; i++) {
        const tdm_kernel_sample *p = &products->items[i];
        double rate = p->work / p->seconds;
        most = p->grouped == grouped && rate > most ? rate : most;
    }
    return most > peak ? 1 : most / peak;
}

static double share_of(const tdm_kernel_rate *kernels, uint32_t n, const char *name, double peak)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(kernels[i].name, name) == 0 && kernels[i].flops_per_s > 0)
            return kernels[i].flops_per_s > peak ? 1 : kernels[i].flops_per_s / peak;
    return 1;
}

static void write_device(tdm_arena *arena, const tdm_kernel_samples *products,
                         const tdm_kernel_rate *kernels, const tdm_calibration *c, FILE *file)
{
    static const char *const ways[] = {"forward", "dgrad", "wgrad"};
    const tdm_host_machine *m = &c->machine;
    double peak = m->peak_flops_per_s, floor_s = 0;
    for (uint32_t i = 0; i < c->n_kernels; i++)
        floor_s = kernels[i].floor_s > 0 && (floor_s == 0 || kernels[i].floor_s < floor_s)
                      ? kernels[i].floor_s
                      : floor_s;
    fprintf(file,
            "description: one core of %s, fp32\nsource: \"%s\"\ngrade: measured\n\n"
            "memory: %lluMiB\nmemory_bandwidth: %.4gGB/s\npeak: {fp32: %.4gGFLOP/s}\n\n"
            "launch: %.4gus\nkernel_floor: %.4gus\n",
            m->cpu, source_of(arena, m), (unsigned long long)(m->memory_bytes >> 20),
            2 * m->cores.copy_bytes_per_s / 1e9, peak / 1e9, m->issue_s * 1e6,
            (floor_s > 0 ? floor_s : m->issue_s) * 1e6);
    fprintf(file,
            "gemm_efficiency: %.4f\ngrouped_gemm_efficiency: %.4f\nattention_efficiency: %.4f\n"
            "attention_backward_efficiency: %.4f\nmemory_efficiency: 1\ncontext: 0B\n\n",
            efficiency(products, false, peak), efficiency(products, true, peak),
            share_of(kernels, c->n_kernels, "attention", peak),
            share_of(kernels, c->n_kernels, "attention.bwd", peak));
    fprintf(file, "kernels:\n");
    for (uint32_t i = 0; i < c->n_kernels; i++) {
        const tdm_kernel_rate *k = &kernels[i];
        fprintf(file, "  - {name: %s, %sfloor: %.4gus, ", k->name,
                k->optimizer ? "optimizer: true, " : "", k->floor_s * 1e6);
        if (k->bytes_per_s > 0)
            fprintf(file, "bytes: %.4gMB/s}\n", k->bytes_per_s / 1e6);
        else
            fprintf(file, "flops: %.4gGFLOP/s}\n", k->flops_per_s / 1e9);
    }
    fprintf(file, "\nproducts:\n");
    for (uint32_t i = 0; i < products->n; i++) {
        const tdm_kernel_sample *p = &products->items[i];
        fprintf(file, "  - {way: %s, %sm: %u, n: %u, k: %u, rate: %.4gGFLOP/s}\n", ways[p->way],
                p->grouped ? "grouped: true, " : "", p->m, p->n, p->k, p->work / p->seconds / 1e9);
    }
}

static tdm_code put(tdm_arena *arena, const char *folder, const char *name, const char *text,
                    size_t length, tdm_error *err)
{
    tdm_output output;
    tdm_code code = tdm_output_open(arena, folder, &output, err);
    if (code != TDM_OK)
        return code;
    code = tdm_output_text(tdm_output_add(arena, &output, name), text, length, err);
    if (code == TDM_OK)
        code = tdm_output_commit(&output, err);
    tdm_output_abort(&output);
    return code;
}

tdm_code tdm_calibrate_write(tdm_arena *arena, const tdm_calibrate_options *o,
                             const tdm_kernel_samples *products, const tdm_kernel_rate *kernels,
                             tdm_calibration *c, tdm_error *err)
{
    const char *file_name = tdm_arena_printf(arena, "%s.yaml", o->name);
    const char *folders[2] = {tdm_arena_printf(arena, "%s/devices", o->folder), o->folder};
    c->device_path = tdm_arena_printf(arena, "%s/%s", folders[0], file_name);
    c->topology_path = tdm_arena_printf(arena, "%s/%s", folders[1], file_name);
    tdm_code code = TDM_OK;
    for (int i = 0; i < 2 && code == TDM_OK; i++) { /* the topology last: it names the device */
        char *text = NULL;
        size_t length = 0;
        FILE *file = open_memstream(&text, &length);
        if (!file)
            return tdm_error_add(err, TDM_E_INTERNAL, "out of memory");
        if (i == 0)
            write_device(arena, products, kernels, c, file);
        else
            write_topology(arena, o, &c->machine, file);
        code = fclose(file) == 0 ? put(arena, folders[i], file_name, text, length, err)
                                 : tdm_error_add(err, TDM_E_INTERNAL, "out of memory");
        free(text);
    }
    return code;
}
