/* paths.c: NCCL's paths within a node: the fewest links that do not lose bandwidth, detours where
 * GPUs may not talk directly, and the reach of each. Source: NCCL 2.28.9, src/graph/paths.cc. */
#include "core/nccl/view.h"

#include <string.h>

#define LOCAL_BW 5000.0 /* LOC_BW, topo.h */

const tdm_nccl_path *tdm_nccl_path_of(const tdm_nccl_view *view, uint32_t from, uint32_t to)
{
    return &view->paths[(size_t)from * view->n_targets + view->target[to]];
}

static tdm_nccl_path *path_slot(tdm_nccl_view *view, uint32_t from, uint32_t to)
{
    return &view->paths[(size_t)from * view->n_targets + view->target[to]];
}

static tdm_nccl_reach farther(tdm_nccl_reach a, tdm_nccl_reach b)
{
    return a > b ? a : b;
}

static tdm_nccl_reach step_reach(const tdm_nccl_view *view, const tdm_nccl_path *path,
                                 const tdm_nccl_link *link)
{
    const tdm_nccl_node *node = &view->nodes[link->from], *next = &view->nodes[link->to];
    tdm_nccl_reach reach = link->reach;
    if (node->kind == TDM_NCCL_PCI && next->kind == TDM_NCCL_PCI)
        reach = TDM_NCCL_PXB;
    if (link->is_pcie && (node->kind == TDM_NCCL_CPU || next->kind == TDM_NCCL_CPU))
        reach = TDM_NCCL_PHB;
    if (node->kind == TDM_NCCL_GPU && path->reach == TDM_NCCL_NVL && reach == TDM_NCCL_NVL &&
        path->n_links > 0)
        reach = TDM_NCCL_NVB;
    return farther(path->reach, reach);
}

/* GPUs pass on only for one neighbour on NVLink. */
static bool may_pass(const tdm_nccl_view *view, uint32_t base, const tdm_nccl_path *path,
                     const tdm_nccl_link *link)
{
    if (link->from == base || view->nodes[link->from].kind != TDM_NCCL_GPU)
        return true;
    return link->is_nvlink && view->nodes[link->to].kind == TDM_NCCL_GPU && path->n_links <= 1;
}

/* The path from link->to by way of link->from to base, when it beats what is there. */
static bool improve(tdm_arena *arena, tdm_nccl_view *view, uint32_t base, const tdm_nccl_link *link)
{
    const tdm_nccl_path *path = tdm_nccl_path_of(view, link->from, base);
    tdm_nccl_path *next = path_slot(view, link->to, base);
    double back = view->links[link->back].bw, bw = path->bw < back ? path->bw : back;
    if (!may_pass(view, base, path, link) || (next->bw != 0 && next->n_links <= path->n_links) ||
        next->bw >= bw)
        return false;
    uint32_t *links = TDM_ALLOC(arena, uint32_t, path->n_links + 1);
    links[0] = link->back;
    if (path->n_links > 0)
        memcpy(links + 1, path->links, path->n_links * sizeof *links);
    *next = (tdm_nccl_path){.reach = step_reach(view, path, link),
                            .n_links = path->n_links + 1,
                            .bw = bw,
                            .links = links};
    return true;
}

/* Breadth first from one target: paths of all nodes to it. */
static void paths_to(tdm_arena *arena, tdm_nccl_view *view, uint32_t base, uint32_t *queue[2],
                     bool *queued)
{
    uint32_t n = 1;
    queue[0][0] = base;
    *path_slot(view, base, base) = (tdm_nccl_path){.reach = TDM_NCCL_LOC, .bw = LOCAL_BW};
    while (n > 0) {
        uint32_t n_next = 0;
        for (uint32_t i = 0; i < n; i++) {
            const tdm_nccl_node *node = &view->nodes[queue[0][i]];
            for (uint32_t l = node->first_link; l < node->first_link + node->n_links; l++) {
                uint32_t to = view->links[l].to;
                if (!improve(arena, view, base, &view->links[l]) || queued[to])
                    continue;
                queued[to] = true;
                queue[1][n_next++] = to;
            }
        }
        for (uint32_t i = 0; i < n_next; i++)
            queued[queue[1][i]] = false;
        uint32_t *swap = queue[0];
        queue[0] = queue[1];
        queue[1] = swap;
        n = n_next;
    }
}

/* The path from `from` to `to` goes by way of a third node. */
static void detour(tdm_arena *arena, tdm_nccl_view *view, uint32_t by, uint32_t from, uint32_t to)
{
    const tdm_nccl_path *first = tdm_nccl_path_of(view, from, by);
    const tdm_nccl_path *second = tdm_nccl_path_of(view, by, to);
    uint32_t n_links = first->n_links + second->n_links;
    uint32_t *links = TDM_ALLOC(arena, uint32_t, n_links + 1);
    if (first->n_links > 0)
        memcpy(links, first->links, first->n_links * sizeof *links);
    if (second->n_links > 0)
        memcpy(links + first->n_links, second->links, second->n_links * sizeof *links);
    tdm_nccl_reach far = farther(first->reach, second->reach);
    tdm_nccl_reach near = first->reach < second->reach ? first->reach : second->reach;
    if (far == TDM_NCCL_PHB && near == TDM_NCCL_C2C)
        far = TDM_NCCL_P2C;
    if (view->nodes[by].kind == TDM_NCCL_GPU)
        far = TDM_NCCL_PXN;
    *path_slot(view, from, to) =
        (tdm_nccl_path){.reach = far,
                        .n_links = n_links,
                        .bw = first->bw < second->bw ? first->bw : second->bw,
                        .links = links};
}

/* The nearest processor of a GPU; UINT32_MAX: none. */
static uint32_t processor_of(const tdm_nccl_view *view, uint32_t gpu)
{
    uint32_t best = UINT32_MAX, hops = UINT32_MAX;
    for (uint32_t i = 0; i < view->n_of[TDM_NCCL_CPU]; i++) {
        uint32_t cpu = view->of[TDM_NCCL_CPU][i];
        uint32_t n = tdm_nccl_path_of(view, gpu, cpu)->n_links;
        if (n > 0 && n < hops) {
            hops = n;
            best = cpu;
        }
    }
    return best;
}

/* GPUs farther apart than PCIe switches reach talk through the processor's memory: NCCL's default
 * NCCL_P2P_LEVEL is PXB, and SYS for two GPUs on AMD. */
static void divert_gpus(tdm_arena *arena, tdm_nccl_view *view)
{
    uint32_t n_gpus = view->n_of[TDM_NCCL_GPU];
    tdm_nccl_reach limit = view->vendor == TDM_CPU_AMD && n_gpus <= 2 ? TDM_NCCL_SYS : TDM_NCCL_PXB;
    for (uint32_t to = 0; to < n_gpus; to++)
        for (uint32_t from = 0; from < n_gpus; from++) {
            uint32_t g = view->of[TDM_NCCL_GPU][to], p = view->of[TDM_NCCL_GPU][from];
            if (tdm_nccl_path_of(view, p, g)->reach <= limit)
                continue;
            uint32_t cpu = processor_of(view, g);
            if (cpu != UINT32_MAX)
                detour(arena, view, cpu, p, g);
        }
}

uint32_t tdm_nccl_nearest(const tdm_nccl_view *view, uint32_t from, tdm_nccl_kind kind,
                          uint16_t found[TDM_NCCL_MAX_LOCAL])
{
    double bw = 0;
    tdm_nccl_reach reach = TDM_NCCL_DIS;
    uint32_t n = 0;
    for (uint32_t i = 0; i < view->n_of[kind]; i++) {
        const tdm_nccl_path *path = tdm_nccl_path_of(view, from, view->of[kind][i]);
        if (path->bw > bw || (path->bw == bw && path->reach < reach)) {
            bw = path->bw;
            reach = path->reach;
            n = 0;
        }
        if (path->bw == bw && path->reach == reach && reach < TDM_NCCL_DIS)
            found[n++] = (uint16_t)i;
    }
    return n;
}

/* The bits of a number below a power of two, in reverse. */
static uint32_t mirrored(uint32_t value, uint32_t power)
{
    uint32_t result = 0;
    for (uint32_t low = 1, high = power / 2; high > 0; low *= 2, high /= 2)
        if (value & low)
            result |= high;
    return result;
}

uint32_t tdm_nccl_port_for(const tdm_nccl_view *view, uint32_t gpu, uint32_t channel)
{
    uint16_t ports[TDM_NCCL_MAX_LOCAL], gpus[TDM_NCCL_MAX_LOCAL];
    uint32_t node = view->of[TDM_NCCL_GPU][gpu];
    uint32_t n_ports = tdm_nccl_nearest(view, node, TDM_NCCL_PORT, ports);
    if (n_ports == 0)
        return UINT32_MAX;
    uint32_t n_gpus = tdm_nccl_nearest(view, view->of[TDM_NCCL_PORT][ports[0]], TDM_NCCL_GPU, gpus);
    uint32_t at = view->nodes[node].device;
    if ((n_ports & (n_ports - 1)) == 0)
        at = mirrored(at, n_ports);
    at += channel % (uint32_t)tdm_ceil_div(n_ports, n_gpus ? n_gpus : 1);
    return ports[at % n_ports];
}

static int gpu_for_port(const tdm_nccl_view *view, uint32_t port)
{
    uint16_t gpus[TDM_NCCL_MAX_LOCAL];
    uint32_t n = tdm_nccl_nearest(view, view->of[TDM_NCCL_PORT][port], TDM_NCCL_GPU, gpus);
    for (uint32_t channel = 0; channel < TDM_NCCL_MAX_CHANNELS; channel++)
        for (uint32_t i = 0; i < n; i++)
            if (tdm_nccl_port_for(view, gpus[i], channel) == port)
                return gpus[i];
    return -1;
}

/* A GPU reaches an adapter by way of the GPU beside it when NVLink joins the two and that is faster
 * or spares the processor (PXN). Only in the direction to the network, as in NCCL. */
static void relay(tdm_arena *arena, tdm_nccl_view *view, uint32_t gpu, uint32_t port)
{
    int local = gpu_for_port(view, view->nodes[port].index);
    if (local < 0 || view->of[TDM_NCCL_GPU][local] == gpu)
        return;
    uint32_t peer = view->of[TDM_NCCL_GPU][local];
    const tdm_nccl_path *own = tdm_nccl_path_of(view, gpu, port);
    const tdm_nccl_path *other = tdm_nccl_path_of(view, peer, port);
    if (other->reach <= TDM_NCCL_PXB && tdm_nccl_path_of(view, peer, gpu)->reach <= TDM_NCCL_NVL &&
        (other->bw > own->bw || own->reach > TDM_NCCL_PXN))
        detour(arena, view, peer, gpu, port);
}

static void list_ports(tdm_arena *arena, tdm_nccl_view *view)
{
    size_t n_gpus = view->n_of[TDM_NCCL_GPU], n_ports = view->n_of[TDM_NCCL_PORT];
    view->gpu_ports = TDM_ALLOC(arena, uint16_t, n_gpus * n_ports + 1);
    view->n_gpu_ports = TDM_ALLOC(arena, uint16_t, n_gpus + 1);
    for (uint32_t g = 0; g < n_gpus; g++)
        for (uint32_t channel = 0; channel < n_ports; channel++) {
            uint16_t *own = &view->gpu_ports[g * n_ports], n = view->n_gpu_ports[g];
            uint32_t port = tdm_nccl_port_for(view, g, channel);
            if (port == UINT32_MAX || (n > 0 && port == own[0]))
                break;
            own[n] = (uint16_t)port;
            view->n_gpu_ports[g]++;
        }
}

static void divert_ports(tdm_arena *arena, tdm_nccl_view *view)
{
    for (uint32_t n = 0; n < view->n_of[TDM_NCCL_PORT]; n++)
        for (uint32_t g = 0; g < view->n_of[TDM_NCCL_GPU]; g++) {
            uint32_t port = view->of[TDM_NCCL_PORT][n], gpu = view->of[TDM_NCCL_GPU][g];
            relay(arena, view, gpu, port);
            uint32_t cpu = processor_of(view, gpu);
            if (tdm_nccl_path_of(view, gpu, port)->reach < TDM_NCCL_PHB &&
                !view->nodes[port].gpu_direct && cpu != UINT32_MAX) {
                detour(arena, view, cpu, port, gpu);
                detour(arena, view, cpu, gpu, port);
            }
        }
    for (uint32_t n = 0; n < view->n_of[TDM_NCCL_PORT]; n++)
        view->nodes[view->of[TDM_NCCL_PORT][n]].local_gpu = gpu_for_port(view, n);
    list_ports(arena, view);
}

/* The fastest path to a peer or the network, and what one GPU's links carry together. */
static void find_limits(tdm_nccl_view *view, bool with_network)
{
    uint32_t n_gpus = view->n_of[TDM_NCCL_GPU];
    tdm_nccl_kind kind = with_network ? TDM_NCCL_PORT : TDM_NCCL_GPU;
    if (!with_network && n_gpus == 1) {
        view->max_bw = view->total_bw = LOCAL_BW;
        return;
    }
    for (uint32_t g = 0; g < n_gpus; g++) {
        const tdm_nccl_node *gpu = &view->nodes[view->of[TDM_NCCL_GPU][g]];
        double nvlink = 0, pcie = 0;
        for (uint32_t l = gpu->first_link; l < gpu->first_link + gpu->n_links; l++) {
            nvlink += view->links[l].is_nvlink ? view->links[l].bw : 0;
            pcie = view->links[l].is_pcie ? view->links[l].bw : pcie;
        }
        double total = nvlink > pcie ? nvlink : pcie;
        view->total_bw = total > view->total_bw ? total : view->total_bw;
        for (uint32_t i = 0; i < view->n_of[kind]; i++) {
            const tdm_nccl_path *path =
                tdm_nccl_path_of(view, view->of[TDM_NCCL_GPU][g], view->of[kind][i]);
            if (path->n_links > 0 && path->bw > view->max_bw)
                view->max_bw = path->bw;
        }
    }
}

static tdm_code check(const tdm_nccl_view *view, bool with_network, const char *name,
                      tdm_error *err)
{
    for (uint32_t g = 0; g < view->n_of[TDM_NCCL_GPU]; g++) {
        uint32_t gpu = view->of[TDM_NCCL_GPU][g];
        for (uint32_t p = 0; p < view->n_of[TDM_NCCL_GPU]; p++)
            if (tdm_nccl_path_of(view, view->of[TDM_NCCL_GPU][p], gpu)->reach >= TDM_NCCL_NET)
                return tdm_error_add(err, TDM_E_INVALID,
                                     "%s: GPUs %u and %u of one node have no path to each other",
                                     name, p, g);
        bool reaches = !with_network;
        for (uint32_t n = 0; n < view->n_of[TDM_NCCL_PORT] && !reaches; n++)
            reaches = tdm_nccl_path_of(view, gpu, view->of[TDM_NCCL_PORT][n])->reach < TDM_NCCL_NET;
        if (!reaches)
            return tdm_error_add(err, TDM_E_INVALID,
                                 "%s: GPU %u of a node has no path to a network adapter", name, g);
    }
    return TDM_OK;
}

tdm_code tdm_nccl_view_paths(tdm_arena *arena, tdm_nccl_view *view, bool with_network,
                             const char *name, tdm_error *err)
{
    static const tdm_nccl_kind order[] = {TDM_NCCL_CPU, TDM_NCCL_GPU, TDM_NCCL_PORT, TDM_NCCL_NVS};
    uint32_t *queue[2] = {TDM_ALLOC(arena, uint32_t, view->n_nodes + 1),
                          TDM_ALLOC(arena, uint32_t, view->n_nodes + 1)};
    bool *queued = TDM_ALLOC(arena, bool, view->n_nodes + 1);
    view->target = TDM_ALLOC(arena, uint32_t, view->n_nodes + 1);
    memset(view->target, 0xff, view->n_nodes * sizeof *view->target);
    for (uint32_t k = 0; k < TDM_COUNT(order); k++)
        for (uint32_t i = 0; i < view->n_of[order[k]]; i++)
            view->target[view->of[order[k]][i]] = view->n_targets++;
    size_t n_paths = (size_t)view->n_nodes * view->n_targets;
    view->paths = TDM_ALLOC(arena, tdm_nccl_path, n_paths + 1);
    for (size_t i = 0; i < n_paths; i++)
        view->paths[i].reach = TDM_NCCL_DIS;
    for (uint32_t n = 0; n < view->n_nodes; n++)
        if (view->target[n] != UINT32_MAX)
            paths_to(arena, view, n, queue, queued);
    divert_gpus(arena, view);
    if (with_network)
        divert_ports(arena, view);
    find_limits(view, with_network);
    return check(view, with_network, name, err);
}
