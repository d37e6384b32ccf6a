/* mesh.h: which rank is where, and who forms a group with whom.
 * Rank order is Megatron's tp-cp-ep-dp-pp, tp fastest. Attention uses tp x cp x dp x pp; experts
 * use etp x ep x edp x pp over the same ranks (folding), so edp = tp*cp*dp / (etp*ep). */
#ifndef TDM_MESH_H
#define TDM_MESH_H

#include "base.h"

typedef enum tdm_group_kind {
    TDM_GROUP_TP,
    TDM_GROUP_CP,
    TDM_GROUP_DP, /* replicas of a dense parameter: the DP x CP ranks */
    TDM_GROUP_PP,
    TDM_GROUP_EP,
    TDM_GROUP_ETP,
    TDM_GROUP_EDP,   /* replicas of an expert */
    TDM_GROUP_EMBED, /* first and last stage's ranks that share tied embeddings */
    TDM_GROUP_WORLD,
    TDM_N_GROUP_KINDS
} tdm_group_kind;

typedef struct tdm_mesh {
    uint32_t tp, cp, dp, pp, ep, etp, edp;
    uint32_t world;     /* tp*cp*dp*pp */
    uint32_t per_stage; /* world / pp */
    /* Above 1: folded (fold.h). The mesh is that of some replicas, and each of its ranks stands for
     * `copies` ranks of the whole, in which dp, edp, world and per_stage are so many times larger.
     */
    uint32_t copies;
} tdm_mesh;

/* A group of ranks in equal steps: member i is rank0 + i * step. */
typedef struct tdm_group {
    uint32_t id; /* below tdm_mesh_n_groups, unique within its kind */
    uint32_t size;
    uint32_t rank0;
    uint32_t step;
} tdm_group;

/* Fails when the sizes do not form a mesh; messages name the key. */
tdm_code tdm_mesh_init(tdm_mesh *mesh, uint32_t tp, uint32_t cp, uint32_t dp, uint32_t pp,
                       uint32_t ep, uint32_t etp, tdm_error *err);
uint32_t tdm_mesh_n_groups(const tdm_mesh *mesh, tdm_group_kind kind);
/* The group of `kind` that holds `rank`. For EMBED, ranks of middle stages get a group of size 1.
 */
tdm_group tdm_mesh_group(const tdm_mesh *mesh, tdm_group_kind kind, uint32_t rank);
uint32_t tdm_group_member(const tdm_group *group, uint32_t i);
/* Index of rank in the group; group->size when it is no member. */
uint32_t tdm_group_index(const tdm_group *group, uint32_t rank);
/* Pipeline stage of a rank, and the same position on another stage. */
uint32_t tdm_mesh_stage(const tdm_mesh *mesh, uint32_t rank);
uint32_t tdm_mesh_at_stage(const tdm_mesh *mesh, uint32_t rank, uint32_t stage);
static inline bool tdm_mesh_is_folded(const tdm_mesh *mesh)
{
    return mesh->copies > 1;
}
/* The mesh with all ranks, as it is unless folded; and the number that a rank has there, which is
 * the GPU it runs on. */
tdm_mesh tdm_mesh_whole(const tdm_mesh *mesh);
uint32_t tdm_mesh_whole_rank(const tdm_mesh *mesh, uint32_t rank);
/* A part of the mesh that stands for `copies` times as many ranks. copies divides dp and edp. */
tdm_mesh tdm_mesh_fold(const tdm_mesh *whole, uint32_t copies);
const char *tdm_group_kind_name(tdm_group_kind kind); /* "tp", "edp", ... */

#endif
