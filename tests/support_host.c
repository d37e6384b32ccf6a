/* support_host.c: plans that really run, and what they compute against one rank alone. */
#include "tests/support_host.h"

#include "backend/host/host.h"
#include "core/lower.h"
#include "core/routing.h"
#include "tests/support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { MOST_ENTRIES = 512 };

/* ---- gradients ---- */

host_book host_book_new(tdm_arena *arena)
{
    return (host_book){.arena = arena,
                       .entries = TDM_ALLOC(arena, host_entry, MOST_ENTRIES),
                       .mutex = PTHREAD_MUTEX_INITIALIZER};
}

/* The head of a tied model holds the embedding's words. */
static const char *owner(const tdm_plan *plan, const tdm_piece *piece)
{
    bool head = strcmp(piece->kind->name, "head") == 0;
    return head && !plan->model.untie_embeddings && strcmp(piece->param->name, "words") == 0
               ? "embedding"
               : piece->kind->name;
}

static host_entry *find_entry(host_book *book, const tdm_piece *piece)
{
    const char *kind = owner(book->plan, piece);
    for (uint32_t i = 0; i < book->n_entries; i++) {
        host_entry *e = &book->entries[i];
        if (e->layer == piece->layer && strcmp(e->param, piece->param->name) == 0 &&
            strcmp(e->kind, kind) == 0)
            return e;
    }
    if (book->compares || book->n_entries == MOST_ENTRIES)
        return NULL;
    host_entry *e = &book->entries[book->n_entries++];
    *e = (host_entry){.kind = tdm_arena_strdup(book->arena, kind),
                      .param = tdm_arena_strdup(book->arena, piece->param->name),
                      .layer = piece->layer,
                      .count = piece->param->count};
    for (int s = 0; s < 2; s++)
        e->gradients[s] = TDM_ALLOC(book->arena, float, e->count);
    return e;
}

void host_see(void *context, const tdm_piece *piece)
{
    host_book *book = context;
    if (piece->step != 0 && piece->step != HOST_STEPS - 1)
        return;
    uint32_t s = piece->step != 0;
    pthread_mutex_lock(&book->mutex);
    host_entry *e = find_entry(book, piece);
    tdm_shape shape = tdm_shape_of(book->plan, piece->kind, piece->param, piece->rank);
    book->n_wrong += !e;
    for (uint64_t i = 0; e && i < piece->count; i++) {
        uint64_t at = tdm_shape_global(&shape, piece->first + i);
        if (at >= e->count) {
            book->n_wrong++;
            break;
        }
        if (!book->compares) {
            e->gradients[s][at] = piece->gradient[i];
            continue;
        }
        double is = piece->gradient[i], want = e->gradients[s][at];
        e->off[s] += (is - want) * (is - want);
        e->of[s] += want * want;
        book->n_compared++;
        e->reached = true;
    }
    pthread_mutex_unlock(&book->mutex);
}

/* ---- running ---- */

typedef struct wrapped {
    const tdm_exec_device *inner;
    const tdm_plan *plan;
    host_change *change;
    void *context;
} wrapped;

static tdm_code begin_changed(void *self, uint32_t rank, void *statics, tdm_error *err)
{
    const wrapped *w = self;
    tdm_code code = w->inner->begin(w->inner->self, rank, statics, err);
    w->change(w->context, w->plan, rank, statics);
    return code;
}

static tdm_code compute(void *self, tdm_exec_op *op, tdm_error *err)
{
    const wrapped *w = self;
    return w->inner->compute(w->inner->self, op, err);
}

static tdm_code transfer(void *self, const tdm_exec_op *op, tdm_exec_transfer *t, tdm_error *err)
{
    const wrapped *w = self;
    return w->inner->transfer(w->inner->self, op, t, err);
}

static void moved(void *self, tdm_exec_op *op, double latest_s)
{
    const wrapped *w = self;
    w->inner->moved(w->inner->self, op, latest_s);
}

void host_run(tdm_arena *arena, const char *what, const tdm_scenario *sc,
              tdm_exec_placement placement, uint32_t n_steps, host_book *book, host_change *change,
              void *context, host_outcome *outcome)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_plan *plan = &outcome->plan;
    tdm_host *host = NULL;
    tdm_exec_device device;
    tdm_exec_transport transport;
    tdm_code code = tdm_lower(arena, sc, sc->schedule, sc->num_microbatches, plan, err);
    if (code == TDM_OK)
        code = tdm_host_check(plan, err);
    if (code != TDM_OK)
        fail_msg("%s: %s", what, err->text);
    const tdm_program *programs = tdm_programs_of(arena, plan);
    tdm_layout *layouts = TDM_ALLOC(arena, tdm_layout, plan->mesh.world);
    code = tdm_layout_build_all(arena, plan, true, layouts, err);
    if (book)
        book->plan = plan;
    if (code == TDM_OK)
        code = tdm_host_open(arena, plan, programs, n_steps, book ? host_see : NULL, book, &host,
                             &device, err);
    if (code == TDM_OK)
        code = tdm_threads_open(arena, plan, programs, &transport, err);
    if (code != TDM_OK)
        fail_msg("%s: %s", what, err->text);
    wrapped w = {&device, plan, change, context};
    tdm_exec_device outer = device;
    outer.self = &w;
    outer.begin = begin_changed;
    outer.compute = compute;
    outer.transfer = transfer;
    outer.moved = moved;
    tdm_exec_job job = {.plan = plan,
                        .programs = programs,
                        .layouts = layouts,
                        .device = change ? &outer : &device,
                        .transport = &transport,
                        .placement = placement,
                        .n_steps = n_steps,
                        .pace = 1};
    outcome->layouts = layouts;
    outcome->counts = TDM_ALLOC(arena, tdm_exec_count, plan->mesh.world);
    code = tdm_execute(arena, &job, TDM_ALLOC(arena, tdm_trace, n_steps), outcome->counts, err);
    tdm_threads_close(&transport);
    if (code != TDM_OK)
        fail_msg("%s: %s", what, err->text);
    for (uint32_t i = 0; i < n_steps; i++) {
        outcome->loss[i] = tdm_host_loss(host, i);
        outcome->grad_norm[i] = tdm_host_grad_norm(host, i);
    }
}

/* ---- comparing ---- */

/* Where experts are padded, each rank of a replica drops on its own, by the capacity of its tokens.
 * So does one rank, without padding, in a microbatch of just these tokens; a capacity that all
 * tokens fit in needs no such microbatches. */
static void unpad(tdm_scenario *sc)
{
    uint32_t tp = sc->parallel.tp;
    const tdm_model *m = &sc->model;
    uint64_t tokens = (uint64_t)sc->micro_batch_size * sc->seq_length / tp;
    sc->routing.pad_to_capacity = false;
    if (tdm_routing_capacity(&sc->routing, tokens, m->moe_router_topk, m->num_experts) >= tokens) {
        sc->routing.capacity_factor = 0;
        return;
    }
    assert_int_equal(sc->micro_batch_size % tp, 0);
    sc->micro_batch_size /= tp;
    sc->num_microbatches *= tp;
}

tdm_scenario host_alone(const tdm_scenario *scenario)
{
    tdm_scenario sc = *scenario;
    if (sc.routing.pad_to_capacity)
        unpad(&sc);
    sc.num_microbatches *= sc.parallel.dp;
    sc.parallel = (tdm_parallel){1, 1, 1, 1, 1, 1, 1, false, false};
    sc.schedule = "1f1b";
    sc.stage_layers = NULL;
    sc.training.recompute = TDM_RECOMPUTE_NONE;
    return sc;
}

static void check_memory(const char *what, const host_outcome *o, tdm_exec_placement placement)
{
    for (uint32_t r = 0; r < o->plan.mesh.world && placement != TDM_EXEC_ARENA; r++) {
        const tdm_layout *l = &o->layouts[r];
        if (o->counts[r].live_peak_bytes != l->live_peak_bytes)
            fail_msg("%s: rank %u: %llu bytes alive at once, planned %llu", what, r,
                     (unsigned long long)o->counts[r].live_peak_bytes,
                     (unsigned long long)l->live_peak_bytes);
        if (placement == TDM_EXEC_CHECKED && o->counts[r].arena_bytes != l->arena_bytes)
            fail_msg("%s: rank %u: %llu bytes of the arena used, planned %llu", what, r,
                     (unsigned long long)o->counts[r].arena_bytes,
                     (unsigned long long)l->arena_bytes);
    }
}

/* A gradient is held against its own size; one that is next to nothing beside the whole (that of a
 * bias on keys, which changes no softmax, is rounding alone) against a share of that. */
void host_check_gradients(const char *what, const host_book *book, double tolerance)
{
    static const double NOTHING = 1e-3;
    if (book->n_wrong > 0)
        fail_msg("%s: %u pieces of gradients belong nowhere", what, book->n_wrong);
    for (int s = 0; s < 2; s++) {
        double whole = 0;
        for (uint32_t i = 0; i < book->n_entries; i++)
            whole += book->entries[i].of[s];
        for (uint32_t i = 0; i < book->n_entries; i++) {
            const host_entry *e = &book->entries[i];
            double size = sqrt(fmax(e->of[s], NOTHING * NOTHING * whole));
            if (!e->reached || !(sqrt(e->off[s]) <= tolerance * size))
                fail_msg("%s: gradient of %s %s, layer %u, at step %d: off by %.2g of %.2g%s", what,
                         e->kind, e->param, e->layer, s ? HOST_STEPS - 1 : 0, sqrt(e->off[s]), size,
                         e->reached ? "" : ", missing");
        }
    }
}

void host_compare(const char *what, const tdm_scenario *scenario, tdm_exec_placement placement)
{
    static const double TOLERANCE = 1e-5, GRADIENTS = 1e-4;
    tdm_arena arena = {0};
    host_book book = host_book_new(&arena);
    host_outcome alone, spread;
    tdm_scenario one = host_alone(scenario);
    host_run(&arena, what, &one, TDM_EXEC_ARENA, HOST_STEPS, &book, NULL, NULL, &alone);
    book.compares = true;
    host_run(&arena, what, scenario, placement, HOST_STEPS, &book, NULL, NULL, &spread);
    for (int i = 0; i < HOST_STEPS; i++) {
        if (!(fabs(spread.loss[i] - alone.loss[i]) <= TOLERANCE * alone.loss[i]))
            fail_msg("%s: loss of step %d is %.9g, on one rank %.9g", what, i, spread.loss[i],
                     alone.loss[i]);
        double norm = alone.grad_norm[i];
        if (scenario->training.clip_grad > 0 &&
            !(fabs(spread.grad_norm[i] - norm) <= TOLERANCE * norm))
            fail_msg("%s: gradient norm of step %d is %.9g, on one rank %.9g", what, i,
                     spread.grad_norm[i], norm);
    }
    host_check_gradients(what, &book, GRADIENTS);
    check_memory(what, &spread, placement);
    tdm_arena_free(&arena);
}

uint64_t host_weight_place(const tdm_plan *plan, uint32_t rank, const char *kind, const char *param,
                           uint32_t layer, uint64_t *count)
{
    const tdm_role *role = &plan->roles[plan->role_of[rank]];
    uint64_t at = 0, step = TDM_ALIGNMENT / sizeof(float);
    for (uint32_t c = 0; c < role->n_chunks; c++)
        for (uint32_t b = 0; b < role->chunks[c].n_blocks; b++)
            for (uint32_t i = 0; i < role->chunks[c].blocks[b].count; i++) {
                const tdm_block *block = &role->chunks[c].blocks[b];
                const tdm_kind *k = &plan->kinds[block->kind];
                for (uint32_t p = 0; p < k->n_params; p++) {
                    *count = k->params[p].count;
                    if (block->first_layer + i == layer && strcmp(k->name, kind) == 0 &&
                        strcmp(k->params[p].name, param) == 0)
                        return at;
                    at += tdm_ceil_div(*count, step) * step;
                }
            }
    return UINT64_MAX;
}
