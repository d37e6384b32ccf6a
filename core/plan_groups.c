/* plan_groups.c: who forms a group with whom, for people: the attention mesh and the expert mesh
 * over the same ranks. */
#include "plan_text.h"

#include <string.h>

/* Columns of a line, and where the groups begin. */
enum { LINE_WIDTH = 100, INDENT = 14 };

/* 5, 0-7, 0,8 or 0-120:8 (every eighth), as taskset writes CPU lists. */
static int group_text(const tdm_group *group, char text[64])
{
    uint32_t last = tdm_group_member(group, group->size - 1);
    if (group->size == 1)
        return snprintf(text, 64, "%u", group->rank0);
    if (group->step == 1)
        return snprintf(text, 64, "%u-%u", group->rank0, last);
    if (group->size == 2)
        return snprintf(text, 64, "%u,%u", group->rank0, last);
    return snprintf(text, 64, "%u-%u:%u", group->rank0, last, group->step);
}

static void write_kind(const tdm_mesh *mesh, tdm_group_kind kind, uint32_t size, FILE *file)
{
    fprintf(file, "  %-5s %5u ", tdm_group_kind_name(kind), size);
    if (size == 1) {
        fprintf(file, " every rank alone\n");
        return;
    }
    int column = INDENT;
    for (uint32_t rank = 0; rank < mesh->world; rank++) {
        tdm_group group = tdm_mesh_group(mesh, kind, rank);
        if (group.rank0 != rank) /* each group once, at its first rank */
            continue;
        char text[64];
        int length = group_text(&group, text);
        if (column + 1 + length > LINE_WIDTH) {
            fprintf(file, "\n%*s", INDENT, "");
            column = INDENT;
        }
        fprintf(file, " %s", text);
        column += 1 + length;
    }
    fprintf(file, "\n");
}

void tdm_plan_write_groups(const tdm_plan *plan, FILE *file)
{
    const tdm_mesh *mesh = &plan->mesh;
    fprintf(file, "%s: %u ranks in order tp-cp-ep-dp-pp, tp fastest\n", plan->name, mesh->world);
    fprintf(file, "\nattention: tp %u x cp %u x dp %u x pp %u = %u\n  group  size  ranks\n",
            mesh->tp, mesh->cp, mesh->dp, mesh->pp, mesh->world);
    write_kind(mesh, TDM_GROUP_TP, mesh->tp, file);
    write_kind(mesh, TDM_GROUP_CP, mesh->cp, file);
    write_kind(mesh, TDM_GROUP_DP, mesh->cp * mesh->dp, file);
    write_kind(mesh, TDM_GROUP_PP, mesh->pp, file);
    fprintf(file, "\nexperts: etp %u x ep %u x edp %u x pp %u = %u\n  group  size  ranks\n",
            mesh->etp, mesh->ep, mesh->edp, mesh->pp, mesh->world);
    write_kind(mesh, TDM_GROUP_ETP, mesh->etp, file);
    write_kind(mesh, TDM_GROUP_EP, mesh->ep, file);
    write_kind(mesh, TDM_GROUP_EDP, mesh->edp, file);
    write_kind(mesh, TDM_GROUP_PP, mesh->pp, file);
}
