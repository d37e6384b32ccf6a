/* Topology files of machines of which there is NCCL's own XML: NCCL makes the same of both, alone
 * and of two joined by a network. The XML is not part of this tree: TANDEM_DATA names its folder.
 */
#include "core/files.h"
#include "core/import.h"
#include "core/topology_compose.h"
#include "core/topology_load.h"
#include "tests/support_nccl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static tdm_graph shipped(tdm_arena *arena, const char *name)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    const char *path = tdm_arena_printf(arena, "%s/topologies/%s.yaml", TANDEM_SOURCE_ROOT, name);
    tdm_graph graph = {0};
    if (tdm_topology_load_graph(arena, TANDEM_SOURCE_ROOT, path, &graph, err) != TDM_OK)
        fail_msg("%s", err->text);
    return graph;
}

/* NCCL's own description of a machine, and the topology file of it. */
static const struct {
    const char *xml, *name;
    uint32_t sm, nvlinks;
    double nic_gb_per_s;  /* where the XML has no <net>; 0: it has, or is of no use */
    double rate_gb_per_s; /* of the XML's <net>, in the place of the file's; 0: the file's */
} described[] = {
    {"aws-p4d-24xl-topo.xml", "aws-p4d", 80, 12, 12.5, 0},
    {"aws-p4de-24xl-topo.xml", "aws-p4de", 80, 12, 12.5, 0},
    {"azure-nc48v4-topo.xml", "azure-nc48ads-a100-v4", 80, 12, 0, 0},
    {"azure-ndv2-topo.xml", "azure-ndv2", 70, 6, 12.5, 0},
    {"azure-ndv4-topo.xml", "azure-nd-a100-v4", 80, 12, 25, 0},
    {"azure-ndv5-topo.xml", "azure-nd-h100-v5", 90, 18, 50, 0},
    {"oci-BM.GPU4.8-topo-flattened.xml", "oci-bm-gpu4-8", 80, 12, 25, 0},
    {"oci-BM.GPU.B4.8-topo-flattened.xml", "oci-bm-gpu-b4-8", 80, 12, 25, 0},
    {"oci-BM.GPU.H100.8-topology.xml", "oci-bm-gpu-h100-8", 90, 18, 0, 22.5},
    {"pcie-4x3090-crosssocket-topo.xml", "pcie-4-rtx-3090", 86, 0, 0, 0},
};

static tdm_graph import(tdm_arena *arena, const char *folder, size_t i)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1), *notes = TDM_ALLOC(arena, tdm_error, 1);
    const tdm_import_options options = {.sm = described[i].sm,
                                        .nvlinks = described[i].nvlinks,
                                        .nic_bytes_per_s = described[i].nic_gb_per_s * 1e9};
    const char *text, *path = tdm_arena_printf(arena, "%s/topo/%s", folder, described[i].xml);
    size_t n_bytes = 0;
    tdm_graph graph = {0};
    if (tdm_file_read(arena, path, &text, &n_bytes, err) != TDM_OK ||
        tdm_import_text(arena, path, text, n_bytes, &options, &graph, notes, err) != TDM_OK)
        fail_msg("%s", err->text);
    /* Without <net> the text does not say whether adapters read GPU memory; NCCL asks the driver.
     */
    tdm_vertex *vertices = TDM_ALLOC(arena, tdm_vertex, graph.n_vertices);
    memcpy(vertices, graph.vertices, graph.n_vertices * sizeof *vertices);
    for (uint32_t v = 0; v < graph.n_vertices; v++)
        vertices[v].nic_gpu_direct = vertices[v].kind == TDM_VERTEX_NIC;
    graph.vertices = vertices;
    return graph;
}

static void same_search(const tdm_nccl_graph *a, const tdm_nccl_graph *b, const char *name)
{
    if (a->n_channels != b->n_channels || a->bw_intra != b->bw_intra ||
        a->bw_inter != b->bw_inter || a->intra != b->intra)
        fail_msg("%s: %u x %g, %g GB/s over %d by the XML, %u x %g, %g over %d by the file", name,
                 a->n_channels, a->bw_intra, a->bw_inter, (int)a->intra, b->n_channels, b->bw_intra,
                 b->bw_inter, (int)b->intra);
}

static void same_comm(tdm_arena *arena, tdm_graph xml, tdm_graph file, const char *name)
{
    assert_int_equal(xml.n_gpus, file.n_gpus);
    tdm_nccl_comm a = support_nccl_comm(arena, xml, xml.n_gpus);
    tdm_nccl_comm b = support_nccl_comm(arena, file, file.n_gpus);
    same_search(&a.ring, &b.ring, name);
    same_search(&a.tree, &b.tree, name);
    if (a.nvls.n_channels > 0 || b.nvls.n_channels > 0)
        same_search(&a.nvls, &b.nvls, name);
    assert_int_equal(a.n_channels, b.n_channels);
    assert_int_equal(a.vendor, b.vendor);
    assert_memory_equal(a.bw, b.bw, sizeof a.bw);
}

static tdm_graph twice(tdm_arena *arena, const tdm_graph *node, double rate_gb_per_s)
{
    tdm_composition c = {.node = node, .n_nodes = 2, .nodes_per_nvlink_domain = 1};
    c.spec.rate.value = rate_gb_per_s * 1e9;
    for (size_t i = 0; tdm_networks[i]; i++)
        if (strcmp(tdm_networks[i]->name, "single-switch") == 0)
            c.network = tdm_networks[i];
    return tdm_compose(arena, &c, "twice");
}

/* One machine, and two of them. */
static void as_described(void **state)
{
    (void)state;
    const char *folder = getenv("TANDEM_DATA");
    for (size_t i = 0; i < TDM_COUNT(described); i++) {
        tdm_arena arena = {0};
        tdm_graph xml = import(&arena, folder, i);
        tdm_graph file = shipped(&arena, described[i].name);
        same_comm(&arena, xml, file, described[i].name);
        if (described[i].nic_gb_per_s > 0 || described[i].rate_gb_per_s > 0)
            same_comm(&arena, twice(&arena, &xml, described[i].rate_gb_per_s),
                      twice(&arena, &file, described[i].rate_gb_per_s), described[i].name);
        tdm_arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_described)};
    if (!getenv("TANDEM_DATA"))
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
