/* concurrent.c: operations as flows. */
#include "core/nccl/concurrent.h"

#include "core/sharing.h"

#include <math.h>

static tdm_code prepare(tdm_arena *arena, tdm_nccl_operation *operation, tdm_error *err)
{
    tdm_nccl_user *user = operation->user;
    tdm_code code = tdm_nccl_time(user->comm, user->func, operation->bytes, &operation->cost, err);
    tdm_nccl_algo algo = operation->cost.pick.algo;
    if (code == TDM_OK && !user->has_traffic[algo]) {
        code = tdm_nccl_traffic_of(arena, user->comm, user->func, algo, &user->traffic[algo], err);
        user->has_traffic[algo] = code == TDM_OK;
    }
    return code;
}

static const tdm_nccl_traffic *traffic_of(const tdm_nccl_operation *operation)
{
    return &operation->user->traffic[operation->cost.pick.algo];
}

/* The flows of an operation; the number of them. An operation without any part is one flow over no
 * link. */
static uint32_t add_flows(const tdm_nccl_operation *operation, tdm_shared_flow *flows)
{
    const tdm_nccl_traffic *traffic = traffic_of(operation);
    const tdm_nccl_cost *cost = &operation->cost;
    double bytes = tdm_nccl_link_bytes(cost, (double)operation->bytes);
    double transfer_s = (double)operation->bytes / (cost->bytes_per_s * cost->ramp);
    double start_s = operation->issued_s + operation->launch_s + cost->latency_s;
    if (operation->bytes == 0) {
        flows[0] = (tdm_shared_flow){.start_s = start_s};
        return 1;
    }
    for (uint32_t p = 0; p < traffic->n_parts; p++) {
        const tdm_nccl_part *part = &traffic->parts[p];
        flows[p] = (tdm_shared_flow){.start_s = start_s,
                                     .bytes = bytes * part->share,
                                     .max_bytes_per_s = bytes * part->share / transfer_s,
                                     .n_links = part->n_links,
                                     .links = part->links};
    }
    if (traffic->n_parts > 0)
        return traffic->n_parts;
    flows[0] = (tdm_shared_flow){.start_s = start_s,
                                 .bytes = (double)operation->bytes,
                                 .max_bytes_per_s = (double)operation->bytes / transfer_s};
    return 1;
}

tdm_code tdm_nccl_run_together(tdm_arena *arena, tdm_nccl_operation *operations, uint32_t n,
                               tdm_error *err)
{
    uint32_t n_flows = 0;
    if (n == 0)
        return TDM_OK;
    for (uint32_t i = 0; i < n; i++) {
        tdm_code code = prepare(arena, &operations[i], err);
        if (code != TDM_OK)
            return code;
        n_flows += traffic_of(&operations[i])->n_parts + 1;
    }
    tdm_arena scratch = {0};
    const tdm_graph *graph = operations[0].user->comm->graph;
    uint32_t n_links = graph->n_edges + graph->n_vertices;
    double *capacity = TDM_ALLOC(&scratch, double, n_links + 1);
    tdm_shared_flow *flows = TDM_ALLOC(&scratch, tdm_shared_flow, n_flows);
    double *end_s = TDM_ALLOC(&scratch, double, n_flows);
    for (uint32_t l = 0; l < n_links; l++)
        capacity[l] = tdm_nccl_link_capacity(graph, l);
    uint32_t *first = TDM_ALLOC(&scratch, uint32_t, n + 1);
    for (uint32_t i = 0; i < n; i++)
        first[i + 1] = first[i] + add_flows(&operations[i], flows + first[i]);
    tdm_share_links(&scratch, capacity, flows, first[n], end_s);
    for (uint32_t i = 0; i < n; i++) {
        operations[i].end_s = 0;
        for (uint32_t f = first[i]; f < first[i + 1]; f++)
            operations[i].end_s = fmax(operations[i].end_s, end_s[f]);
    }
    tdm_arena_free(&scratch);
    return TDM_OK;
}
