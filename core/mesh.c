/* mesh.c: rank order and groups by arithmetic; no tables, so 4,096 GPUs cost nothing. */
#include "mesh.h"

#include <assert.h>

static const char *const group_kind_names[TDM_N_GROUP_KINDS] = {
    [TDM_GROUP_TP] = "tp",   [TDM_GROUP_CP] = "cp",       [TDM_GROUP_DP] = "dp",
    [TDM_GROUP_PP] = "pp",   [TDM_GROUP_EP] = "ep",       [TDM_GROUP_ETP] = "etp",
    [TDM_GROUP_EDP] = "edp", [TDM_GROUP_EMBED] = "embed", [TDM_GROUP_WORLD] = "world",
};

const char *tdm_group_kind_name(tdm_group_kind kind)
{
    assert((unsigned)kind < TDM_N_GROUP_KINDS);
    return group_kind_names[kind];
}

enum { MAX_RANKS = 1 << 20 };

tdm_code tdm_mesh_init(tdm_mesh *mesh, uint32_t tp, uint32_t cp, uint32_t dp, uint32_t pp,
                       uint32_t ep, uint32_t etp, tdm_error *err)
{
    if (tp == 0 || cp == 0 || dp == 0 || pp == 0 || ep == 0 || etp == 0)
        return tdm_error_add(err, TDM_E_INVALID, "parallel: every size must be at least 1");
    /* Step by step: each product stays far from the end of 64 bits. */
    const uint32_t sizes[] = {tp, cp, dp, pp};
    uint64_t world = 1;
    for (size_t i = 0; i < TDM_COUNT(sizes) && world <= MAX_RANKS; i++)
        world *= sizes[i];
    if (world > MAX_RANKS)
        return tdm_error_add(err, TDM_E_INVALID,
                             "parallel: %u x %u x %u x %u ranks are more than %u", tp, cp, dp, pp,
                             (unsigned)MAX_RANKS);
    uint64_t per_stage = world / pp;
    uint64_t expert_ranks = (uint64_t)ep * etp;
    if (per_stage % expert_ranks != 0)
        return tdm_error_add(
            err, TDM_E_INVALID,
            "parallel.expert_model_parallel_size: %u x expert_tensor_parallel_size %u does not divide "
            "the %u ranks of a stage (tensor %u x context %u x data %u)",
            ep, etp, (unsigned)per_stage, tp, cp, dp);
    *mesh = (tdm_mesh){.tp = tp,
                       .cp = cp,
                       .dp = dp,
                       .pp = pp,
                       .ep = ep,
                       .etp = etp,
                       .edp = (uint32_t)(per_stage / expert_ranks),
                       .world = (uint32_t)(per_stage * pp),
                       .per_stage = (uint32_t)per_stage};
    return TDM_OK;
}

static tdm_mesh scaled(const tdm_mesh *mesh, uint32_t dp, uint32_t edp, uint32_t copies)
{
    tdm_mesh other = *mesh;
    other.dp = dp;
    other.edp = edp;
    other.per_stage = mesh->tp * mesh->cp * dp;
    other.world = other.per_stage * mesh->pp;
    other.copies = copies;
    return other;
}

tdm_mesh tdm_mesh_whole(const tdm_mesh *mesh)
{
    if (!tdm_mesh_is_folded(mesh))
        return *mesh;
    return scaled(mesh, mesh->dp * mesh->copies, mesh->edp * mesh->copies, 0);
}

tdm_mesh tdm_mesh_fold(const tdm_mesh *whole, uint32_t copies)
{
    assert(!tdm_mesh_is_folded(whole) && copies > 0);
    assert(whole->dp % copies == 0 && whole->edp % copies == 0);
    return copies == 1 ? *whole : scaled(whole, whole->dp / copies, whole->edp / copies, copies);
}

uint32_t tdm_mesh_whole_rank(const tdm_mesh *mesh, uint32_t rank)
{
    if (!tdm_mesh_is_folded(mesh))
        return rank;
    return rank / mesh->per_stage * mesh->per_stage * mesh->copies + rank % mesh->per_stage;
}

uint32_t tdm_mesh_stage(const tdm_mesh *mesh, uint32_t rank)
{
    return rank / mesh->per_stage;
}

uint32_t tdm_mesh_at_stage(const tdm_mesh *mesh, uint32_t rank, uint32_t stage)
{
    return rank % mesh->per_stage + stage * mesh->per_stage;
}

/* Group of ranks `stride` apart in runs of stride * size: the usual axis of a mesh. */
static tdm_group axis(uint32_t rank, uint32_t stride, uint32_t size)
{
    uint32_t run = rank / (stride * size);
    uint32_t in_run = rank % stride;
    return (tdm_group){.id = run * stride + in_run,
                       .size = size,
                       .rank0 = run * stride * size + in_run,
                       .step = stride};
}

static tdm_group embed_group(const tdm_mesh *mesh, uint32_t rank)
{
    uint32_t stage = tdm_mesh_stage(mesh, rank);
    bool member = mesh->pp > 1 && (stage == 0 || stage == mesh->pp - 1);
    if (!member)
        return (tdm_group){.id = mesh->per_stage + rank, .size = 1, .rank0 = rank, .step = 1};
    uint32_t first = rank % mesh->per_stage;
    return (tdm_group){
        .id = first, .size = 2, .rank0 = first, .step = mesh->per_stage * (mesh->pp - 1)};
}

tdm_group tdm_mesh_group(const tdm_mesh *mesh, tdm_group_kind kind, uint32_t rank)
{
    assert(rank < mesh->world);
    switch (kind) {
    case TDM_GROUP_TP:
        return axis(rank, 1, mesh->tp);
    case TDM_GROUP_CP:
        return axis(rank, mesh->tp, mesh->cp);
    case TDM_GROUP_DP: /* CP ranks hold the same parameters, so they are replicas too */
        return axis(rank, mesh->tp, mesh->cp * mesh->dp);
    case TDM_GROUP_PP:
        return axis(rank, mesh->per_stage, mesh->pp);
    case TDM_GROUP_ETP:
        return axis(rank, 1, mesh->etp);
    case TDM_GROUP_EP:
        return axis(rank, mesh->etp, mesh->ep);
    case TDM_GROUP_EDP:
        return axis(rank, mesh->etp * mesh->ep, mesh->edp);
    case TDM_GROUP_EMBED:
        return embed_group(mesh, rank);
    case TDM_GROUP_WORLD:
        return axis(rank, 1, mesh->world);
    case TDM_N_GROUP_KINDS:
        break;
    }
    assert(!"unknown group kind");
    return (tdm_group){0};
}

uint32_t tdm_mesh_n_groups(const tdm_mesh *mesh, tdm_group_kind kind)
{
    if (kind == TDM_GROUP_EMBED)
        return mesh->per_stage + mesh->world; /* ids, not all in use */
    return mesh->world / tdm_mesh_group(mesh, kind, 0).size;
}

uint32_t tdm_group_member(const tdm_group *group, uint32_t i)
{
    assert(i < group->size);
    return group->rank0 + i * group->step;
}

uint32_t tdm_group_index(const tdm_group *group, uint32_t rank)
{
    if (rank < group->rank0)
        return group->size;
    uint32_t steps = (rank - group->rank0) / group->step;
    bool member = steps < group->size && group->rank0 + steps * group->step == rank;
    return member ? steps : group->size;
}
