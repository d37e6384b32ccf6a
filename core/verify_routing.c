/* verify_routing.c: the byte counts of all-to-alls, and of what follows over ETP, come from the
 * routing table: every source must send all its tokens (with a capacity: no more than those;
 * padded: the capacity of every expert), and every rank must receive what its experts are said to
 * get. */
#include "routing.h"
#include "verify_private.h"

#include <inttypes.h>

/* An exchange of routed rows of a layer, and who runs it: for messages. */
typedef struct layer_op {
    tdm_instance instance;
    uint32_t stage;
    bool found;
} layer_op;

static const tdm_op *first_exchange(const tdm_template *template)
{
    for (uint32_t i = 0; i < template->n_ops; i++)
        if (template->ops[i].kind == TDM_OP_ALL_TO_ALL ||
            tdm_op_is_routed_gather(&template->ops[i]))
            return &template->ops[i];
    return NULL;
}

static layer_op find_layer(const tdm_plan *plan, uint32_t layer, uint32_t microbatch)
{
    layer_op found = {.found = false};
    for (uint32_t r = 0; r < plan->n_roles; r++)
        for (uint32_t c = 0; c < plan->roles[r].n_chunks; c++)
            for (uint32_t b = 0; b < plan->roles[r].chunks[c].n_blocks; b++) {
                const tdm_block *block = &plan->roles[r].chunks[c].blocks[b];
                const tdm_kind *kind = &plan->kinds[block->kind];
                const tdm_op *op = first_exchange(&kind->templates[TDM_PASS_F]);
                if (!op || layer < block->first_layer || layer - block->first_layer >= block->count)
                    continue;
                found.instance = (tdm_instance){.op = op,
                                                .kind = kind,
                                                .layer = layer,
                                                .pass = {TDM_PASS_F, (uint16_t)c, microbatch}};
                found.stage = plan->roles[r].stage;
                found.found = true;
                return found;
            }
    return found;
}

/* Where in the table, in messages' terms. */
typedef struct row {
    const tdm_plan *plan;
    uint32_t replica, layer, microbatch;
    const uint32_t *sent, *experts;
    tdm_error *err;
} row;

static tdm_code sum_fault(const row *r, uint32_t member, const char *sends, uint64_t sum,
                          uint64_t expected, const char *because)
{
    const tdm_mesh *mesh = &r->plan->mesh;
    uint32_t run = r->replica / mesh->etp * mesh->ep + member; /* of EP groups side by side */
    layer_op op = find_layer(r->plan, r->layer, r->microbatch);
    if (!op.found)
        return tdm_error_add(r->err, TDM_E_INVALID,
                             "plan: the routing table has layer %u, which no all-to-all belongs to",
                             r->layer);
    uint32_t rank = op.stage * mesh->per_stage + run * mesh->etp + r->replica % mesh->etp;
    return tdm_error_add(r->err, TDM_E_INVALID,
                         "rank %u: %s: by the routing table it %s %" PRIu64
                         " token-expert pairs, but %s %" PRIu64,
                         rank, tdm_verify_op_text(&op.instance).s, sends, sum, because, expected);
}

static tdm_code check_row(const row *r, uint64_t dispatched)
{
    const tdm_routing *spec = &r->plan->routing_spec;
    uint32_t ep = r->plan->routing.ep, n_local = r->plan->routing.n_experts / ep;
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < ep; i++) {
        uint64_t out = 0, in = 0, experts = 0;
        for (uint32_t k = 0; k < ep; k++) {
            out += r->sent[(size_t)i * ep + k];
            in += r->sent[(size_t)k * ep + i];
        }
        for (uint32_t e = i * n_local; e < (i + 1) * n_local; e++)
            experts += r->experts[e];
        bool drops = spec->capacity_factor > 0 && !spec->pad_to_capacity;
        if (drops ? out > dispatched : out != dispatched)
            code = sum_fault(r, i, "sends", out, dispatched,
                             spec->pad_to_capacity ? "the capacity of all experts is"
                                                   : "its tokens times top-k are");
        if (spec->pad_to_capacity && in != dispatched)
            code = sum_fault(r, i, "receives", in, dispatched,
                             "the capacity of its experts adds up to");
        if (spec->pad_to_capacity ? experts > in : experts != in)
            code = sum_fault(r, i, "receives", in, experts, "its experts' counts add up to");
    }
    return code;
}

static bool uses_routing(const tdm_plan *plan)
{
    for (uint32_t k = 0; k < plan->n_kinds; k++)
        if (first_exchange(&plan->kinds[k].templates[TDM_PASS_F]))
            return true;
    return false;
}

static tdm_code check_shape(const tdm_plan *plan, tdm_error *err)
{
    const tdm_routing_table *t = &plan->routing;
    const tdm_mesh *mesh = &plan->mesh;
    if (t->ep != mesh->ep || t->n_replicas != mesh->per_stage / mesh->ep ||
        t->n_experts % mesh->ep != 0 || t->n_microbatches != plan->num_microbatches ||
        t->n_layers != plan->model.num_layers)
        return tdm_error_add(
            err, TDM_E_INVALID,
            "plan: the routing table is for %u replicas of %u ranks, %u layers, %u microbatches and %u "
            "experts, which is not this plan's layout",
            t->n_replicas, t->ep, t->n_layers, t->n_microbatches, t->n_experts);
    return TDM_OK;
}

tdm_code tdm_verify_routing(const tdm_plan *plan, tdm_error *err)
{
    enum { MAX_MESSAGES = 8 };
    const tdm_routing_table *t = &plan->routing;
    if (t->n_layers == 0)
        return uses_routing(plan)
                   ? tdm_error_add(err, TDM_E_INVALID, "plan: all-to-alls, but no routing table")
                   : TDM_OK;
    tdm_code code = check_shape(plan, err);
    if (code != TDM_OK)
        return code;
    uint64_t tokens =
        (uint64_t)plan->micro_batch_size * plan->seq_length / plan->mesh.tp / plan->mesh.cp;
    uint64_t dispatched = tdm_routing_rows(&plan->routing_spec, &plan->model, tokens);
    uint64_t n_rows = (uint64_t)t->n_replicas * t->n_layers * t->n_microbatches;
    uint32_t n_bad = 0;
    for (uint64_t i = 0; i < n_rows && n_bad < MAX_MESSAGES; i++) {
        row r = {.plan = plan,
                 .replica = (uint32_t)(i / t->n_microbatches / t->n_layers),
                 .layer = (uint32_t)(i / t->n_microbatches % t->n_layers),
                 .microbatch = (uint32_t)(i % t->n_microbatches),
                 .sent = t->sent + i * t->ep * t->ep,
                 .experts = t->experts + i * t->n_experts,
                 .err = err};
        bool routes = tdm_model_layer_has_experts(&plan->model, r.layer);
        tdm_code row_code = check_row(&r, routes ? dispatched : 0);
        n_bad += row_code != TDM_OK;
        code = tdm_verify_worst(code, row_code);
    }
    return code;
}
