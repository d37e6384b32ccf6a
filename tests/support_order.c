/* support_order.c: happens-before of rank 0 by brute force, in the plainest way there is. */
#include "tests/support_order.h"

/* a and all that is before a is before b. */
static void put_before(order *o, uint32_t a, uint32_t b)
{
    for (uint32_t i = 0; i < a; i++)
        o->before[i * o->n_ops + b] |= o->before[i * o->n_ops + a];
    o->before[a * o->n_ops + b] = true;
}

/* Index of the op an op waits for, -1 for none: the definition read aloud. */
static int64_t awaited(const order *o, uint32_t op, const tdm_wait *wait)
{
    uint32_t skip = wait->kind == TDM_WAIT_TAIL ? wait->n : 0;
    if (wait->kind == TDM_WAIT_PASS && wait->n > o->ops[op].pass_index)
        return -1;
    if (wait->kind == TDM_WAIT_FORWARD || wait->kind == TDM_WAIT_BACKWARD) {
        tdm_pass_kind kind = wait->kind == TDM_WAIT_FORWARD ? TDM_PASS_F : TDM_PASS_B;
        for (uint32_t i = op; i-- > 0;)
            if (o->ops[i].op->stream == wait->stream && o->ops[i].pass.kind == kind &&
                o->ops[i].pass.chunk == o->ops[op].pass.chunk &&
                o->ops[i].pass.microbatch == o->ops[op].pass.microbatch)
                return i;
        return -1;
    }
    uint32_t pass = o->ops[op].pass_index - (wait->kind == TDM_WAIT_PASS ? wait->n : 0);
    for (uint32_t i = op; i-- > 0;) {
        if (o->ops[i].op->stream != wait->stream)
            continue;
        if (wait->kind == TDM_WAIT_PASS && o->ops[i].pass_index >= pass)
            continue;
        if (skip-- == 0)
            return i;
    }
    return -1;
}

order order_of(tdm_arena *arena, const tdm_plan *plan)
{
    order o = {.n_ops = tdm_plan_n_ops(plan, 0)};
    o.ops = TDM_ALLOC(arena, tdm_instance, o.n_ops);
    o.before = TDM_ALLOC(arena, bool, (size_t)o.n_ops *o.n_ops);
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, plan, 0);
    for (uint32_t i = 0; i < o.n_ops; i++)
        tdm_cursor_next(&cursor, &o.ops[i]);
    for (uint32_t i = 0; i < o.n_ops; i++) {
        tdm_wait previous = {o.ops[i].op->stream, TDM_WAIT_TAIL, 0};
        int64_t a = awaited(&o, i, &previous);
        if (a >= 0)
            put_before(&o, (uint32_t)a, i);
        for (uint32_t w = 0; w < o.ops[i].op->n_waits; w++) {
            a = awaited(&o, i, &o.ops[i].op->waits[w]);
            if (a >= 0)
                put_before(&o, (uint32_t)a, i);
        }
    }
    return o;
}
