/* advise_search.c: all legal plans of the same GPUs and global batch, by the folded evaluation. */
#include "advise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Longer orders of passes are not searched: no stage runs so many of them in practice, and each
 * costs as much time as hundreds of others. */
enum { MOST_PASSES = 4096 };

/* Shortfalls that agree to this are equal, so that the least change decides. */
#define SAME_SHORTFALL 1e-2

bool tdm_advise_met(const tdm_target *target, double value)
{
    return target->is_maximum ? value <= target->threshold : value >= target->threshold;
}

double tdm_advise_memory_bytes(const tdm_scenario *scenario)
{
    double device = scenario->device.memory_bytes.value;
    double limit = (double)scenario->memory_limit_bytes;
    if (scenario->pass_times.given)
        return 0;
    return limit == 0 || (device > 0 && device < limit) ? device : limit;
}

static double size_distance(uint32_t a, uint32_t b)
{
    return fabs(log2((double)a) - log2((double)b));
}

static void judge_change(const tdm_scenario *scenario, const tdm_fold_choice *choice,
                         tdm_advise_score *score)
{
    const tdm_fold_choice now = tdm_fold_choice_of(scenario);
    for (tdm_advise_key key = 0; key < TDM_ADVISE_N_KEYS; key++) {
        uint32_t before = tdm_advise_value(&now, key), after = tdm_advise_value(choice, key);
        bool size = key <= TDM_ADVISE_VPP || key == TDM_ADVISE_MICRO_BATCH;
        if (before == after || tdm_advise_keys[key].weight == 0)
            continue;
        score->cost += tdm_advise_keys[key].weight;
        score->distance += size ? size_distance(before, after) : 1;
    }
}

tdm_advise_score tdm_advise_judge(const tdm_scenario *scenario, const tdm_fold_choice *choice,
                                  const tdm_figures *figures, const double *values)
{
    double limit = tdm_advise_memory_bytes(scenario);
    tdm_advise_score score = {.fits = limit == 0 || (double)figures->peak_memory_bytes <= limit,
                              .tokens_per_s = scenario->pass_times.given ? 1 / figures->step_time_s
                                                                         : figures->tokens_per_s};
    for (uint32_t i = 0; i < scenario->n_targets; i++) {
        const tdm_target *target = &scenario->targets[i];
        if (tdm_advise_met(target, values[i]))
            continue;
        double scale = fabs(target->threshold) > 0 ? fabs(target->threshold) : 1;
        score.n_missed++;
        score.shortfall += fabs(values[i] - target->threshold) / scale;
    }
    judge_change(scenario, choice, &score);
    return score;
}

static int by_number(double a, double b)
{
    return a < b ? -1 : a > b;
}

int tdm_advise_compare(const tdm_advise_score *a, const tdm_advise_score *b)
{
    if (a->fits != b->fits)
        return a->fits ? -1 : 1;
    const double keys[][2] = {
        {a->n_missed, b->n_missed},
        {floor(a->shortfall / SAME_SHORTFALL), floor(b->shortfall / SAME_SHORTFALL)},
        {a->cost, b->cost},
        {a->distance, b->distance},
        {-a->tokens_per_s, -b->tokens_per_s}};
    for (size_t i = 0; i < TDM_COUNT(keys); i++)
        if (keys[i][0] != keys[i][1])
            return by_number(keys[i][0], keys[i][1]);
    return 0;
}

/* ---- the space ---- */

typedef struct space {
    const tdm_scenario *scenario;
    const tdm_advise_limits *limits;
    tdm_advise_visit *visit;
    void *context;
    tdm_fold_choice at;
    uint32_t n_gpus;
    uint64_t global_batch;
    bool stopped;
} space;

static bool allows(const space *s, tdm_advise_key key, uint32_t value)
{
    return !s->stopped && tdm_advise_allows(s->limits, key, value);
}

/* Schedules that can stand in: of training or of forward passes as the scenario's; one that reads
 * its order from a file only if it is the scenario's. */
static bool is_candidate(const space *s, const tdm_schedule *schedule)
{
    return schedule->forward_only == !s->scenario->training.train &&
           (!schedule->needs_table || strcmp(schedule->name, s->scenario->schedule) == 0);
}

/* Innermost: these share the schedule of a layer when they split the backward alike. */
static void visit_schedules(space *s)
{
    for (int split = 0; split < 2; split++)
        for (uint32_t i = 0; tdm_schedules[i]; i++) {
            const tdm_schedule *schedule = tdm_schedules[i];
            if (schedule->splits_backward != (split != 0) || !is_candidate(s, schedule) ||
                !allows(s, TDM_ADVISE_SCHEDULE, i))
                continue;
            s->at.schedule = schedule;
            if ((uint64_t)s->at.num_microbatches * s->at.parallel.vpp <= MOST_PASSES &&
                !tdm_fold_refuse(s->scenario, &s->at))
                s->stopped |= !s->visit(s->context, &s->at);
        }
}

static void visit_optimizers(space *s)
{
    const tdm_parallel *now = &s->scenario->parallel;
    const tdm_parallel *p = &s->at.parallel;
    bool replicas = p->dp > 1 || (uint64_t)p->tp * p->dp > (uint64_t)p->ep * p->etp;
    bool trains = s->scenario->training.train && !s->scenario->pass_times.given;
    for (uint32_t zero = 0; zero < 2; zero++) {
        bool changes = (zero != 0) != now->distributed_optimizer;
        if ((changes && !(replicas && trains)) || !allows(s, TDM_ADVISE_ZERO, zero))
            continue;
        s->at.parallel.distributed_optimizer = zero != 0;
        visit_schedules(s);
    }
}

static void visit_chunks(space *s)
{
    const tdm_scenario *sc = s->scenario;
    bool fixed = sc->pass_times.given || sc->stage_layers;
    uint32_t most = fixed ? sc->parallel.vpp : sc->model.num_layers / s->at.parallel.pp;
    for (uint32_t v = fixed ? most : 1; v <= most; v++) {
        bool several = v > 1 && s->at.parallel.pp == 1;
        if (several || (!fixed && most % v != 0) || !allows(s, TDM_ADVISE_VPP, v))
            continue;
        s->at.parallel.vpp = v;
        visit_optimizers(s);
    }
}

static void visit_batches(space *s)
{
    uint64_t per_replica = s->global_batch / s->at.parallel.dp;
    if (s->scenario->pass_times.given) {
        if (allows(s, TDM_ADVISE_MICROBATCHES, s->at.num_microbatches))
            visit_chunks(s);
        return;
    }
    if (s->global_batch % s->at.parallel.dp != 0)
        return;
    for (uint64_t b = 1; b <= per_replica; b++) {
        uint32_t m = (uint32_t)(per_replica / b);
        if (per_replica % b != 0 || !allows(s, TDM_ADVISE_MICRO_BATCH, (uint32_t)b) ||
            !allows(s, TDM_ADVISE_MICROBATCHES, m))
            continue;
        s->at.micro_batch_size = (uint32_t)b;
        s->at.num_microbatches = m;
        visit_chunks(s);
    }
}

static void visit_layers(space *s)
{
    bool timed = s->scenario->pass_times.given, trains = s->scenario->training.train;
    for (uint32_t sp = 0; sp < 2; sp++)
        for (uint32_t r = 0; r <= TDM_RECOMPUTE_FULL; r++) {
            bool changes = r != (uint32_t)s->scenario->training.recompute;
            if ((sp && (timed || s->at.parallel.tp == 1)) || (changes && (timed || !trains)) ||
                !allows(s, TDM_ADVISE_SP, sp) || !allows(s, TDM_ADVISE_RECOMPUTE, r))
                continue;
            s->at.parallel.sequence_parallel = sp != 0;
            s->at.recompute = (tdm_recompute)r;
            visit_batches(s);
        }
}

/* One expert over some or all GPUs of a tensor-parallel group, which are next to each other. */
static void visit_parts(space *s)
{
    const tdm_parallel *p = &s->at.parallel;
    bool any = s->scenario->model.num_experts > 0 && !s->scenario->pass_times.given;
    uint32_t now = s->scenario->parallel.etp, most = p->tp > now ? p->tp : now;
    for (uint32_t etp = 1; etp <= (any ? most : 1); etp++) {
        bool possible = p->tp % etp == 0 || etp == now;
        if (any && (!possible || (uint64_t)p->tp * p->dp % ((uint64_t)p->ep * etp) != 0 ||
                    s->scenario->model.moe_ffn_hidden_size % etp != 0))
            continue;
        if (any && !allows(s, TDM_ADVISE_ETP, etp))
            continue;
        s->at.parallel.etp = any ? etp : now;
        visit_layers(s);
    }
}

static void visit_experts(space *s)
{
    uint32_t experts = s->scenario->model.num_experts;
    bool any = experts > 0 && !s->scenario->pass_times.given;
    for (uint32_t ep = 1; ep <= (any ? experts : 1); ep++) {
        if ((any && experts % ep != 0) || s->at.parallel.tp * s->at.parallel.dp % ep != 0 ||
            !allows(s, TDM_ADVISE_EP, ep))
            continue;
        s->at.parallel.ep = ep;
        visit_parts(s);
    }
}

void tdm_advise_enumerate(const tdm_scenario *scenario, const tdm_advise_limits *limits,
                          tdm_advise_visit *visit, void *context)
{
    const tdm_parallel *now = &scenario->parallel;
    space s = {.scenario = scenario,
               .limits = limits,
               .visit = visit,
               .context = context,
               .at = tdm_fold_choice_of(scenario),
               .n_gpus = now->tp * now->dp * now->pp,
               .global_batch =
                   (uint64_t)scenario->micro_batch_size * scenario->num_microbatches * now->dp};
    for (uint32_t tp = 1; tp <= s.n_gpus; tp++)
        for (uint32_t pp = 1; pp <= s.n_gpus / tp; pp++) {
            if (s.n_gpus % (tp * pp) != 0 || !allows(&s, TDM_ADVISE_TP, tp) ||
                !allows(&s, TDM_ADVISE_PP, pp) || !allows(&s, TDM_ADVISE_DP, s.n_gpus / (tp * pp)))
                continue;
            s.at.parallel.tp = tp;
            s.at.parallel.pp = pp;
            s.at.parallel.dp = s.n_gpus / (tp * pp);
            visit_experts(&s);
        }
}

/* ---- the search ---- */

typedef struct search {
    tdm_arena *arena;
    tdm_folded *folded;
    const tdm_advise_options *options;
    tdm_advise_result *result;
    tdm_error *err;
    double *values;
    uint32_t process, n_processes; /* that share the choices */
    uint32_t group;                /* of choices that are evaluated fast one after the other */
    tdm_fold_choice before;        /* the choice before */
    unsigned char **records;       /* [n_processes] of what they evaluated, in order */
    size_t *n_bytes, capacity;     /* [n_processes]; of this process's */
    size_t *taken;                 /* [n_processes] bytes */
} search;

static void take_values(const tdm_scenario *scenario, const tdm_figures *figures, double *values)
{
    for (uint32_t i = 0; i < scenario->n_targets; i++)
        values[i] = tdm_figures_get(figures, scenario->targets[i].figure);
}

bool tdm_advise_evaluate(tdm_arena *arena, tdm_folded *folded, const tdm_scenario *scenario,
                         const tdm_fold_choice *choice, tdm_advise_plan *plan)
{
    tdm_figures figures;
    if (tdm_folded_evaluate(folded, choice, &figures, NULL) != TDM_OK)
        return false;
    *plan = (tdm_advise_plan){.choice = *choice,
                              .values = TDM_ALLOC(arena, double, scenario->n_targets)};
    take_values(scenario, &figures, plan->values);
    plan->figures = figures;
    plan->figures.comms = NULL;
    plan->figures.n_comms = 0;
    plan->score = tdm_advise_judge(scenario, choice, &figures, plan->values);
    return true;
}

static void note_best(const search *s, double *bests)
{
    const tdm_scenario *scenario = s->result->scenario;
    for (uint32_t i = 0; i < scenario->n_targets; i++) {
        double *best = &bests[i];
        bool lower = scenario->targets[i].is_maximum;
        if (isnan(*best) || (lower ? s->values[i] < *best : s->values[i] > *best))
            *best = s->values[i];
    }
}

static bool same_layout(const tdm_fold_choice *a, const tdm_fold_choice *b)
{
    return a->parallel.tp == b->parallel.tp && a->parallel.pp == b->parallel.pp &&
           a->parallel.ep == b->parallel.ep && a->parallel.etp == b->parallel.etp;
}

/* Keeps the plan if it is among the best: one of each layout. */
static void keep(search *s, const tdm_fold_choice *choice, const tdm_figures *figures,
                 const tdm_advise_score *score)
{
    tdm_advise_result *r = s->result;
    uint32_t at = 0;
    while (at < r->n_plans && !same_layout(&r->plans[at].choice, choice))
        at++;
    bool known = at < r->n_plans;
    if (!known && r->n_plans == s->options->n_keep)
        at = r->n_plans - 1; /* the worst makes room */
    if (at < r->n_plans && tdm_advise_compare(score, &r->plans[at].score) >= 0)
        return;
    if (at == r->n_plans)
        r->plans[r->n_plans++].values = TDM_ALLOC(s->arena, double, r->scenario->n_targets);
    double *values = r->plans[at].values;
    memcpy(values, s->values, r->scenario->n_targets * sizeof *values);
    r->plans[at] = (tdm_advise_plan){
        .choice = *choice, .figures = *figures, .values = values, .score = *score};
    r->plans[at].figures.comms = NULL;
    r->plans[at].figures.n_comms = 0;
    for (; at > 0 && tdm_advise_compare(&r->plans[at].score, &r->plans[at - 1].score) < 0; at--) {
        tdm_advise_plan moved = r->plans[at];
        r->plans[at] = r->plans[at - 1];
        r->plans[at - 1] = moved;
    }
}

/* False when it is no plan: the schedule deadlocks, or ranks share no route. Sets s->values. */
static bool evaluate(search *s, const tdm_fold_choice *choice, tdm_figures *figures,
                     tdm_advise_score *score)
{
    const tdm_scenario *scenario = s->result->scenario;
    if (tdm_folded_evaluate(s->folded, choice, figures, NULL) != TDM_OK)
        return false;
    take_values(scenario, figures, s->values);
    *score = tdm_advise_judge(scenario, choice, figures, s->values);
    return true;
}

static void show_progress(const search *s, uint64_t n)
{
    if (s->options->progress && n % 1000 == 0)
        fprintf(stderr, "\r%llu plans", (unsigned long long)n);
}

/* A plan with the values in s->values. */
static void account(search *s, const tdm_fold_choice *choice, const tdm_figures *figures,
                    const tdm_advise_score *score)
{
    tdm_advise_result *r = s->result;
    r->n_searched++;
    r->n_fit += score->fits;
    r->n_met += score->fits && score->n_missed == 0;
    if (score->fits)
        note_best(s, r->best_alone);
    if (score->fits && choice->micro_batch_size == r->scenario->micro_batch_size)
        note_best(s, r->best_kept);
    keep(s, choice, figures, score);
}

static bool consider(void *context, const tdm_fold_choice *choice)
{
    search *s = context;
    tdm_figures figures;
    tdm_advise_score score;
    if (!evaluate(s, choice, &figures, &score))
        return true;
    account(s, choice, &figures, &score);
    show_progress(s, s->result->n_searched);
    return true;
}

/* ---- the search, shared ----
 * Each process evaluates its share of the choices. Then all have all records, and go through all
 * choices once more, in their order: which plan is kept can depend on it, since shortfalls that
 * nearly agree count as equal. */

typedef struct record {
    tdm_advise_score score;
    bool evaluated;
} record;

static size_t record_bytes(const search *s)
{
    return sizeof(record) + s->result->scenario->n_targets * sizeof(double);
}

/* The process that has the choice: neighbours that differ in schedule and optimizer only stay
 * together, since the evaluation remembers what they have in common. */
static uint32_t owner_of(search *s, const tdm_fold_choice *choice)
{
    const tdm_parallel *a = &s->before.parallel, *b = &choice->parallel;
    bool same = a->tp == b->tp && a->ep == b->ep && a->etp == b->etp && a->dp == b->dp &&
                a->pp == b->pp && a->vpp == b->vpp &&
                a->sequence_parallel == b->sequence_parallel &&
                s->before.recompute == choice->recompute &&
                s->before.num_microbatches == choice->num_microbatches &&
                s->before.micro_batch_size == choice->micro_batch_size;
    s->group += !same;
    s->before = *choice;
    return s->group % s->n_processes;
}

static bool evaluate_own(void *context, const tdm_fold_choice *choice)
{
    search *s = context;
    size_t *n = &s->n_bytes[s->process], one = record_bytes(s);
    if (owner_of(s, choice) != s->process)
        return true;
    if (*n + one > s->capacity) {
        unsigned char *larger = realloc(s->records[s->process], 2 * s->capacity + 1024 * one);
        if (!larger)
            return tdm_error_add(s->err, TDM_E_INTERNAL, "advise: out of memory") == TDM_OK;
        s->records[s->process] = larger;
        s->capacity = 2 * s->capacity + 1024 * one;
    }
    tdm_figures figures;
    record r;
    memset(&r, 0, sizeof r);
    r.evaluated = evaluate(s, choice, &figures, &r.score);
    memcpy(s->records[s->process] + *n, &r, sizeof r);
    memcpy(s->records[s->process] + *n + sizeof r, s->values, one - sizeof r);
    *n += one;
    show_progress(s, *n / one);
    return true;
}

static bool recall(void *context, const tdm_fold_choice *choice)
{
    search *s = context;
    uint32_t owner = owner_of(s, choice);
    size_t one = record_bytes(s);
    const tdm_figures later = {0};
    record r;
    if (s->taken[owner] + one > s->n_bytes[owner])
        return tdm_error_add(s->err, TDM_E_INVALID,
                             "advise: process %u found other plans than this one", owner) == TDM_OK;
    memcpy(&r, s->records[owner] + s->taken[owner], sizeof r);
    memcpy(s->values, s->records[owner] + s->taken[owner] + sizeof r, one - sizeof r);
    s->taken[owner] += one;
    if (r.evaluated)
        account(s, choice, &later, &r.score);
    return true;
}

static tdm_code share_records(search *s)
{
    tdm_code code = TDM_OK;
    for (uint32_t p = 0; p < s->n_processes && code == TDM_OK; p++) {
        uint64_t n = s->n_bytes[p];
        code = tdm_world_share(s->options->world, p, &n, sizeof n, s->err);
        s->n_bytes[p] = n;
        if (code == TDM_OK && p != s->process)
            s->records[p] = malloc(n + 1);
        if (code == TDM_OK && !s->records[p] && n > 0)
            code = tdm_error_add(s->err, TDM_E_INTERNAL, "advise: out of memory");
        if (code == TDM_OK)
            code = tdm_world_share(s->options->world, p, s->records[p], n, s->err);
    }
    return code;
}

static tdm_code search_together(search *s)
{
    const tdm_scenario *scenario = s->result->scenario;
    const tdm_world_shape *shape = tdm_world_shape_of(s->options->world);
    s->process = shape->process;
    s->n_processes = shape->n_processes;
    s->records = TDM_ALLOC(s->arena, unsigned char *, s->n_processes);
    s->n_bytes = TDM_ALLOC(s->arena, size_t, s->n_processes);
    s->taken = TDM_ALLOC(s->arena, size_t, s->n_processes);
    unsigned before = s->err->n_messages;
    tdm_advise_enumerate(scenario, &s->options->limits, evaluate_own, s);
    tdm_code code = s->err->n_messages > before ? s->err->code : share_records(s);
    s->group = 0;
    s->before = (tdm_fold_choice){0};
    if (code == TDM_OK)
        tdm_advise_enumerate(scenario, &s->options->limits, recall, s);
    for (uint32_t p = 0; p < s->n_processes; p++)
        free(s->records[p]);
    for (uint32_t i = 0; i < s->result->n_plans && code == TDM_OK; i++)
        tdm_advise_evaluate(s->arena, s->folded, scenario, &s->result->plans[i].choice,
                            &s->result->plans[i]);
    return code == TDM_OK && s->err->n_messages > before ? s->err->code : code;
}

tdm_code tdm_advise_search(tdm_arena *arena, tdm_folded *folded, const tdm_scenario *scenario,
                           const tdm_advise_options *options, tdm_advise_result *result,
                           tdm_error *err)
{
    tdm_fold_choice now = tdm_fold_choice_of(scenario);
    *result = (tdm_advise_result){.scenario = scenario};
    tdm_figures figures;
    tdm_code code = tdm_folded_evaluate(folded, &now, &figures, err);
    if (code != TDM_OK)
        return code;
    tdm_advise_evaluate(arena, folded, scenario, &now, &result->now);
    result->plans = TDM_ALLOC(arena, tdm_advise_plan, options->n_keep);
    result->best_alone = TDM_ALLOC(arena, double, scenario->n_targets);
    result->best_kept = TDM_ALLOC(arena, double, scenario->n_targets);
    for (uint32_t i = 0; i < scenario->n_targets; i++)
        result->best_alone[i] = result->best_kept[i] = NAN;
    search s = {.arena = arena,
                .folded = folded,
                .options = options,
                .result = result,
                .err = err,
                .values = TDM_ALLOC(arena, double, scenario->n_targets)};
    if (options->world)
        code = search_together(&s);
    else
        tdm_advise_enumerate(scenario, &options->limits, consider, &s);
    if (options->progress)
        fprintf(stderr, "\r%llu plans\n", (unsigned long long)result->n_searched);
    return code;
}
