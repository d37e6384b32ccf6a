/* verify_structure.c: what the other checks and every engine take for granted: indices in range,
 * waits and refs that name something; and that every microbatch passes every chunk in a legal
 * order. */
#include "verify_private.h"

#include <inttypes.h>

/* ---- structure ---- */

static tdm_code op_fault(const char *where, const tdm_op *op, const char *fault, tdm_error *err)
{
    return tdm_error_add(err, TDM_E_INVALID, "plan: %s: op \"%s\": %s", where, op->name, fault);
}

/* n_slots of the op's own kind; refs to the following position are checked where the chunk is
 * known. */
static tdm_code check_op(const char *where, const tdm_op *op, uint32_t n_slots, tdm_error *err)
{
    tdm_code code = TDM_OK;
    if ((unsigned)op->kind >= TDM_N_OP_KINDS || (unsigned)op->stream >= TDM_N_STREAMS)
        return op_fault(where, op, "unknown kind or stream", err);
    for (uint32_t i = 0; i < op->n_waits; i++) {
        const tdm_wait *w = &op->waits[i];
        if ((unsigned)w->stream >= TDM_N_STREAMS)
            code = op_fault(where, op, "waits for an unknown stream", err);
        else if ((unsigned)w->kind >= TDM_N_WAIT_KINDS)
            code = op_fault(where, op, "waits in an unknown way", err);
        else if (w->kind == TDM_WAIT_TAIL && w->n > TDM_TAIL_MAX)
            code = op_fault(
                where, op,
                "waits for an op too far back on its stream (at most 31 before the last)", err);
    }
    for (uint32_t i = 0; i < op->n_refs; i++)
        if (!op->refs[i].next && op->refs[i].slot >= n_slots)
            code = op_fault(where, op, "uses a tensor its kind does not have", err);
    if (tdm_op_is_collective(op->kind) && (unsigned)op->u.collective.group >= TDM_N_GROUP_KINDS)
        code = op_fault(where, op, "runs on an unknown group", err);
    return code;
}

static tdm_code check_kinds(const tdm_plan *plan, tdm_error *err)
{
    tdm_code code = TDM_OK;
    for (uint32_t k = 0; k < plan->n_kinds; k++) {
        const tdm_kind *kind = &plan->kinds[k];
        for (uint32_t p = 0; p < TDM_N_PASS_KINDS; p++)
            for (uint32_t i = 0; i < kind->templates[p].n_ops; i++)
                code = tdm_verify_worst(
                    code, check_op(kind->name, &kind->templates[p].ops[i], kind->n_slots, err));
    }
    return code;
}

/* Refs to the following position need one that has the slot. */
static tdm_code check_next(const tdm_kind *kind, const tdm_kind *next, tdm_error *err)
{
    for (uint32_t p = 0; p < TDM_N_PASS_KINDS; p++)
        for (uint32_t i = 0; i < kind->templates[p].n_ops; i++) {
            const tdm_op *op = &kind->templates[p].ops[i];
            for (uint32_t r = 0; r < op->n_refs; r++)
                if (op->refs[r].next && (!next || op->refs[r].slot >= next->n_slots))
                    return op_fault(kind->name, op,
                                    "uses a tensor that the following position does not have", err);
        }
    return TDM_OK;
}

/* Kind of the position that follows a chunk on the same stage; NULL: none. */
static const tdm_kind *after_chunk(const tdm_plan *plan, const tdm_role *role, uint32_t chunk)
{
    uint32_t turn = tdm_plan_turn(role, chunk);
    bool known = turn < role->n_chunks && role->chunks[turn].n_blocks > 0 &&
                 role->chunks[turn].blocks[0].kind < plan->n_kinds;
    return known ? &plan->kinds[role->chunks[turn].blocks[0].kind] : NULL;
}

static tdm_code check_chunk(const tdm_plan *plan, const tdm_role *role, uint32_t index,
                            tdm_error *err)
{
    const tdm_chunk *chunk = &role->chunks[index];
    uint64_t n_positions = 0;
    for (uint32_t b = 0; b < chunk->n_blocks; b++) {
        if (chunk->blocks[b].kind >= plan->n_kinds || chunk->blocks[b].count == 0)
            return tdm_error_add(
                err, TDM_E_INVALID,
                "plan: chunk of virtual stage %u: block %u has no kind or is empty",
                chunk->virtual_stage, b);
        n_positions += chunk->blocks[b].count;
    }
    if (n_positions == 0 || n_positions != chunk->n_positions)
        return tdm_error_add(
            err, TDM_E_INVALID,
            "plan: chunk of virtual stage %u: %u positions, its blocks have %" PRIu64,
            chunk->virtual_stage, chunk->n_positions, n_positions);
    tdm_code code = TDM_OK;
    for (uint32_t b = 0; b < chunk->n_blocks; b++) {
        const tdm_kind *kind = &plan->kinds[chunk->blocks[b].kind];
        const tdm_kind *after = b + 1 < chunk->n_blocks ? &plan->kinds[chunk->blocks[b + 1].kind]
                                                        : after_chunk(plan, role, index);
        if (chunk->blocks[b].count > 1)
            code = tdm_verify_worst(code, check_next(kind, kind, err));
        code = tdm_verify_worst(code, check_next(kind, after, err));
    }
    return code;
}

static tdm_code check_role(const tdm_plan *plan, const tdm_role *role, tdm_error *err)
{
    tdm_code code = TDM_OK;
    if (role->stage >= plan->mesh.pp)
        return tdm_error_add(err, TDM_E_INVALID, "plan: a role for stage %u of %u", role->stage,
                             plan->mesh.pp);
    for (uint32_t c = 0; c < role->n_chunks; c++)
        code = tdm_verify_worst(code, check_chunk(plan, role, c, err));
    for (uint32_t i = 0; i < role->n_passes; i++) {
        const tdm_pass *pass = &role->passes[i];
        bool known = (unsigned)pass->kind < TDM_N_PASS_KINDS;
        if (!known || (pass->kind != TDM_PASS_O && (pass->chunk >= role->n_chunks ||
                                                    pass->microbatch >= plan->num_microbatches)))
            code = tdm_error_add(err, TDM_E_INVALID,
                                 "plan: stage %u: pass %u has no such kind, chunk or microbatch",
                                 role->stage, i);
    }
    for (uint32_t i = 0; i < role->optimizer.n_ops; i++)
        code = tdm_verify_worst(code, check_op("O", &role->optimizer.ops[i], 0, err));
    return code;
}

tdm_code tdm_verify_structure(const tdm_plan *plan, tdm_error *err)
{
    tdm_code code = check_kinds(plan, err);
    for (uint32_t r = 0; r < plan->n_roles; r++)
        code = tdm_verify_worst(code, check_role(plan, &plan->roles[r], err));
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        uint32_t role = plan->role_of[rank];
        if (role >= plan->n_roles || plan->roles[role].stage != tdm_mesh_stage(&plan->mesh, rank))
            return tdm_error_add(err, TDM_E_INVALID, "plan: rank %u has no role of its stage",
                                 rank);
    }
    return code;
}

/* ---- passes ---- */

typedef struct pass_check {
    const tdm_plan *plan;
    const tdm_role *role;
    uint32_t rank;
    tdm_error *err;
    uint32_t *at; /* [chunk][microbatch][kind] index + 1 of the pass */
    bool splits;  /* the role runs B and W apart */
    bool steps;   /* it runs O */
} pass_check;

static uint32_t *pass_at(const pass_check *c, uint32_t chunk, uint32_t microbatch)
{
    return c->at + ((size_t)chunk * c->plan->num_microbatches + microbatch) * TDM_N_PASS_KINDS;
}

static tdm_code pass_fault(const pass_check *c, const tdm_pass *pass, const char *fault)
{
    return tdm_error_add(c->err, TDM_E_INVALID, "rank %u (stage %u): pass %s: %s", c->rank,
                         c->role->stage, tdm_verify_pass_text(pass).s, fault);
}

static tdm_code fill_passes(pass_check *c)
{
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < c->role->n_passes; i++) {
        const tdm_pass *pass = &c->role->passes[i];
        c->splits |= pass->kind == TDM_PASS_B || pass->kind == TDM_PASS_W;
        if (pass->kind == TDM_PASS_O) {
            c->steps = true;
            if (i + 1 < c->role->n_passes)
                code = pass_fault(c, pass, "the optimizer's pass is not the last one");
            continue;
        }
        uint32_t *at = &pass_at(c, pass->chunk, pass->microbatch)[pass->kind];
        if (*at != 0)
            code = pass_fault(c, pass, "runs twice");
        *at = i + 1;
    }
    return code;
}

static tdm_code check_microbatch(const pass_check *c, uint32_t chunk, uint32_t microbatch)
{
    const uint32_t *at = pass_at(c, chunk, microbatch);
    tdm_pass pass = {.kind = TDM_PASS_F, .chunk = (uint16_t)chunk, .microbatch = microbatch};
    tdm_code code = TDM_OK;
    if (at[TDM_PASS_F] == 0)
        code = pass_fault(c, &pass, "is missing");
    bool whole = at[TDM_PASS_BW] != 0, parts = at[TDM_PASS_B] != 0 || at[TDM_PASS_W] != 0;
    pass.kind = whole || !c->splits ? TDM_PASS_BW : TDM_PASS_B;
    if (!c->plan->train)
        return whole || parts ? pass_fault(c, &pass, "runs in a plan that does not train") : code;
    if (whole && parts)
        return pass_fault(c, &pass, "runs beside B or W of the same microbatch");
    uint32_t backward = at[pass.kind];
    if (backward == 0)
        code = pass_fault(c, &pass, "is missing");
    else if (backward < at[TDM_PASS_F])
        code = pass_fault(c, &pass, "runs before F");
    if (pass.kind == TDM_PASS_BW)
        return code;
    pass.kind = TDM_PASS_W;
    if (at[TDM_PASS_W] == 0)
        return pass_fault(c, &pass, "is missing");
    return backward > at[TDM_PASS_W] ? pass_fault(c, &pass, "runs before B") : code;
}

static tdm_code check_role_passes(tdm_arena *scratch, const tdm_plan *plan, uint32_t rank,
                                  tdm_error *err)
{
    const tdm_role *role = &plan->roles[plan->role_of[rank]];
    pass_check c = {.plan = plan, .role = role, .rank = rank, .err = err};
    c.at = TDM_ALLOC(scratch, uint32_t,
                     (size_t)role->n_chunks * plan->num_microbatches * TDM_N_PASS_KINDS);
    tdm_code code = fill_passes(&c);
    for (uint32_t chunk = 0; chunk < role->n_chunks; chunk++)
        for (uint32_t m = 0; m < plan->num_microbatches; m++)
            code = tdm_verify_worst(code, check_microbatch(&c, chunk, m));
    tdm_pass last = {.kind = TDM_PASS_O};
    if (c.steps && !plan->train)
        code = pass_fault(&c, &last, "runs in a plan that does not train");
    if (!c.steps && role->optimizer.n_ops > 0)
        code = pass_fault(&c, &last, "is missing");
    return code;
}

tdm_code tdm_verify_passes(const tdm_plan *plan, const uint32_t *first_ranks, tdm_error *err)
{
    tdm_arena scratch = {0};
    tdm_code code = TDM_OK;
    for (uint32_t r = 0; r < plan->n_roles; r++)
        if (first_ranks[r] != UINT32_MAX)
            code = tdm_verify_worst(code, check_role_passes(&scratch, plan, first_ranks[r], err));
    tdm_arena_free(&scratch);
    return code;
}
