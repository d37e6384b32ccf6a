/* auto: builds a zero-bubble order for the given pass times under a limit on activations.
 *
 * Rounds, one per microbatch: every stage takes one more forward, then the backwards run from the
 * last stage to the first. Weight gradients fill the gaps in which a stage would wait, and make
 * room when the limit is reached; before the first backward a stage takes as many forwards as the
 * limit and the time allow. Three choices are tried in all combinations and the shortest order
 * wins: whether the forwards in advance may delay the first backward, whether a stage that is far
 * ahead may skip a forward, and whether a gap shorter than a weight gradient is filled all the
 * same. Source: Qi et al. 2024, Zero Bubble Pipeline Parallelism, section 3.1, written from its
 * description. With limits p and 2p it gives the bubble rates of its table 5, ZB-1p and ZB-2p. */
#include "schedule.h"

#include <math.h>

/* The limit when none is given, as ZB-2p has it. */
enum { DEFAULT_LIMIT_PER_STAGE = 2 };

/* Choices, as bits. */
enum { ALLOW_DELAY = 1, SKIP_FORWARDS = 2, FILL_SHORT_GAPS = 4, N_CHOICES = 8 };

/* Sums of a stage's activations accumulate rounding: a microbatch fits with this much to spare. */
static const double ROUNDING = 1e-9;

typedef struct stage_state {
    tdm_pass_list list;
    uint32_t forwards, backwards, weights; /* put so far */
    double now_s, first_s, idle_s;
    double held;           /* activations, in microbatches */
    double *forward_end_s; /* [n_microbatches] */
    double *backward_end_s;
    uint32_t wanted;
} stage_state;

typedef struct builder {
    const tdm_schedule_shape *shape;
    const tdm_stage_times *times;
    double limit;
    unsigned choices;
    bool stuck; /* these choices give no order */
    stage_state *stages;
} builder;

static bool fits(const builder *b, double held)
{
    return held <= b->limit + ROUNDING;
}

static double most_idle_s(const builder *b)
{
    double most = 0;
    for (uint32_t s = 0; s < b->shape->n_stages; s++)
        most = fmax(most, b->stages[s].idle_s);
    return most;
}

/* When the input of a stage's next F or B arrives; 0 where it comes from no other stage. */
static double forward_arrival_s(const builder *b, uint32_t s)
{
    const stage_state *st = &b->stages[s];
    return s == 0 ? 0 : b->stages[s - 1].forward_end_s[st->forwards] + b->times->send_s;
}

static double backward_arrival_s(const builder *b, uint32_t s)
{
    const stage_state *st = &b->stages[s];
    bool last = s + 1 == b->shape->n_stages;
    return last ? 0 : b->stages[s + 1].backward_end_s[st->backwards] + b->times->send_s;
}

static void start_pass(stage_state *st, double arrival_s, double duration_s)
{
    double start_s = fmax(st->now_s, arrival_s);
    if (st->list.n == 0)
        st->first_s = start_s;
    else
        st->idle_s += start_s - st->now_s;
    st->now_s = start_s + duration_s;
}

static void put_forward(builder *b, uint32_t s)
{
    stage_state *st = &b->stages[s];
    start_pass(st, forward_arrival_s(b, s), b->times->forward_s[s]);
    tdm_schedule_put(&st->list, TDM_PASS_F, 0, st->forwards);
    st->forward_end_s[st->forwards++] = st->now_s;
    st->held += 1;
}

static void put_backward(builder *b, uint32_t s)
{
    stage_state *st = &b->stages[s];
    start_pass(st, backward_arrival_s(b, s), b->times->backward_input_s[s]);
    tdm_schedule_put(&st->list, TDM_PASS_B, 0, st->backwards);
    st->backward_end_s[st->backwards++] = st->now_s;
    st->held -= 1 - b->times->kept_share;
}

static void put_weight(builder *b, uint32_t s)
{
    stage_state *st = &b->stages[s];
    start_pass(st, 0, b->times->backward_weight_s[s]);
    tdm_schedule_put(&st->list, TDM_PASS_W, 0, st->weights++);
    st->held -= b->times->kept_share;
}

/* Uses the time until an input arrives for weight gradients. */
static void fill_gap(builder *b, uint32_t s, double arrival_s)
{
    stage_state *st = &b->stages[s];
    while (st->weights < st->backwards && st->now_s + b->times->backward_weight_s[s] <= arrival_s)
        put_weight(b, s);
    if (st->weights == st->backwards || st->now_s >= arrival_s)
        return;
    /* The gap is shorter than a weight gradient: waiting may make this the stage that idles most.
     */
    bool matters = arrival_s - st->now_s > most_idle_s(b) - st->idle_s;
    if (matters || (b->choices & FILL_SHORT_GAPS))
        put_weight(b, s);
}

/* How many forwards each stage takes before its first backward, beyond one: as the limit and the
 * first backward's arrival allow, and fewer on every later stage. */
static void plan_warmup(builder *b)
{
    uint32_t p = b->shape->n_stages, m = b->shape->n_microbatches;
    const tdm_stage_times *t = b->times;
    double next_end_s = b->stages[p - 1].now_s + t->backward_input_s[p - 1];
    for (uint32_t s = p - 1; s-- > 0;) {
        stage_state *st = &b->stages[s];
        double end_s = st->now_s, held = st->held, arrival_s = next_end_s + t->send_s;
        st->wanted = 0;
        while (st->forwards + st->wanted < m && fits(b, held + 1)) {
            bool late =
                b->choices & ALLOW_DELAY ? end_s >= arrival_s : end_s + t->forward_s[s] > arrival_s;
            if (late)
                break;
            held += 1;
            end_s += t->forward_s[s];
            st->wanted++;
        }
        next_end_s = fmax(end_s, arrival_s) + t->backward_input_s[s];
    }
    b->stages[p - 1].wanted = 0;
    for (uint32_t s = 1; s < p; s++) {
        stage_state *st = &b->stages[s];
        uint32_t before = b->stages[s - 1].wanted;
        if (st->wanted > before)
            st->wanted = before;
        if (st->wanted > 0 && st->wanted == before && st->forwards + st->wanted < m)
            st->wanted--;
    }
}

static void warm_up(builder *b)
{
    uint32_t p = b->shape->n_stages;
    for (uint32_t s = 0; s < p; s++)
        put_forward(b, s);
    plan_warmup(b);
    for (uint32_t s = 0; s < p; s++)
        for (uint32_t i = 0; i < b->stages[s].wanted; i++)
            put_forward(b, s);
    for (uint32_t s = p; s-- > 0;)
        put_backward(b, s);
}

/* A stage two or more forwards ahead of the next may leave one out when that costs nothing: the
 * next stage would not need it before its own next forward and backward are through. */
static bool skips_forward(const builder *b, uint32_t s)
{
    const tdm_stage_times *t = b->times;
    const stage_state *st = &b->stages[s], *next = st + 1;
    if (!(b->choices & SKIP_FORWARDS) || s + 1 == b->shape->n_stages ||
        st->forwards < next->forwards + 2)
        return false;
    double needed_s = next->now_s + t->forward_s[s + 1] + t->backward_input_s[s + 1] + t->send_s;
    if (st->now_s >= needed_s)
        return true;
    double held = st->held + 1, end_s = st->now_s + t->forward_s[s];
    for (uint32_t w = st->weights; !fits(b, held) && w < st->backwards; w++) {
        held -= t->kept_share;
        end_s += t->backward_weight_s[s];
    }
    return end_s > needed_s && needed_s - st->now_s <= most_idle_s(b) - st->idle_s;
}

static void take_forwards(builder *b)
{
    uint32_t p = b->shape->n_stages, m = b->shape->n_microbatches;
    for (uint32_t s = 0; s < p; s++)
        b->stages[s].wanted = b->stages[s].forwards < m && !skips_forward(b, s);
    for (uint32_t s = p - 1;
         s-- > 0;) /* stay ahead of the next stage, but never run away from it */
        if (b->stages[s + 1].wanted == 0)
            b->stages[s].wanted = 0;
    for (uint32_t s = 0; s < p && !b->stuck; s++) {
        stage_state *st = &b->stages[s];
        if (st->wanted == 0)
            continue;
        while (!fits(b, st->held + 1) && st->weights < st->backwards)
            put_weight(b, s);
        b->stuck = !fits(b, st->held + 1);
        fill_gap(b, s, forward_arrival_s(b, s));
        put_forward(b, s);
    }
}

static void take_backwards(builder *b)
{
    uint32_t m = b->shape->n_microbatches;
    for (uint32_t s = b->shape->n_stages; s-- > 0;) {
        stage_state *st = &b->stages[s];
        fill_gap(b, s, backward_arrival_s(b, s));
        /* The first stage has no forwards left to run ahead with: its weight gradients fit here. */
        while (s == 0 && st->forwards == m && st->weights < st->backwards)
            put_weight(b, s);
        put_backward(b, s);
    }
}

/* Longest span of a stage; INFINITY when the limit cannot be kept or forwards are left over. */
static double build(builder *b)
{
    uint32_t m = b->shape->n_microbatches;
    warm_up(b);
    for (uint32_t i = 1; i < m && !b->stuck; i++) {
        take_forwards(b);
        if (!b->stuck)
            take_backwards(b);
    }
    double longest_s = 0;
    for (uint32_t s = 0; s < b->shape->n_stages; s++)
        b->stuck |= b->stages[s].forwards < m; /* skipped too often to catch up */
    for (uint32_t s = 0; s < b->shape->n_stages && !b->stuck; s++) {
        while (b->stages[s].weights < m)
            put_weight(b, s);
        longest_s = fmax(longest_s, b->stages[s].now_s - b->stages[s].first_s);
    }
    return b->stuck ? INFINITY : longest_s;
}

static void reset(builder *b, tdm_pass *const *passes)
{
    b->stuck = false;
    for (uint32_t s = 0; s < b->shape->n_stages; s++) {
        stage_state *st = &b->stages[s];
        *st = (stage_state){.list = {passes[s], 3 * b->shape->n_microbatches, 0},
                            .forward_end_s = st->forward_end_s,
                            .backward_end_s = st->backward_end_s};
    }
}

static builder *builder_new(tdm_arena *scratch, const tdm_schedule_shape *shape)
{
    builder *b = TDM_ALLOC(scratch, builder, 1);
    uint32_t limit = shape->activation_limit ? shape->activation_limit
                                             : DEFAULT_LIMIT_PER_STAGE * shape->n_stages;
    *b = (builder){.shape = shape, .times = shape->times, .limit = limit};
    b->stages = TDM_ALLOC(scratch, stage_state, shape->n_stages);
    for (uint32_t s = 0; s < shape->n_stages; s++) {
        b->stages[s].forward_end_s = TDM_ALLOC(scratch, double, shape->n_microbatches);
        b->stages[s].backward_end_s = TDM_ALLOC(scratch, double, shape->n_microbatches);
    }
    return b;
}

static const char *refuse(const tdm_schedule_shape *shape)
{
    if (shape->activation_limit && shape->activation_limit < shape->n_stages)
        return "needs schedule.activation_limit to be at least the number of pipeline stages";
    return NULL;
}

static uint32_t order(tdm_arena *scratch, const tdm_schedule_shape *shape, uint32_t stage,
                      tdm_pass *passes, uint32_t capacity)
{
    uint32_t n = 3 * shape->n_microbatches;
    if (capacity < n)
        return n;
    builder *b = builder_new(scratch, shape);
    tdm_pass **work = TDM_ALLOC(scratch, tdm_pass *, shape->n_stages);
    for (uint32_t s = 0; s < shape->n_stages; s++)
        work[s] = TDM_ALLOC(scratch, tdm_pass, n);
    double best_s = INFINITY;
    for (unsigned choices = 0; choices < N_CHOICES; choices++) {
        b->choices = choices;
        reset(b, work);
        double span_s = build(b);
        if (span_s >= best_s)
            continue;
        best_s = span_s;
        for (uint32_t i = 0; i < n; i++)
            passes[i] = work[stage][i];
    }
    return n;
}

const tdm_schedule tdm_schedule_auto = {
    .name = "auto",
    .summary = "zero-bubble order built for the pass times under a limit on activations",
    .splits_backward = true,
    .needs_times = true,
    .refuse = refuse,
    .order = order,
};
