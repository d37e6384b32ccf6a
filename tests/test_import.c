/* Imported wirings: what comes of odd input, limits, round trips; with the variable TANDEM_DATA
 * naming a folder that holds topo/, the files of real machines there. */
#include "core/export.h"
#include "core/graph_bisection.h"
#include "core/graph_paths.h"
#include "core/graph_rates.h"
#include "core/import.h"
#include "support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static tdm_error err, notes;

static tdm_code import(tdm_arena *arena, const char *text, const tdm_import_options *options,
                       tdm_graph *graph)
{
    memset(&err, 0, sizeof err);
    memset(&notes, 0, sizeof notes);
    return tdm_import_text(arena, "m", text, strlen(text), options, graph, &notes, &err);
}

static tdm_graph imported(tdm_arena *arena, const char *text, const tdm_import_options *options)
{
    tdm_graph graph;
    if (import(arena, text, options, &graph) != TDM_OK)
        fail_msg("%s", err.text);
    return graph;
}

static const tdm_edge *edge_between(const tdm_graph *graph, uint32_t from, uint32_t to)
{
    for (uint32_t e = graph->first_edge[from]; e < graph->first_edge[from + 1]; e++)
        if (graph->edges[e].to == to)
            return &graph->edges[e];
    return NULL;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void assert_same(const tdm_graph *a, const tdm_graph *b)
{
    assert_int_equal(a->n_vertices, b->n_vertices);
    assert_int_equal(a->n_edges, b->n_edges);
    assert_int_equal(a->n_nodes, b->n_nodes);
    for (uint32_t v = 0; v < a->n_vertices; v++) {
        const tdm_vertex *x = &a->vertices[v], *y = &b->vertices[v];
        assert_int_equal(x->kind, y->kind);
        assert_string_equal(x->name, y->name);
        assert_true(x->node == y->node && x->sm == y->sm && x->numa == y->numa);
        assert_true(x->cpu == y->cpu && x->cpu_family == y->cpu_family &&
                    x->cpu_model == y->cpu_model);
        assert_true(same_text(x->address, y->address) && same_text(x->label, y->label) &&
                    same_text(x->cpus, y->cpus));
        assert_true(x->nic_bytes_per_s == y->nic_bytes_per_s);
        assert_true(x->nic_latency_s == y->nic_latency_s && x->nic_gpu_direct == y->nic_gpu_direct);
    }
    for (uint32_t e = 0; e < a->n_edges; e++) {
        const tdm_edge *x = &a->edges[e], *y = edge_between(b, x->from, x->to);
        /* PCIe and NVLink may join the same two */
        while (y && y->wire != x->wire)
            y = y + 1 < b->edges + b->first_edge[x->from + 1] ? y + 1 : NULL;
        assert_non_null(y);
        assert_true(x->to == y->to && x->count == y->count);
        assert_true(x->bytes_per_s == y->bytes_per_s && x->latency_s == y->latency_s);
        assert_string_equal(x->name, y->name);
    }
}

static const tdm_export *export_named(const char *name)
{
    for (const tdm_export *const *export = tdm_exports; *export; export ++)
        if (strcmp((*export)->name, name) == 0)
            return *export;
    fail_msg("no export %s", name);
    return NULL;
}

static const char *exported(tdm_arena *arena, const tdm_graph *graph, const char *format)
{
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);
    assert_non_null(file);
    assert_int_equal(export_named(format)->write(arena, graph, file, &err), TDM_OK);
    assert_int_equal(fclose(file), 0);
    const char *copy = tdm_arena_strndup(arena, text, length);
    free(text);
    return copy;
}

/* What goes out as NCCL's XML comes back the same. */
static void assert_round_trip(tdm_arena *arena, const tdm_graph *graph)
{
    const tdm_import_options none = {0};
    tdm_graph again = imported(arena, exported(arena, graph, "nccl"), &none);
    assert_same(graph, &again);
}

/* Two hosts, C2C, an adapter with two ports, a virtual one, peers: everything the XML can say. */
static const char everything[] =
    "<system version=\"1\">"
    "<cpu host_hash=\"0xa\" numaid=\"0\" arch=\"arm64\" affinity=\"ff\">"
    "<pci busid=\"0:1:0.0\" class=\"0x060400\" link_speed=\"8.0 GT/s PCIe\" link_width=\"8\">"
    "<pci busid=\"0000:02:00.0\" class=\"0x030200\" link_speed=\"16 GT/s\" link_width=\"16\">"
    "<gpu dev=\"0\" sm=\"90\" rank=\"0\"><c2c bw=\"44800\" count=\"10\"/>"
    "<nvlink target=\"fffffff:ff:ff.0\" count=\"18\"/></gpu></pci>"
    "<pci busid=\"0000:03:00.0\" class=\"0x020700\" link_speed=\"32.0 GT/s PCIe\" "
    "link_width=\"0\"><nic><net name=\"a&amp;b\" dev=\"0\" speed=\"400000\" latency=\"2.5\" "
    "gdr=\"1\"/><net name=\"c\" dev=\"1\" speed=\"0\"/><net name=\"no-dev\"/>"
    "<net name=\"fused\" dev=\"2\" net=\"0\"/></nic></pci>"
    "<pcilink target=\"0000:05:00.0\"/></pci>"
    "<pci busid=\"0000:05:00.0\"><pci busid=\"0000:06:00.0\" class=\"0x010802\"/>"
    "<pcilink target=\"0000:01:00.0\"/></pci>"
    "<nic><net name=\"veth\" dev=\"3\" speed=\"10000\"/></nic></cpu>"
    "<cpu host_hash=\"0xb\" numaid=\"-1\" arch=\"ppc64\">"
    "<pci busid=\"0000:02:00.0\" class=\"0x030000\" link_speed=\"\" link_width=\"0\">"
    "<gpu dev=\"0\" sm=\"70\" rank=\"1\"><nvlink target=\"0004:00:00.0\" count=\"3\" "
    "tclass=\"0x068001\"/></gpu></pci></cpu></system>";

static void odd_xml(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const tdm_import_options none = {0};
    tdm_graph g = imported(&arena, everything, &none);
    assert_int_equal(g.n_gpus, 2);
    assert_int_equal(g.n_nodes, 2);
    assert_string_equal(g.vertices[0].address, "0000:02:00.0");
    uint32_t kinds[TDM_N_VERTEX_KINDS] = {0};
    for (uint32_t v = 0; v < g.n_vertices; v++)
        kinds[g.vertices[v].kind]++;
    assert_int_equal(kinds[TDM_VERTEX_SOCKET], 2);
    assert_int_equal(kinds[TDM_VERTEX_PCIE_SWITCH], 2);
    assert_int_equal(kinds[TDM_VERTEX_NIC], 3);
    assert_int_equal(kinds[TDM_VERTEX_NVSWITCH], 1);
    const tdm_edge *up = edge_between(&g, 0, 3);
    assert_non_null(up); /* to pcie-switch-0, behind both GPUs and the socket */
    assert_true(up->bytes_per_s == 24e9 && up->count == 16);
    for (uint32_t v = 0; v < g.n_vertices; v++) {
        const tdm_vertex *nic = &g.vertices[v];
        if (nic->kind == TDM_VERTEX_NIC && same_text(nic->label, "a&b"))
            assert_true(nic->nic_bytes_per_s == 50e9 && nic->nic_latency_s == 2.5e-6 &&
                        nic->nic_gpu_direct);
        if (nic->kind == TDM_VERTEX_NIC && same_text(nic->label, "c"))
            assert_true(nic->nic_bytes_per_s == 1.25e9); /* NCCL's 10 Gbit/s for unknown */
    }
    const tdm_edge *c2c = edge_between(&g, 0, 2);
    assert_non_null(c2c);
    assert_int_equal(c2c->wire, TDM_WIRE_C2C);
    assert_true(c2c->bytes_per_s == 448e9);
    assert_round_trip(&arena, &g);
    tdm_arena_free(&arena);
}

/* Names that are no UTF-8 make no broken XML; those that are stay what they are. */
static void odd_names(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    static const struct {
        const char *name, *label;
    } cases[] = {{"caf\xc3\xa9", "caf\xc3\xa9"},
                 {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
                 {"a\xff"
                  "b",
                  "a?b"},
                 {"\xe9", "?"},
                 {"\xed\xa0\x80", "???"},
                 {"\xef\xbf\xbe", "???"},
                 {"\xc0\x80", "??"},
                 {"a--b<&\"", "a--b<&\""}};
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        const tdm_import_options options = {.sm = 80, .pcie_generation = 4, .nic_bytes_per_s = 1e9},
                                 none = {0};
        const char *text = tdm_arena_printf(
            &arena, "GPU0 NIC0\nGPU0 X PIX\nNIC0 PIX X\n\nNIC0: %s\n", cases[i].name);
        tdm_graph g = imported(&arena, text, &options);
        tdm_graph again = imported(&arena, exported(&arena, &g, "nccl"), &none);
        bool found = false;
        for (uint32_t v = 0; v < again.n_vertices; v++)
            if (again.vertices[v].kind == TDM_VERTEX_NIC) {
                assert_string_equal(again.vertices[v].label, cases[i].label);
                found = true;
            }
        assert_true(found);
    }
    tdm_arena_free(&arena);
}

/* Devices without a class: only those named are GPUs; and a comment with a tag in front. */
static void gpus_by_place(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    static const char text[] =
        "<?xml version=\"1.0\"?><!-- <topology> > --><system><cpu "
        "numaid=\"0\"><pci busid=\"0000:00:17.0\"/><pci "
        "busid=\"0000:00:16.0\"/><pci busid=\"0000:00:15.0\"/></cpu></system>";
    const tdm_import_options options = {
        .sm = 86, .pcie_generation = 4, .gpu_at = "0000:00:17.0,00:16.0"};
    tdm_graph g = imported(&arena, text, &options);
    assert_int_equal(g.n_gpus, 2);
    assert_string_equal(g.vertices[0].address, "0000:00:16.0"); /* in the order of the bus */
    assert_int_equal(g.n_vertices, 3);
    assert_true(g.edges[0].bytes_per_s == 24e9);
    assert_round_trip(&arena, &g);
    tdm_arena_free(&arena);
}

static void wirings(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    char text[2048] = "<system><cpu numaid=\"0\">";
    for (int i = 1; i <= 8; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 "<pci busid=\"0000:0%d:00.0\" class=\"0x030200\" link_speed=\"8 GT/s\"/>", i);
    strcat(text, "</cpu></system>");
    tdm_import_options options = {.sm = 70, .nvlinks = 6};
    tdm_graph mesh = imported(&arena, text, &options);
    assert_non_null(strstr(notes.text, "hybrid cube mesh"));
    for (uint32_t a = 0; a < 8; a++) {
        uint32_t links = 0;
        for (uint32_t b = 0; b < 8; b++) {
            const tdm_edge *edge = edge_between(&mesh, a, b);
            assert_int_equal(tdm_cube_mesh_links(a, b), tdm_cube_mesh_links(b, a));
            assert_int_equal(edge ? edge->count : 0, tdm_cube_mesh_links(a, b));
            links += edge ? edge->count : 0;
        }
        assert_int_equal(links, 6);
    }
    options = (tdm_import_options){.sm = 90, .nvlinks = 18};
    tdm_graph on_switch = imported(&arena, text, &options);
    assert_int_equal(on_switch.vertices[on_switch.n_vertices - 1].kind, TDM_VERTEX_NVSWITCH);
    assert_true(tdm_graph_bisection(&arena, &on_switch).bytes_per_s == 4 * 18 * 20.6e9);
    options.wiring = TDM_NVLINK_NONE;
    tdm_graph bare = imported(&arena, text, &options);
    assert_int_equal(bare.n_vertices, 9);
    assert_int_equal(notes.n_messages, 0);
    assert_round_trip(&arena, &mesh);
    assert_round_trip(&arena, &on_switch);
    tdm_arena_free(&arena);
}

/* Text of n times `middle` between two others. */
static const char *repeated(tdm_arena *arena, const char *before, const char *middle, int n,
                            const char *after)
{
    size_t size = strlen(before) + strlen(after) + strlen(middle) * (size_t)n + 1;
    char *text = tdm_arena_alloc(arena, size), *at = text + strlen(before);
    memcpy(text, before, strlen(before));
    for (int i = 0; i < n; i++, at += strlen(middle))
        memcpy(at, middle, strlen(middle));
    memcpy(at, after, strlen(after));
    return text;
}

static void limits(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_graph g = {.name = "untouched"};
    const tdm_import_options options = {.sm = 90};
    static const struct {
        const char *before, *middle;
        int n;
        const char *after, *message;
    } cases[] = {
        {"<system>", "<a>", 64, "", "deeper than 64 levels"},
        {"<system>", "<a/>", 50001, "</system>", "more than 50,000 elements"},
        {"<system><cpu numaid=\"0\">", "<pci busid=\"1:1.0\" class=\"0x03\"/>", 4097,
         "</cpu></system>", "more than 4096 GPUs"},
        {"<system><cpu numaid=\"0\"><pci busid=\"1:1.0\" class=\"0x03\"/></cpu>", "<cpu/>", 1025,
         "</system>", "more than 1024 of them"},
        {"<system>", "<cpu host_hash=\"0x1\"/>", 1, "", "no element found"},
        {"<topology version=\"2.0\">",
         "<object type=\"PCIDev\" pci_busid=\"1:1.0\" pci_type=\"0302 [10de:1] a\"/>", 1025,
         "</topology>", "more than 1024 GPUs"},
        {"GPU0", " NIC", 1, "\n", "no row of GPU0"},
    };
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        const char *text =
            repeated(&arena, cases[i].before, cases[i].middle, cases[i].n, cases[i].after);
        assert_int_equal(import(&arena, text, &options, &g), TDM_E_INVALID);
        if (!strstr(err.text, cases[i].message))
            fail_msg("case %zu: %s", i, err.text);
        assert_string_equal(g.name, "untouched");
    }
    tdm_arena_free(&arena);
}

/* Random trees as tables: synthesised, then written, they are the same. */
static void tables(void **state)
{
    (void)state;
    static const char *const names[] = {"PIX", "PXB", "PHB", "NODE", "SYS"};
    uint32_t seed = 1;
    for (int round = 0; round < 200; round++) {
        tdm_arena arena = {0};
        enum { N = 7 };
        char text[1024] = "";
        uint32_t classes[N][4];
        for (uint32_t i = 0; i < N; i++)
            for (uint32_t l = 4; l > 0; l--) {
                seed = seed * 1664525 + 1013904223;
                classes[i][l - 1] = (l < 4 ? classes[i][l] * 2 : 0) + (seed >> 28) % 2;
            }
        for (uint32_t i = 0; i < N; i++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "\t%s%u",
                     i < 4 ? "GPU" : "NIC", i < 4 ? i : i - 4);
        strcat(text, "\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n");
        for (uint32_t a = 0; a < N; a++) {
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%u", a < 4 ? "GPU" : "NIC",
                     a < 4 ? a : a - 4);
            for (uint32_t b = 0; b < N; b++) {
                uint32_t l = 0;
                while (l < 4 && classes[a][l] != classes[b][l])
                    l++;
                strcat(strcat(text, "\t"), a == b ? " X " : names[l]);
            }
            strcat(text, a < 4 ? "\tN/A\tN/A\tN/A\n" : "\n");
        }
        const tdm_import_options options = {.sm = 80, .pcie_generation = 4};
        tdm_graph g = imported(&arena, text, &options);
        const char *again = exported(&arena, &g, "matrix");
        if (strncmp(again, text, strlen(text)) != 0)
            fail_msg("%s\nis not\n%s", again, text);
        tdm_arena_free(&arena);
    }
}

typedef struct real_machine {
    const char *file;
    tdm_import_options options;
    uint32_t gpus, nics, sockets;
    tdm_path_type first_last; /* between GPU 0 and the last */
    double path, bisection;   /* GB/s */
} real_machine;

/* Counts as the files have them; bandwidths by hand from NCCL's constants. */
static const real_machine machines[] = {
    {"aws-p4d-24xl-topo.xml", {.sm = 80, .nvlinks = 12}, 8, 4, 2, TDM_PATH_NVL, 240, 960},
    {"aws-p4de-24xl-topo.xml", {.sm = 80, .nvlinks = 12}, 8, 4, 2, TDM_PATH_NVL, 240, 960},
    {"azure-nc48v4-topo.xml", {.sm = 0}, 2, 1, 2, TDM_PATH_NVL, 240, 240},
    /* NVLinks of each GPU to itself; no link speed, which is PCIe 3.0 x16: 12 GB/s */
    {"azure-ncv4-topo.xml", {.sm = 0}, 4, 1, 4, TDM_PATH_SYS, 12, 24},
    {"azure-ndv2-topo.xml", {.sm = 70, .nvlinks = 6}, 8, 1, 2, TDM_PATH_NVB, 40, 120},
    {"azure-ndv4-topo.xml", {.sm = 80, .nvlinks = 12}, 8, 8, 4, TDM_PATH_NVL, 240, 960},
    {"azure-ndv5-topo.xml", {.sm = 90, .nvlinks = 18}, 8, 8, 2, TDM_PATH_NVL, 370.8, 1483.2},
    {"ibm-gx3d-8h100-topo.xml", {.sm = 0}, 8, 8, 2, TDM_PATH_NVL, 370.8, 1483.2},
    {"nemo-launcher-azure-topo.xml", {.sm = 80, .nvlinks = 12}, 8, 8, 1, TDM_PATH_NVL, 240, 960},
    {"nemo-launcher-oci-topo.xml", {.sm = 80, .nvlinks = 12}, 8, 8, 4, TDM_PATH_NVL, 240, 960},
    {"oci-BM.GPU.B4.8-topo-flattened.xml",
     {.sm = 80, .nvlinks = 12},
     8,
     8,
     4,
     TDM_PATH_NVL,
     240,
     960},
    {"oci-BM.GPU.H100.8-topology.xml", {.sm = 0}, 8, 16, 2, TDM_PATH_NVL, 370.8, 1483.2},
    {"oci-BM.GPU4.8-topo-flattened.xml",
     {.sm = 80, .nvlinks = 12},
     8,
     8,
     4,
     TDM_PATH_NVL,
     240,
     960},
    {"oci-H100-topology-kubernetes.xml", {.sm = 0}, 8, 16, 2, TDM_PATH_NVL, 370.8, 1483.2},
    {"pcie-4x3090-crosssocket-topo.xml", {.sm = 0}, 4, 1, 2, TDM_PATH_SYS, 10, 10},
    {"aws-g5.48xl-topo.xml",
     {.sm = 86,
      .pcie_generation = 4,
      .gpu_at = "0000:00:16.0,0000:00:17.0,0000:00:18.0,0000:00:19.0,0000:00:1a.0,0000:00:1b.0,"
                "0000:00:1c.0,0000:00:1d.0"},
     8,
     0,
     2,
     TDM_PATH_SYS,
     24,
     96},
};

static void check_machine(const char *text, const real_machine *m)
{
    tdm_arena arena = {0};
    tdm_graph g;
    uint32_t nics = 0, sockets = 0;
    if (import(&arena, text, &m->options, &g) != TDM_OK)
        fail_msg("%s: %s", m->file, err.text);
    for (uint32_t v = 0; v < g.n_vertices; v++) {
        nics += g.vertices[v].kind == TDM_VERTEX_NIC;
        sockets += g.vertices[v].kind == TDM_VERTEX_SOCKET;
    }
    tdm_graph_path path =
        tdm_pathfinder_find(tdm_pathfinder_new(&arena, &g), g.gpus[0], g.gpus[g.n_gpus - 1]);
    tdm_bisection half = tdm_graph_bisection(&arena, &g);
    if (g.n_gpus != m->gpus || nics != m->nics || sockets != m->sockets ||
        path.type != m->first_last || path.bytes_per_s / 1e9 - m->path > 1e-6 ||
        m->path - path.bytes_per_s / 1e9 > 1e-6 || half.bytes_per_s / 1e9 - m->bisection > 1e-6 ||
        m->bisection - half.bytes_per_s / 1e9 > 1e-6)
        fail_msg("%s: %u GPUs, %u adapters, %u sockets, %s of %g GB/s, bisection %g GB/s", m->file,
                 g.n_gpus, nics, sockets, tdm_path_type_name(path.type), path.bytes_per_s / 1e9,
                 half.bytes_per_s / 1e9);
    assert_round_trip(&arena, &g);
    const tdm_import_options table_options = {.sm = 90, .nvlinks = 18, .pcie_generation = 5};
    const char *table = exported(&arena, &g, "matrix");
    tdm_graph again = imported(&arena, table, &table_options);
    assert_string_equal(exported(&arena, &again, "matrix"), table);
    tdm_arena_free(&arena);
}

/* The text of a file of TANDEM_DATA; skips the test when it is not there. */
static const char *real_file(tdm_arena *arena, const char *name)
{
    enum { SIZE = 1 << 17 };
    const char *folder = getenv("TANDEM_DATA");
    FILE *file = NULL;
    if (folder)
        file = fopen(tdm_arena_printf(arena, "%s/topo/%s", folder, name), "rb");
    if (!file) {
        print_message("TANDEM_DATA has no topo/%s: skipped\n", name);
        tdm_arena_free(arena);
        skip();
    }
    char *bytes = tdm_arena_alloc(arena, SIZE);
    size_t length = fread(bytes, 1, SIZE - 1, file);
    fclose(file);
    assert_true(length > 0 && length < SIZE - 1);
    return bytes;
}

static void real_machines(void **state)
{
    (void)state;
    for (size_t i = 0; i < TDM_COUNT(machines); i++) {
        tdm_arena arena = {0};
        check_machine(real_file(&arena, machines[i].file), &machines[i]);
        tdm_arena_free(&arena);
    }
}

/* Adapters only, and files that leave the kind of GPU open: refused with the place and a remedy. */
static void real_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *file, *message;
    } files[] = {{"nemo-launcher-aws-topo.xml", "m:31:1: <system>: holds no GPUs"},
                 {"aws-g5.48xl-topo.xml", "m:12:1: <system>: holds no GPUs"},
                 {"azure-ndv5-topo.xml", "m:4:7: <pci>: one of 8 GPUs, and the file does not say"}};
    for (size_t i = 0; i < TDM_COUNT(files); i++) {
        tdm_arena arena = {0};
        tdm_graph g;
        const tdm_import_options none = {0};
        const char *text = real_file(&arena, files[i].file);
        assert_int_equal(import(&arena, text, &none, &g), TDM_E_INVALID);
        if (strncmp(err.text, files[i].message, strlen(files[i].message)) != 0)
            fail_msg("%s: %s", files[i].file, err.text);
        assert_int_equal(err.n_messages, 1);
        tdm_arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_xml),       cmocka_unit_test(odd_names),
        cmocka_unit_test(gpus_by_place), cmocka_unit_test(wirings),
        cmocka_unit_test(limits),        cmocka_unit_test(tables),
        cmocka_unit_test(real_machines), cmocka_unit_test(real_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
