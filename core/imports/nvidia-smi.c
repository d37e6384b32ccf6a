/* The table of `nvidia-smi topo -m`. It tells how near devices are, not what is between them: the
 * switches, root ports and sockets of the graph are the fewest with which the same table comes out.
 * Its types: PIX at most one PCIe bridge, PXB several, PHB a host bridge, NODE two of them in one
 * NUMA node, SYS two NUMA nodes, NV# so many NVLinks. */
#include "core/doc.h"
#include "core/graph_rates.h"
#include "core/import.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEVICES = 256, NAME_SIZE = 32, MAX_NVLINKS = 18 /* Source: H100 datasheet */ };

typedef enum level { PIX, PXB, PHB, NODE, SYS, N_LEVELS, HIDDEN, SELF, ABSENT } level;

typedef struct cell {
    uint8_t level; /* HIDDEN: behind NVLink */
    uint8_t nvlinks;
    uint16_t column;
} cell;

typedef struct device {
    char name[NAME_SIZE];
    bool is_gpu;
    uint32_t line; /* of its row; 0: not read yet */
    const char *cpus, *label;
    int32_t numa;
    uint32_t vertex;
    uint32_t class[N_LEVELS]; /* number of the first device that is so near */
    cell *cells;              /* [n_devices] */
} device;

typedef struct reader {
    tdm_arena *arena;
    const tdm_import_options *options;
    tdm_error *notes, *err;
    const char *path;
    const char *at, *end; /* what is left of the text */
    uint32_t line;
    device *devices; /* [n_devices] */
    uint32_t n_devices, n_gpus;
    tdm_graph_builder builder;
} reader;

typedef struct word {
    const char *text;
    size_t length;
    uint32_t column;
} word;

/* A terminal's escape sequence, which nvidia-smi underlines its heading with; its length or 0. */
static size_t escape_length(const char *at, const char *end)
{
    if (end - at < 2 || at[0] != '\033' || at[1] != '[')
        return 0;
    const char *c = at + 2;
    while (c < end && (isdigit((unsigned char)*c) || *c == ';'))
        c++;
    return (size_t)(c - at) + (c < end && *c != '\n');
}

/* The words of the next line; false at the end of the text. *n_words may be 0. */
static bool next_line(reader *r, word *words, uint32_t max, uint32_t *n_words)
{
    const char *start = r->at;
    *n_words = 0;
    if (r->at >= r->end)
        return false;
    r->line++;
    while (r->at < r->end && *r->at != '\n') {
        size_t escape = escape_length(r->at, r->end);
        if (escape > 0 || isspace((unsigned char)*r->at)) {
            r->at += escape ? escape : 1;
            continue;
        }
        word w = {.text = r->at, .column = (uint32_t)(r->at - start) + 1};
        while (r->at < r->end && !isspace((unsigned char)*r->at) &&
               escape_length(r->at, r->end) == 0)
            r->at++;
        w.length = (size_t)(r->at - w.text);
        if (*n_words < max)
            words[(*n_words)++] = w;
    }
    r->at += r->at < r->end;
    return true;
}

static bool is(const word *w, const char *text)
{
    return w->length == strlen(text) && memcmp(w->text, text, w->length) == 0;
}

static bool is_gpu(const word *w)
{
    if (w->length < 4 || memcmp(w->text, "GPU", 3) != 0)
        return false;
    for (size_t i = 3; i < w->length; i++)
        if (!isdigit((unsigned char)w->text[i]))
            return false;
    return true;
}

static tdm_code complain(reader *r, uint32_t line, uint32_t column, const char *text)
{
    return tdm_error_add(r->err, TDM_E_INVALID, "%s:%u:%u: %s", r->path, line, column, text);
}

/* A device of a word's name, in place of the former one of that number. */
static void name_device(device *d, const word *w)
{
    size_t n = w->length < NAME_SIZE ? w->length : NAME_SIZE - 1;
    memcpy(d->name, w->text, n);
    d->name[n] = '\0';
    d->is_gpu = is_gpu(w);
    d->numa = -1;
}

/* The heading: the devices' names up to "CPU Affinity". */
static tdm_code read_heading(reader *r, word *words, uint32_t max)
{
    uint32_t n = 0;
    while (next_line(r, words, max, &n))
        if (n > 0 && is_gpu(&words[0]))
            break;
    if (n == 0)
        return complain(r, 1, 1, "no heading with GPU0 in it");
    r->devices = TDM_ALLOC(r->arena, device, n);
    for (uint32_t i = 0; i < n && !is(&words[i], "CPU") && !is(&words[i], "NUMA"); i++) {
        if (r->n_devices == MAX_DEVICES)
            return complain(r, r->line, words[i].column, "more than 256 devices");
        name_device(&r->devices[r->n_devices], &words[i]);
        for (uint32_t k = 0; k < r->n_devices; k++)
            if (strcmp(r->devices[k].name, r->devices[r->n_devices].name) == 0)
                return complain(r, r->line, words[i].column, "the same name twice in the heading");
        r->n_gpus += r->devices[r->n_devices++].is_gpu;
    }
    for (uint32_t i = 0; i < r->n_devices; i++) {
        r->devices[i].cells = TDM_ALLOC(r->arena, cell, r->n_devices);
        if (r->devices[i].is_gpu != (i < r->n_gpus))
            return complain(r, r->line, words[i].column, "expected all GPUs before all adapters");
    }
    return TDM_OK;
}

static tdm_code read_cell(reader *r, const word *w, cell *out)
{
    static const struct {
        const char *text;
        level level;
    } types[] = {{"X", SELF},    {"PIX", PIX}, {"PXB", PXB}, {"PHB", PHB},
                 {"NODE", NODE}, {"SYS", SYS}, {"SOC", SYS}};
    out->column = (uint16_t)(w->column < UINT16_MAX ? w->column : UINT16_MAX);
    for (size_t i = 0; i < TDM_COUNT(types); i++)
        if (is(w, types[i].text)) {
            out->level = (uint8_t)types[i].level;
            return TDM_OK;
        }
    uint32_t count = 0;
    size_t i = 2;
    for (; i < w->length && isdigit((unsigned char)w->text[i]) && count < 1000; i++)
        count = count * 10 + (uint32_t)(w->text[i] - '0');
    if (w->length > 2 && memcmp(w->text, "NV", 2) == 0 && i == w->length && count > 0 &&
        count <= 64) {
        out->level = HIDDEN;
        out->nvlinks = (uint8_t)count;
        return TDM_OK;
    }
    return complain(r, r->line, w->column, "expected X, PIX, PXB, PHB, NODE, SYS or NV#");
}

/* "0-23,48-71" and "0" behind the cells of a GPU. */
static void read_affinity(reader *r, device *d, const word *words, uint32_t n)
{
    char *end;
    if (n > 0 && isdigit((unsigned char)words[0].text[0]))
        d->cpus = tdm_arena_strndup(r->arena, words[0].text, words[0].length);
    if (n > 1 && isdigit((unsigned char)words[1].text[0])) {
        const char *text = tdm_arena_strndup(r->arena, words[1].text, words[1].length);
        long numa = strtol(text, &end, 10);
        d->numa = *end || numa > 65535 ? -1 : (int32_t)numa;
    }
}

static device *find_device(reader *r, const word *w)
{
    for (uint32_t i = 0; i < r->n_devices; i++)
        if (is(w, r->devices[i].name))
            return &r->devices[i];
    return NULL;
}

static tdm_code read_row(reader *r, device *d, const word *words, uint32_t n)
{
    if (d->line > 0)
        return complain(r, r->line, words[0].column, "a second row of this device");
    if (n - 1 < r->n_devices)
        return complain(r, r->line, words[0].column, "a row with fewer cells than the heading");
    d->line = r->line;
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < r->n_devices; i++)
        if (read_cell(r, &words[i + 1], &d->cells[i]) != TDM_OK)
            code = TDM_E_INVALID;
    if (d->is_gpu)
        read_affinity(r, d, words + 1 + r->n_devices, n - 1 - r->n_devices);
    return code;
}

/* "NIC0: mlx5_0" below the table. */
static void read_legend(reader *r, const word *words, uint32_t n)
{
    word name = words[0];
    if (n != 2 || name.length < 2 || name.text[name.length - 1] != ':')
        return;
    name.length--;
    device *d = find_device(r, &name);
    if (d && !d->is_gpu)
        d->label = tdm_arena_strndup(r->arena, words[1].text, words[1].length);
}

static tdm_code read_table(reader *r)
{
    enum { MAX_WORDS = MAX_DEVICES + 16 };
    word *words = TDM_ALLOC(r->arena, word, MAX_WORDS);
    uint32_t n = 0;
    tdm_code code = read_heading(r, words, MAX_WORDS);
    while (code == TDM_OK && next_line(r, words, MAX_WORDS, &n)) {
        device *d = n > 0 ? find_device(r, &words[0]) : NULL;
        if (d)
            code = read_row(r, d, words, n);
        else if (n > 0)
            read_legend(r, words, n);
    }
    for (uint32_t i = 0; i < r->n_devices && code == TDM_OK; i++)
        if (r->devices[i].line == 0)
            code = tdm_error_add(r->err, TDM_E_INVALID, "%s:%u:1: no row of %s", r->path, r->line,
                                 r->devices[i].name);
    return code;
}

static tdm_code check_cells(reader *r)
{
    tdm_code code = TDM_OK;
    for (uint32_t a = 0; a < r->n_devices; a++)
        for (uint32_t b = 0; b < r->n_devices; b++) {
            const device *d = &r->devices[a];
            const cell *there = &d->cells[b], *back = &r->devices[b].cells[a];
            if ((there->level == SELF) != (a == b))
                code = complain(r, d->line, there->column, "X belongs on the diagonal, only there");
            else if (a < b && (there->level != back->level || there->nvlinks != back->nvlinks))
                code = tdm_error_add(r->err, TDM_E_INVALID,
                                     "%s:%u:%u: not the same as the other way round (line %u)",
                                     r->path, d->line, there->column, r->devices[b].line);
            else if (there->level == HIDDEN && !(d->is_gpu && r->devices[b].is_gpu))
                code = complain(r, d->line, there->column, "an adapter has no NVLinks");
        }
    return code;
}

/* Joins the classes of two devices at a level; each is named after its first device. */
static void join(reader *r, level l, uint32_t a, uint32_t b)
{
    uint32_t x = r->devices[a].class[l], y = r->devices[b].class[l];
    uint32_t low = x < y ? x : y, high = x < y ? y : x;
    for (uint32_t i = 0; i < r->n_devices && low != high; i++)
        if (r->devices[i].class[l] == high)
            r->devices[i].class[l] = low;
}

/* Where NVLink hides how near two GPUs are, the same NUMA node puts them below one processor. */
static bool is_node_mate(const device *a, const device *b, const cell *between)
{
    return between->level == HIDDEN && a->numa == b->numa;
}

/* Who is together at each level. Fails where the table is not that of a tree. */
static tdm_code find_classes(reader *r)
{
    tdm_code code = TDM_OK;
    for (uint32_t l = PIX; l <= NODE; l++) {
        for (uint32_t i = 0; i < r->n_devices; i++)
            r->devices[i].class[l] = i;
        for (uint32_t a = 0; a < r->n_devices; a++)
            for (uint32_t b = a + 1; b < r->n_devices; b++) {
                const cell *between = &r->devices[a].cells[b];
                if (between->level <= l ||
                    (l == NODE && is_node_mate(&r->devices[a], &r->devices[b], between)))
                    join(r, (level)l, a, b);
            }
    }
    for (uint32_t a = 0; a < r->n_devices; a++)
        for (uint32_t b = a + 1; b < r->n_devices; b++) {
            uint32_t l = PIX;
            while (l < SYS && r->devices[a].class[l] != r->devices[b].class[l])
                l++;
            const cell *between = &r->devices[a].cells[b];
            if (between->level != HIDDEN && between->level != l)
                code = tdm_error_add(r->err, TDM_E_INVALID,
                                     "%s:%u:%u: %s and %s are nearer than this by way of the "
                                     "others: not the table of a PCIe tree",
                                     r->path, r->devices[a].line, between->column,
                                     r->devices[a].name, r->devices[b].name);
        }
    return code;
}

static void hang(reader *r, uint32_t vertex, uint32_t parent)
{
    tdm_import_hang(&r->builder, vertex, parent, 16,
                    tdm_rate_pcie(r->options->pcie_generation, 16));
}

/* Whether all devices of i's class at `outer` are also one class at `inner`. */
static bool is_one(const reader *r, uint32_t i, level outer, level inner)
{
    for (uint32_t k = 0; k < r->n_devices; k++)
        if (r->devices[k].class[outer] == r->devices[i].class[outer] &&
            r->devices[k].class[inner] != r->devices[i].class[inner])
            return false;
    return true;
}

static bool is_single(const reader *r, uint32_t i, level l)
{
    for (uint32_t k = 0; k < r->n_devices; k++)
        if (k != i && r->devices[k].class[l] == r->devices[i].class[l])
            return false;
    return true;
}

static uint32_t add_switch(reader *r, uint32_t parent)
{
    uint32_t v = tdm_graph_add(&r->builder, &(tdm_vertex){.kind = TDM_VERTEX_PCIE_SWITCH});
    hang(r, v, parent);
    return v;
}

/* The devices of i's PIX class, below one switch unless there is only one that needs none. */
static void add_pix(reader *r, uint32_t i, uint32_t parent, bool needs_switch)
{
    if (needs_switch || !is_single(r, i, PIX))
        parent = add_switch(r, parent);
    for (uint32_t k = i; k < r->n_devices; k++) {
        device *d = &r->devices[k];
        if (d->class[PIX] != r->devices[i].class[PIX])
            continue;
        hang(r, d->vertex, parent);
    }
}

/* The classes of one level below i's class of the level above, each by its first device. */
static bool leads(const reader *r, uint32_t k, uint32_t i, level outer, level inner)
{
    return r->devices[k].class[outer] == r->devices[i].class[outer] &&
           r->devices[k].class[inner] == k;
}

/* A class of devices under several switches: one more above them. */
static void add_pxb(reader *r, uint32_t i, uint32_t parent)
{
    bool one = is_one(r, i, PXB, PIX);
    if (!one)
        parent = add_switch(r, parent);
    for (uint32_t k = i; k < r->n_devices; k++)
        if (leads(r, k, i, PXB, PIX))
            add_pix(r, k, parent, !one);
}

static void add_socket(reader *r, uint32_t i)
{
    tdm_vertex vertex = {.kind = TDM_VERTEX_SOCKET, .numa = -1};
    for (uint32_t k = r->n_devices; k > 0; k--) {
        const device *d = &r->devices[k - 1];
        if (d->class[NODE] != r->devices[i].class[NODE])
            continue;
        vertex.cpus = d->cpus ? d->cpus : vertex.cpus;
        vertex.numa = d->numa >= 0 ? d->numa : vertex.numa;
    }
    uint32_t socket = tdm_graph_add(&r->builder, &vertex);
    for (uint32_t k = i; k < r->n_devices; k++) {
        if (!leads(r, k, i, NODE, PHB))
            continue;
        uint32_t root = tdm_graph_add(&r->builder, &(tdm_vertex){.kind = TDM_VERTEX_ROOT_PORT});
        hang(r, root, socket);
        for (uint32_t x = k; x < r->n_devices; x++)
            if (leads(r, x, k, PHB, PXB))
                add_pxb(r, x, root);
    }
}

/* GPUs that are joined by NVLink, directly or through others, as classes. */
static void find_nvlink_groups(const reader *r, uint32_t *group)
{
    for (uint32_t a = 0; a < r->n_gpus; a++)
        group[a] = a;
    for (uint32_t a = 0; a < r->n_gpus; a++)
        for (uint32_t b = 0; b < r->n_gpus; b++) {
            uint32_t x = group[a], y = group[b];
            for (uint32_t i = 0; i < r->n_gpus && x != y && r->devices[a].cells[b].nvlinks > 0; i++)
                if (group[i] == (x > y ? x : y))
                    group[i] = x > y ? y : x;
        }
}

/* A group is on a switch when each GPU reaches each other by the same number of links, and has not
 * that many of its own. */
static bool is_switched(const reader *r, const uint32_t *group, uint32_t first, uint32_t most)
{
    uint32_t n = 0, links = 0;
    for (uint32_t a = 0; a < r->n_gpus; a++)
        for (uint32_t b = 0; b < r->n_gpus; b++) {
            if (a == b || group[a] != first || group[b] != first)
                continue;
            uint32_t here = r->devices[a].cells[b].nvlinks;
            links = links == 0 ? here : links;
            if (here != links || here == 0)
                return false;
            n += a == first;
        }
    return n > 0 && (n * links > most || r->options->wiring == TDM_NVLINK_SWITCH);
}

static tdm_code add_mesh(reader *r, const uint32_t *group, uint32_t first, uint32_t most)
{
    for (uint32_t a = first; a < r->n_gpus; a++) {
        uint32_t own = 0;
        for (uint32_t b = 0; b < r->n_gpus && group[a] == first; b++) {
            uint32_t links = r->devices[a].cells[b].nvlinks;
            own += links;
            if (links > 0)
                tdm_import_to_gpu(&r->builder, r->devices[a].vertex, r->devices[b].vertex, links);
        }
        if (own > most)
            return tdm_error_add(r->err, TDM_E_INVALID,
                                 "%s:%u:1: %s has %u NVLinks to the others, and such a GPU has %u",
                                 r->path, r->devices[a].line, r->devices[a].name, own, most);
    }
    return TDM_OK;
}

static tdm_code add_nvlinks(reader *r)
{
    tdm_code code = TDM_OK;
    uint32_t most = r->options->nvlinks ? r->options->nvlinks : MAX_NVLINKS;
    uint32_t *group = TDM_ALLOC(r->arena, uint32_t, r->n_gpus + 1);
    find_nvlink_groups(r, group);
    for (uint32_t first = 0; first < r->n_gpus; first++) {
        if (group[first] != first)
            continue;
        if (!is_switched(r, group, first, most)) {
            if (add_mesh(r, group, first, most) != TDM_OK)
                code = TDM_E_INVALID;
            continue;
        }
        uint32_t v = tdm_graph_add(&r->builder, &(tdm_vertex){.kind = TDM_VERTEX_NVSWITCH});
        for (uint32_t a = first; a < r->n_gpus; a++)
            if (group[a] == first) {
                uint32_t other = a == first ? a + 1 : first;
                while (group[other] != first)
                    other++;
                tdm_import_to_switch(&r->builder, r->devices[a].vertex, v,
                                     r->devices[a].cells[other].nvlinks);
            }
    }
    return code;
}

/* In the order of the table, which numbers them. */
static void add_devices(reader *r)
{
    for (uint32_t i = 0; i < r->n_devices; i++) {
        device *d = &r->devices[i];
        const tdm_vertex gpu = {.kind = TDM_VERTEX_GPU, .sm = r->options->sm};
        const tdm_vertex nic = {.kind = TDM_VERTEX_NIC,
                                .label = d->label ? d->label : d->name,
                                .nic_bytes_per_s = r->options->nic_bytes_per_s,
                                .nic_gpu_direct = true};
        d->vertex = tdm_graph_add(&r->builder, d->is_gpu ? &gpu : &nic);
    }
}

static bool recognises(const char *text, size_t n_bytes)
{
    size_t i = 0;
    while (i < n_bytes && isspace((unsigned char)text[i]))
        i++;
    if (i < n_bytes && text[i] == '<')
        return false;
    for (; i + 4 <= n_bytes; i++)
        if (memcmp(text + i, "GPU0", 4) == 0)
            return true;
    return false;
}

static tdm_code read_text(tdm_arena *arena, const char *path, const char *text, size_t n_bytes,
                          const tdm_import_options *options, tdm_graph *graph, tdm_error *notes,
                          tdm_error *err)
{
    reader *r = TDM_ALLOC(arena, reader, 1);
    *r = (reader){.arena = arena,
                  .options = options,
                  .notes = notes,
                  .err = err,
                  .path = path,
                  .at = text,
                  .end = text + n_bytes};
    tdm_graph_builder_init(&r->builder, arena);
    if (read_table(r) != TDM_OK || check_cells(r) != TDM_OK || find_classes(r) != TDM_OK)
        return TDM_E_INVALID;
    if (options->sm == 0 || options->pcie_generation == 0)
        return complain(r, 1, 1,
                        "the table does not say which GPU this is: name it (--gpu h100-80g)");
    add_devices(r);
    for (uint32_t i = 0; i < r->n_devices; i++)
        if (r->devices[i].class[NODE] == i)
            add_socket(r, i);
    if (add_nvlinks(r) != TDM_OK)
        return TDM_E_INVALID;
    tdm_import_join_sockets(&r->builder);
    tdm_error_add(notes, TDM_E_INVALID,
                  "%s: has no PCIe speeds: assumed generation %u, 16 lanes (--pcie changes it)",
                  path, options->pcie_generation);
    *graph = tdm_graph_finish(&r->builder, path);
    return TDM_OK;
}

const tdm_import tdm_import_nvidia_smi = {
    .name = "nvidia-smi",
    .summary = "the table of nvidia-smi topo -m",
    .recognises = recognises,
    .read = read_text,
};
