/* tape.c: lays the programs of a plan's roles out flat, see tape.h. */
#include "tape.h"

#include <math.h>
#include <string.h>

/* What an op waits for is relative to what was issued before it, so it is found by going through
 * the program once. */
typedef struct recorder {
    const tdm_plan *plan;
    const tdm_role *role;
    tdm_tape *tape;
    tdm_tape_op *ops;
    tdm_tape_wait *waits;
    uint32_t n_waits;
    uint32_t *streams[TDM_N_STREAMS];
    uint32_t (*marks)[TDM_N_STREAMS]; /* [n_passes] ops issued when a pass began */
    uint32_t n_begun;
    uint32_t *shared; /* [pp] last op (index + 1) on the communicator shared with a stage */
} recorder;

/* Durations of a template's compute ops; NAN: depends on the tokens routed. */
static double *template_costs(tdm_arena *arena, const tdm_costs *costs,
                              const tdm_template *template)
{
    double *seconds = TDM_ALLOC(arena, double, template->n_ops);
    for (uint32_t i = 0; i < template->n_ops; i++) {
        const tdm_op *op = &template->ops[i];
        bool by_tokens = op->kind == TDM_OP_GROUPED_GEMM ||
                         (op->kind == TDM_OP_MEMORY && op->u.memory.bytes.per_token > 0);
        if (by_tokens)
            seconds[i] = NAN;
        else if (op->stream == TDM_STREAM_COMPUTE)
            seconds[i] = tdm_cost_op(costs->device, costs->plan, 0, &(tdm_instance){.op = op});
    }
    return seconds;
}

/* Passes without ops begin with the next one that has some. */
static void begin_passes(recorder *r, uint32_t pass_index)
{
    for (; r->n_begun <= pass_index; r->n_begun++)
        memcpy(r->marks[r->n_begun], r->tape->n_on_stream, sizeof r->tape->n_on_stream);
}

static void add_wait(recorder *r, tdm_stream stream, uint32_t number)
{
    r->waits[r->n_waits++] = (tdm_tape_wait){
        .index = r->streams[stream][number - 1], .number = number, .stream = stream};
}

/* Number of the op on wait->stream that a wait means; 0: none. */
static uint32_t wait_number(const recorder *r, const tdm_wait *wait)
{
    uint32_t issued = r->tape->n_on_stream[wait->stream];
    if (wait->kind == TDM_WAIT_TAIL)
        return issued > wait->n ? issued - wait->n : 0;
    uint32_t current = r->n_begun - 1;
    return wait->n > current ? 0 : r->marks[current - wait->n][wait->stream];
}

/* Operations of one communicator run in issue order, also from different streams. Only sends and
 * receives that share a communicator both ways come from two. */
static void keep_shared_order(recorder *r, const tdm_instance *instance)
{
    const tdm_op *op = instance->op;
    if (!tdm_op_is_p2p(op->kind) || op->u.p2p.p2p != TDM_P2P_SHARED)
        return;
    uint32_t stage_rank = r->role->stage * r->plan->mesh.per_stage;
    uint32_t peer = tdm_plan_peer(r->plan, stage_rank, instance);
    if (peer == UINT32_MAX)
        return;
    uint32_t *last = &r->shared[tdm_mesh_stage(&r->plan->mesh, peer)];
    if (*last > 0) {
        tdm_stream stream = r->ops[*last - 1].instance.op->stream;
        uint32_t number = r->tape->n_on_stream[stream];
        while (r->streams[stream][number - 1] != *last - 1)
            number--;
        if (stream != op->stream)
            add_wait(r, stream, number);
    }
    *last = instance->index + 1;
}

static void record(recorder *r, const tdm_instance *instance, double seconds)
{
    const tdm_op *op = instance->op;
    if (instance->first_of_pass)
        begin_passes(r, instance->pass_index);
    tdm_tape_op *entry = &r->ops[instance->index];
    *entry = (tdm_tape_op){.instance = *instance, .seconds = seconds, .first_wait = r->n_waits};
    for (uint32_t i = 0; i < op->n_waits; i++) {
        uint32_t number = wait_number(r, &op->waits[i]);
        if (number > 0)
            add_wait(r, op->waits[i].stream, number);
    }
    keep_shared_order(r, instance);
    entry->n_waits = r->n_waits - entry->first_wait;
    r->streams[op->stream][r->tape->n_on_stream[op->stream]++] = instance->index;
}

/* Allocates for all ops, their waits (those listed, and one for order on a shared communicator) and
 * streams. */
static recorder recorder_new(tdm_arena *arena, const tdm_plan *plan, uint32_t rank)
{
    recorder r = {.plan = plan, .role = &plan->roles[plan->role_of[rank]]};
    r.tape = TDM_ALLOC(arena, tdm_tape, 1);
    tdm_cursor cursor;
    tdm_instance instance;
    uint32_t n_waits = 0;
    uint32_t n_on_stream[TDM_N_STREAMS] = {0};
    tdm_cursor_init(&cursor, plan, rank);
    while (tdm_cursor_next(&cursor, &instance)) {
        n_waits += instance.op->n_waits + 1;
        n_on_stream[instance.op->stream]++;
        r.tape->n_ops++;
    }
    r.ops = TDM_ALLOC(arena, tdm_tape_op, r.tape->n_ops);
    r.waits = TDM_ALLOC(arena, tdm_tape_wait, n_waits);
    r.marks = tdm_arena_alloc(arena, r.role->n_passes * sizeof *r.marks);
    r.shared = TDM_ALLOC(arena, uint32_t, plan->mesh.pp);
    for (int s = 0; s < TDM_N_STREAMS; s++)
        r.tape->streams[s] = r.streams[s] = TDM_ALLOC(arena, uint32_t, n_on_stream[s]);
    r.tape->ops = r.ops;
    r.tape->waits = r.waits;
    return r;
}

/* The tape of the role that `rank` has. by_kind [kind][pass kind][op]. */
static const tdm_tape *tape_new(tdm_arena *arena, const tdm_costs *costs, uint32_t rank,
                                double *(*by_kind)[TDM_N_PASS_KINDS])
{
    const tdm_plan *plan = costs->plan;
    recorder r = recorder_new(arena, plan, rank);
    const double *of_optimizer = template_costs(arena, costs, &r.role->optimizer);
    tdm_cursor cursor;
    tdm_instance instance;
    tdm_cursor_init(&cursor, plan, rank);
    while (tdm_cursor_next(&cursor, &instance)) {
        const tdm_kind *kind = instance.kind;
        double seconds = kind ? by_kind[kind - plan->kinds][instance.pass.kind]
                                       [instance.op - kind->templates[instance.pass.kind].ops]
                              : of_optimizer[instance.op - r.role->optimizer.ops];
        record(&r, &instance, seconds);
    }
    return r.tape;
}

tdm_costs *tdm_costs_new(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine)
{
    tdm_costs *costs = TDM_ALLOC(arena, tdm_costs, 1);
    costs->plan = plan;
    costs->device = machine->device;
    costs->launch_s = plan->pass_times ? 0 : machine->device->launch_s.value;
    double *(*by_kind)[TDM_N_PASS_KINDS] = tdm_arena_alloc(arena, plan->n_kinds * sizeof *by_kind);
    for (uint32_t k = 0; k < plan->n_kinds; k++)
        for (uint32_t p = 0; p < TDM_N_PASS_KINDS; p++)
            by_kind[k][p] = template_costs(arena, costs, &plan->kinds[k].templates[p]);
    costs->tapes = TDM_ALLOC(arena, const tdm_tape *, plan->n_roles);
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++)
        if (!costs->tapes[plan->role_of[rank]])
            costs->tapes[plan->role_of[rank]] = tape_new(arena, costs, rank, by_kind);
    return costs;
}

double tdm_costs_launch_s(const tdm_costs *costs)
{
    return costs->launch_s;
}
