/* import_cpu.c: processors: their names, their numbers, and the links between them. */
#include "graph_rates.h"
#include "import.h"

#include <ctype.h>
#include <string.h>

tdm_cpu_vendor tdm_import_cpu_vendor(const char *name)
{
    static const struct {
        const char *name;
        tdm_cpu_vendor vendor;
    } vendors[] = {
        {"GenuineIntel", TDM_CPU_INTEL},
        {"AuthenticAMD", TDM_CPU_AMD},
        {"CentaurHauls", TDM_CPU_ZHAOXIN},
        {"  Shanghai  ", TDM_CPU_ZHAOXIN},
        {"ARM", TDM_CPU_ARM},
        {"IBM", TDM_CPU_IBM},
    };
    for (size_t i = 0; i < TDM_COUNT(vendors); i++)
        if (strncmp(name, vendors[i].name, strlen(vendors[i].name)) == 0)
            return vendors[i].vendor;
    return TDM_CPU_UNKNOWN;
}

enum { MAX_CPUS = 4096 };

/* Sets the bits of a mask; its last word holds the first processors. */
static void read_mask(const char *mask, bool set[MAX_CPUS])
{
    uint32_t word = 0, bit = 0;
    for (size_t i = strlen(mask); i > 0; i--) {
        char c = mask[i - 1];
        if (c == ',') {
            word += 32;
            bit = 0;
        } else if (isxdigit((unsigned char)c) && !(i < strlen(mask) && mask[i] == 'x')) {
            unsigned digit =
                isdigit((unsigned char)c) ? (unsigned)(c - '0') : (unsigned)(tolower(c) - 'a' + 10);
            for (uint32_t b = 0; b < 4; b++)
                if (digit >> b & 1 && word + bit + b < MAX_CPUS)
                    set[word + bit + b] = true;
            bit += 4;
        }
    }
}

const char *tdm_import_cpu_ranges(tdm_arena *arena, const char *mask)
{
    bool set[MAX_CPUS + 1] = {false};
    const char *list = NULL;
    if (!mask || strlen(mask) > MAX_CPUS)
        return NULL;
    read_mask(mask, set);
    for (uint32_t c = 0; c < MAX_CPUS; c++) {
        if (!set[c])
            continue;
        uint32_t first = c;
        while (set[c + 1])
            c++;
        list = tdm_arena_printf(arena, "%s%s%u", list ? list : "", list ? "," : "", first);
        if (c > first)
            list = tdm_arena_printf(arena, "%s-%u", list, c);
    }
    return list;
}

static void join(tdm_graph_builder *builder, uint32_t a, uint32_t b)
{
    const tdm_vertex *from = &builder->vertices[a], *to = &builder->vertices[b];
    const tdm_edge edge = {.from = a,
                           .to = b,
                           .wire = TDM_WIRE_SOCKET,
                           .count = 1,
                           .bytes_per_s =
                               tdm_rate_socket(from->cpu, from->cpu_family, from->cpu_model),
                           .latency_s = TDM_LATENCY_SOCKET_S,
                           .name = tdm_arena_printf(builder->arena, "%s-%s", from->name, to->name)};
    tdm_graph_edge(builder, &edge);
}

void tdm_import_join_sockets(tdm_graph_builder *builder)
{
    uint32_t n = 0;
    uint32_t *sockets =
        TDM_ALLOC(builder->arena, uint32_t, builder->n_of_kind[TDM_VERTEX_SOCKET] + 1);
    for (uint32_t v = 0; v < builder->n_vertices; v++)
        if (builder->vertices[v].kind == TDM_VERTEX_SOCKET)
            sockets[n++] = v;
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t b = 0; b < n; b++)
            if (a != b && builder->vertices[sockets[a]].node == builder->vertices[sockets[b]].node)
                join(builder, sockets[a], sockets[b]);
}
