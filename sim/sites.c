/* sites.c: walks every op once to see where its flows run. */
#include "sites.h"

#include <math.h>
#include <string.h>

static uint32_t *slot_of(const tdm_sites *sites, uint64_t communicator, uint32_t path)
{
    uint64_t hash =
        (communicator * UINT64_C(0x9E3779B97F4A7C15) ^ path) * UINT64_C(0xBF58476D1CE4E5B9);
    uint32_t i = (uint32_t)(hash >> 32) & (sites->n_slots - 1);
    for (;; i = (i + 1) & (sites->n_slots - 1)) {
        uint32_t *slot = &sites->slots[i];
        if (*slot == 0)
            return slot;
        const tdm_site *site = &sites->items[*slot - 1];
        if (site->communicator == communicator && site->path == path)
            return slot;
    }
}

static void grow(tdm_arena *arena, tdm_sites *sites)
{
    uint32_t capacity = sites->capacity ? 2 * sites->capacity : 256;
    tdm_site *items = TDM_ALLOC(arena, tdm_site, capacity);
    if (sites->n > 0)
        memcpy(items, sites->items, sites->n * sizeof *items);
    sites->items = items;
    sites->capacity = capacity;
    sites->n_slots = 2 * capacity;
    sites->slots = TDM_ALLOC(arena, uint32_t, sites->n_slots);
    for (uint32_t i = 0; i < sites->n; i++)
        *slot_of(sites, items[i].communicator, items[i].path) = i + 1;
}

static tdm_site *add(tdm_arena *arena, tdm_sites *sites, uint64_t communicator, uint32_t path)
{
    if (sites->n == sites->capacity)
        grow(arena, sites);
    uint32_t *slot = slot_of(sites, communicator, path);
    if (*slot == 0) {
        sites->items[sites->n++] = (tdm_site){.communicator = communicator, .path = path};
        *slot = sites->n;
    }
    return &sites->items[*slot - 1];
}

uint32_t tdm_sites_find(const tdm_sites *sites, uint64_t communicator, uint32_t path)
{
    return sites->n_slots ? *slot_of(sites, communicator, path) - 1 : UINT32_MAX;
}

/* Ops of a communicator that were seen, so that a pass of many microbatches is looked at once. */
typedef struct seen {
    const tdm_op *op;
    uint64_t communicator;
} seen;

typedef struct survey {
    tdm_arena *arena, scratch;
    const tdm_plan *plan;
    tdm_net *net;
    tdm_sites *sites;
    seen *table; /* [size] open addressing */
    uint32_t size, n;
} survey;

static seen *seen_slot(seen *table, uint32_t size, const tdm_op *op, uint64_t communicator)
{
    uint64_t hash = ((uint64_t)(uintptr_t)op ^ communicator) * UINT64_C(0x9E3779B97F4A7C15);
    uint32_t i = (uint32_t)(hash >> 32) & (size - 1);
    while (table[i].op && (table[i].op != op || table[i].communicator != communicator))
        i = (i + 1) & (size - 1);
    return &table[i];
}

static bool is_new(survey *s, const tdm_op *op, uint64_t communicator)
{
    if (2 * s->n >= s->size) {
        uint32_t size = s->size ? 2 * s->size : 1024;
        seen *table = TDM_ALLOC(&s->scratch, seen, size);
        for (uint32_t i = 0; i < s->size; i++)
            if (s->table[i].op)
                *seen_slot(table, size, s->table[i].op, s->table[i].communicator) = s->table[i];
        s->table = table;
        s->size = size;
    }
    seen *slot = seen_slot(s->table, s->size, op, communicator);
    if (slot->op)
        return false;
    *slot = (seen){op, communicator};
    s->n++;
    return true;
}

static tdm_code look_at(survey *s, uint32_t rank, const tdm_instance *instance, tdm_error *err)
{
    tdm_comm_id id = tdm_comm_identify(s->plan, rank, instance);
    if (!is_new(s, instance->op, id.id))
        return TDM_OK;
    tdm_transfer transfer = tdm_comm_transfer(s->plan, s->net, rank, instance);
    if (transfer.n_loads > s->sites->max_flows)
        s->sites->max_flows = transfer.n_loads;
    for (uint32_t i = 0; i < transfer.n_loads; i++) {
        if (transfer.loads[i].path == TDM_NO_PATH)
            return tdm_error_add(err, TDM_E_INVALID,
                                 "topology %s: nothing joins GPUs that op %s of rank %u needs to",
                                 tdm_net_topology(s->net)->name, instance->op->name, rank);
        tdm_site *site = add(s->arena, s->sites, id.id, transfer.loads[i].path);
        site->limited |= !isinf(transfer.loads[i].max_bytes_per_s);
    }
    return tdm_net_check(s->net, err);
}

tdm_code tdm_sites_list(tdm_arena *arena, const tdm_plan *plan, tdm_net *net, tdm_sites *sites,
                        tdm_error *err)
{
    *sites = (tdm_sites){.net = net};
    survey s = {.arena = arena, .plan = plan, .net = net, .sites = sites};
    tdm_code code = TDM_OK;
    for (uint32_t rank = 0; rank < plan->mesh.world && code == TDM_OK; rank++) {
        tdm_cursor cursor;
        tdm_cursor_init(&cursor, plan, rank);
        for (tdm_instance in; code == TDM_OK && tdm_cursor_next(&cursor, &in);)
            if (tdm_op_is_collective(in.op->kind) || tdm_op_is_p2p(in.op->kind))
                code = look_at(&s, rank, &in, err);
    }
    tdm_arena_free(&s.scratch);
    return code;
}
