/* routing.c: planned routing: experts by token, and the counts that follow. */
#include "routing.h"

#include <assert.h>
#include <math.h>

/* High and low half of a 64 x 64 bit product, folded: a fast mixing step.
 * Source: Wang Yi, wyhash (public domain), the "mum" function. */
static uint64_t fold(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Odd constants without structure: fractional digits of pi (Blowfish's first words). */
static const uint64_t mix_1 = 0x243F6A8885A308D3u, mix_2 = 0x13198A2E03707345u,
                      mix_3 = 0xA4093822299F31D1u;

/* One stream of random numbers for each sequence of tokens. */
static uint64_t sequence_state(const tdm_routing_key *key, uint32_t step, uint32_t layer,
                               uint64_t sample)
{
    uint64_t state = fold(key->seed + mix_1, mix_2);
    state = fold(state ^ (((uint64_t)step << 32) | layer), mix_1 ^ mix_3);
    return fold(state ^ sample, mix_3 ^ mix_2) | 1u;
}

static uint64_t draw(uint64_t state, uint64_t counter)
{
    return fold(fold(counter + mix_1, state) ^ mix_3, mix_2);
}

/* 0 .. n - 1 from 32 random bits. */
static uint32_t below(uint32_t bits, uint32_t n)
{
    return (uint32_t)(((uint64_t)bits * n) >> 32);
}

/* The `pick`-th of the experts not chosen yet; chosen [n] holds the earlier choices. */
static uint32_t skip_chosen(uint32_t pick, const uint32_t *chosen, uint32_t n)
{
    bool moved = true;
    uint32_t expert = pick;
    /* expert = pick + number of chosen ones at or below it: grows until it is stable. */
    while (moved) {
        uint32_t below_it = 0;
        for (uint32_t i = 0; i < n; i++)
            below_it += chosen[i] <= expert;
        moved = pick + below_it != expert;
        expert = pick + below_it;
    }
    return expert;
}

static void uniform_experts(const tdm_routing_key *key, uint64_t state, uint32_t position,
                            uint32_t *experts)
{
    for (uint32_t j = 0; j < key->topk; j += 2) {
        uint64_t bits = draw(state, ((uint64_t)j << 32) | position);
        experts[j] = skip_chosen(below((uint32_t)bits, key->n_experts - j), experts, j);
        if (j + 1 < key->topk)
            experts[j + 1] =
                skip_chosen(below((uint32_t)(bits >> 32), key->n_experts - j - 1), experts, j + 1);
    }
}

/* Every expert's share of the pairs of positions [from, to): pair number p * k + j goes to expert
 * number modulo n. */
static void count_balanced(const tdm_routing_key *key, uint32_t from, uint32_t to, uint32_t *counts)
{
    uint64_t first = (uint64_t)from * key->topk, pairs = (uint64_t)(to - from) * key->topk;
    for (uint32_t i = 0; i < key->n_experts; i++)
        counts[i] += (uint32_t)(pairs / key->n_experts);
    for (uint64_t i = 0; i < pairs % key->n_experts; i++)
        counts[(first + i) % key->n_experts]++;
}

static void balanced_experts(const tdm_routing_key *key, uint32_t position, uint32_t *experts)
{
    for (uint32_t j = 0; j < key->topk; j++)
        experts[j] = (uint32_t)(((uint64_t)position * key->topk + j) % key->n_experts);
}

static void popular_experts(const tdm_routing_key *key, const tdm_popularity *popularity,
                            uint64_t state, uint32_t position, uint32_t *experts)
{
    uint32_t ascending[TDM_ROUTING_MAX_TOPK];
    for (uint32_t j = 0; j < key->topk; j++)
        experts[j] = tdm_popularity_choose(popularity, draw(state, ((uint64_t)j << 32) | position),
                                           ascending, j);
}

void tdm_routing_experts(const tdm_routing_key *key, uint32_t step, uint32_t layer, uint64_t sample,
                         uint32_t position, uint32_t *experts)
{
    assert(key->topk <= key->n_experts);
    if (key->model == TDM_ROUTING_BALANCED)
        balanced_experts(key, position, experts);
    else if (key->popularity)
        popular_experts(key, &key->popularity[layer], sequence_state(key, step, layer, sample),
                        position, experts);
    else
        uniform_experts(key, sequence_state(key, step, layer, sample), position, experts);
}

/* Adds the experts of positions [from, to) of one sample to counts [n_experts]. Top-2 is the common
 * case and the hottest loop of lowering: a closed form of skip_chosen for one earlier choice. */
static void count_run(const tdm_routing_key *key, uint32_t layer, uint64_t sample, uint32_t from,
                      uint32_t to, uint32_t *counts)
{
    if (key->model == TDM_ROUTING_BALANCED) {
        count_balanced(key, from, to, counts);
        return;
    }
    uint64_t state = sequence_state(key, 0, layer, sample);
    if (key->topk == 2 && !key->popularity) {
        for (uint32_t p = from; p < to; p++) {
            uint64_t bits = draw(state, p);
            uint32_t first = below((uint32_t)bits, key->n_experts);
            uint32_t second = below((uint32_t)(bits >> 32), key->n_experts - 1);
            counts[first]++;
            counts[second + (second >= first)]++;
        }
        return;
    }
    for (uint32_t p = from; p < to; p++) {
        uint32_t experts[TDM_ROUTING_MAX_TOPK];
        if (key->popularity)
            popular_experts(key, &key->popularity[layer], state, p, experts);
        else
            uniform_experts(key, state, p, experts);
        for (uint32_t j = 0; j < key->topk; j++)
            counts[experts[j]]++;
    }
}

/* Counts of the tokens that one rank dispatches: run `tp_index` of its replica's microbatch. */
static void count_rank(const tdm_plan *plan, const tdm_routing_key *key, uint32_t layer,
                       uint32_t microbatch, uint32_t in_stage, uint32_t *counts)
{
    uint64_t s = plan->seq_length;
    uint64_t run = (uint64_t)plan->micro_batch_size * s / plan->mesh.tp;
    uint64_t from = in_stage % plan->mesh.tp * run, to = from + run;
    uint32_t replica = in_stage / plan->mesh.tp;
    uint64_t n_replicas = tdm_mesh_whole(&plan->mesh).dp;
    uint64_t first_sample = (microbatch * n_replicas + replica) * plan->micro_batch_size;
    while (from < to) {
        uint64_t sample = from / s, end = (sample + 1) * s < to ? (sample + 1) * s : to;
        count_run(key, layer, first_sample + sample, (uint32_t)(from - sample * s),
                  (uint32_t)(end - sample * s), counts);
        from = end;
    }
}

uint64_t tdm_routing_capacity(const tdm_routing *spec, uint64_t tokens, uint32_t topk,
                              uint32_t n_experts)
{
    if (spec->capacity_factor <= 0)
        return UINT64_MAX;
    double capacity = ceil((double)(tokens * topk) / n_experts * spec->capacity_factor);
    return capacity < 1e18 ? (uint64_t)capacity : UINT64_MAX;
}

uint64_t tdm_routing_rows(const tdm_routing *spec, const tdm_model *model, uint64_t tokens)
{
    if (!spec->pad_to_capacity)
        return tokens * model->moe_router_topk;
    return model->num_experts *
           tdm_routing_capacity(spec, tokens, model->moe_router_topk, model->num_experts);
}

tdm_code tdm_routing_key_make(tdm_arena *arena, const tdm_plan *plan, tdm_routing_key *key,
                              tdm_error *err)
{
    const tdm_model *m = &plan->model;
    const tdm_routing *spec = &plan->routing_spec;
    tdm_routing_key k = {.model = spec->model,
                         .seed = spec->seed,
                         .n_experts = m->num_experts,
                         .topk = m->moe_router_topk,
                         .seq_length = plan->seq_length};
    if (m->moe_router_topk == 0 || m->moe_router_topk > m->num_experts ||
        m->moe_router_topk > TDM_ROUTING_MAX_TOPK)
        return tdm_error_add(
            err, TDM_E_INVALID, "model.moe_router_topk: %u: 1 to %u", m->moe_router_topk,
            m->num_experts < TDM_ROUTING_MAX_TOPK ? m->num_experts : TDM_ROUTING_MAX_TOPK);
    if (tdm_popularity_needed(spec->model)) {
        tdm_code code = tdm_popularity_build(arena, spec, m->num_layers, k.n_experts, k.topk,
                                             &k.popularity, err);
        if (code != TDM_OK)
            return code;
    }
    *key = k;
    return TDM_OK;
}

/* What filling the table needs at hand. */
typedef struct filling {
    const tdm_plan *plan;
    const tdm_routing_key *key;
    const tdm_routing_table *table;
    uint64_t capacity;
    uint32_t *sent, *experts; /* of the table */
    uint32_t *counts, *taken; /* [n_experts]: of one rank; of its replica's microbatch so far */
} filling;

/* Adds what one rank sends. An expert takes tokens in their order, and the ranks of a replica hold
 * theirs in that order: so what is dropped follows from counts alone. */
static void fill_rank(filling *f, uint32_t layer, uint32_t microbatch, uint32_t in_stage)
{
    const tdm_routing_table *t = f->table;
    const tdm_mesh *mesh = &f->plan->mesh;
    tdm_group group = tdm_mesh_group(mesh, TDM_GROUP_EP, in_stage);
    uint32_t n_local = t->n_experts / t->ep, replica = group.id,
             src = tdm_group_index(&group, in_stage);
    bool pads = f->plan->routing_spec.pad_to_capacity;
    uint64_t row = ((uint64_t)replica * t->n_layers + layer) * t->n_microbatches + microbatch;
    uint32_t *sent = f->sent + (row * t->ep + src) * t->ep,
             *experts = f->experts + row * t->n_experts;
    bool starts = pads || in_stage % mesh->tp == 0; /* what shares the capacity */
    for (uint32_t i = 0; i < t->n_experts; i++) {
        f->counts[i] = 0;
        f->taken[i] = starts ? 0 : f->taken[i];
    }
    count_rank(f->plan, f->key, layer, microbatch, in_stage, f->counts);
    for (uint32_t i = 0; i < t->n_experts; i++) {
        uint64_t room = f->capacity - f->taken[i];
        uint32_t kept = f->counts[i] < room ? f->counts[i] : (uint32_t)room;
        sent[i / n_local] += pads ? (uint32_t)f->capacity : kept;
        experts[i] += kept;
        f->taken[i] += kept;
    }
}

tdm_code tdm_routing_table_build(tdm_arena *arena, const tdm_plan *plan, tdm_routing_table *table,
                                 tdm_error *err)
{
    const tdm_mesh *mesh = &plan->mesh;
    tdm_routing_key key;
    tdm_code code = tdm_routing_key_make(arena, plan, &key, err);
    if (code != TDM_OK)
        return code;
    tdm_routing_table t = {.n_replicas = mesh->per_stage / mesh->ep,
                           .n_layers = plan->model.num_layers,
                           .n_microbatches = plan->num_microbatches,
                           .ep = mesh->ep,
                           .n_experts = key.n_experts};
    uint64_t rows = (uint64_t)t.n_replicas * t.n_layers * t.n_microbatches;
    uint64_t tokens = (uint64_t)plan->micro_batch_size * plan->seq_length;
    if (plan->routing_spec.pad_to_capacity)
        tokens /= mesh->tp;
    filling f = {.plan = plan,
                 .key = &key,
                 .table = &t,
                 .capacity =
                     tdm_routing_capacity(&plan->routing_spec, tokens, key.topk, key.n_experts),
                 .sent = TDM_ALLOC(arena, uint32_t, rows * t.ep * t.ep),
                 .experts = TDM_ALLOC(arena, uint32_t, rows * t.n_experts),
                 .counts = TDM_ALLOC(arena, uint32_t, t.n_experts),
                 .taken = TDM_ALLOC(arena, uint32_t, t.n_experts)};
    for (uint32_t layer = 0; layer < t.n_layers; layer++)
        for (uint32_t mb = 0;
             mb < t.n_microbatches && tdm_model_layer_has_experts(&plan->model, layer); mb++)
            for (uint32_t in_stage = 0; in_stage < t.n_replicas * t.ep; in_stage++)
                fill_rank(&f, layer, mb, in_stage);
    t.sent = f.sent;
    t.experts = f.experts;
    *table = t;
    return TDM_OK;
}
