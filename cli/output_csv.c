/* output_csv.c: the run as tables: one row per op, and memory after each pass. */
#include "buffer.h"
#include "output.h"

#include <math.h>

/* "rank,stage,": what all rows of a rank begin with. */
static void put_rank(tdm_buffer *out, uint32_t rank, uint32_t stage)
{
    tdm_buffer_uint(out, rank);
    TDM_PUT(out, ",");
    tdm_buffer_uint(out, stage);
    TDM_PUT(out, ",");
}

/* "microbatch,chunk,layer,", empty in the O pass, which belongs to none. */
static void put_place(tdm_buffer *out, const tdm_instance *instance)
{
    if (instance->pass.kind == TDM_PASS_O) {
        TDM_PUT(out, ",,,");
        return;
    }
    tdm_buffer_uint(out, instance->pass.microbatch);
    TDM_PUT(out, ",");
    tdm_buffer_uint(out, instance->pass.chunk);
    TDM_PUT(out, ",");
    tdm_buffer_uint(out, instance->layer);
    TDM_PUT(out, ",");
}

static void put_op(tdm_buffer *out, const tdm_plan *plan, uint32_t rank,
                   const tdm_instance *instance, const tdm_span *span)
{
    const tdm_op *op = instance->op;
    tdm_buffer_text(out, tdm_stream_name(op->stream));
    TDM_PUT(out, ",");
    tdm_buffer_text(out, tdm_pass_kind_name(op->pass));
    TDM_PUT(out, ",");
    put_place(out, instance);
    tdm_buffer_text(out, op->name);
    TDM_PUT(out, ",");
    tdm_buffer_text(out, tdm_op_kind_name(op->kind));
    TDM_PUT(out, ",");
    tdm_buffer_us(out, (int64_t)llround(span->start_s * 1e9));
    TDM_PUT(out, ",");
    tdm_buffer_us(out, (int64_t)llround(span->end_s * 1e9));
    TDM_PUT(out, ",");
    tdm_buffer_uint(out, tdm_figures_op_bytes(plan, rank, instance));
    TDM_PUT(out, ",");
    tdm_buffer_uint(out, (uint64_t)tdm_op_flops(plan, rank, instance));
    TDM_PUT(out, "\n");
}

tdm_code tdm_output_ops(const tdm_prediction *prediction, const char *path, tdm_error *err)
{
    const tdm_plan *plan = &prediction->plan;
    tdm_buffer out;
    tdm_code code = tdm_buffer_open(&out, path, err);
    if (code != TDM_OK)
        return code;
    TDM_PUT(&out,
            "rank,stage,stream,pass,microbatch,chunk,layer,op,kind,start_us,end_us,bytes,flops\n");
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        const tdm_span *spans = prediction->trace.ranks[rank].spans;
        uint32_t stage = plan->roles[plan->role_of[rank]].stage;
        tdm_cursor cursor;
        tdm_instance instance;
        tdm_cursor_init(&cursor, plan, rank);
        while (tdm_cursor_next(&cursor, &instance)) {
            tdm_buffer_reserve(&out);
            put_rank(&out, tdm_mesh_whole_rank(&plan->mesh, rank), stage);
            put_op(&out, plan, rank, &instance, &spans[instance.index]);
        }
    }
    return tdm_buffer_close(&out, path, err);
}

/* End of the rank's last op of each pass, in order of passes. */
static void find_pass_ends(const tdm_prediction *prediction, uint32_t rank, double *ends_s)
{
    tdm_cursor cursor;
    tdm_instance instance;
    tdm_cursor_init(&cursor, &prediction->plan, rank);
    while (tdm_cursor_next(&cursor, &instance))
        ends_s[instance.pass_index] = fmax(
            ends_s[instance.pass_index], prediction->trace.ranks[rank].spans[instance.index].end_s);
}

static void put_pass(tdm_buffer *out, const tdm_pass *pass, double end_s, const uint64_t *live)
{
    uint64_t total = 0;
    tdm_buffer_text(out, tdm_pass_kind_name(pass->kind));
    TDM_PUT(out, ",");
    if (pass->kind != TDM_PASS_O)
        tdm_buffer_uint(out, pass->microbatch);
    TDM_PUT(out, ",");
    if (pass->kind != TDM_PASS_O)
        tdm_buffer_uint(out, pass->chunk);
    TDM_PUT(out, ",");
    tdm_buffer_us(out, (int64_t)llround(end_s * 1e9));
    for (uint32_t c = 0; c < TDM_N_CLASSES; c++) {
        TDM_PUT(out, ",");
        tdm_buffer_uint(out, live[c]);
        total += live[c];
    }
    TDM_PUT(out, ",");
    tdm_buffer_uint(out, total);
    TDM_PUT(out, "\n");
}

static void put_memory(tdm_buffer *out, tdm_arena *scratch, const tdm_result *result)
{
    const tdm_plan *plan = &result->step.plan;
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        const tdm_role *role = &plan->roles[plan->role_of[rank]];
        double *ends_s = TDM_ALLOC(scratch, double, role->n_passes);
        if (!result->layouts[rank].timeline)
            continue;
        find_pass_ends(&result->step, rank, ends_s);
        for (uint32_t p = 0; p < role->n_passes; p++) {
            tdm_buffer_reserve(out);
            put_rank(out, tdm_mesh_whole_rank(&plan->mesh, rank), role->stage);
            put_pass(out, &role->passes[p], ends_s[p],
                     result->layouts[rank].timeline + (size_t)p * TDM_N_CLASSES);
        }
    }
}

tdm_code tdm_output_memory(const tdm_result *result, const char *path, tdm_error *err)
{
    tdm_buffer out;
    tdm_arena scratch = {0};
    tdm_code code = tdm_buffer_open(&out, path, err);
    if (code != TDM_OK)
        return code;
    TDM_PUT(&out, "rank,stage,pass,microbatch,chunk,end_us");
    for (uint32_t c = 0; c < TDM_N_CLASSES; c++) {
        TDM_PUT(&out, ",");
        tdm_buffer_text(&out, tdm_class_name((tdm_class)c));
        TDM_PUT(&out, "_bytes");
    }
    TDM_PUT(&out, ",total_bytes\n");
    put_memory(&out, &scratch, result);
    tdm_arena_free(&scratch);
    return tdm_buffer_close(&out, path, err);
}
