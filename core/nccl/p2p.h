/* p2p.h: sends and receives: their order, channels and chunks.
 * Source: NCCL 2.28.9, src/init.cc (p2p schedule), src/graph/paths.cc (ncclTopoComputeP2pChannels),
 * src/enqueue.cc (addP2pToPlan). */
#ifndef TDM_NCCL_P2P_H
#define TDM_NCCL_P2P_H

#include "core/nccl/tuning.h"

/* What paths of one node give to sends and receives: fills pair_bw, all_pairs_bw, network_bw,
 * network_latency_us, local_reach and p2p_per_peer with the least of what they hold and this node.
 */
void tdm_nccl_p2p_measure(tdm_arena *arena, const tdm_nccl_view *view, tdm_nccl_comm *comm);

/* Channels of all sends, and of one peer, once n_channels is known. */
void tdm_nccl_p2p_channels(tdm_nccl_comm *comm);

/* In round r the rank sends to send_to[r] and receives from receive_from[r]; both [n_ranks], every
 * rank once, itself in round 0. Ranks count node by node, n_ranks / n_nodes in each. */
void tdm_nccl_p2p_rounds(const tdm_nccl_comm *comm, uint32_t rank, uint32_t *send_to,
                         uint32_t *receive_from);

/* How one message of the given bytes goes to a peer: protocol, channels, chunk. */
void tdm_nccl_p2p_choose(const tdm_nccl_comm *comm, uint64_t bytes, bool over_network,
                         tdm_nccl_pick *pick);

/* GB/s that each GPU sends when all messages of an all-to-all are under way and GPU ports, adapters
 * and shared uplinks limit it: share_out is the part of its bytes that leaves the node. */
double tdm_nccl_p2p_bw(const tdm_nccl_comm *comm, double share_out);

#endif
