/* support_nccl.c: sets of measurements and their machines. */
#include "tests/support_nccl.h"

#include "core/nccl_log.h"
#include "tests/support_graph.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tdm_nccl_comm comm_with(tdm_arena *arena, tdm_graph graph, uint32_t n, const char *setting)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    uint32_t *ranks = TDM_ALLOC(arena, uint32_t, n);
    tdm_nccl_settings settings = tdm_nccl_settings_default();
    tdm_nccl_comm comm;
    for (uint32_t i = 0; i < n; i++)
        ranks[i] = i;
    if (setting && tdm_nccl_settings_assign(&settings, "test", setting, err) != TDM_OK)
        abort();
    if (tdm_nccl_comm_build(arena, &graph, ranks, n, &settings, &comm, err) != TDM_OK) {
        fputs(err->text, stderr);
        abort();
    }
    return comm;
}

tdm_nccl_comm support_nccl_comm(tdm_arena *arena, tdm_graph graph, uint32_t n)
{
    return comm_with(arena, graph, n, NULL);
}

typedef enum machine {
    H100,
    A100,
    DGX_A100,
    HGX_H100,
    DGX_2,
    MESH_A100,
    MESH_H100,
    MESH_H100_IB,
    /* Wired like this, but the fabric does not give what is wired. */
    A100_EFA,
    H100_TCPX,
    POLARIS,
    P3DN,
    HGX_H100_1,
    HGX_H100_2,
    PCIE_2080TI
} machine;

static tdm_graph graph_of(tdm_arena *arena, machine which, uint32_t n_nodes)
{
    switch (which) {
    case H100:
        return support_graph_nvswitch(arena, "h100", 1, 8, 90, 18, 48e9, 0);
    case A100:
        return support_graph_nvswitch(arena, "a100", 1, 8, 80, 12, 24e9, 0);
    case DGX_A100: /* 8 x HDR, 200 Gbit/s */
        return support_graph_nvswitch(arena, "dgx-a100", n_nodes, 8, 80, 12, 24e9, 25e9);
    case HGX_H100: /* 8 x NDR, 400 Gbit/s */
        return support_graph_nvswitch(arena, "hgx-h100", n_nodes, 8, 90, 18, 48e9, 50e9);
    case DGX_2: /* 8 x EDR, 100 Gbit/s */
        return support_graph_nvswitch(arena, "dgx-2", n_nodes, 16, 70, 6, 12e9, 12.5e9);
    case MESH_A100:
        return support_graph_mesh4(arena, "polaris", 1, 80, 4, 0);
    case MESH_H100:
        return support_graph_mesh4(arena, "snellius", 1, 90, 6, 0);
    case A100_EFA: /* p4de: 4 x 100 Gbit/s, shared by 8 GPUs */
        return support_graph_nvswitch(arena, "p4de", n_nodes, 8, 80, 12, 24e9, 6.25e9);
    case H100_TCPX: /* a3-megagpu: 8 x 200 Gbit/s */
        return support_graph_nvswitch(arena, "a3-mega", n_nodes, 8, 90, 18, 48e9, 25e9);
    case POLARIS:
        return support_graph_polaris(arena, n_nodes);
    case P3DN: /* 100 Gbit/s */
        return support_graph_nvswitch(arena, "p3dn", n_nodes, 1, 70, 6, 12e9, 12.5e9);
    case HGX_H100_1:
        return support_graph_nvswitch(arena, "hgx-h100", n_nodes, 1, 90, 18, 48e9, 50e9);
    case HGX_H100_2:
        return support_graph_nvswitch(arena, "hgx-h100", n_nodes, 2, 90, 18, 48e9, 50e9);
    case PCIE_2080TI: /* Turing counts as Volta; PCIe 3 */
        return support_graph_pcie(arena, "2080ti", 1, 1, 2, 75, TDM_CPU_INTEL);
    default: /* 4 x NDR, 200 Gbit/s */
        return support_graph_mesh4(arena, "snellius", n_nodes, 90, 6, 25e9);
    }
}

typedef struct file_set {
    const char *file;
    tdm_nccl_func func;
    machine machine;
    uint32_t n_nodes, n_ranks;
    const char *setting; /* "NCCL_NAME=VALUE" that it was measured with; NULL: none */
} file_set;

#define AR TDM_NCCL_ALL_REDUCE
#define AG TDM_NCCL_ALL_GATHER
#define RS TDM_NCCL_REDUCE_SCATTER
#define AA TDM_NCCL_ALL_TO_ALL
#define SR TDM_NCCL_SEND_RECV

static const file_set files[] = {
    {"allreduce_1x8_H100_aws-batch", AR, H100, 1, 8, NULL},
    {"allreduce_1x8_H100_nccl2.29.2", AR, H100, 1, 8, NULL},
    {"allreduce_1x8_H100_simumax", AR, H100, 1, 8, NULL},
    {"allreduce_1x8_H100_single-node-readme", AR, H100, 1, 8, NULL},
    {"allreduce_1x4_H100_nccl2.29.2", AR, H100, 1, 4, NULL},
    {"allgather_1x8_H100_nccl2.29.2", AG, H100, 1, 8, NULL},
    {"allgather_1x8_H100_simumax", AG, H100, 1, 8, NULL},
    {"allgather_1x4_H100_nccl2.29.2", AG, H100, 1, 4, NULL},
    {"reducescatter_1x8_H100_simumax", RS, H100, 1, 8, NULL},
    {"reducescatter_1x4_H100_nccl2.29.2", RS, H100, 1, 4, NULL},
    {"reducescatter_1x4_H100-SXM-mesh_snellius", RS, MESH_H100, 1, 4, NULL},
    {"alltoall_1x8_H100_nccl2.29.2", AA, H100, 1, 8, NULL},
    {"alltoall_1x4_H100_nccl2.29.2", AA, H100, 1, 4, NULL},
    {"sendrecv_1x8_H100_nccl2.29.2", SR, H100, 1, 8, NULL},
    {"sendrecv_1x4_H100_nccl2.29.2", SR, H100, 1, 4, NULL},
    {"allreduce_1x4_A100_polaris_nccl2.28.3", AR, MESH_A100, 1, 4, NULL},
    {"sendrecv_1x8_A100_liplus", SR, A100, 1, 8, NULL},
    {"allreduce_2x8_H100_HGX_IB-NDR_nccl2.26.2", AR, HGX_H100, 2, 16, NULL},
    {"allreduce_2x8_H100_gj-aion_IB", AR, HGX_H100, 2, 16, NULL},
    {"allreduce_96xH100_coreweave", AR, HGX_H100, 12, 96, NULL},
    {"allreduce_2x4_H100_snellius_IB", AR, MESH_H100_IB, 2, 8, NULL},
    {"allreduce_2x8_DGXA100_sophia", AR, DGX_A100, 2, 16, NULL},
    {"allgather_2x8_DGXA100_sophia", AG, DGX_A100, 2, 16, NULL},
    {"allreduce_16x16_V100_DGX2_nccl2.8.4", AR, DGX_2, 16, 256, NULL},
};

/* What docs/fidelity.md calls fitted sites. */
static const file_set site_files[] = {
    {"allreduce_2x8_A100-80G_p4de_EFA", AR, A100_EFA, 2, 16, NULL},
    {"allreduce_2x8_A100-80G_p4de_EFA_nccl2.17.1_simple", AR, A100_EFA, 2, 16, "NCCL_PROTO=simple"},
    {"allreduce_2x1_V100_p3dn_100G", AR, P3DN, 2, 2, NULL},
    {"allreduce_4x1_V100_p3dn_100G", AR, P3DN, 4, 4, NULL},
    {"allreduce_2x8_H100_a3mega_tcpxo", AR, H100_TCPX, 2, 16, NULL},
    {"allreduce_2x4_A100_polaris_slingshot_nccl2.18", AR, POLARIS, 2, 8, NULL},
    {"allreduce_8x4_A100_polaris_slingshot_nccl2.18", AR, POLARIS, 8, 32, NULL},
    {"allreduce_4x4_A100_polaris_slingshot_nccl2.28.3_simple", AR, POLARIS, 4, 16,
     "NCCL_PROTO=simple"},
    {"allgather_2x4_A100_polaris_slingshot_nccl2.18", AG, POLARIS, 2, 8, NULL},
    {"allgather_8x4_A100_polaris_slingshot_nccl2.18", AG, POLARIS, 8, 32, NULL},
    {"alltoall_8x4_A100_polaris_slingshot_nccl2.18", AA, POLARIS, 8, 32, NULL},
    {"allreduce_2x8_A100-40G_OCI_roce_nccl2.29.3", AR, DGX_A100, 2, 16, NULL},
    {"allreduce_2x8_H100_OCI_roce_nccl2.21.5", AR, HGX_H100, 2, 16, NULL},
    {"allreduce_2x8_H100_OCI_roce_nccl2.23.4", AR, HGX_H100, 2, 16, NULL},
    {"allreduce_2x8_A100-40G_ABCI_SHARP_nccl2.8", AR, DGX_A100, 2, 16, NULL},
    {"allreduce_2x2_H100_alpha-test", AR, HGX_H100_2, 2, 4, NULL},
    {"allreduce_10x8_H100_nccl2.29.2", AR, HGX_H100, 10, 80, NULL},
    {"allgather_10x8_H100_nccl2.29.2", AG, HGX_H100, 10, 80, NULL},
    {"reducescatter_10x8_H100_nccl2.29.2", RS, HGX_H100, 10, 80, NULL},
    {"sendrecv_10x8_H100_nccl2.29.2", SR, HGX_H100, 10, 80, NULL},
    {"alltoall_2x1_H100_cluster01_nccl2.29.2", AA, HGX_H100_1, 2, 2, NULL},
    {"sendrecv_2x1_H100_cluster01_nccl2.29.2", SR, HGX_H100_1, 2, 2, NULL},
    {"alltoall_2x8_H100_cluster00_nccl2.28.7", AA, HGX_H100, 2, 16, NULL},
    {"sendrecv_2x8_H100_cluster00_nccl2.28.7", SR, HGX_H100, 2, 16, NULL},
    {"alltoall_2x8_H100_cluster01_nccl2.29.2", AA, HGX_H100, 2, 16, NULL},
    {"sendrecv_2x8_H100_cluster01_nccl2.29.2", SR, HGX_H100, 2, 16, NULL},
    {"allreduce_1x2_2080Ti_pcie3_noP2P", AR, PCIE_2080TI, 1, 2, NULL},
    {"allgather_1x2_2080Ti_pcie3_noP2P", AG, PCIE_2080TI, 1, 2, NULL},
    {"broadcast_1x2_2080Ti_pcie3_noP2P", TDM_NCCL_BROADCAST, PCIE_2080TI, 1, 2, NULL},
    {"reduce_1x2_2080Ti_pcie3_noP2P", TDM_NCCL_REDUCE, PCIE_2080TI, 1, 2, NULL},
};

static bool add_file(tdm_arena *arena, const char *folder, const file_set *it,
                     support_nccl_set *set)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_nccl_log log;
    const char *path = tdm_arena_printf(arena, "%s/nccl/%s.csv", folder, it->file);
    if (tdm_nccl_log_read(arena, path, &log, err) != TDM_OK)
        return false;
    *set = (support_nccl_set){.name = it->file,
                              .func = it->func,
                              .comm = comm_with(arena, graph_of(arena, it->machine, it->n_nodes),
                                                it->n_ranks, it->setting),
                              .n = log.n_rows,
                              .bytes = TDM_ALLOC(arena, uint64_t, log.n_rows),
                              .time_s = TDM_ALLOC(arena, double, log.n_rows)};
    for (uint32_t i = 0; i < log.n_rows; i++) {
        set->bytes[i] = log.rows[i].bytes;
        set->time_s[i] = log.rows[i].time_s;
    }
    return true;
}

/* Rows of aiconfigurator_nccl.csv: system,device,nccl_version,source_dir,op,n_gpus,size_bytes,
 * time_us. One set per system, source_dir, op and n_gpus. */
static void add_row(tdm_arena *arena, char *line, support_nccl_set *sets, uint32_t first,
                    uint32_t *n)
{
    static const struct {
        const char *name;
        uint32_t sm, n_links;
    } systems[] = {
        {"a100_sxm", 80, 12}, {"h100_sxm", 90, 18}, {"h200_sxm", 90, 18}, {"b200_sxm", 100, 18}};
    char *fields[8] = {0};
    size_t s = 0;
    for (int i = 0; i < 8 && line; i++) {
        fields[i] = line;
        line = strchr(line, ',');
        if (line)
            *line++ = '\0';
    }
    while (s < TDM_COUNT(systems) && strcmp(fields[0], systems[s].name) != 0)
        s++;
    if (s == TDM_COUNT(systems) || !fields[7])
        return;
    const char *name =
        tdm_arena_printf(arena, "%s/%s/%s/%s", fields[0], fields[3], fields[4], fields[5]);
    uint32_t at = first;
    while (at < *n && strcmp(sets[at].name, name) != 0)
        at++;
    support_nccl_set *set = &sets[at];
    if (at == *n) {
        enum { MOST = 64 };
        tdm_graph graph = support_graph_nvswitch(arena, fields[0], 1, 8, systems[s].sm,
                                                 systems[s].n_links, 24e9, 0);
        set->name = name;
        set->comm = support_nccl_comm(arena, graph, (uint32_t)atoi(fields[5]));
        set->bytes = TDM_ALLOC(arena, uint64_t, MOST);
        set->time_s = TDM_ALLOC(arena, double, MOST);
        if (!tdm_nccl_func_find(fields[4], &set->func))
            abort();
        (*n)++;
    }
    assert(set->n < 64);
    set->bytes[set->n] = strtoull(fields[6], NULL, 10);
    set->time_s[set->n++] = strtod(fields[7], NULL) * 1e-6;
}

uint32_t support_nccl_sets(tdm_arena *arena, const char *folder, support_nccl_set **sets)
{
    enum { MOST = 512 };
    uint32_t n = 0;
    char line[1024];
    *sets = TDM_ALLOC(arena, support_nccl_set, MOST);
    for (size_t i = 0; i < TDM_COUNT(files); i++)
        n += add_file(arena, folder, &files[i], &(*sets)[n]);
    uint32_t first = n;
    FILE *file =
        fopen(tdm_arena_printf(arena, "%s/published/aiconfigurator_nccl.csv", folder), "r");
    while (file && fgets(line, sizeof line, file))
        add_row(arena, line, *sets, first, &n);
    if (file)
        fclose(file);
    return n;
}

uint32_t support_nccl_sites(tdm_arena *arena, const char *folder, support_nccl_set **sets)
{
    uint32_t n = 0;
    *sets = TDM_ALLOC(arena, support_nccl_set, TDM_COUNT(site_files));
    for (size_t i = 0; i < TDM_COUNT(site_files); i++)
        n += add_file(arena, folder, &site_files[i], &(*sets)[n]);
    return n;
}

tdm_nccl_measured *support_nccl_measured(tdm_arena *arena, const support_nccl_set *sets, uint32_t n)
{
    tdm_nccl_measured *measured = TDM_ALLOC(arena, tdm_nccl_measured, n + 1);
    for (uint32_t i = 0; i < n; i++)
        measured[i] = (tdm_nccl_measured){&sets[i].comm, sets[i].func, sets[i].n, sets[i].bytes,
                                          sets[i].time_s};
    return measured;
}
