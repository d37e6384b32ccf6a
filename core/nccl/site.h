/* site.h: what measurements say of one site, beyond its wiring and the ramps that all sites share.
 * A topology file holds it as a block `site`, which `tandem fit` writes. */
#ifndef TDM_NCCL_SITE_H
#define TDM_NCCL_SITE_H

#include "core/device.h"
#include "core/doc.h"
#include "core/nccl/nccl.h"

/* What measurements say beyond NCCL's own tables. Time is
 *     latency x latency_share
 *     + bytes / bandwidth / efficiency x (1 + own_steps / steps) x (1 + (half_bytes / x)^power)
 * with x the bytes per rank: at half_bytes half of the bandwidth is reached. own_steps: the copy of
 * a rank's own part, in steps of the ring. */
typedef struct tdm_nccl_ramp {
    double latency_share, efficiency, own_steps, half_bytes, power;
} tdm_nccl_ramp;

/* The kinds of operation that share a ramp. */
typedef struct tdm_nccl_ramp_key {
    tdm_nccl_generation generation;
    tdm_nccl_algo algo;
    tdm_nccl_proto proto;
    bool all_reduce; /* else all-gather, reduce-scatter, broadcast, reduce */
    bool one_node;
} tdm_nccl_ramp_key;

/* A ramp of the site's own. Its GPUs are of one generation: that of the key does not count. */
typedef struct tdm_nccl_site_ramp {
    tdm_nccl_ramp_key key;
    tdm_nccl_ramp ramp;
} tdm_nccl_site_ramp;

typedef struct tdm_nccl_site {
    bool has_launch;
    tdm_value launch_s;           /* floor of one operation */
    tdm_value network_efficiency; /* share of the wired rate that operations between nodes reach */
    const char *source;
    tdm_grade grade;
    uint32_t n_ramps;
    const tdm_nccl_site_ramp *ramps; /* [n_ramps] */
} tdm_nccl_site;

/* Reads the block: a map with the keys source, grade, launch, network_efficiency, ramps. Every
 * mistake is reported as path:line:column; *site is untouched then. */
tdm_code tdm_nccl_site_load(tdm_arena *arena, tdm_node *node, tdm_nccl_site *site, tdm_error *err);

/* The block as YAML, with its key, as lines that load again. */
const char *tdm_nccl_site_write(tdm_arena *arena, const tdm_nccl_site *site);

/* The site's ramp of a kind; NULL: it has none of its own, or site is NULL. */
const tdm_nccl_ramp *tdm_nccl_site_find(const tdm_nccl_site *site, const tdm_nccl_ramp_key *key);

#endif
