/* graph_rates.h: how fast a wire is when only its kind is known, as NCCL counts: NVLink by
 * compute capability, PCIe by generation and lanes, the link between sockets by processor.
 * Source: NCCL 2.28.9, src/graph/topo.h, topo.cc and tuning.cc. */
#ifndef TDM_GRAPH_RATES_H
#define TDM_GRAPH_RATES_H

#include "graph.h"

/* One NVLink of a GPU of compute capability sm / 10, usable by payload, one direction. */
double tdm_rate_nvlink(uint32_t sm);

/* Lanes times what a lane of that generation (1 to 6) carries; 0 lanes are 16. */
double tdm_rate_pcie(uint32_t generation, uint32_t lanes);
/* The generation that the kernel's text stands for ("16.0 GT/s PCIe"); 3 for any other, as NCCL
 * has it. */
uint32_t tdm_pcie_generation(const char *link_speed);
/* The text for a generation. */
const char *tdm_pcie_link_speed(uint32_t generation);
/* The generation whose rate over so many lanes is nearest to the one given. */
uint32_t tdm_pcie_nearest(double bytes_per_s, uint32_t lanes);
/* The generation of the slot that a GPU of this compute capability is made for; 0: not known. */
uint32_t tdm_pcie_of_gpu(uint32_t sm);

/* From this processor to another one in the same node. */
double tdm_rate_socket(tdm_cpu_vendor vendor, uint32_t family, uint32_t model);

/* What NCCL counts where nothing limits: within a device, or between unknown processors. */
#define TDM_RATE_UNLIMITED 5000e9

/* Of one edge. NVLink: half of a step from GPU to GPU, which over a switch is two edges; a direct
 * link takes both halves. PCIe: half of a step, which is two edges where GPUs share a switch. */
#define TDM_LATENCY_NVLINK_HALF_S 0.3e-6
#define TDM_LATENCY_PCIE_S        0.5e-6
#define TDM_LATENCY_SOCKET_S      0.5e-6

#endif
