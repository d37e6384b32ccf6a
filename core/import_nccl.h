/* import_nccl.h: what the parts of NCCL's XML share: imports/nccl-xml.c reads processors, the PCI
 * tree and adapters, import_nccl.c the links beside the tree. */
#ifndef TDM_IMPORT_NCCL_H
#define TDM_IMPORT_NCCL_H

#include "import.h"
#include "xml.h"

#define TDM_NCCL_MAX_HOSTS 1024u

typedef struct tdm_nccl_device {
    const tdm_xml *pci;
    const tdm_xml *gpu; /* NULL: known by class or place only */
    uint64_t bus;
    uint32_t node;
    uint64_t order; /* rank, or place on the bus */
    uint32_t sm;
    uint32_t vertex;
} tdm_nccl_device;

typedef struct tdm_nccl_reader {
    tdm_arena *arena;
    const tdm_import_options *options;
    tdm_error *notes, *err;
    const char *path;
    tdm_graph_builder builder;
    tdm_nccl_device *devices; /* [n_devices] the GPUs, by rank once sorted */
    uint32_t n_devices;
    bool has_gpus;                      /* <gpu> somewhere */
    uint64_t hosts[TDM_NCCL_MAX_HOSTS]; /* host_hash by node */
    uint32_t n_hosts;
    bool has_nvlinks;
} tdm_nccl_reader;

/* Whether a text is there and begins with another, as NCCL compares names and numbers. */
bool tdm_nccl_begins(const char *text, const char *prefix);
/* The machine node of a <cpu>: one per host_hash, which old files do not have. */
tdm_code tdm_nccl_node_of(tdm_nccl_reader *r, const tdm_xml *cpu, uint32_t *node);
/* Adds NVLinks, C2C and <pcilink>s, once the GPUs and the PCI tree are there. */
tdm_code tdm_nccl_connect(tdm_nccl_reader *r, const tdm_xml *system);

#endif
