/* ring.h: the flows of ring algorithms, shared by the files in collectives/.
 *
 * Where a topology has one path between members, the ring visits them in member order: n flows,
 * member i to member i + 1. Where the members sit on several nodes, the same number on each, every
 * GPU has its own network port, and one ring would use one port per node only; NCCL then builds as
 * many rings as there are ports. With k members per node there are k rings; ring r enters each node
 * at local member r, visits the others cyclically and leaves from member r - 1, carrying 1/k of the
 * data. Rings that use the same edge are one flow here: 2 n flows. Source: NVIDIA/nccl 2.28.9
 * src/graph/search.cc (one channel per network port, rings rotated in the node). */
#ifndef TDM_RING_H
#define TDM_RING_H

#include "collective.h"

/* Most flows that tdm_ring_flows writes for `size` members. */
uint32_t tdm_ring_max_flows(const tdm_topology *topology, uint32_t size);

/* A ring on which every directed edge carries numerator / size x bytes, rounded up to whole bytes.
 * Writes the flows and returns how many: none for a group of one. numerator <= 2 * size. */
uint32_t tdm_ring_flows(const tdm_collective_call *call, uint64_t numerator, tdm_flow *flows);

/* A ring on which every directed edge carries `bytes` less the share of one member: of an
 * all-gather that at its end, which has its own; of a reduce-scatter (sums) that at its start,
 * which keeps its sum. Shares are even, or as `received` says. Source of the uneven ones: PyTorch's
 * ProcessGroupNCCL makes of such a call one broadcast or reduction for each member (allgather and
 * reduce_scatter in torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp), grouped into one kernel; on
 * NCCL's ring each of them passes every edge but that into its root or out of it. */
uint32_t tdm_ring_flows_of_shares(const tdm_collective_call *call, bool sums, tdm_flow *flows);

/* Latency of a chunk that visits `laps` x (size - 1) consecutive edges, on the slowest way round.
 * Edges that share a chunk work at the same time (the ring is pipelined), so this is added once,
 * whatever the size of the data. Source: NVIDIA/nccl 2.28.9 src/graph/tuning.cc (nsteps x hardware
 * latency, added to size / bandwidth). */
double tdm_ring_latency_s(const tdm_collective_call *call, uint32_t laps);

#endif
