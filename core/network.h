/* network.h: kinds of network between machines, one per file in core/networks/. A network hangs
 * switches on the adapters of nodes that are alike. A file defines `const tdm_network
 * tdm_network_NAME`; the build collects them in a table. */
#ifndef TDM_NETWORK_H
#define TDM_NETWORK_H

#include "graph.h"
#include "schema.h"

/* What a topology file says below `network`; a value that was not given has no source. */
typedef struct tdm_network_spec {
    const char *kind;
    uint32_t adapters; /* of a node that it joins, its first ones; 0: all */
    tdm_value rate;    /* line rate of an adapter, as NCCL is told it; absent: the node's own */
    tdm_value efficiency, latency, oversubscription;
    uint32_t nodes_per_leaf; /* 0: all */
} tdm_network_spec;

/* The keys of tdm_network_spec. */
extern const tdm_field tdm_network_fields[];

/* Payload over line rate of an adapter. Source: SimAI (github.com/aliyun/SimAI) counts 48.5 GB/s of
 * an adapter of 50. */
#define TDM_NETWORK_EFFICIENCY 0.97
/* From adapter to adapter through one switch: with two PCIe links at either end (0.5 us each, see
 * graph_rates.h) what NCCL counts from GPU to GPU. Source: NCCL 2.28.9, src/graph/tuning.cc: 2.7 us
 * per network step of a ring (LL). */
#define TDM_NETWORK_LATENCY_S 0.7e-6

/* What a network is built on. */
typedef struct tdm_network_site {
    tdm_graph_builder *builder;
    uint32_t n_nodes, n_adapters;
    const uint32_t *nics;     /* [n_nodes][n_adapters] vertices */
    const char *const *names; /* [n_nodes][n_adapters] of the links to them */
    double efficiency, latency_s, oversubscription;
    uint32_t nodes_per_leaf; /* at most n_nodes */
} tdm_network_site;

typedef struct tdm_network {
    const char *name;    /* "rail": what `kind` says */
    const char *summary; /* one line for `tandem list` */
    bool has_leaves;     /* takes nodes_per_leaf and oversubscription */
    void (*join)(const tdm_network_site *site);
} tdm_network;

extern const tdm_network *const tdm_networks[]; /* NULL-terminated, generated, by name */

/* Puts the map that a short text means in its place: "rail 8 x 400Gbit/s oversubscription 2" is
 * {kind: rail, adapters: 8, rate: 400Gbit/s, oversubscription: 2}. with_kind: whether it begins
 * with one; count: what N of "N x" is called; fields: the keys that may follow. A node that is no
 * scalar stays as it is. */
tdm_code tdm_network_expand(tdm_arena *arena, tdm_node *parent, const char *key, bool with_kind,
                            const char *count, const tdm_field *fields, tdm_error *err);

/* The kind that the map names; complains when there is none of that name, and about keys that go
 * with other kinds only. */
tdm_code tdm_network_find(const tdm_network_spec *spec, const tdm_node *map,
                          const tdm_network **network, tdm_error *err);

/* What files in networks/ share: adapters of one leaf switch (count of them, first of them and
 * stride in site->nics), which is made; returns its vertex. */
uint32_t tdm_network_leaf(const tdm_network_site *site, const char *name, uint32_t first,
                          uint32_t stride, uint32_t count);
/* Hangs leaves under one spine: the uplinks of a leaf are one edge, with what its adapters send
 * together over the oversubscription. n_below [n_leaves]: first adapter and count of each. */
void tdm_network_spine(const tdm_network_site *site, const uint32_t *leaves, const uint32_t *firsts,
                       const uint32_t *counts, uint32_t n_leaves);

#endif
