/* moe.c: experts: router, and the way of rows to the experts' ranks and back. A rank sends its
 * pairs of token and expert in order of the expert, then of the token; where each goes is worked
 * out with the choice of experts and kept. */
#include "parts.h"

/* A route tensor: probabilities [tokens][k], then choices [tokens][k]. */
static float *probabilities(const cuda_call *c, uint32_t ref)
{
    return cuda_tensor(c, ref);
}

static int32_t *choices(const cuda_call *c, uint32_t ref)
{
    return (int32_t *)(void *)(probabilities(c, ref) + c->of.shard * c->of.rank->routes->k);
}

static uint64_t pairs(const cuda_call *c)
{
    return c->of.shard * c->of.rank->routes->k;
}

static uint32_t *places(const cuda_call *c)
{
    return c->rank->tables.places + cuda_route_row(c) * pairs(c);
}

/* First of this rank's own tokens in a tensor of the residual's rows. */
static void *own_rows(const cuda_call *c, uint32_t ref)
{
    uint64_t row = c->of.sp ? 0 : c->of.rank->tp * c->of.shard;
    return cuda_at(c, cuda_tensor(c, ref), row * c->of.h);
}

/* ---- router ---- */

tdm_code cuda_topk(const cuda_call *c, tdm_error *err)
{
    const tdm_routes *r = c->of.rank->routes;
    const int32_t *planned = c->rank->tables.choices + cuda_route_row(c) * pairs(c);
    tdm_code code = cuda_ok(c,
                            tdm_cuda_topk(c->stream, cuda_tensor(c, 0), planned, c->of.shard,
                                          r->n_experts, r->k, probabilities(c, 1), choices(c, 1)),
                            err);
    if (code == TDM_OK)
        code = cuda_ok(c,
                       tdm_cuda_places(c->stream, choices(c, 1), pairs(c), r->n_experts, places(c),
                                       c->rank->scratch),
                       err);
    return code;
}

/* Reads logits, route and the gradients of the probabilities; a dropped pair's is 0. */
tdm_code cuda_topk_backward(const cuda_call *c, tdm_error *err)
{
    const tdm_routes *r = c->of.rank->routes;
    return cuda_ok(c,
                   tdm_cuda_topk_backward(c->stream, cuda_tensor(c, 0), choices(c, 1),
                                          cuda_tensor(c, 2), c->of.shard, r->n_experts, r->k,
                                          cuda_tensor(c, 3)),
                   err);
}

/* ---- rows by expert ---- */

/* Reads the tokens' rows and the route, writes a row for each pair. */
tdm_code cuda_permute(const cuda_call *c, tdm_error *err)
{
    return cuda_ok(c,
                   tdm_cuda_permute(c->stream, c->type, own_rows(c, 0), places(c), c->of.shard,
                                    c->of.rank->routes->k, c->of.h, cuda_tensor(c, 2)),
                   err);
}

/* Sums the rows of a token's pairs. */
tdm_code cuda_permute_backward(const cuda_call *c, tdm_error *err)
{
    return cuda_ok(c,
                   tdm_cuda_permute_backward(c->stream, c->type, cuda_tensor(c, 0), places(c),
                                             c->of.shard, c->of.rank->routes->k, c->of.h,
                                             cuda_tensor(c, 2)),
                   err);
}

/* Reads the results and the route, writes the tokens' sums weighted by the probabilities. */
tdm_code cuda_unpermute(const cuda_call *c, tdm_error *err)
{
    return cuda_ok(c,
                   tdm_cuda_unpermute(c->stream, c->type, cuda_tensor(c, 0), places(c),
                                      probabilities(c, 1), c->of.shard, c->of.rank->routes->k,
                                      c->of.h, cuda_tensor(c, 2)),
                   err);
}

/* Reads the sums' gradient, the results and the route; writes the gradients of the probabilities
 * and of the results. */
tdm_code cuda_unpermute_backward(const cuda_call *c, tdm_error *err)
{
    return cuda_ok(c,
                   tdm_cuda_unpermute_backward(c->stream, c->type, own_rows(c, 0),
                                               cuda_tensor(c, 1), places(c), probabilities(c, 2),
                                               c->of.shard, c->of.rank->routes->k, c->of.h,
                                               cuda_tensor(c, 3), cuda_tensor(c, 4)),
                   err);
}

/* ---- rows by sender and by expert ---- */

static tdm_code reorder(const cuda_call *c, bool back, tdm_error *err)
{
    uint32_t ep = c->of.plan->mesh.ep, n_local = c->of.rank->routes->n_experts / ep;
    const uint32_t *counts = c->rank->tables.counts + cuda_route_row(c) * ep * n_local;
    return cuda_ok(c,
                   tdm_cuda_sort(c->stream, c->type, back, cuda_tensor(c, 0), counts, n_local, ep,
                                 n_local, cuda_numbers(c, 0) / c->of.h, c->of.h, cuda_tensor(c, 1)),
                   err);
}

tdm_code cuda_sort(const cuda_call *c, tdm_error *err)
{
    return reorder(c, false, err);
}

tdm_code cuda_unsort(const cuda_call *c, tdm_error *err)
{
    return reorder(c, true, err);
}
