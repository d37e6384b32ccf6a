/* fabric.c: what the files in fabrics/ have in common: planes link by link, and grades. */
#include "fabric.h"

#include <assert.h>

void tdm_plane_builder_init(tdm_plane_builder *builder, tdm_arena *arena, uint32_t n_links)
{
    *builder = (tdm_plane_builder){.arena = arena, .capacity = n_links};
    builder->links = TDM_ALLOC(arena, tdm_link, n_links);
}

void tdm_plane_begin(tdm_plane_builder *builder, const char *name, uint32_t n_vertices)
{
    builder->parent = TDM_ALLOC(builder->arena, int32_t, n_vertices);
    builder->up = TDM_ALLOC(builder->arena, uint32_t, n_vertices);
    builder->down = TDM_ALLOC(builder->arena, uint32_t, n_vertices);
    for (uint32_t v = 0; v < n_vertices; v++)
        builder->parent[v] = -1;
    builder->plane = (tdm_plane){.name = name,
                                 .n_vertices = n_vertices,
                                 .parent = builder->parent,
                                 .up = builder->up,
                                 .down = builder->down};
}

static uint32_t add_link(tdm_plane_builder *builder, const char *name, double bytes_per_s,
                         double latency_s)
{
    assert(builder->n_links < builder->capacity);
    builder->links[builder->n_links] =
        (tdm_link){.name = name, .bytes_per_s = bytes_per_s, .latency_s = latency_s};
    return builder->n_links++;
}

void tdm_plane_hang(tdm_plane_builder *builder, uint32_t vertex, uint32_t parent,
                    const char *vertex_name, double bytes_per_s, double latency_s)
{
    assert(vertex < builder->plane.n_vertices && parent < builder->plane.n_vertices);
    builder->parent[vertex] = (int32_t)parent;
    builder->up[vertex] = add_link(builder, tdm_arena_printf(builder->arena, "%s-up", vertex_name),
                                   bytes_per_s, latency_s);
    builder->down[vertex] = add_link(
        builder, tdm_arena_printf(builder->arena, "%s-down", vertex_name), bytes_per_s, latency_s);
}

tdm_grade tdm_fields_grade(const tdm_field *fields, const void *record)
{
    tdm_grade worst = TDM_GRADE_MEASURED;
    for (const tdm_field *field = fields; field->key; field++) {
        const unsigned char *at = (const unsigned char *)record + field->offset;
        tdm_grade grade = TDM_GRADE_MEASURED;
        if (field->type == TDM_FIELD_MAP)
            grade = tdm_fields_grade(field->fields, at);
        else if (field->type == TDM_FIELD_VALUE && ((const tdm_value *)(const void *)at)->source)
            grade = ((const tdm_value *)(const void *)at)->grade;
        if (grade > worst)
            worst = grade;
    }
    return worst;
}
