/* support_rules_trace.c: traces and figures recounted. */
#include "tests/support_rules.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance * fmax(fabs(a), fabs(b));
}

/* ---- calls ---- */

/* One member's part in a communication. */
typedef struct part {
    uint64_t communicator, turn; /* the turn-th op that the rank issues on the communicator */
    uint64_t id, call; /* what noise is drawn for: the program's own number of the communicator */
    uint32_t rank, n_members;
    tdm_instance in;
    tdm_span span;
} part;

/* The communicator from the definition: members of a group, or a pair, its direction, and whether
 * it carries activations. */
static uint64_t communicator_of(const tdm_plan *plan, uint32_t rank, const tdm_instance *in,
                                uint32_t *n_members)
{
    const tdm_op *op = in->op;
    if (tdm_op_is_p2p(op->kind)) {
        uint32_t world = plan->mesh.world, step = plan->mesh.per_stage;
        bool next = op->u.p2p.peer == TDM_PEER_NEXT, sends = op->kind == TDM_OP_SEND;
        bool back = plan->placement == TDM_PLACEMENT_V && in->pass.chunk % 2 == 1;
        uint32_t peer = (rank + (next != back ? step : world - step)) % world;
        *n_members = 2;
        return (uint64_t)(sends == next ? 2 : 3) << 62 | (uint64_t)(sends ? rank : peer) << 24 |
               (sends ? peer : rank);
    }
    tdm_group group = tdm_mesh_group(&plan->mesh, op->u.collective.group, rank);
    *n_members = group.size;
    return (uint64_t)op->u.collective.group << 48 | group.rank0;
}

static int by_call(const void *a, const void *b)
{
    const part *x = a, *y = b;
    if (x->communicator != y->communicator)
        return x->communicator < y->communicator ? -1 : 1;
    if (x->turn != y->turn)
        return x->turn < y->turn ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* How often a number came before. */
typedef struct counts {
    struct {
        uint64_t number, n;
    } seen[16];
} counts;

static uint64_t count(counts *c, uint64_t number)
{
    uint32_t s = 0;
    while (s < TDM_COUNT(c->seen) && c->seen[s].n > 0 && c->seen[s].number != number)
        s++;
    assert_true(s < TDM_COUNT(c->seen));
    c->seen[s].number = number;
    return c->seen[s].n++;
}

/* Numbers the ops of each communicator: `parts` of one rank in program order. */
static void number_turns(part *parts, uint32_t n)
{
    counts turns = {0}, calls = {0};
    for (uint32_t i = 0; i < n; i++) {
        parts[i].turn = count(&turns, parts[i].communicator);
        parts[i].call = count(&calls, parts[i].id);
    }
}

static uint32_t count_comms(const tdm_plan *plan)
{
    uint32_t n = 0;
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        tdm_cursor cursor;
        tdm_cursor_init(&cursor, plan, rank);
        for (tdm_instance in; tdm_cursor_next(&cursor, &in);)
            n += in.op->stream != TDM_STREAM_COMPUTE;
    }
    return n;
}

static part *collect_parts(tdm_arena *arena, const tdm_plan *plan, const tdm_trace *trace,
                           uint32_t *n_parts)
{
    uint32_t n = 0;
    part *parts = TDM_ALLOC(arena, part, count_comms(plan));
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        tdm_cursor cursor;
        tdm_cursor_init(&cursor, plan, rank);
        uint32_t first = n;
        for (tdm_instance in; tdm_cursor_next(&cursor, &in);) {
            if (in.op->stream == TDM_STREAM_COMPUTE)
                continue;
            part *p = &parts[n++];
            *p = (part){.rank = rank, .in = in, .span = trace->ranks[rank].spans[in.index]};
            p->communicator = communicator_of(plan, rank, &in, &p->n_members);
            p->id = tdm_comm_identify(plan, rank, &in).id;
        }
        number_turns(parts + first, n - first);
    }
    if (n > 0)
        qsort(parts, n, sizeof *parts, by_call);
    *n_parts = n;
    return parts;
}

/* Time for the bytes on the fullest link at its full speed: no sharing can be faster. *disjoint:
 * cleared when two flows cross one link. */
static double least_transfer_s(const tdm_net *net, const tdm_transfer *transfer, double *load,
                               bool *disjoint)
{
    const tdm_topology *topology = tdm_net_topology(net);
    double least = 0;
    for (uint32_t l = 0; l < topology->n_links; l++)
        load[l] = 0;
    for (uint32_t f = 0; f < transfer->n_loads; f++) {
        const tdm_load *flow = &transfer->loads[f];
        const tdm_path *path = tdm_net_path(net, flow->path);
        for (uint32_t l = 0; l < path->n_links && flow->bytes > 0; l++) {
            *disjoint &= load[path->links[l]] <= 0;
            load[path->links[l]] += (double)flow->bytes;
        }
        if (flow->bytes > 0)
            least = fmax(least, (double)flow->bytes / flow->max_bytes_per_s);
    }
    for (uint32_t l = 0; l < topology->n_links; l++)
        least = fmax(least, load[l] / topology->links[l].bytes_per_s);
    return least;
}

typedef struct call_check {
    const char *what;
    const tdm_plan *plan;
    tdm_net *net;
    const tdm_perturbed *perturbed;
    bool alone;
    double tolerance;
    tdm_arena scratch;
    double *load; /* [n_links] */
    bool disjoint;
} call_check;

static void check_call(call_check *c, const part *parts, uint32_t n)
{
    const char *what = c->what;
    const part *p = &parts[0];
    RULE(what, n == p->n_members, "rank %u op %u: %u of %u members\n", p->rank, p->in.index, n,
         p->n_members);
    double arrived_s = 0;
    for (uint32_t i = 0; i < n; i++) {
        const tdm_op *op = parts[i].in.op;
        bool pair = tdm_op_is_p2p(op->kind) && parts[i].in.op->kind != p->in.op->kind;
        RULE(what, i == 0 || pair || op->kind == p->in.op->kind, "rank %u op %u\n", parts[i].rank,
             parts[i].in.index);
        RULE(what, near(parts[i].span.end_s, p->span.end_s, c->alone ? 0 : c->tolerance),
             "rank %u op %u ends at %.17g, rank %u at %.17g\n", parts[i].rank, parts[i].in.index,
             parts[i].span.end_s, p->rank, p->span.end_s);
        arrived_s = fmax(arrived_s, parts[i].span.start_s);
    }
    tdm_transfer transfer = tdm_comm_transfer(c->plan, c->net, p->rank, &p->in);
    bool disjoint = true;
    double latency_s = transfer.latency_s * tdm_perturbed_latency(c->perturbed, p->id, p->call);
    double least_s = least_transfer_s(c->net, &transfer, c->load, &disjoint);
    double alone_s = tdm_net_time(&c->scratch, c->net, transfer.loads, transfer.n_loads);
    c->disjoint &= disjoint;
    RULE(what, alone_s >= least_s * (1 - 1e-12), "rank %u op %u: %.17g below %.17g\n", p->rank,
         p->in.index, alone_s, least_s);
    RULE(what, !disjoint || near(alone_s, least_s, 1e-12), "rank %u op %u: %.17g, not %.17g\n",
         p->rank, p->in.index, alone_s, least_s);
    double earliest_s = arrived_s + latency_s + least_s,
           alone_end_s = arrived_s + latency_s + alone_s;
    /* SimGrid works to 1e-12 s, which counts where a whole step takes microseconds. */
    double slack_s = c->alone ? 0 : 5e-12;
    RULE(what, p->span.end_s >= earliest_s * (1 - fmax(c->tolerance, 1e-12)) - slack_s,
         "rank %u op %u ends at %.17g, not before %.17g\n", p->rank, p->in.index, p->span.end_s,
         earliest_s);
    RULE(what, !c->alone || near(p->span.end_s, alone_end_s, 1e-12),
         "rank %u op %u ends at %.17g, alone at %.17g\n", p->rank, p->in.index, p->span.end_s,
         alone_end_s);
}

static bool check_calls(const char *what, const tdm_plan *plan, const tdm_machine *machine,
                        const tdm_trace *trace, bool alone, double tolerance)
{
    call_check c = {.what = what,
                    .plan = plan,
                    .perturbed = machine->perturbed,
                    .alone = alone,
                    .tolerance = tolerance,
                    .disjoint = true};
    uint32_t n;
    c.net = tdm_net_new(&c.scratch, machine->topology);
    c.load = TDM_ALLOC(&c.scratch, double, machine->topology->n_links + 1);
    const part *parts = collect_parts(&c.scratch, plan, trace, &n);
    for (uint32_t i = 0, end; i < n; i = end) {
        end = i + 1;
        while (end < n && parts[end].communicator == parts[i].communicator &&
               parts[end].turn == parts[i].turn)
            end++;
        check_call(&c, &parts[i], end - i);
    }
    tdm_arena_free(&c.scratch);
    return c.disjoint;
}

/* ---- streams ---- */

/* What a rank has issued so far on one stream. */
typedef struct issued {
    uint32_t n;
    double *end_s;
    uint32_t *pass;
    tdm_pass *passes;
} issued;

/* End of the op that a wait means; 0: none. */
static double awaited_s(const issued *streams, const tdm_wait *wait, const tdm_instance *in)
{
    const issued *s = &streams[wait->stream];
    uint32_t pass = in->pass_index;
    if (wait->kind == TDM_WAIT_FORWARD || wait->kind == TDM_WAIT_BACKWARD) {
        tdm_pass_kind kind = wait->kind == TDM_WAIT_FORWARD ? TDM_PASS_F : TDM_PASS_B;
        for (uint32_t i = s->n; i-- > 0;)
            if (s->passes[i].kind == kind && s->passes[i].chunk == in->pass.chunk &&
                s->passes[i].microbatch == in->pass.microbatch)
                return s->end_s[i];
        return 0;
    }
    if (wait->kind == TDM_WAIT_TAIL)
        return s->n > wait->n ? s->end_s[s->n - 1 - wait->n] : 0;
    for (uint32_t i = s->n; i-- > 0 && wait->n <= pass;)
        if (s->pass[i] < pass - wait->n)
            return s->end_s[i];
    return 0;
}

static void check_rank(const char *what, const tdm_plan *plan, const tdm_machine *machine,
                       const tdm_trace *trace, uint32_t rank, double tolerance)
{
    tdm_arena scratch = {0};
    uint32_t n_ops = tdm_plan_n_ops(plan, rank);
    issued streams[TDM_N_STREAMS];
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        streams[s] =
            (issued){0, TDM_ALLOC(&scratch, double, n_ops), TDM_ALLOC(&scratch, uint32_t, n_ops),
                     TDM_ALLOC(&scratch, tdm_pass, n_ops)};
    RULE(what, trace->ranks[rank].n_ops == n_ops, "rank %u\n", rank);
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, plan, rank);
    for (tdm_instance in; tdm_cursor_next(&cursor, &in);) {
        tdm_span span = trace->ranks[rank].spans[in.index];
        issued *own = &streams[in.op->stream];
        double ready_s = (in.index + 1) * trace->launch_s;
        ready_s = fmax(ready_s, own->n > 0 ? own->end_s[own->n - 1] : 0);
        for (uint32_t w = 0; w < in.op->n_waits; w++)
            ready_s = fmax(ready_s, awaited_s(streams, &in.op->waits[w], &in));
        RULE(what, near(span.start_s, ready_s, tolerance),
             "rank %u op %u \"%s\" starts at %.17g, ready at %.17g\n", rank, in.index, in.op->name,
             span.start_s, ready_s);
        RULE(what, span.end_s >= span.start_s && span.end_s < INFINITY,
             "%s: rank %u op %u: %.17g to %.17g\n", trace->engine, rank, in.index, span.start_s,
             span.end_s);
        if (in.op->stream == TDM_STREAM_COMPUTE)
            RULE(what,
                 near(span.end_s,
                      span.start_s +
                          tdm_cost_op(machine->device, plan, in.op,
                                      tdm_plan_tokens(plan, rank, in.layer, in.pass.microbatch)) *
                              tdm_perturbed_kernel(machine->perturbed, rank, in.index),
                      tolerance),
                 "rank %u op %u \"%s\"\n", rank, in.index, in.op->name);
        own->end_s[own->n] = span.end_s;
        own->passes[own->n] = in.pass;
        own->pass[own->n++] = in.pass_index;
    }
    tdm_arena_free(&scratch);
}

bool rules_trace(const char *what, const tdm_plan *plan, const tdm_machine *machine,
                 const tdm_trace *trace, bool alone, double tolerance)
{
    double launch_s = plan->pass_times ? 0 : machine->device->launch_s.value;
    RULE(what, fabs(trace->launch_s - launch_s) <= 0, "launch %g\n", trace->launch_s);
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++)
        check_rank(what, plan, machine, trace, rank, tolerance);
    return check_calls(what, plan, machine, trace, alone, tolerance);
}
