/* net.h: the links of a machine as engines use them: what each communication op of a plan puts on
 * which links, at most how fast, and after what latency.
 *
 * On a machine whose wiring is known it is NCCL that communicates (core/nccl): its choice of
 * algorithm and protocol gives latency, and a transfer time on an idle machine; the algorithm's
 * channels give the links. Links that carry the same make one flow, which is no faster than the
 * transfer alone would be, and shares its links max-min fairly with whatever else is under way:
 * two operations that cross one link slow each other down as far as they fill it. On bare planes of
 * links (tests, machines without NCCL) the algorithms of core/collectives make the flows, which
 * only the links limit. */
#ifndef TDM_NET_H
#define TDM_NET_H

#include "collective.h"

/* Links that a flow crosses together, each once. */
typedef struct tdm_path {
    uint32_t n_links;
    const uint32_t *links; /* [n_links] of the topology */
} tdm_path;

/* A flow. */
typedef struct tdm_load {
    uint32_t path;          /* number in the net; TDM_NO_PATH: nothing joins the two ranks */
    uint64_t bytes;         /* on every link; whole bytes: the simulator truncates */
    double max_bytes_per_s; /* INFINITY: only links limit it */
} tdm_load;

#define TDM_NO_PATH UINT32_MAX

/* What an op does to the links. */
typedef struct tdm_transfer {
    uint32_t n_loads;
    const tdm_load *loads; /* [n_loads], valid until the next call */
    double latency_s;      /* before they start */
} tdm_transfer;

typedef struct tdm_net tdm_net;

/* A net of the topology (as folded, fold.h). It lives in the arena and grows with use. */
tdm_net *tdm_net_new(tdm_arena *arena, const tdm_topology *topology);
const tdm_topology *tdm_net_topology(const tdm_net *net);
/* What went wrong in calls below, the first of it, as where NCCL's settings leave no algorithm; the
 * transfers are empty then. */
tdm_code tdm_net_check(const tdm_net *net, tdm_error *err);

/* A collective call; one of a single member is empty. */
tdm_transfer tdm_net_collective(tdm_net *net, tdm_op_kind kind, const tdm_collective_call *call);
/* A message between two ranks. */
tdm_transfer tdm_net_message(tdm_net *net, uint32_t src, uint32_t dst, uint64_t bytes);

uint32_t tdm_net_n_paths(const tdm_net *net);
const tdm_path *tdm_net_path(const tdm_net *net, uint32_t path);

/* How long loads that start together on idle links keep them busy, sharing max-min fairly;
 * negative: one has no path. scratch grows only for sets too large for the stack. */
double tdm_net_time(tdm_arena *scratch, const tdm_net *net, const tdm_load *loads, uint32_t n);

/* Seconds of a collective of even shares, or of a message, on an idle machine, latency included:
 * remembered by the group's shape, for many questions about one machine. Negative: no path. */
double tdm_net_collective_s(tdm_net *net, tdm_op_kind kind, tdm_group group, uint64_t bytes);
double tdm_net_message_s(tdm_net *net, uint32_t src, uint32_t dst, uint64_t bytes);

#endif
