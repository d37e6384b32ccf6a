/* graph_rates.c: NCCL's bandwidths. Source of every number not marked otherwise: NCCL 2.28.9,
 * src/graph/topo.h (names in capitals) and topo.cc (kvDictPciGen, ncclTopoAddCpu); the latencies of
 * the header: src/graph/tuning.cc, protocol LL, 0.6 us per NVLink step of a ring, 1.0 us per PCIe
 * step; a step between sockets is not in there and counted as one more PCIe link. */
#include "graph_rates.h"

#include <math.h>
#include <string.h>

double tdm_rate_nvlink(uint32_t sm)
{
    if (sm >= 100)
        return 40.1e9; /* SM100_NVLINK_BW */
    if (sm >= 90)
        return 20.6e9; /* SM90_NVLINK_BW */
    if (sm == 86)
        return 12e9; /* SM86_NVLINK_BW */
    if (sm >= 80)
        return 20e9; /* SM80_NVLINK_BW */
    if (sm >= 70)
        return 20e9; /* SM70_NVLINK_BW */
    return sm >= 60 ? 18e9 /* SM60_NVLINK_BW */ : 20e9;
}

/* In 100 Mbit/s per lane. */
static const uint32_t lane_rates[] = {0, 15, 30, 60, 120, 240, 480};

double tdm_rate_pcie(uint32_t generation, uint32_t lanes)
{
    return (lanes == 0 ? 16 : lanes) * lane_rates[generation] / 80.0 * 1e9;
}

uint32_t tdm_pcie_generation(const char *link_speed)
{
    static const struct {
        const char *text;
        uint32_t generation;
    } speeds[] = {
        {"2.5 GT/s", 1},       {"5 GT/s", 2},         {"8 GT/s", 3},        {"16 GT/s", 4},
        {"32 GT/s", 5},        {"5.0 GT/s PCIe", 2},  {"8.0 GT/s PCIe", 3}, {"16.0 GT/s PCIe", 4},
        {"32.0 GT/s PCIe", 5}, {"64.0 GT/s PCIe", 6},
    };
    for (size_t i = 0; i < TDM_COUNT(speeds); i++)
        if (strncmp(link_speed, speeds[i].text, strlen(speeds[i].text)) == 0)
            return speeds[i].generation;
    return 3;
}

const char *tdm_pcie_link_speed(uint32_t generation)
{
    static const char *const texts[] = {"",
                                        "2.5 GT/s PCIe",
                                        "5.0 GT/s PCIe",
                                        "8.0 GT/s PCIe",
                                        "16.0 GT/s PCIe",
                                        "32.0 GT/s PCIe",
                                        "64.0 GT/s PCIe"};
    return texts[generation];
}

uint32_t tdm_pcie_nearest(double bytes_per_s, uint32_t lanes)
{
    uint32_t nearest = 1;
    for (uint32_t g = 2; g < TDM_COUNT(lane_rates); g++)
        if (fabs(tdm_rate_pcie(g, lanes) - bytes_per_s) <
            fabs(tdm_rate_pcie(nearest, lanes) - bytes_per_s))
            nearest = g;
    return nearest;
}

/* Source: NVIDIA datasheets: V100 and T4 PCIe 3.0; A100, A10, A40, L4, L40S and RTX 30 and 40 PCIe
 * 4.0; H100, H200, B200 and RTX PRO 6000 Blackwell PCIe 5.0. */
uint32_t tdm_pcie_of_gpu(uint32_t sm)
{
    if (sm >= 90)
        return 5;
    if (sm >= 80)
        return 4;
    return sm >= 60 ? 3 : 0;
}

double tdm_rate_socket(tdm_cpu_vendor vendor, uint32_t family, uint32_t model)
{
    switch (vendor) {
    case TDM_CPU_INTEL:
        if (family == 6 && model >= 0xcf)
            return 40e9; /* ERP_QPI_BW: Emerald Rapids */
        if (family == 6 && model >= 0x8f)
            return 22e9; /* SRP_QPI_BW: Sapphire Rapids */
        return family == 6 && model >= 0x55 ? 10e9 /* SKL_QPI_BW */ : 6e9 /* BDW_QPI_BW */;
    case TDM_CPU_AMD:
        return 16e9; /* AMD_BW */
    case TDM_CPU_ARM:
        return 6e9; /* ARM_BW */
    case TDM_CPU_IBM:
        return 32e9; /* P9_BW */
    case TDM_CPU_ZHAOXIN:
        return family == 7 && model == 0x5b ? 9e9 /* YONGFENG_ZPI_BW */ : 6e9 /* ZPI_BW */;
    case TDM_CPU_UNKNOWN:
        break;
    }
    return TDM_RATE_UNLIMITED;
}
