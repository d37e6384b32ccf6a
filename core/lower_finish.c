/* lower_finish.c: from a draft to a kind: recompute, passes, waits, lifetimes, memory classes. */
#include "lower_build.h"

#include <assert.h>
#include <string.h>

/* ---- recompute ---- */

/* Slot that a repeated op writes instead of the original, made on first use. */
static uint16_t repeated_slot(tdm_draft *draft, uint16_t *map, uint16_t slot)
{
    if (map[slot] == UINT16_MAX) {
        const tdm_slot *original = &draft->slots[slot];
        map[slot] =
            tdm_draft_slot(draft, tdm_arena_printf(draft->arena, "%s.r", original->name), 0, 0);
        draft->slots[map[slot]].bytes = original->bytes;
    }
    return map[slot];
}

/* Appends a copy of a forward op to `out`, writing and reading the repeated slots. */
static void repeat_op(tdm_draft *draft, const tdm_draft_op *op, uint16_t *map, tdm_draft_list *out)
{
    assert(out->n < TDM_MAX_DRAFT_OPS);
    tdm_draft_op *copy = &out->ops[out->n++];
    *copy = *op;
    copy->op.name = tdm_arena_printf(draft->arena, "%s.r", op->op.name);
    copy->op.pass = TDM_PASS_B;
    copy->op.recompute = true;
    copy->op.n_refs = 0;
    for (uint32_t i = 0; i < op->op.n_refs; i++) {
        tdm_ref r = op->refs[i];
        if (r.next)
            continue; /* the layer's output exists already */
        if (r.write)
            r.slot = repeated_slot(draft, map, r.slot);
        else if (map[r.slot] != UINT16_MAX)
            r.slot = map[r.slot];
        copy->refs[copy->op.n_refs++] = r;
    }
}

/* Which forward ops to repeat: those that lead to a tensor that the gradient reads, as PyTorch's
 * checkpoint does, which stops early. Megatron's own checkpoint runs the layer to its end: one more
 * product and reduction where no dropout mask is wanted. Source: torch.utils.checkpoint,
 * set_checkpoint_early_stop. */
static void select_repeats(const tdm_draft *draft, bool repeat[TDM_MAX_DRAFT_OPS])
{
    bool full = draft->dims->scenario->training.recompute == TDM_RECOMPUTE_FULL;
    bool needed[TDM_MAX_DRAFT_SLOTS] = {false};
    for (uint32_t i = 0; i < draft->gradient.n; i++)
        for (uint32_t k = 0; k < draft->gradient.ops[i].op.n_refs; k++) {
            const tdm_ref *r = &draft->gradient.ops[i].refs[k];
            needed[r->slot] |= r->read && !r->next;
        }
    for (uint32_t i = draft->forward.n; i-- > 0;) {
        const tdm_draft_op *op = &draft->forward.ops[i];
        bool leads = false;
        for (uint32_t k = 0; k < op->op.n_refs; k++)
            leads |= op->refs[k].write && !op->refs[k].next && needed[op->refs[k].slot];
        repeat[i] = leads && (full || op->is_core_attention);
        for (uint32_t k = 0; repeat[i] && k < op->op.n_refs; k++)
            needed[op->refs[k].slot] |= op->refs[k].read;
    }
}

/* Puts the repeated forward work in front of the gradient, which then reads what that wrote. */
static void add_recompute(tdm_draft *draft)
{
    tdm_recompute mode = draft->dims->scenario->training.recompute;
    if (mode == TDM_RECOMPUTE_NONE || !draft->recomputes || draft->gradient.n == 0)
        return;
    bool repeat[TDM_MAX_DRAFT_OPS] = {false};
    select_repeats(draft, repeat);
    uint16_t map[TDM_MAX_DRAFT_SLOTS];
    memset(map, 0xff, sizeof map);
    tdm_draft_list *out = TDM_ALLOC(draft->arena, tdm_draft_list, 1);
    for (uint32_t i = 0; i < draft->forward.n; i++)
        if (repeat[i])
            repeat_op(draft, &draft->forward.ops[i], map, out);
    for (uint32_t i = 0; i < draft->gradient.n; i++) {
        assert(out->n < TDM_MAX_DRAFT_OPS);
        tdm_draft_op *op = &out->ops[out->n++];
        *op = draft->gradient.ops[i];
        for (uint32_t k = 0; k < op->op.n_refs; k++)
            if (!op->refs[k].next && map[op->refs[k].slot] != UINT16_MAX)
                op->refs[k].slot = map[op->refs[k].slot];
    }
    draft->gradient = *out;
}

/* ---- passes ---- */

static void select_pass(const tdm_draft *draft, tdm_pass_kind pass, tdm_draft_list *out)
{
    out->n = 0;
    const tdm_draft_list *from = pass == TDM_PASS_F ? &draft->forward : &draft->gradient;
    for (uint32_t i = 0; i < from->n; i++)
        if (pass == TDM_PASS_F || pass == TDM_PASS_BW || from->ops[i].op.pass == pass)
            out->ops[out->n++] = from->ops[i];
}

/* ---- waits ---- */

/* Last op index + 1 (0: none) on each stream that wrote or read a tensor, within one template. */
typedef struct tensor_use {
    uint32_t writer[TDM_N_STREAMS], reader[TDM_N_STREAMS];
    bool written;
} tensor_use;

typedef struct wait_state {
    tensor_use uses[2 * TDM_MAX_DRAFT_SLOTS]; /* own, then next */
    uint32_t count[TDM_N_STREAMS];            /* ops issued so far */
    uint32_t order[TDM_MAX_DRAFT_OPS];        /* op's own number on its stream, from 1 */
    uint32_t waited[TDM_N_STREAMS]
                   [TDM_N_STREAMS];    /* [waiter][stream]: op index + 1 already waited for */
    bool waited_before[TDM_N_STREAMS]; /* compute of earlier templates, by comm streams */
    bool compute_started;
} wait_state;

static void add_wait(tdm_draft_op *op, tdm_wait *waits, tdm_stream stream, tdm_wait_kind kind,
                     uint32_t n)
{
    waits[op->op.n_waits++] = (tdm_wait){stream, kind, n};
}

/* Ops on other streams that must end before this one, by its refs: latest per stream. */
static void collect_needs(const wait_state *state, const tdm_draft_op *op,
                          uint32_t needs[TDM_N_STREAMS], bool *outside)
{
    for (uint32_t i = 0; i < op->op.n_refs; i++) {
        const tdm_ref *r = &op->refs[i];
        const tensor_use *use = &state->uses[r->slot + (r->next ? TDM_MAX_DRAFT_SLOTS : 0)];
        if (r->read && !use->written)
            *outside = true;
        for (int s = 0; s < TDM_N_STREAMS; s++) {
            if (use->writer[s] > needs[s])
                needs[s] = use->writer[s];
            if (r->write && use->reader[s] > needs[s])
                needs[s] = use->reader[s];
        }
    }
}

static void note_use(wait_state *state, const tdm_draft_op *op, uint32_t index)
{
    for (uint32_t i = 0; i < op->op.n_refs; i++) {
        const tdm_ref *r = &op->refs[i];
        tensor_use *use = &state->uses[r->slot + (r->next ? TDM_MAX_DRAFT_SLOTS : 0)];
        if (r->write) {
            *use = (tensor_use){.written = true};
            use->writer[op->op.stream] = index + 1;
        } else {
            use->reader[op->op.stream] = index + 1;
        }
    }
}

/* Waits for sends of activations or of gradients, whichever way the chunk runs. */
static void add_sent_wait(const tdm_dims *dims, tdm_draft_op *op, tdm_wait *waits,
                          tdm_stream stream, tdm_wait_kind kind, uint32_t n)
{
    add_wait(op, waits, stream, kind, n);
    if (dims->placement == TDM_PLACEMENT_V)
        add_wait(op, waits,
                 stream == TDM_STREAM_PP_SEND ? TDM_STREAM_PP_SEND_BACK
                                              : TDM_STREAM_PP_SEND_GRAD_BACK,
                 kind, n);
}

/* What a template's first compute op waits for, so that any template may follow any other: see
 * boundary kinds. */
static void first_compute_waits(const tdm_dims *dims, tdm_pass_kind pass, tdm_draft_op *op,
                                tdm_wait *waits)
{
    if (dims->tp > 1 && pass == TDM_PASS_F)
        add_wait(op, waits, TDM_STREAM_TP, TDM_WAIT_TAIL, 0);
    if (dims->pp == 1)
        return;
    switch (pass) {
    case TDM_PASS_F:
        add_wait(op, waits, TDM_STREAM_PP_RECV, TDM_WAIT_TAIL, 0);
        if (!dims->train)
            add_sent_wait(dims, op, waits, TDM_STREAM_PP_SEND, TDM_WAIT_PASS, 2);
        break;
    case TDM_PASS_B:
    case TDM_PASS_BW:
        add_wait(op, waits, TDM_STREAM_PP_RECV_GRAD, TDM_WAIT_TAIL, 0);
        /* Its gradient has come back, so the activation has long been sent. */
        add_sent_wait(dims, op, waits, TDM_STREAM_PP_SEND, TDM_WAIT_FORWARD, 0);
        if (pass == TDM_PASS_BW)
            add_sent_wait(dims, op, waits, TDM_STREAM_PP_SEND_GRAD, TDM_WAIT_PASS, dims->send_lag);
        break;
    default:
        /* In a V both neighbours may be at a backward whose gradient the other sends: waiting for
         * this microbatch's own would be a deadlock. */
        if (dims->placement == TDM_PLACEMENT_V)
            add_sent_wait(dims, op, waits, TDM_STREAM_PP_SEND_GRAD, TDM_WAIT_PASS, dims->send_lag);
        else
            add_sent_wait(dims, op, waits, TDM_STREAM_PP_SEND_GRAD, TDM_WAIT_BACKWARD, 0);
        break;
    }
}

/* Without layers on its stage, an op may take what was received, or what the embedding summed,
 * without a kernel in between. */
static void bare_waits(const tdm_dims *dims, tdm_pass_kind pass, tdm_draft_op *op, tdm_wait *waits)
{
    switch (op->op.stream) {
    case TDM_STREAM_PP_SEND:
    case TDM_STREAM_PP_SEND_BACK:
        add_wait(op, waits, TDM_STREAM_PP_RECV, TDM_WAIT_TAIL, 0);
        if (dims->tp > 1)
            add_wait(op, waits, TDM_STREAM_TP, TDM_WAIT_TAIL, 0);
        break;
    case TDM_STREAM_PP_SEND_GRAD:
    case TDM_STREAM_PP_SEND_GRAD_BACK:
        add_wait(op, waits, TDM_STREAM_PP_RECV_GRAD, TDM_WAIT_TAIL, 0);
        break;
    default:
        if (pass == TDM_PASS_W)
            add_wait(op, waits, TDM_STREAM_PP_RECV_GRAD, TDM_WAIT_BACKWARD, 0);
        break;
    }
}

static void derive_waits_of(const tdm_dims *dims, tdm_pass_kind pass, wait_state *state,
                            tdm_draft_op *op, uint32_t index, tdm_wait *waits)
{
    tdm_stream own = op->op.stream;
    uint32_t needs[TDM_N_STREAMS] = {0};
    bool outside = false;
    collect_needs(state, op, needs, &outside);
    for (int s = 0; s < TDM_N_STREAMS; s++) {
        if (s == (int)own || needs[s] <= state->waited[own][s])
            continue;
        state->waited[own][s] = needs[s];
        add_wait(op, waits, (tdm_stream)s, TDM_WAIT_TAIL,
                 state->count[s] - state->order[needs[s] - 1]);
        state->waited_before[own] |= s == TDM_STREAM_COMPUTE;
    }
    if (own == TDM_STREAM_COMPUTE && !state->compute_started) {
        first_compute_waits(dims, pass, op, waits);
        if (dims->bare && dims->pp > 1)
            bare_waits(dims, pass, op, waits);
        state->compute_started = true;
    }
    if (own != TDM_STREAM_COMPUTE && outside && !state->waited_before[own]) {
        add_wait(op, waits, TDM_STREAM_COMPUTE, TDM_WAIT_TAIL, 0);
        /* A collective that comes before the first kernel may take what was just received. */
        bool first = (own == TDM_STREAM_TP || own == TDM_STREAM_EP) && !state->compute_started;
        if (first && dims->pp > 1 && pass != TDM_PASS_W)
            add_wait(op, waits, pass == TDM_PASS_F ? TDM_STREAM_PP_RECV : TDM_STREAM_PP_RECV_GRAD,
                     TDM_WAIT_TAIL, 0);
        if (dims->bare && dims->pp > 1)
            bare_waits(dims, pass, op, waits);
        state->waited_before[own] = true;
    }
    if (op->waits_pass)
        add_wait(op, waits, TDM_STREAM_COMPUTE, TDM_WAIT_PASS, 1);
    note_use(state, op, index);
    state->order[index] = ++state->count[own];
}

static void derive_waits(tdm_draft *draft, tdm_pass_kind pass, tdm_draft_list *list)
{
    wait_state *state = TDM_ALLOC(draft->arena, wait_state, 1);
    for (uint32_t i = 0; i < list->n; i++) {
        tdm_wait waits[TDM_N_STREAMS + 6];
        tdm_draft_op *op = &list->ops[i];
        derive_waits_of(draft->dims, pass, state, op, i, waits);
        tdm_wait *kept = TDM_ALLOC(draft->arena, tdm_wait, op->op.n_waits);
        memcpy(kept, waits, op->op.n_waits * sizeof *kept);
        op->op.waits = kept;
    }
}

/* ---- lifetimes ---- */

/* Marks birth at the first write and death at the last use of every tensor over the passes of a
 * microbatch. Of a neighbour's tensors: x of the next position is born here, dx of the next
 * position dies here. */
static void derive_lifetimes(tdm_draft_list *lists, uint32_t n_lists)
{
    tdm_ref *last[2 * TDM_MAX_DRAFT_SLOTS] = {0};
    bool born[2 * TDM_MAX_DRAFT_SLOTS] = {false};
    for (uint32_t l = 0; l < n_lists; l++)
        for (uint32_t i = 0; i < lists[l].n; i++)
            for (uint32_t k = 0; k < lists[l].ops[i].op.n_refs; k++) {
                tdm_ref *r = &lists[l].ops[i].refs[k];
                uint32_t tensor = r->slot + (r->next ? (uint32_t)TDM_MAX_DRAFT_SLOTS : 0u);
                bool foreign_birth =
                    (r->next && r->slot == TDM_SLOT_DX) || (!r->next && r->slot == TDM_SLOT_X);
                if (r->write && !born[tensor] && !foreign_birth) {
                    r->birth = true;
                    born[tensor] = true;
                }
                bool foreign_death =
                    (r->next && r->slot == TDM_SLOT_X) || (!r->next && r->slot == TDM_SLOT_DX);
                if (!foreign_death)
                    last[tensor] = r;
            }
    for (uint32_t t = 0; t < TDM_COUNT(last); t++)
        if (last[t])
            last[t]->death = true;
}

/* Tensors that outlive a pass are activations; the others workspace, or comm when a collective
 * touches them. */
static void derive_classes(tdm_draft *draft, const tdm_draft_list *lists, uint32_t n_lists)
{
    for (uint32_t slot = 0; slot < draft->n_slots; slot++) {
        uint32_t first = n_lists, last = 0;
        bool comm = false;
        for (uint32_t l = 0; l < n_lists; l++)
            for (uint32_t i = 0; i < lists[l].n; i++)
                for (uint32_t k = 0; k < lists[l].ops[i].op.n_refs; k++) {
                    const tdm_ref *r = &lists[l].ops[i].refs[k];
                    if (r->slot != slot || r->next)
                        continue;
                    first = l < first ? l : first;
                    last = l;
                    comm |= lists[l].ops[i].op.stream != TDM_STREAM_COMPUTE;
                }
        bool stays = slot == TDM_SLOT_X || slot == TDM_SLOT_DX || last > first;
        draft->slots[slot].class_ = stays  ? TDM_CLASS_ACTIVATION
                                    : comm ? TDM_CLASS_COMM
                                           : TDM_CLASS_WORKSPACE;
    }
}

/* ---- the kind ---- */

static tdm_template keep_template(tdm_arena *arena, const tdm_draft_list *list)
{
    tdm_op *ops = TDM_ALLOC(arena, tdm_op, list->n);
    for (uint32_t i = 0; i < list->n; i++) {
        tdm_ref *refs = TDM_ALLOC(arena, tdm_ref, list->ops[i].op.n_refs);
        memcpy(refs, list->ops[i].refs, list->ops[i].op.n_refs * sizeof *refs);
        ops[i] = list->ops[i].op;
        ops[i].refs = refs;
    }
    return (tdm_template){.ops = ops, .n_ops = list->n};
}

void tdm_draft_finish(tdm_draft *draft, tdm_kind *kind)
{
    tdm_arena *arena = draft->arena;
    static const tdm_pass_kind split[] = {TDM_PASS_F, TDM_PASS_B, TDM_PASS_W};
    static const tdm_pass_kind whole[] = {TDM_PASS_F, TDM_PASS_BW};
    const tdm_pass_kind *passes = draft->dims->split ? split : whole;
    uint32_t n_passes = !draft->dims->train  ? 1
                        : draft->dims->split ? TDM_COUNT(split)
                                             : TDM_COUNT(whole);

    add_recompute(draft);
    tdm_draft_list *lists = TDM_ALLOC(arena, tdm_draft_list, n_passes);
    for (uint32_t p = 0; p < n_passes; p++) {
        select_pass(draft, passes[p], &lists[p]);
        derive_waits(draft, passes[p], &lists[p]);
    }
    derive_lifetimes(lists, n_passes);
    derive_classes(draft, lists, n_passes);

    *kind = (tdm_kind){.name = draft->name, .n_slots = draft->n_slots, .n_params = draft->n_params};
    tdm_slot *slots = TDM_ALLOC(arena, tdm_slot, draft->n_slots);
    memcpy(slots, draft->slots, draft->n_slots * sizeof *slots);
    tdm_param *params = TDM_ALLOC(arena, tdm_param, draft->n_params);
    memcpy(params, draft->params, draft->n_params * sizeof *params);
    kind->slots = slots;
    kind->params = params;
    for (uint32_t p = 0; p < n_passes; p++)
        kind->templates[passes[p]] = keep_template(arena, &lists[p]);
}
