/* fabric_cpu.c: the processors that topology files can name. Numbers of families and models are
 * what the processor says itself (CPUID), on which NCCL's figures depend (graph_rates.h).
 * Source: Linux, arch/x86/include/asm/intel-family.h; AMD, revision guides of families 17h, 19h and
 * 1Ah. */
#include "fabric.h"

static const struct {
    tdm_cpu_vendor vendor;
    uint32_t family, model;
} cpus[] = {
    /* by the value of their names */
    {TDM_CPU_INTEL, 6, 79},  {TDM_CPU_INTEL, 6, 85}, /* and Cascade Lake */
    {TDM_CPU_INTEL, 6, 106}, {TDM_CPU_INTEL, 6, 143}, {TDM_CPU_INTEL, 6, 207},
    {TDM_CPU_AMD, 23, 49},   {TDM_CPU_AMD, 25, 1},    {TDM_CPU_AMD, 25, 17},
    {TDM_CPU_AMD, 26, 2},    {TDM_CPU_ARM, 0, 0},
};

const tdm_choice tdm_fabric_cpus[] = {
    {"intel-broadwell", 0, false},
    {"intel-skylake", 1, false},
    {"intel-ice-lake", 2, false},
    {"intel-sapphire-rapids", 3, false},
    {"intel-emerald-rapids", 4, false},
    {"amd-rome", 5, false},
    {"amd-milan", 6, false},
    {"amd-genoa", 7, false},
    {"amd-turin", 8, false},
    {"arm-grace", 9, false},
    {"intel-cascade-lake", 1, true},
    {NULL, 0, false},
};

tdm_vertex tdm_fabric_socket(int cpu, int32_t numa)
{
    return (tdm_vertex){.kind = TDM_VERTEX_SOCKET,
                        .numa = numa,
                        .cpu = cpus[cpu].vendor,
                        .cpu_family = cpus[cpu].family,
                        .cpu_model = cpus[cpu].model};
}
