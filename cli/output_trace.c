/* output_trace.c: a run as a Chrome trace: one process per rank, one thread per stream, passes on a
 * thread of their own, arrows from sends to receives, memory as a counter. Times in microseconds,
 * whole nanoseconds. Kernels of collectives are called as NCCL calls them, so that tools for
 * PyTorch's traces find them. Source: Trace Event Format (Chromium project), and Kineto's keys as
 * PyTorch 2 writes them. */
#include "buffer.h"
#include "core/calls.h"
#include "output.h"

#include <math.h>

/* Threads: the passes, then the streams in their order. */
enum { PASS_THREAD = 0, FIRST_STREAM_THREAD = 1 };

typedef struct writer {
    tdm_buffer out;
    const tdm_prediction *prediction;
    const tdm_program *programs; /* [n_roles] */
    tdm_calls calls;
    const tdm_layout *layouts;
    bool first; /* no event was written yet */
} writer;

static int64_t to_ns(double seconds)
{
    return (int64_t)llround(seconds * 1e9);
}

/* Starts an event up to its thread; the caller goes on with a comma. */
static void begin(writer *w, const char *phase, uint32_t rank, uint32_t thread)
{
    tdm_buffer_reserve(&w->out);
    if (w->first)
        TDM_PUT(&w->out, "\n{\"ph\":\"");
    else
        TDM_PUT(&w->out, ",\n{\"ph\":\"");
    w->first = false;
    tdm_buffer_text(&w->out, phase);
    TDM_PUT(&w->out, "\",\"pid\":");
    tdm_buffer_uint(&w->out, tdm_mesh_whole_rank(&w->prediction->plan.mesh, rank));
    TDM_PUT(&w->out, ",\"tid\":");
    tdm_buffer_uint(&w->out, thread);
}

static void put_times(writer *w, const tdm_span *span)
{
    int64_t start = to_ns(span->start_s);
    TDM_PUT(&w->out, ",\"ts\":");
    tdm_buffer_us(&w->out, start);
    TDM_PUT(&w->out, ",\"dur\":");
    tdm_buffer_us(&w->out, to_ns(span->end_s) - start);
}

static void put_metadata(writer *w, const char *what, uint32_t rank, uint32_t thread,
                         const char *name)
{
    begin(w, "M", rank, thread);
    TDM_PUT(&w->out, ",\"name\":\"");
    tdm_buffer_text(&w->out, what);
    TDM_PUT(&w->out, "_name\",\"args\":{\"name\":");
    tdm_buffer_json(&w->out, name);
    TDM_PUT(&w->out, "}}");
    begin(w, "M", rank, thread);
    TDM_PUT(&w->out, ",\"name\":\"");
    tdm_buffer_text(&w->out, what);
    TDM_PUT(&w->out, "_sort_index\",\"args\":{\"sort_index\":");
    tdm_buffer_uint(&w->out, thread == PASS_THREAD && what[0] == 'p' ? rank : thread);
    TDM_PUT(&w->out, "}}");
}

static void put_names(writer *w, uint32_t rank)
{
    const tdm_program *program = &w->programs[w->prediction->plan.role_of[rank]];
    char name[64];
    snprintf(name, sizeof name, "rank %u (stage %u)",
             (unsigned)tdm_mesh_whole_rank(&w->prediction->plan.mesh, rank),
             (unsigned)program->role->stage);
    put_metadata(w, "process", rank, PASS_THREAD, name);
    put_metadata(w, "thread", rank, PASS_THREAD, "passes");
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        if (program->n_on_stream[s])
            put_metadata(w, "thread", rank, FIRST_STREAM_THREAD + s,
                         tdm_stream_name((tdm_stream)s));
}

static const char *nccl_kernel(tdm_op_kind kind)
{
    switch (kind) {
    case TDM_OP_ALL_REDUCE:
        return "ncclDevKernel_AllReduce_Sum";
    case TDM_OP_ALL_GATHER:
        return "ncclDevKernel_AllGather";
    case TDM_OP_REDUCE_SCATTER:
        return "ncclDevKernel_ReduceScatter_Sum";
    case TDM_OP_BROADCAST:
        return "ncclDevKernel_Broadcast";
    default:
        return "ncclDevKernel_SendRecv"; /* all-to-all is a group of sends and receives, too */
    }
}

/* Kineto's name of a collective. */
static const char *collective_name(tdm_op_kind kind)
{
    switch (kind) {
    case TDM_OP_ALL_REDUCE:
        return "allreduce";
    case TDM_OP_ALL_GATHER:
        return "_allgather_base";
    case TDM_OP_REDUCE_SCATTER:
        return "_reduce_scatter_base";
    case TDM_OP_ALL_TO_ALL:
        return "all_to_allv";
    case TDM_OP_BROADCAST:
        return "broadcast";
    case TDM_OP_SEND:
        return "send";
    default:
        return "recv";
    }
}

static void put_comm(writer *w, uint32_t rank, const tdm_instance *instance,
                     const uint32_t *group_size, uint32_t call)
{
    const tdm_op *op = instance->op;
    bool p2p = tdm_op_is_p2p(op->kind);
    TDM_PUT(&w->out, ",\"name\":\"");
    tdm_buffer_text(&w->out, nccl_kernel(op->kind));
    if (!p2p && op->kind != TDM_OP_ALL_TO_ALL) {
        TDM_PUT(&w->out, "_");
        tdm_buffer_text(&w->out, tdm_dtype_name(op->dtype));
    }
    TDM_PUT(&w->out, "\",\"cat\":\"kernel\",\"args\":{\"op\":\"");
    tdm_buffer_text(&w->out, op->name);
    TDM_PUT(&w->out, "\",\"Collective name\":\"");
    tdm_buffer_text(&w->out, collective_name(op->kind));
    TDM_PUT(&w->out, "\",\"Process Group Name\":\"");
    tdm_buffer_text(&w->out, p2p ? "pp" : tdm_group_kind_name(op->u.collective.group));
    TDM_PUT(&w->out, "\",\"Group size\":");
    tdm_buffer_uint(&w->out, p2p ? 2 : group_size[op->u.collective.group]);
    TDM_PUT(&w->out, ",\"bytes\":");
    tdm_buffer_uint(&w->out, tdm_figures_op_bytes(&w->prediction->plan, rank, instance));
    TDM_PUT(&w->out, ",\"call\":");
    tdm_buffer_uint(&w->out, call);
    TDM_PUT(&w->out, ",\"kind\":\"");
}

/* call: number of the communication, the same on all members; unused of kernels. */
static void put_op(writer *w, uint32_t rank, const tdm_instance *instance, const tdm_span *span,
                   const uint32_t *group_size, uint32_t call)
{
    const tdm_op *op = instance->op;
    begin(w, "X", rank, FIRST_STREAM_THREAD + (uint32_t)op->stream);
    put_times(w, span);
    if (tdm_op_is_collective(op->kind) || tdm_op_is_p2p(op->kind)) {
        put_comm(w, rank, instance, group_size, call);
    } else {
        TDM_PUT(&w->out, ",\"name\":\"");
        tdm_buffer_text(&w->out, op->name);
        TDM_PUT(&w->out, "\",\"cat\":\"kernel\",\"args\":{\"kind\":\"");
    }
    tdm_buffer_text(&w->out, tdm_op_kind_name(op->kind));
    TDM_PUT(&w->out, "\",\"pass\":\"");
    tdm_buffer_text(&w->out, tdm_pass_kind_name(op->pass));
    if (instance->pass.kind != TDM_PASS_O) {
        TDM_PUT(&w->out, "\",\"mb\":");
        tdm_buffer_uint(&w->out, instance->pass.microbatch);
        TDM_PUT(&w->out, ",\"layer\":");
        tdm_buffer_uint(&w->out, instance->layer);
        TDM_PUT(&w->out, "}}");
    } else {
        TDM_PUT(&w->out, "\"}}");
    }
}

/* An arrow from a send to its receive: both ends name the call. They lie inside their slices, else
 * no viewer knows what they belong to. */
static void put_arrow(writer *w, uint32_t rank, const tdm_op *op, const tdm_span *span,
                      uint32_t call)
{
    bool send = op->kind == TDM_OP_SEND;
    int64_t start = to_ns(span->start_s), end = to_ns(span->end_s);
    begin(w, send ? "s" : "f", rank, FIRST_STREAM_THREAD + (uint32_t)op->stream);
    if (!send)
        TDM_PUT(&w->out, ",\"bp\":\"e\"");
    TDM_PUT(&w->out, ",\"id\":");
    tdm_buffer_uint(&w->out, call);
    TDM_PUT(&w->out, ",\"ts\":");
    tdm_buffer_us(&w->out, send || end == start ? start : end - 1);
    TDM_PUT(&w->out, ",\"name\":\"transfer\",\"cat\":\"pp\"}");
}

static void put_ops(writer *w, uint32_t rank)
{
    const tdm_plan *plan = &w->prediction->plan;
    const tdm_mesh whole = tdm_mesh_whole(&plan->mesh);
    uint32_t whole_rank = tdm_mesh_whole_rank(&plan->mesh, rank);
    uint32_t group_size[TDM_N_GROUP_KINDS], n_comms = 0;
    for (uint32_t kind = 0; kind < TDM_N_GROUP_KINDS; kind++)
        group_size[kind] = tdm_mesh_group(&whole, (tdm_group_kind)kind, whole_rank).size;
    const tdm_span *spans = w->prediction->trace.ranks[rank].spans;
    tdm_cursor cursor;
    tdm_instance instance;
    tdm_cursor_init(&cursor, plan, rank);
    while (tdm_cursor_next(&cursor, &instance)) {
        const tdm_op *op = instance.op;
        bool comm = op->stream != TDM_STREAM_COMPUTE;
        uint32_t call = comm ? w->calls.of_rank[rank][n_comms] : 0;
        put_op(w, rank, &instance, &spans[instance.index], group_size, call);
        if (tdm_op_is_p2p(op->kind))
            put_arrow(w, rank, op, &spans[instance.index], call);
        n_comms += comm;
    }
}

/* What a schedule calls a pass: "F mb=3 st=1". */
static void put_pass(writer *w, uint32_t rank, const tdm_pass *pass, const tdm_span *span)
{
    const tdm_program *program = &w->programs[w->prediction->plan.role_of[rank]];
    begin(w, "X", rank, PASS_THREAD);
    put_times(w, span);
    TDM_PUT(&w->out, ",\"cat\":\"user_annotation\",\"name\":\"");
    tdm_buffer_text(&w->out, tdm_pass_kind_name(pass->kind));
    if (pass->kind != TDM_PASS_O) {
        TDM_PUT(&w->out, " mb=");
        tdm_buffer_uint(&w->out, pass->microbatch);
        TDM_PUT(&w->out, " st=");
        tdm_buffer_uint(&w->out, program->role->chunks[pass->chunk].virtual_stage);
    }
    TDM_PUT(&w->out, "\"}");
}

static void put_memory(writer *w, uint32_t rank, const uint64_t *live, double time_s)
{
    begin(w, "C", rank, PASS_THREAD);
    TDM_PUT(&w->out, ",\"name\":\"memory\",\"ts\":");
    tdm_buffer_us(&w->out, to_ns(time_s));
    TDM_PUT(&w->out, ",\"args\":{");
    for (uint32_t c = 0; c < TDM_N_CLASSES; c++) {
        tdm_buffer_text(&w->out, c ? ",\"" : "\"");
        tdm_buffer_text(&w->out, tdm_class_name((tdm_class)c));
        TDM_PUT(&w->out, "\":");
        tdm_buffer_uint(&w->out, live[c]);
    }
    TDM_PUT(&w->out, "}}");
}

/* Passes as their kernels and TP/EP communication make them, the O pass with all it has. */
static void put_passes(writer *w, tdm_arena *scratch, uint32_t rank)
{
    const tdm_program *program = &w->programs[w->prediction->plan.role_of[rank]];
    const tdm_span *spans = w->prediction->trace.ranks[rank].spans;
    tdm_span *passes = TDM_ALLOC(scratch, tdm_span, program->role->n_passes);
    for (uint32_t p = 0; p < program->role->n_passes; p++)
        passes[p] = (tdm_span){INFINITY, -INFINITY};
    for (uint32_t i = 0; i < program->n_ops; i++) {
        if (program->stream[i] > TDM_STREAM_EP && program->phase[i] != TDM_PASS_O)
            continue;
        tdm_span *pass = &passes[program->ops[i].pass_index];
        pass->start_s = fmin(pass->start_s, spans[i].start_s);
        pass->end_s = fmax(pass->end_s, spans[i].end_s);
    }
    for (uint32_t p = 0; p < program->role->n_passes; p++) {
        if (passes[p].end_s < passes[p].start_s)
            continue;
        put_pass(w, rank, &program->role->passes[p], &passes[p]);
        if (w->layouts && w->layouts[rank].timeline)
            put_memory(w, rank, w->layouts[rank].timeline + (size_t)p * TDM_N_CLASSES,
                       passes[p].end_s);
    }
}

static tdm_code put_all(writer *w, tdm_arena *scratch, tdm_error *err)
{
    const tdm_plan *plan = &w->prediction->plan;
    w->programs = tdm_programs_of(scratch, plan);
    tdm_code code =
        tdm_calls_match(scratch, plan, w->programs, &w->prediction->trace, &w->calls, err);
    if (code != TDM_OK)
        return code;
    TDM_PUT(&w->out, "{\"schemaVersion\":1,\"displayTimeUnit\":\"ms\",\"otherData\":{\"plan\":");
    tdm_buffer_json(&w->out, plan->name);
    TDM_PUT(&w->out, ",\"engine\":");
    tdm_buffer_json(&w->out, w->prediction->trace.engine);
    TDM_PUT(&w->out, ",\"launch_us\":");
    tdm_buffer_us(&w->out, to_ns(w->prediction->trace.launch_s));
    TDM_PUT(&w->out, "},\"traceEvents\":[");
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        put_names(w, rank);
        put_passes(w, scratch, rank);
        put_ops(w, rank);
    }
    tdm_buffer_reserve(&w->out);
    TDM_PUT(&w->out, "\n]}\n");
    return TDM_OK;
}

tdm_code tdm_output_trace(const tdm_prediction *prediction, const tdm_layout *layouts,
                          const char *path, tdm_error *err)
{
    writer w = {.prediction = prediction, .layouts = layouts, .first = true};
    tdm_arena scratch = {0};
    tdm_code code = tdm_buffer_open(&w.out, path, err);
    if (code != TDM_OK)
        return code;
    code = put_all(&w, &scratch, err);
    tdm_code closed = tdm_buffer_close(&w.out, path, err);
    tdm_arena_free(&scratch);
    return code == TDM_OK ? closed : code;
}
