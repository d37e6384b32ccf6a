/* folded_stages.c: the passes of every stage and chunk, put together from their blocks; weights and
 * the O pass of every stage. */
#include "cost.h"
#include "folded_parts.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* A chunk that was put together. */
typedef struct known_chunk {
    const tdm_fold_kinds *kinds;
    tdm_chunk chunk;
    const tdm_fold_pass_map *maps;
    double static_bytes;
} known_chunk;

typedef struct builder {
    tdm_arena *arena;
    const tdm_scenario *scenario;
    const tdm_dims *dims;
    tdm_fold_stages *out;
    known_chunk *known; /* [n_known] that differ */
    uint32_t n_known;
    uint32_t *chunk_of; /* [virtual stage] index into known */
} builder;

static bool same_blocks(const tdm_chunk *a, const tdm_chunk *b)
{
    if (a->n_blocks != b->n_blocks)
        return false;
    for (uint32_t i = 0; i < a->n_blocks; i++)
        if (a->blocks[i].kind != b->blocks[i].kind || a->blocks[i].count != b->blocks[i].count)
            return false;
    return true;
}

/* Adds the positions of a block, walked forwards or backwards. Only the first and the last have
 * other neighbours. */
static void add_block_memory(const tdm_fold_kinds *kinds, const tdm_chunk *chunk, uint32_t b,
                             uint32_t pass, tdm_fold_memory *memory)
{
    const tdm_block *block = &chunk->blocks[b];
    tdm_fold_kind *kind = &kinds->kinds[block->kind];
    const tdm_fold_kind *before = b > 0 ? &kinds->kinds[chunk->blocks[b - 1].kind] : NULL;
    const tdm_fold_kind *after =
        b + 1 < chunk->n_blocks ? &kinds->kinds[chunk->blocks[b + 1].kind] : NULL;
    if (block->count == 1) {
        tdm_fold_memory_then(memory, &tdm_fold_kind_memory(kind, before, after)[pass]);
        return;
    }
    tdm_fold_memory first = tdm_fold_kind_memory(kind, before, kind)[pass];
    tdm_fold_memory last = tdm_fold_kind_memory(kind, kind, after)[pass];
    bool forward = pass == TDM_PASS_F;
    tdm_fold_memory_then(memory, forward ? &first : &last);
    if (block->count > 2) {
        tdm_fold_memory middle =
            tdm_fold_memory_repeat(&tdm_fold_kind_memory(kind, kind, kind)[pass], block->count - 2);
        tdm_fold_memory_then(memory, &middle);
    }
    tdm_fold_memory_then(memory, forward ? &last : &first);
}

static void put_together(const tdm_fold_kinds *kinds, const tdm_chunk *chunk, uint32_t pass,
                         tdm_fold_pass_map *map)
{
    *map = (tdm_fold_pass_map){.time = {.issued_s = -INFINITY, .first_s = INFINITY}};
    for (uint32_t i = 0; i < chunk->n_blocks; i++) {
        uint32_t b = pass == TDM_PASS_F ? i : chunk->n_blocks - 1 - i;
        const tdm_fold_time *one = &kinds->kinds[chunk->blocks[b].kind].times[pass];
        if (chunk->blocks[b].count == 0)
            continue;
        tdm_fold_time time =
            chunk->blocks[b].count == 1 ? *one : tdm_fold_time_repeat(one, chunk->blocks[b].count);
        tdm_fold_time_then(&map->time, &time);
        add_block_memory(kinds, chunk, b, pass, &map->memory);
    }
}

/* Heaps that hold bytes after some pass of the chunk. */
static uint32_t carried_heaps(const tdm_fold_pass_map *maps)
{
    for (uint32_t pass = 0; pass < TDM_FOLD_N_PASSES; pass++)
        for (uint32_t h = TDM_FOLD_N_CARRIED; h < TDM_FOLD_N_HEAPS; h++)
            if (maps[pass].memory.net[h] != 0)
                return TDM_FOLD_N_HEAPS;
    return TDM_FOLD_N_CARRIED;
}

static double static_bytes(const tdm_plan *plan, const tdm_chunk *chunk)
{
    double sum = 0;
    for (uint32_t b = 0; b < chunk->n_blocks; b++) {
        const tdm_kind *kind = &plan->kinds[chunk->blocks[b].kind];
        for (uint32_t i = 0; i < kind->n_params; i++) {
            uint64_t bytes[TDM_N_CLASSES];
            tdm_layout_param(plan, &kind->params[i], bytes);
            for (uint32_t c = 0; c < TDM_N_CLASSES; c++)
                sum += (double)chunk->blocks[b].count *
                       (double)(tdm_ceil_div(bytes[c], TDM_ALIGNMENT) * TDM_ALIGNMENT);
        }
    }
    return sum;
}

/* The chunk's passes; chunks of equal blocks share them. */
static uint32_t find_chunk(builder *b, const tdm_fold_kinds *kinds, const tdm_plan *plan,
                           uint32_t virtual_stage)
{
    tdm_chunk chunk;
    tdm_lower_chunk(b->arena, b->dims, virtual_stage, &chunk);
    uint32_t i = b->n_known;
    while (i > 0 &&
           (b->known[i - 1].kinds != kinds || !same_blocks(&b->known[i - 1].chunk, &chunk)))
        i--;
    if (i > 0)
        return i - 1;
    tdm_fold_pass_map *maps = TDM_ALLOC(b->arena, tdm_fold_pass_map, TDM_FOLD_N_PASSES);
    bool split = b->dims->split;
    for (uint32_t pass = 0; pass < TDM_FOLD_N_PASSES; pass++)
        if (pass == TDM_PASS_F || (b->dims->train && split == (pass != TDM_PASS_BW)))
            put_together(kinds, &chunk, pass, &maps[pass]);
    uint32_t n_carried = carried_heaps(maps);
    b->out->n_carried = n_carried > b->out->n_carried ? n_carried : b->out->n_carried;
    b->known[b->n_known] = (known_chunk){kinds, chunk, maps, static_bytes(plan, &chunk)};
    return b->n_known++;
}

static double step_op_seconds(builder *b, const tdm_plan *plan, uint32_t stage, const tdm_op *op)
{
    if (op->stream == TDM_STREAM_COMPUTE)
        return tdm_cost_op(&b->scenario->device, plan, op, 0);
    tdm_group_kind group = op->u.collective.group;
    bool spans = group == TDM_GROUP_EMBED || group == TDM_GROUP_WORLD;
    return tdm_fold_net_s(b->out->net, spans ? 0 : stage, op->kind, group,
                          (double)op->u.collective.bytes);
}

static uint32_t virtual_stage(const builder *b, uint32_t stage, uint32_t chunk)
{
    return tdm_placement_virtual(b->dims->placement, b->dims->pp, stage, chunk);
}

static void build_step(builder *b, const tdm_plan *plan, uint32_t stage)
{
    uint32_t v = b->dims->vpp;
    tdm_chunk *chunks = TDM_ALLOC(b->arena, tdm_chunk, v);
    for (uint32_t c = 0; c < v; c++)
        chunks[c] = b->known[b->chunk_of[virtual_stage(b, stage, c)]].chunk;
    tdm_role role = {.stage = stage, .chunks = chunks, .n_chunks = v};
    tdm_lower_optimizer(b->arena, plan, &role);
    tdm_fold_step_op *ops = TDM_ALLOC(b->arena, tdm_fold_step_op, role.optimizer.n_ops);
    for (uint32_t i = 0; i < role.optimizer.n_ops; i++) {
        const tdm_op *op = &role.optimizer.ops[i];
        ops[i] = (tdm_fold_step_op){.stream = op->stream,
                                    .seconds = step_op_seconds(b, plan, stage, op),
                                    .group = TDM_N_GROUP_KINDS,
                                    .kind = op->kind};
        if (op->stream != TDM_STREAM_COMPUTE)
            ops[i].group = op->u.collective.group;
        for (uint32_t w = 0; w < op->n_waits; w++)
            ops[i].waits |= 1u << op->waits[w].stream;
    }
    b->out->stages[stage].step = ops;
    b->out->stages[stage].n_step = role.optimizer.n_ops;
}

/* True when the stage has the same chunks on equal links as the one before. */
static bool like_previous(const builder *b, uint32_t stage)
{
    if (stage == 0 || b->out->net->n_stages > 1)
        return false;
    for (uint32_t c = 0; c < b->dims->vpp; c++)
        if (b->chunk_of[virtual_stage(b, stage, c)] != b->chunk_of[virtual_stage(b, stage - 1, c)])
            return false;
    return true;
}

static void build_stage(builder *b, tdm_fold_kinds *kinds, uint32_t stage)
{
    const tdm_dims *d = b->dims;
    tdm_plan plan = kinds->plan; /* what does not change a layer's schedule is set anew */
    plan.parallel = b->scenario->parallel;
    plan.mesh = b->out->net->mesh;
    tdm_fold_stage *out = &b->out->stages[stage];
    const tdm_fold_pass_map **maps = TDM_ALLOC(b->arena, const tdm_fold_pass_map *, d->vpp);
    for (uint32_t c = 0; c < d->vpp; c++) {
        uint32_t at = virtual_stage(b, stage, c);
        b->chunk_of[at] = find_chunk(b, kinds, &plan, at);
        maps[c] = b->known[b->chunk_of[at]].maps;
        out->static_bytes += b->known[b->chunk_of[at]].static_bytes;
    }
    out->chunks = maps;
    if (!d->train || b->scenario->pass_times.given)
        return;
    if (like_previous(b, stage)) {
        out->step = out[-1].step;
        out->n_step = out[-1].n_step;
    } else {
        build_step(b, &plan, stage);
    }
}

tdm_fold_stages *tdm_fold_stages_new(tdm_arena *arena, const tdm_scenario *sc, const tdm_dims *dims,
                                     tdm_fold_net *net, tdm_fold_kinds *const *kinds)
{
    tdm_fold_stages *out = TDM_ALLOC(arena, tdm_fold_stages, 1);
    uint32_t n_virtual = dims->pp * dims->vpp;
    *out = (tdm_fold_stages){.stages = TDM_ALLOC(arena, tdm_fold_stage, dims->pp),
                             .net = net,
                             .x_bytes = kinds[0]->x_bytes,
                             .launch_s = sc->pass_times.given ? 0 : sc->device.launch_s.value,
                             .largest_share = kinds[0]->largest_share,
                             .kept_share = kinds[0]->kept_share};
    builder b = {.arena = arena,
                 .scenario = sc,
                 .dims = dims,
                 .out = out,
                 .known = TDM_ALLOC(arena, known_chunk, n_virtual),
                 .chunk_of = TDM_ALLOC(arena, uint32_t, n_virtual)};
    for (uint32_t s = 0; s < dims->pp; s++)
        build_stage(&b, kinds[s], s);
    return out;
}
