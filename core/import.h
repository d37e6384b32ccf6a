/* import.h: formats that describe a machine's wiring, one per file in core/imports/.
 * A file defines `const tdm_import tdm_import_NAME`; the build collects them in a table. Which
 * format a text has is seen from its content. What a format does not tell (which GPU it is, how
 * NVLink is wired) is given beside it. */
#ifndef TDM_IMPORT_H
#define TDM_IMPORT_H

#include "graph.h"

typedef enum tdm_nvlink_wiring {
    TDM_NVLINK_AUTO, /* by GPU and number: see tdm_import_wire */
    TDM_NVLINK_SWITCH,
    TDM_NVLINK_CUBE_MESH, /* hybrid cube mesh of 8 GPUs */
    TDM_NVLINK_PAIRS,     /* GPUs 0 and 1, 2 and 3 ... by all their links */
    TDM_NVLINK_NONE
} tdm_nvlink_wiring;

/* What is given beside the text; zero: nothing. */
typedef struct tdm_import_options {
    uint32_t sm;              /* compute capability of the GPUs, 90 for 9.0 */
    uint32_t nvlinks;         /* of one GPU */
    tdm_nvlink_wiring wiring; /* where the text has no NVLinks */
    uint32_t pcie_generation; /* where the text has no link speeds; 0: that of the GPU's slot */
    double nic_bytes_per_s;   /* where the text has no speed; 0: not known */
    const char *gpu_at;       /* bus ids of the GPUs, with commas between; NULL: by device class */
} tdm_import_options;

typedef struct tdm_import {
    const char *name;    /* "nccl-xml" */
    const char *summary; /* one line for people */
    bool (*recognises)(const char *text, size_t n_bytes);
    /* Builds the graph. Everything wrong is reported with path:line:column; notes gets what was
     * assumed or left out. */
    tdm_code (*read)(tdm_arena *arena, const char *path, const char *text, size_t n_bytes,
                     const tdm_import_options *options, tdm_graph *graph, tdm_error *notes,
                     tdm_error *err);
} tdm_import;

extern const tdm_import *const tdm_imports[]; /* NULL-terminated, generated, by name */

/* Reads text in whichever format it is. *graph is untouched on failure. */
tdm_code tdm_import_text(tdm_arena *arena, const char *path, const char *text, size_t n_bytes,
                         const tdm_import_options *options, tdm_graph *graph, tdm_error *notes,
                         tdm_error *err);
/* The format of a text; NULL: none of them. */
const tdm_import *tdm_import_find(const char *text, size_t n_bytes);

/* What the files in imports/ share. */

/* Whether the first element of an XML text is <name ...>. */
bool tdm_import_has_root(const char *text, size_t n_bytes, const char *name);
/* A PCI bus id as a number ("0000:a4:00.0" or without its domain); false when it is none. */
bool tdm_bus_id_parse(const char *text, uint64_t *id);
/* The way this program writes it. */
const char *tdm_bus_id_write(tdm_arena *arena, uint64_t id);
/* Whether options->gpu_at names this bus id. */
bool tdm_import_is_gpu_at(const tdm_import_options *options, uint64_t id);
/* Whether every bus id of options->gpu_at is one. */
bool tdm_import_check_gpu_at(const tdm_import_options *options);

/* NVLinks for GPUs of which the text has none: gpus [n_gpus] are the vertices of one node. AUTO: a
 * hybrid cube mesh for 8 GPUs of compute capability 7.0, a pair for 2, else a switch. */
tdm_code tdm_import_wire(tdm_graph_builder *builder, const uint32_t *gpus, uint32_t n_gpus,
                         const tdm_import_options *options, const char *path, tdm_error *notes,
                         tdm_error *err);
/* One GPU's links into a switch. */
void tdm_import_to_switch(tdm_graph_builder *builder, uint32_t gpu, uint32_t nvswitch,
                          uint32_t n_links);
/* Links from one GPU to another, that direction only. */
void tdm_import_to_gpu(tdm_graph_builder *builder, uint32_t from, uint32_t to, uint32_t n_links);
/* A PCIe link of a vertex to the one above it, named after the former. */
void tdm_import_hang(tdm_graph_builder *builder, uint32_t vertex, uint32_t parent, uint32_t lanes,
                     double bytes_per_s);
/* A mask of processors in words of 32 bits ("000000ff,ffff0000", also "0xff,,0x1") as ranges,
 * "0-23,48-71"; NULL for none. */
const char *tdm_import_cpu_ranges(tdm_arena *arena, const char *mask);
/* By the name that the processor itself gives: "GenuineIntel". */
tdm_cpu_vendor tdm_import_cpu_vendor(const char *name);
/* Joins all sockets of each node, both ways. */
void tdm_import_join_sockets(tdm_graph_builder *builder);

/* NVLinks between GPUs a and b (0 to 7) of a hybrid cube mesh. Source: NVIDIA DGX-1 With Tesla V100
 * System Architecture (2017), figure 4, numbered as nvidia-smi does on a DGX-1. */
uint32_t tdm_cube_mesh_links(uint32_t a, uint32_t b);

#endif
