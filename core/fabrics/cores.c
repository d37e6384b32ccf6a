/* Ranks that are threads of one process and share the cores of its processor, as `tandem run
 * --device host` runs them. Nothing but cores limits them: what they communicate they copy. */
#include "fabric.h"

typedef struct spec {
    uint32_t ranks, cores;
    tdm_value copy, reduce, slice, hold, turn, switch_time, wake;
} spec;

#define COUNT(name, text)                                                                          \
    {                                                                                              \
        .key = #name, .type = TDM_FIELD_UINT32, .offset = offsetof(spec, name), .required = true,  \
        .min = 1, .max = 1024, .doc = text                                                         \
    }
#define QUANTITY(key_, name, what, is_positive, text)                                              \
    {                                                                                              \
        .key = key_, .type = TDM_FIELD_VALUE, .offset = offsetof(spec, name), .required = true,    \
        .unit = what, .positive = is_positive, .doc = text                                         \
    }

static const tdm_field fields[] = {
    COUNT(ranks, "ranks that can run here"),
    COUNT(cores, "processor cores that they share"),
    QUANTITY("copy", copy, TDM_UNIT_BYTES_PER_S, true,
             "what one core copies from another thread's buffer, bytes written"),
    QUANTITY("reduce", reduce, TDM_UNIT_BYTES_PER_S, true,
             "what one core adds up of several threads' buffers, bytes read"),
    QUANTITY("slice", slice, TDM_UNIT_SECONDS, true,
             "a thread keeps its core so long while others wait for one"),
    QUANTITY("hold", hold, TDM_UNIT_SECONDS, false,
             "it keeps it at least so long when one is woken that has used less"),
    QUANTITY("turn", turn, TDM_UNIT_SECONDS, false,
             "core time of going from one op of a stream to the next"),
    QUANTITY("switch", switch_time, TDM_UNIT_SECONDS, false,
             "core time of letting a thread go on that waited"),
    QUANTITY("wake", wake, TDM_UNIT_SECONDS, false,
             "until a thread goes on that is woken while a core is idle"),
    {.key = NULL},
};

static tdm_code check(const void *in, const tdm_node *root, tdm_error *err)
{
    (void)in;
    (void)root;
    (void)err;
    return TDM_OK;
}

static tdm_graph graph(tdm_arena *arena, const void *in, const tdm_device *device, const char *name)
{
    const spec *s = in;
    tdm_graph_builder builder;
    tdm_graph_builder_init(&builder, arena);
    uint32_t socket = tdm_graph_add(&builder, &(tdm_vertex){.kind = TDM_VERTEX_SOCKET});
    for (uint32_t r = 0; r < s->ranks; r++) {
        tdm_vertex vertex = tdm_fabric_gpu(device, 0);
        uint32_t rank = tdm_graph_add(&builder, &vertex);
        tdm_graph_link(&builder, rank, socket, TDM_WIRE_PCIE, 1, s->copy.value, 0,
                       tdm_arena_printf(arena, "%s-copy", builder.vertices[rank].name));
    }
    return tdm_graph_finish(&builder, name);
}

static const tdm_cores *cores(tdm_arena *arena, const void *in)
{
    const spec *s = in;
    tdm_cores *made = TDM_ALLOC(arena, tdm_cores, 1);
    *made = (tdm_cores){.n_cores = s->cores,
                        .slice_s = s->slice.value,
                        .hold_s = s->hold.value,
                        .turn_s = s->turn.value,
                        .switch_s = s->switch_time.value,
                        .wake_s = s->wake.value,
                        .copy_bytes_per_s = s->copy.value,
                        .reduce_bytes_per_s = s->reduce.value};
    return made;
}

const tdm_fabric tdm_fabric_cores = {
    .name = "cores",
    .summary = "ranks that are threads and share processor cores, as the host device runs them",
    .fields = fields,
    .spec_bytes = sizeof(spec),
    .check = check,
    .graph = graph,
    .cores = cores,
};
