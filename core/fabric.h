/* fabric.h: kinds of GPU interconnect, one per file in core/fabrics/.
 * A fabric says which keys its topology files have and turns them into a graph. A file
 * defines `const tdm_fabric tdm_fabric_NAME`; the build collects them in a table. */
#ifndef TDM_FABRIC_H
#define TDM_FABRIC_H

#include "graph.h"
#include "schema.h"
#include "topology.h"

/* Most GPUs of one topology: what the engines are made for, with room to spare. */
#define TDM_MAX_GPUS 16384u

typedef struct tdm_fabric {
    const char *name;    /* "nvswitch": what `fabric:` says */
    const char *summary; /* one line for `tandem list` */
    const tdm_field
        *fields; /* its keys, beside those that every topology has; offsets in its own struct */
    size_t spec_bytes; /* size of that struct */
    /* NULL, or puts what short forms mean in their place before the keys are read. */
    tdm_code (*prepare)(tdm_arena *arena, tdm_node *root, tdm_error *err);
    /* Whether the keys go together. Called also when some of them were refused: those are 0 in the
     * struct. */
    tdm_code (*check)(const void *spec, const tdm_node *root, tdm_error *err);
    /* NULL: the device need not be known. Else it has to be there, and whether it goes together
     * with the keys. */
    tdm_code (*check_device)(const void *spec, const tdm_device *device, const tdm_node *root,
                             tdm_error *err);
    /* The machine as it is wired; device: its GPUs, NULL: not known. */
    tdm_graph (*graph)(tdm_arena *arena, const void *spec, const tdm_device *device,
                       const char *name);
    /* NULL, or what ranks share that are threads of one processor. */
    const tdm_cores *(*cores)(tdm_arena *arena, const void *spec);
} tdm_fabric;

extern const tdm_fabric *const tdm_fabrics[]; /* NULL-terminated, generated, by name */

/* The worst grade among the VALUE fields of a struct that was given in the file (an absent one has
 * no source). */
tdm_grade tdm_fields_grade(const tdm_field *fields, const void *record);

/* A PCIe tree as several fabrics have it: GPUs under switches, each switch under a root port of its
 * own, root ports under sockets. Rates and latencies of one direction. */
typedef struct tdm_pcie_tree {
    uint32_t sockets, switches_per_socket, gpus_per_switch;
    double gpu_link_bytes_per_s, switch_link_bytes_per_s, socket_link_bytes_per_s;
    double latency_s, socket_latency_s; /* of one PCIe link; from socket to socket */
    /* All that passes one, both directions together (tdm_vertex.through_bytes_per_s); 0: any. */
    double switch_capacity_bytes_per_s, socket_capacity_bytes_per_s;
} tdm_pcie_tree;

/* Adds the tree; its GPUs are the vertices 0, 1 ... of the builder, which has to be empty. */
void tdm_pcie_tree_add(tdm_graph_builder *builder, const tdm_pcie_tree *tree,
                       const tdm_device *device);
/* Processors by the names that topology files have for them ("amd-milan"), values are numbers for
 * tdm_fabric_socket. */
extern const tdm_choice tdm_fabric_cpus[];
/* A socket with such a processor. */
tdm_vertex tdm_fabric_socket(int cpu, int32_t numa);
/* Complains when the device does not say its compute capability. */
tdm_code tdm_fabric_check_capability(const tdm_device *device, const tdm_node *root,
                                     tdm_error *err);
/* A GPU of a device, for a graph. */
tdm_vertex tdm_fabric_gpu(const tdm_device *device, uint32_t node);

#endif
