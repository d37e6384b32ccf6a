/* rank_shape.c: how the parameters of a rank lie in the model's. */
#include "rank.h"

#include <string.h>

static bool is(const tdm_param *param, const char *name)
{
    return strcmp(param->name, name) == 0;
}

/* Sections of columns, each shared out over a group. */
static void share_columns(tdm_shape *shape, uint64_t a, uint64_t b, uint64_t c, uint32_t n_parts,
                          uint32_t part)
{
    const uint64_t widths[3] = {a / n_parts, b / n_parts, c / n_parts};
    shape->n_parts = n_parts;
    shape->part = part;
    shape->replicated = false;
    shape->columns = 0;
    for (shape->n_sections = 0; shape->n_sections < 3 && widths[shape->n_sections] > 0;) {
        shape->width[shape->n_sections] = widths[shape->n_sections];
        shape->columns += widths[shape->n_sections++];
    }
}

static void share_rows(tdm_shape *shape, uint64_t rows, uint64_t columns, uint32_t parts,
                       uint32_t part)
{
    shape->row0 = rows / parts * part;
    shape->columns = shape->width[0] = columns;
    shape->replicated = false;
}

/* Experts shared out over EP, each of them over ETP: columns of the first matrix, rows of the
 * second. Those rows are columns here, where an expert's whole matrix is a row. */
static void expert_shape(const tdm_plan *plan, const tdm_param *p, uint32_t rank, tdm_shape *shape)
{
    const tdm_model *m = &plan->model;
    tdm_group ep = tdm_mesh_group(&plan->mesh, TDM_GROUP_EP, rank),
              etp = tdm_mesh_group(&plan->mesh, TDM_GROUP_ETP, rank);
    uint32_t part = tdm_group_index(&etp, rank);
    uint64_t h = m->hidden_size, f = m->moe_ffn_hidden_size, up = m->swiglu ? f : 0;
    bool first = strncmp(p->name, "fc1", 3) == 0;
    shape->row0 = m->num_experts / ep.size * tdm_group_index(&ep, rank);
    shape->fan_in = first ? h : f;
    if (first)
        share_columns(shape, f, up, 0, etp.size, part);
    else if (is(p, "fc2"))
        share_columns(shape, f * h, 0, 0, etp.size, part);
    else
        shape->columns = shape->width[0] = h;
    if (is(p, "fc1"))
        shape->row0 *= h;
}

/* The dense half and the ends. Returns false for a name that is none of theirs. */
static bool dense_shape(const tdm_plan *plan, const tdm_kind *kind, const tdm_param *p,
                        uint32_t part, tdm_shape *shape)
{
    const tdm_model *m = &plan->model;
    uint32_t tp = plan->mesh.tp;
    uint64_t h = m->hidden_size, d = m->kv_channels, q = m->num_attention_heads * d,
             kv = m->num_query_groups * d;
    bool shared = strncmp(p->name, "shared.", 7) == 0;
    uint64_t f = shared ? m->moe_shared_expert_intermediate_size : m->ffn_hidden_size;
    uint64_t up = m->swiglu ? f : 0;
    (void)kind;
    if (is(p, "qkv") || is(p, "qkv.bias")) {
        share_columns(shape, q, kv, kv, tp, part);
        shape->fan_in = h;
    } else if (is(p, "proj")) {
        share_rows(shape, q, h, tp, part);
        shape->fan_in = q;
    } else if (is(p, "proj.bias")) {
        shape->fan_in = q;
    } else if (is(p, "fc1") || is(p, "fc1.bias") || is(p, "shared.fc1") ||
               is(p, "shared.fc1.bias")) {
        share_columns(shape, f, up, 0, tp, part);
        shape->fan_in = h;
    } else if (is(p, "fc2") || is(p, "shared.fc2")) {
        share_rows(shape, f, h, tp, part);
        shape->fan_in = f;
    } else if (is(p, "fc2.bias") || is(p, "shared.fc2.bias")) {
        shape->fan_in = f;
    } else if (is(p, "words")) {
        share_rows(shape, m->vocab_size, h, tp, part);
        shape->fan_in = h;
    } else if (is(p, "sinks")) {
        share_rows(shape, m->num_attention_heads, 1, tp, part);
    } else {
        return false;
    }
    return true;
}

tdm_shape tdm_shape_of(const tdm_plan *plan, const tdm_kind *kind, const tdm_param *p,
                       uint32_t rank)
{
    const tdm_model *m = &plan->model;
    tdm_group tp = tdm_mesh_group(&plan->mesh, TDM_GROUP_TP, rank);
    tdm_shape shape = {.columns = p->count,
                       .n_sections = 1,
                       .n_parts = 1,
                       .width = {p->count},
                       .replicated = true};
    if (p->expert) {
        expert_shape(plan, p, rank, &shape);
    } else if (!dense_shape(plan, kind, p, tdm_group_index(&tp, rank), &shape)) {
        bool gate = strncmp(p->name, "gate", 4) == 0, places = is(p, "positions");
        shape.fan_in = gate || places ? m->hidden_size : 0;
        shape.start = 1; /* of a norm; its shift is set apart */
    }
    return shape;
}

uint64_t tdm_shape_global(const tdm_shape *shape, uint64_t local)
{
    uint64_t row = local / shape->columns, column = local % shape->columns;
    uint64_t before = 0, all = shape->columns * shape->n_parts;
    for (uint32_t i = 0; i < shape->n_sections; i++) {
        if (column < shape->width[i]) {
            column += before * shape->n_parts + shape->part * shape->width[i];
            break;
        }
        column -= shape->width[i];
        before += shape->width[i];
    }
    return (shape->row0 + row) * all + column;
}
