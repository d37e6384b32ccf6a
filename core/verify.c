/* verify.c: puts the parts of verify together, and names ops in their messages. */
#include "verify_private.h"

#include <stdio.h>
#include <string.h>

tdm_verify_text tdm_verify_pass_text(const tdm_pass *pass)
{
    tdm_verify_text t;
    if (pass->kind == TDM_PASS_O)
        snprintf(t.s, sizeof t.s, "O");
    else if (pass->chunk == 0)
        snprintf(t.s, sizeof t.s, "%s mb %u", tdm_pass_kind_name(pass->kind), pass->microbatch);
    else
        snprintf(t.s, sizeof t.s, "%s mb %u, chunk %u", tdm_pass_kind_name(pass->kind),
                 pass->microbatch, pass->chunk);
    return t;
}

/* layer 12, or the kind's own name where there is only one of it. */
static tdm_verify_text place_text(const tdm_kind *kind, uint32_t layer)
{
    static const char suffix[] = "layer";
    tdm_verify_text t;
    size_t length = strlen(kind->name), tail = sizeof suffix - 1;
    if (length >= tail && strcmp(kind->name + length - tail, suffix) == 0)
        snprintf(t.s, sizeof t.s, "layer %u", layer);
    else
        snprintf(t.s, sizeof t.s, "%.60s", kind->name);
    return t;
}

tdm_verify_text tdm_verify_op_text(const tdm_instance *in)
{
    tdm_verify_text t;
    tdm_verify_text pass = tdm_verify_pass_text(&in->pass);
    if (in->kind)
        snprintf(t.s, sizeof t.s, "op \"%.40s\" (%.40s, %.64s)", in->op->name, pass.s,
                 place_text(in->kind, in->layer).s);
    else
        snprintf(t.s, sizeof t.s, "op \"%.40s\" (%.40s)", in->op->name, pass.s);
    return t;
}

/* Global layer of a position. */
static uint32_t layer_at(const tdm_chunk *chunk, uint32_t position)
{
    uint32_t b = 0;
    for (; position >= chunk->blocks[b].count; b++)
        position -= chunk->blocks[b].count;
    return chunk->blocks[b].first_layer + position;
}

tdm_verify_text tdm_verify_tensor_text(const tdm_plan *plan, uint32_t rank, uint32_t chunk,
                                       uint32_t microbatch, uint32_t position, uint32_t slot)
{
    tdm_verify_text t;
    const tdm_chunk *c = &plan->roles[plan->role_of[rank]].chunks[chunk];
    const tdm_kind *kind = tdm_plan_kind_at(plan, c, position);
    snprintf(t.s, sizeof t.s, "tensor \"%.40s\" (mb %u, %.64s)", kind->slots[slot].name, microbatch,
             place_text(kind, layer_at(c, position)).s);
    return t;
}

tdm_instance tdm_verify_op_at(const tdm_plan *plan, uint32_t rank, uint32_t index)
{
    tdm_cursor cursor;
    tdm_instance in = {0};
    tdm_cursor_init(&cursor, plan, rank);
    while (tdm_cursor_next(&cursor, &in) && in.index != index)
        ;
    return in;
}

tdm_instance tdm_verify_op_on(const tdm_plan *plan, uint32_t rank, tdm_stream stream,
                              uint32_t position)
{
    tdm_cursor cursor;
    tdm_instance in = {0};
    tdm_cursor_init(&cursor, plan, rank);
    while (position > 0 && tdm_cursor_next(&cursor, &in))
        position -= in.op->stream == stream;
    return in;
}

uint32_t *tdm_verify_first_ranks(tdm_arena *arena, const tdm_plan *plan)
{
    uint32_t *first = TDM_ALLOC(arena, uint32_t, plan->n_roles);
    memset(first, 0xff, sizeof *first * plan->n_roles);
    for (uint32_t rank = plan->mesh.world; rank-- > 0;)
        first[plan->role_of[rank]] = rank;
    return first;
}

static uint64_t count_ops(const tdm_plan *plan, const tdm_program *programs)
{
    uint64_t sum = 0;
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++)
        sum += programs[plan->role_of[rank]].n_ops;
    return sum;
}

/* With passes missing or in a wrong order everything else would only repeat that. */
static tdm_code verify_sound(tdm_arena *scratch, const tdm_plan *plan, tdm_verify_report *report,
                             tdm_error *err)
{
    uint32_t *first = tdm_verify_first_ranks(scratch, plan);
    tdm_code code = tdm_verify_passes(plan, first, err);
    if (code != TDM_OK)
        return code;
    const tdm_program *programs = tdm_programs_of(scratch, plan);
    for (uint32_t r = 0; r < plan->n_roles; r++)
        if (programs[r].role)
            code = tdm_verify_worst(code, tdm_verify_life(plan, &programs[r], err));
    code = tdm_verify_worst(code, tdm_verify_routing(plan, err));
    code = tdm_verify_worst(code, tdm_verify_comm(plan, programs, &report->resident_comm, err));
    report->n_ops = count_ops(plan, programs);
    return code;
}

tdm_code tdm_verify_plan(const tdm_plan *plan, tdm_verify_report *report, tdm_error *err)
{
    tdm_code code = tdm_verify_structure(plan, err);
    if (code != TDM_OK)
        return code;
    tdm_arena scratch = {0};
    tdm_verify_report found = {0};
    code = verify_sound(&scratch, plan, &found, err);
    if (code == TDM_OK && report)
        *report = found;
    tdm_arena_free(&scratch);
    return code;
}
