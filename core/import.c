/* import.c: finds the format of a text, and what the formats share. */
#include "import.h"

#include "graph_rates.h"

#include <ctype.h>
#include <string.h>

const tdm_import *tdm_import_find(const char *text, size_t n_bytes)
{
    for (const tdm_import *const *import = tdm_imports; *import; import++)
        if ((*import)->recognises(text, n_bytes))
            return *import;
    return NULL;
}

tdm_code tdm_import_text(tdm_arena *arena, const char *path, const char *text, size_t n_bytes,
                         const tdm_import_options *options, tdm_graph *graph, tdm_error *notes,
                         tdm_error *err)
{
    const tdm_import *import = tdm_import_find(text, n_bytes);
    if (!import)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s:1:1: not a topology: expected NCCL's XML (<system>), hwloc's XML "
                             "(<topology>), or the table of nvidia-smi topo -m",
                             path);
    if (!tdm_import_check_gpu_at(options))
        return tdm_error_add(err, TDM_E_INVALID,
                             "--gpu-at: %s: expected PCI bus ids with commas between, as "
                             "0000:16:00.0,0000:17:00.0",
                             options->gpu_at);
    return import->read(arena, path, text, n_bytes, options, graph, notes, err);
}

bool tdm_import_has_root(const char *text, size_t n_bytes, const char *name)
{
    size_t length = strlen(name), i = 0;
    if (n_bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        i = 3;
    while (i < n_bytes) {
        if (isspace((unsigned char)text[i])) {
            i++;
            continue;
        }
        if (text[i] != '<' || i + 1 >= n_bytes)
            return false;
        bool comment = n_bytes - i >= 4 && memcmp(text + i, "<!--", 4) == 0;
        if (!comment && text[i + 1] != '?' && text[i + 1] != '!')
            return n_bytes - i > length + 1 && memcmp(text + i + 1, name, length) == 0 &&
                   strchr(" \t\r\n/>", text[i + 1 + length]) && text[i + 1 + length];
        bool inside = false; /* the brackets of a document type */
        for (; i < n_bytes; i++) {
            inside = !comment && (text[i] == '[' || (inside && text[i] != ']'));
            if (text[i] == '>' && !inside &&
                (!comment || (text[i - 1] == '-' && text[i - 2] == '-')))
                break;
        }
        i++;
    }
    return false;
}

/* "domain:bus:device.function" in hexadecimal; what is missing in front is 0. */
bool tdm_bus_id_parse(const char *text, uint64_t *id)
{
    uint64_t parts[4] = {0};
    uint32_t n = 0, digits = 0;
    char before = ':';
    for (const char *c = text;; c++) {
        if (isxdigit((unsigned char)*c)) {
            if (++digits > 8)
                return false;
            uint64_t digit = isdigit((unsigned char)*c) ? (uint64_t)(*c - '0')
                                                        : (uint64_t)(tolower(*c) - 'a' + 10);
            parts[n] = parts[n] * 16 + digit;
            continue;
        }
        if (digits == 0 || (before == '.' && *c))
            return false;
        digits = 0;
        n++;
        if (!*c)
            break;
        if ((*c != ':' && *c != '.') || n == 4)
            return false;
        before = *c;
    }
    /* fffffff:ff:ff.0 has no device apart from its bus: three parts are bus:device.function. */
    if (n < 3 || before != '.')
        return false;
    uint64_t function = parts[n - 1], device = parts[n - 2], bus = parts[n - 3];
    if (function > 0xf || device > 0xff || bus > 0xff)
        return n == 3 && function <= 0xf && device <= 0xff
                   ? (*id = bus << 20 | device << 12 | function, true)
                   : false;
    *id = (n == 4 ? parts[0] << 20 : 0) | bus << 12 | device << 4 | function;
    return true;
}

const char *tdm_bus_id_write(tdm_arena *arena, uint64_t id)
{
    return tdm_arena_printf(arena, "%04x:%02x:%02x.%x", (unsigned)(id >> 20),
                            (unsigned)(id >> 12 & 0xff), (unsigned)(id >> 4 & 0xff),
                            (unsigned)(id & 0xf));
}

/* The next bus id of the list; false at its end. *valid: whether it is one. */
static bool next_bus_id(const char **at, uint64_t *id, bool *valid)
{
    char word[32];
    if (!*at || !**at)
        return false;
    size_t n = strcspn(*at, ",");
    *valid = n < sizeof word;
    if (*valid) {
        memcpy(word, *at, n);
        word[n] = '\0';
        *valid = tdm_bus_id_parse(word, id);
    }
    *at += n + ((*at)[n] == ',');
    return true;
}

bool tdm_import_is_gpu_at(const tdm_import_options *options, uint64_t id)
{
    uint64_t named = 0;
    bool valid = false;
    for (const char *at = options->gpu_at; next_bus_id(&at, &named, &valid);)
        if (valid && named == id)
            return true;
    return false;
}

bool tdm_import_check_gpu_at(const tdm_import_options *options)
{
    uint64_t named = 0;
    bool valid = true;
    for (const char *at = options->gpu_at; valid && next_bus_id(&at, &named, &valid);)
        continue;
    return valid && !(options->gpu_at && !options->gpu_at[0]);
}

void tdm_import_to_switch(tdm_graph_builder *builder, uint32_t gpu, uint32_t nvswitch,
                          uint32_t n_links)
{
    const tdm_vertex *v = &builder->vertices[gpu];
    tdm_graph_link(builder, gpu, nvswitch, TDM_WIRE_NVLINK, n_links,
                   n_links * tdm_rate_nvlink(v->sm), TDM_LATENCY_NVLINK_HALF_S,
                   tdm_arena_printf(builder->arena, "%s-nvlink", v->name));
}

void tdm_import_to_gpu(tdm_graph_builder *builder, uint32_t from, uint32_t to, uint32_t n_links)
{
    const tdm_vertex *a = &builder->vertices[from], *b = &builder->vertices[to];
    const tdm_edge edge = {.from = from,
                           .to = to,
                           .wire = TDM_WIRE_NVLINK,
                           .count = n_links,
                           .bytes_per_s = n_links * tdm_rate_nvlink(a->sm),
                           .latency_s = 2 * TDM_LATENCY_NVLINK_HALF_S,
                           .name =
                               tdm_arena_printf(builder->arena, "%s-nvlink-%s", a->name, b->name)};
    tdm_graph_edge(builder, &edge);
}

void tdm_import_hang(tdm_graph_builder *builder, uint32_t vertex, uint32_t parent, uint32_t lanes,
                     double bytes_per_s)
{
    tdm_graph_link(builder, vertex, parent, TDM_WIRE_PCIE, lanes, bytes_per_s, TDM_LATENCY_PCIE_S,
                   tdm_arena_printf(builder->arena, "%s-pcie", builder->vertices[vertex].name));
}

uint32_t tdm_cube_mesh_links(uint32_t a, uint32_t b)
{
    static const uint8_t links[8][8] = {
        {0, 1, 1, 2, 2, 0, 0, 0}, {1, 0, 2, 1, 0, 2, 0, 0}, {1, 2, 0, 2, 0, 0, 1, 0},
        {2, 1, 2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 1, 1, 2}, {0, 2, 0, 0, 1, 0, 2, 1},
        {0, 0, 1, 0, 1, 2, 0, 2}, {0, 0, 0, 1, 2, 1, 2, 0},
    };
    return links[a][b];
}

static tdm_nvlink_wiring choose_wiring(const tdm_import_options *options, uint32_t n_gpus)
{
    if (options->nvlinks == 0)
        return TDM_NVLINK_NONE;
    if (options->wiring != TDM_NVLINK_AUTO)
        return options->wiring;
    if (options->sm == 70 && n_gpus == 8)
        return TDM_NVLINK_CUBE_MESH;
    return n_gpus == 2 ? TDM_NVLINK_PAIRS : TDM_NVLINK_SWITCH;
}

static tdm_code check_wiring(tdm_nvlink_wiring wiring, uint32_t n_gpus,
                             const tdm_import_options *options, const char *path, tdm_error *err)
{
    if (wiring == TDM_NVLINK_CUBE_MESH && n_gpus != 8)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: --nvlink cube-mesh: has 8 GPUs, and here are %u", path, n_gpus);
    if (wiring == TDM_NVLINK_CUBE_MESH && options->nvlinks < 6)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: --nvlink cube-mesh: takes 6 NVLinks of each GPU, and this one "
                             "has %u",
                             path, options->nvlinks);
    if (wiring == TDM_NVLINK_PAIRS && n_gpus % 2 != 0)
        return tdm_error_add(err, TDM_E_INVALID, "%s: --nvlink pairs: %u GPUs do not make pairs",
                             path, n_gpus);
    return TDM_OK;
}

tdm_code tdm_import_wire(tdm_graph_builder *builder, const uint32_t *gpus, uint32_t n_gpus,
                         const tdm_import_options *options, const char *path, tdm_error *notes,
                         tdm_error *err)
{
    static const char *const names[] = {"", "into a switch", "as a hybrid cube mesh", "in pairs",
                                        ""};
    tdm_nvlink_wiring wiring = choose_wiring(options, n_gpus);
    if (n_gpus < 2 || wiring == TDM_NVLINK_NONE)
        return TDM_OK;
    tdm_code code = check_wiring(wiring, n_gpus, options, path, err);
    if (code != TDM_OK)
        return code;
    tdm_error_add(notes, TDM_E_INVALID,
                  "%s: has no NVLinks: assumed %u of each GPU, wired %s (--nvlink changes it)",
                  path, options->nvlinks, names[wiring]);
    uint32_t nvswitch = 0;
    if (wiring == TDM_NVLINK_SWITCH)
        nvswitch = tdm_graph_add(builder, &(tdm_vertex){.kind = TDM_VERTEX_NVSWITCH,
                                                        .node = builder->vertices[gpus[0]].node});
    for (uint32_t a = 0; a < n_gpus; a++) {
        if (wiring == TDM_NVLINK_SWITCH)
            tdm_import_to_switch(builder, gpus[a], nvswitch, options->nvlinks);
        else if (wiring == TDM_NVLINK_PAIRS)
            tdm_import_to_gpu(builder, gpus[a], gpus[a ^ 1], options->nvlinks);
        for (uint32_t b = 0; b < n_gpus && wiring == TDM_NVLINK_CUBE_MESH; b++)
            if (tdm_cube_mesh_links(a, b) > 0)
                tdm_import_to_gpu(builder, gpus[a], gpus[b], tdm_cube_mesh_links(a, b));
    }
    return TDM_OK;
}
