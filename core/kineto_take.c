/* kineto_take.c: what an event means: its class, its communicator, the launch or the step it marks.
 */
#include "kineto_parts.h"

#include <stdio.h>

/* Room for one more item of a growing array. */
static void *room(tdm_arena *arena, void *items, size_t n, size_t *capacity, size_t item_bytes)
{
    if (n < *capacity)
        return items;
    *capacity = *capacity ? 2 * *capacity : 1024;
    void *larger = tdm_arena_alloc(arena, *capacity * item_bytes);
    if (n)
        memcpy(larger, items, n * item_bytes);
    return larger;
}

static bool begins(tdm_kineto_text s, const char *word)
{
    size_t n = strlen(word);
    return s.text && s.length >= n && memcmp(s.text, word, n) == 0;
}

/* Bytes of an element by PyTorch's name of its type; 0: unknown. */
static uint64_t element_bytes(tdm_kineto_text dtype)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } types[] = {{"BFloat16", 2}, {"Half", 2}, {"Float", 4}, {"Double", 8}, {"Byte", 1},
                 {"Char", 1},     {"Int", 4},  {"Long", 8},  {"Bool", 1}};
    for (size_t i = 0; i < TDM_COUNT(types); i++)
        if (tdm_kineto_is(dtype, types[i].name))
            return types[i].bytes;
    return 0;
}

/* Index of a pair of names in a table of pairs. */
static uint32_t find_pair(tdm_names *pairs, uint32_t a, uint32_t b)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%lu %lu", (unsigned long)a, (unsigned long)b);
    return tdm_names_find(pairs, text, (size_t)n);
}

static uint32_t find_text(tdm_kineto_parser *p, tdm_kineto_text text)
{
    return text.text ? tdm_names_find(&p->names, text.text, text.length)
                     : tdm_names_find(&p->names, "", 0);
}

/* The rule for a kernel; looked up once per kernel and collective. */
static const tdm_kernel_rule *rule_for(tdm_kineto_parser *p, const tdm_kineto_raw *event,
                                       uint32_t name)
{
    uint32_t collective = find_text(p, event->collective);
    uint32_t i = find_pair(&p->classes, name, collective);
    if (!p->classes.seen[i]) {
        p->classes.seen[i] = true;
        p->classes.values[i] =
            tdm_kernel_rule_for(p->rules, p->names.texts[name], p->names.texts[collective]);
    }
    return p->classes.values[i];
}

static bool own_kind(tdm_kineto_text kind, tdm_op_kind *found)
{
    for (uint32_t k = 0; k < TDM_N_OP_KINDS; k++) {
        if (tdm_kineto_is(kind, tdm_op_kind_name((tdm_op_kind)k))) {
            *found = (tdm_op_kind)k;
            return true;
        }
    }
    return false;
}

static void set_communication(tdm_kineto_parser *p, const tdm_kineto_raw *r, tdm_kineto_event *e)
{
    uint64_t elements =
        (uint64_t)(e->kind == TDM_OP_ALL_GATHER && r->n_out > r->n_in ? r->n_out : r->n_in);
    uint64_t size = element_bytes(r->dtype);
    bool fits = size == 0 || elements <= UINT64_MAX / 8;
    e->bytes = r->bytes ? (uint64_t)r->bytes : fits ? elements * size : 0;
    e->group_size = r->group_size < UINT32_MAX ? (uint32_t)r->group_size : 0;
    if (!r->group.text)
        return;
    uint32_t label = find_text(p, r->description.text ? r->description : r->group);
    if (!tdm_op_is_p2p(e->kind))
        e->group = tdm_kernel_group(p->rules, p->names.texts[label]);
    e->comm = find_pair(&p->comms, find_text(p, r->group), find_text(p, r->ranks));
}

/* Class, kind and communicator of what ran; false when it is left out. */
static bool classify(tdm_kineto_parser *p, const tdm_kineto_raw *r, tdm_kineto_event *e)
{
    const tdm_kernel_rule *rule = NULL;
    if (r->kind.text && own_kind(r->kind, &e->kind)) {
        e->phase_o = tdm_kineto_is(r->pass, "O");
        e->class_ =
            tdm_op_class_of(e->kind, e->phase_o ? TDM_PASS_O : TDM_PASS_F, p->names.texts[e->name]);
    } else {
        rule = rule_for(p, r, e->name);
        e->class_ = rule ? rule->class_ : TDM_CLASS_OF_OTHER;
        e->kind = tdm_op_class_kind(e->class_);
        if (e->class_ == TDM_CLASS_OF_TRANSFER && begins(r->collective, "recv"))
            e->kind = TDM_OP_RECV;
    }
    if (tdm_op_class_is_comm(e->class_))
        set_communication(p, r, e);
    return !rule || !rule->ignored;
}

static bool add_event(tdm_kineto_parser *p, const tdm_kineto_raw *r)
{
    tdm_kineto *k = p->kineto;
    tdm_kineto_event e = {
        .start_ns = r->start_ns,
        .end_ns = r->start_ns + r->duration_ns,
        .correlation = r->correlation,
        .rank = r->has_pid && r->pid >= 0 && r->pid < UINT32_MAX ? (uint32_t)r->pid : 0,
        .name = tdm_names_find(&p->names, r->name.text, r->name.length),
        .group = TDM_N_GROUP_KINDS,
        .comm = TDM_KINETO_NONE,
        .call = r->call >= 0 && r->call < UINT32_MAX ? (uint32_t)r->call : TDM_KINETO_NONE,
        .stream = TDM_N_STREAMS};
    if (!classify(p, r, &e)) {
        k->n_ignored++;
        return true;
    }
    if (r->has_tid && r->tid >= 1 && r->tid <= TDM_N_STREAMS)
        e.stream = (uint8_t)(r->tid - 1);
    k->events = room(p->arena, k->events, k->n_events, &p->event_capacity, sizeof *k->events);
    k->events[k->n_events++] = e;
    return true;
}

static void add_mark(tdm_kineto_parser *p, const tdm_kineto_raw *r, bool on_gpu)
{
    static const char prefix[] = "ProfilerStep#";
    tdm_kineto *k = p->kineto;
    uint32_t number = 0;
    for (size_t i = sizeof prefix - 1; i < r->name.length && number < 100000000; i++) {
        if (r->name.text[i] < '0' || r->name.text[i] > '9')
            break;
        number = 10 * number + (uint32_t)(r->name.text[i] - '0');
    }
    k->marks = room(p->arena, k->marks, k->n_marks, &p->mark_capacity, sizeof *k->marks);
    k->marks[k->n_marks++] =
        (tdm_kineto_mark){r->start_ns, r->start_ns + r->duration_ns, 0, number, on_gpu};
}

bool tdm_kineto_take(tdm_kineto_parser *p, const tdm_kineto_raw *r)
{
    tdm_kineto *k = p->kineto;
    if (!tdm_kineto_is(r->phase, "X") || !r->has_start || !r->name.text)
        return true;
    if (r->duration_ns < 0 || r->start_ns < -INT64_MAX / 4 || r->start_ns > INT64_MAX / 4 ||
        r->duration_ns > INT64_MAX / 4)
        return tdm_kineto_fail(p, "a time is out of range");
    if (tdm_kineto_is(r->category, "kernel") || tdm_kineto_is(r->category, "gpu_memcpy") ||
        tdm_kineto_is(r->category, "gpu_memset"))
        return add_event(p, r);
    bool on_gpu = tdm_kineto_is(r->category, "gpu_user_annotation");
    if ((on_gpu || tdm_kineto_is(r->category, "user_annotation")) &&
        begins(r->name, "ProfilerStep#")) {
        add_mark(p, r, on_gpu);
    } else if ((tdm_kineto_is(r->category, "cuda_runtime") ||
                tdm_kineto_is(r->category, "cuda_driver")) &&
               r->correlation >= 0) {
        k->launches =
            room(p->arena, k->launches, k->n_launches, &p->launch_capacity, sizeof *k->launches);
        k->launches[k->n_launches++] =
            (tdm_kineto_launch){r->correlation, r->start_ns, r->start_ns + r->duration_ns, 0};
    }
    return true;
}
