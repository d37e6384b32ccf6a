/* plan_schedule.c: `tandem plan --schedule` and `--schedule-csv`. */
#include "plan_views.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Passes of a timeline: more would not fit on any screen. */
enum { MAX_CELLS = 1 << 22 };

static const tdm_role *role_of_stage(const tdm_plan *plan, uint32_t stage)
{
    return &plan->roles[plan->role_of[(size_t)stage * plan->mesh.per_stage]];
}

/* ---- CSV ---- */

/* Source of the grammar: torch.distributed.pipelining, _Action and _load_csv in schedules.py. */
static const char *torch_action(tdm_pass_kind kind)
{
    static const char *const actions[TDM_N_PASS_KINDS] = {
        [TDM_PASS_F] = "F", [TDM_PASS_B] = "I", [TDM_PASS_W] = "W", [TDM_PASS_BW] = "B"};
    return actions[kind];
}

void tdm_view_schedule_csv(const tdm_plan *plan, FILE *file)
{
    for (uint32_t stage = 0; stage < plan->mesh.pp; stage++) {
        const tdm_role *role = role_of_stage(plan, stage);
        bool first = true;
        for (uint32_t i = 0; i < role->n_passes; i++) {
            const tdm_pass *pass = &role->passes[i];
            if (pass->kind == TDM_PASS_O) /* PyTorch's optimizer is no action of the schedule */
                continue;
            fprintf(file, "%s%" PRIu32 "%s%" PRIu32, first ? "" : ",",
                    role->chunks[pass->chunk].virtual_stage, torch_action(pass->kind),
                    pass->microbatch);
            first = false;
        }
        fputc('\n', file);
    }
}

/* ---- timeline ---- */

typedef struct timeline {
    const tdm_plan *plan;
    uint32_t n_virtual;
    uint64_t *forward_end, *backward_end; /* [virtual stage][microbatch], 0: not run yet */
    uint64_t **starts;                    /* [stage][pass] */
    uint32_t *n_done;                     /* [stage] passes placed */
    uint64_t *stage_end;                  /* [stage] end of the last pass placed */
} timeline;

/* In units: a whole backward costs two forwards. Source: Narayanan et al. 2021, figure 3. */
static uint64_t duration(tdm_pass_kind kind)
{
    return kind == TDM_PASS_BW ? 2 : 1;
}

static uint64_t *end_of(timeline *t, uint64_t *ends, uint32_t virtual_stage, uint32_t microbatch)
{
    return &ends[(uint64_t)virtual_stage * t->plan->num_microbatches + microbatch];
}

/* When what the pass reads is there; false when that has not run yet. */
static bool ready(timeline *t, const tdm_role *role, const tdm_pass *pass, uint64_t *at)
{
    *at = 0;
    if (pass->kind == TDM_PASS_O)
        return true;
    uint32_t v = role->chunks[pass->chunk].virtual_stage;
    if (pass->kind == TDM_PASS_W)
        *at = *end_of(t, t->backward_end, v, pass->microbatch);
    else if (pass->kind != TDM_PASS_F)
        *at = v + 1 < t->n_virtual ? *end_of(t, t->backward_end, v + 1, pass->microbatch)
                                   : *end_of(t, t->forward_end, v, pass->microbatch);
    else if (v > 0)
        *at = *end_of(t, t->forward_end, v - 1, pass->microbatch);
    else
        return true;
    return *at > 0;
}

/* Places the stage's next passes as far as they can run; returns whether there were any. */
static bool advance(timeline *t, uint32_t stage)
{
    const tdm_role *role = role_of_stage(t->plan, stage);
    uint32_t before = t->n_done[stage];
    while (t->n_done[stage] < role->n_passes) {
        const tdm_pass *pass = &role->passes[t->n_done[stage]];
        uint64_t start;
        if (!ready(t, role, pass, &start))
            break;
        start = start > t->stage_end[stage] ? start : t->stage_end[stage];
        t->starts[stage][t->n_done[stage]++] = start;
        t->stage_end[stage] = start + duration(pass->kind);
        if (pass->kind == TDM_PASS_O || pass->kind == TDM_PASS_W)
            continue;
        uint32_t v = role->chunks[pass->chunk].virtual_stage;
        *end_of(t, pass->kind == TDM_PASS_F ? t->forward_end : t->backward_end, v,
                pass->microbatch) = t->stage_end[stage];
    }
    return t->n_done[stage] > before;
}

static tdm_code place(tdm_arena *arena, timeline *t, tdm_error *err)
{
    const tdm_plan *plan = t->plan;
    uint64_t n_cells = (uint64_t)t->n_virtual * plan->num_microbatches;
    if (n_cells > MAX_CELLS) {
        tdm_error_add(err, TDM_E_INVALID,
                      "--schedule: %" PRIu64 " passes of one kind are too many to draw", n_cells);
        return TDM_E_INVALID;
    }
    t->forward_end = TDM_ALLOC(arena, uint64_t, n_cells);
    t->backward_end = TDM_ALLOC(arena, uint64_t, n_cells);
    t->starts = TDM_ALLOC(arena, uint64_t *, plan->mesh.pp);
    t->n_done = TDM_ALLOC(arena, uint32_t, plan->mesh.pp);
    t->stage_end = TDM_ALLOC(arena, uint64_t, plan->mesh.pp);
    for (uint32_t stage = 0; stage < plan->mesh.pp; stage++)
        t->starts[stage] = TDM_ALLOC(arena, uint64_t, role_of_stage(plan, stage)->n_passes);
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t stage = 0; stage < plan->mesh.pp; stage++)
            moved = advance(t, stage) || moved;
    }
    for (uint32_t stage = 0; stage < plan->mesh.pp; stage++)
        if (t->n_done[stage] < role_of_stage(plan, stage)->n_passes)
            return tdm_error_add(err, TDM_E_INVALID,
                                 "--schedule: the order of passes cannot run: stage %" PRIu32
                                 " waits for ever at its pass %" PRIu32,
                                 stage, t->n_done[stage]);
    return TDM_OK;
}

static int label(const tdm_role *role, const tdm_pass *pass, char text[48])
{
    if (pass->kind == TDM_PASS_O)
        return snprintf(text, 48, "O");
    if (role->n_chunks > 1)
        return snprintf(text, 48, "%u%s%u", pass->chunk, tdm_pass_kind_name(pass->kind),
                        pass->microbatch);
    return snprintf(text, 48, "%s%u", tdm_pass_kind_name(pass->kind), pass->microbatch);
}

static void fill(FILE *file, char c, uint64_t n)
{
    while (n-- > 0)
        fputc(c, file);
}

/* One stage as a line; `width` columns are one unit of time. */
static void draw_stage(const timeline *t, uint32_t stage, uint32_t width, FILE *file)
{
    const tdm_role *role = role_of_stage(t->plan, stage);
    uint64_t now = 0;
    fprintf(file, "stage %-4" PRIu32, stage);
    for (uint32_t i = 0; i < role->n_passes; i++) {
        char text[48];
        const tdm_pass *pass = &role->passes[i];
        for (; now < t->starts[stage][i]; now++) {
            fputs(" .", file);
            fill(file, ' ', width - 2);
        }
        uint64_t columns = (uint64_t)width * duration(pass->kind) - 1;
        int length = label(role, pass, text);
        bool last = i + 1 == role->n_passes;
        fprintf(file, " %s", text);
        if (duration(pass->kind) > 1)
            fill(file, '-', columns - (uint64_t)length);
        else if (!last)
            fill(file, ' ', columns - (uint64_t)length);
        now += duration(pass->kind);
    }
    fputc('\n', file);
}

/* Widest label and the blank in front of it. */
static uint32_t unit_width(const tdm_plan *plan)
{
    uint32_t width = 3;
    for (uint32_t stage = 0; stage < plan->mesh.pp; stage++) {
        const tdm_role *role = role_of_stage(plan, stage);
        for (uint32_t i = 0; i < role->n_passes; i++) {
            char text[48];
            uint32_t needed = (uint32_t)label(role, &role->passes[i], text) + 1;
            uint32_t units = (uint32_t)duration(role->passes[i].kind);
            needed = (needed + units - 1) / units;
            width = needed > width ? needed : width;
        }
    }
    return width;
}

/* Share of the span in which stages have nothing to do; the optimizer is not counted. */
static double idle_share(const timeline *t)
{
    uint64_t busy = 0, span = 0;
    for (uint32_t stage = 0; stage < t->plan->mesh.pp; stage++) {
        const tdm_role *role = role_of_stage(t->plan, stage);
        for (uint32_t i = 0; i < role->n_passes; i++) {
            if (role->passes[i].kind == TDM_PASS_O)
                continue;
            uint64_t end = t->starts[stage][i] + duration(role->passes[i].kind);
            busy += duration(role->passes[i].kind);
            span = end > span ? end : span;
        }
    }
    return span > 0 ? 1.0 - (double)busy / ((double)span * t->plan->mesh.pp) : 0.0;
}

tdm_code tdm_view_schedule(tdm_arena *arena, const tdm_plan *plan, FILE *file, tdm_error *err)
{
    timeline t = {.plan = plan, .n_virtual = role_of_stage(plan, 0)->n_chunks * plan->mesh.pp};
    tdm_code code = place(arena, &t, err);
    if (code != TDM_OK)
        return code;
    fprintf(file, "%s: %s, %" PRIu32 " stages, %" PRIu32 " microbatches\n\n", plan->name,
            plan->schedule, plan->mesh.pp, plan->num_microbatches);
    uint32_t width = unit_width(plan);
    for (uint32_t stage = 0; stage < plan->mesh.pp; stage++)
        draw_stage(&t, stage, width, file);
    fprintf(file,
            "\nIn equal units: F, B and W take one, BW takes two, sends none; idle (.): %.1f %%\n",
            100.0 * idle_share(&t));
    return TDM_OK;
}
