/* moe.c: experts: router, and the way of rows to the experts' ranks and back.
 *
 * A rank sends its pairs of token and expert in order of the expert, then of the token; dropped
 * pairs are not sent. Where experts are padded to their capacity, rows of zeros follow the pairs of
 * each expert: their results are not read, and their gradients are zeros, too. What a rank receives
 * comes by sender, each sender's rows by expert, and over ETP by member before; sorting puts them
 * by expert, then by sender. */
#include "parts.h"

#include <math.h>
#include <string.h>

/* A route tensor: probabilities [tokens][k], then choices [tokens][k]. */
typedef struct route {
    float *probability;
    int32_t *choice;
    uint64_t n; /* pairs */
} route;

static route route_of(const tdm_call *c, uint32_t ref)
{
    route r = {.probability = host_f32(c, ref), .n = c->shard * c->rank->routes->k};
    r.choice = (int32_t *)(void *)(r.probability + r.n);
    return r;
}

static uint32_t *scratch_of(const tdm_call *c)
{
    return (uint32_t *)(void *)host_rank_of(c)->scratch;
}

/* Where the next row for each expert goes, in what this rank sends: [n_experts] in scratch. */
static uint32_t *send_places(const tdm_call *c)
{
    const uint32_t *rows = tdm_call_rows_sent(c, c->rank->rank);
    uint32_t *places = scratch_of(c), n = 0;
    for (uint32_t e = 0; e < c->rank->routes->n_experts; e++) {
        places[e] = n;
        n += rows[e];
    }
    return places;
}

/* Makes zeros of all rows that will be sent: those of pairs are written next. */
static void clear_padding(const tdm_call *c, uint32_t ref)
{
    if (c->plan->routing_spec.pad_to_capacity)
        memset(c->tensors[ref].data, 0, c->tensors[ref].bytes);
}

/* First token of this rank's own in a tensor of the residual's rows. */
static uint64_t own_row(const tdm_call *c)
{
    return c->sp ? 0 : c->rank->tp * c->shard;
}

/* ---- router ---- */

static void softmax(const float *logits, uint32_t n, float *out)
{
    float most = logits[0], sum = 0;
    for (uint32_t e = 1; e < n; e++)
        most = logits[e] > most ? logits[e] : most;
    for (uint32_t e = 0; e < n; e++)
        sum += out[e] = expf(logits[e] - most);
    for (uint32_t e = 0; e < n; e++)
        out[e] /= sum;
}

/* Softmax over all experts; the probabilities of the planned ones. Source: Fedus et al. 2021,
 * Switch Transformer, eq. 1; Megatron Core's moe_router_pre_softmax. */
void host_topk(const tdm_call *c)
{
    const tdm_routes *r = c->rank->routes;
    route out = route_of(c, 1);
    float *p = host_rank_of(c)->scratch;
    memcpy(out.choice, tdm_call_choices(c), out.n * sizeof *out.choice);
    for (uint64_t t = 0; t < c->shard; t++) {
        softmax(host_f32(c, 0) + t * r->n_experts, r->n_experts, p);
        for (uint32_t j = 0; j < r->k; j++) {
            int32_t e = out.choice[t * r->k + j];
            out.probability[t * r->k + j] = p[e >= 0 ? e : -1 - e];
        }
    }
}

/* Reads logits, route and the gradients of the probabilities; a dropped pair's is 0. */
void host_topk_backward(const tdm_call *c)
{
    const tdm_routes *r = c->rank->routes;
    route in = route_of(c, 1);
    const float *dprobability = host_f32(c, 2);
    for (uint64_t t = 0; t < c->shard; t++) {
        float *d = host_f32(c, 3) + t * r->n_experts, *p = host_rank_of(c)->scratch, mean = 0;
        softmax(host_f32(c, 0) + t * r->n_experts, r->n_experts, p);
        memset(d, 0, r->n_experts * sizeof *d);
        for (uint32_t j = 0; j < r->k; j++) {
            int32_t e = in.choice[t * r->k + j];
            if (e < 0)
                continue;
            d[e] = dprobability[t * r->k + j];
            mean += d[e] * p[e];
        }
        for (uint32_t e = 0; e < r->n_experts; e++)
            d[e] = p[e] * (d[e] - mean);
    }
}

/* ---- rows by expert ---- */

/* Reads the tokens' rows and the route, writes a row for each pair. */
void host_permute(const tdm_call *c)
{
    route in = route_of(c, 1);
    uint32_t *places = send_places(c);
    const float *x = host_f32(c, 0) + own_row(c) * c->h;
    clear_padding(c, 2);
    for (uint64_t i = 0; i < in.n; i++)
        if (in.choice[i] >= 0)
            memcpy(host_f32(c, 2) + places[in.choice[i]]++ * c->h,
                   x + i / c->rank->routes->k * c->h, c->h * sizeof *x);
}

/* Sums the rows of a token's pairs. */
void host_permute_backward(const tdm_call *c)
{
    route in = route_of(c, 1);
    uint32_t *places = send_places(c);
    float *dx = host_f32(c, 2);
    memset(dx, 0, c->shard * c->h * sizeof *dx);
    for (uint64_t i = 0; i < in.n; i++) {
        if (in.choice[i] < 0)
            continue;
        const float *row = host_f32(c, 0) + places[in.choice[i]]++ * c->h;
        float *to = dx + i / c->rank->routes->k * c->h;
        for (uint64_t j = 0; j < c->h; j++)
            to[j] += row[j];
    }
}

/* Reads the results and the route, writes the tokens' sums weighted by the probabilities. */
void host_unpermute(const tdm_call *c)
{
    route in = route_of(c, 1);
    uint32_t *places = send_places(c);
    float *y = host_f32(c, 2);
    memset(y, 0, c->shard * c->h * sizeof *y);
    for (uint64_t i = 0; i < in.n; i++) {
        if (in.choice[i] < 0)
            continue;
        const float *row = host_f32(c, 0) + places[in.choice[i]]++ * c->h;
        float *to = y + i / c->rank->routes->k * c->h;
        for (uint64_t j = 0; j < c->h; j++)
            to[j] += in.probability[i] * row[j];
    }
}

/* Reads the sums' gradient, the results and the route; writes the gradients of the probabilities
 * and of the results. */
void host_unpermute_backward(const tdm_call *c)
{
    route in = route_of(c, 2);
    uint32_t *places = send_places(c);
    const float *dy = host_f32(c, 0) + own_row(c) * c->h;
    clear_padding(c, 4);
    for (uint64_t i = 0; i < in.n; i++) {
        float *dprobability = &host_f32(c, 3)[i];
        *dprobability = 0;
        if (in.choice[i] < 0)
            continue;
        uint64_t at = (uint64_t)places[in.choice[i]]++ * c->h;
        const float *from = dy + i / c->rank->routes->k * c->h;
        for (uint64_t j = 0; j < c->h; j++) {
            *dprobability += from[j] * host_f32(c, 1)[at + j];
            host_f32(c, 4)[at + j] = in.probability[i] * from[j];
        }
    }
}

/* ---- rows by sender and by expert ---- */

/* Goes through the received rows in order of expert, then sender; the other tensor has them by
 * sender. */
static void reorder(const tdm_call *c, bool sorts)
{
    uint32_t n_local = tdm_call_n_experts(c), n_senders = tdm_call_n_senders(c),
             *next = scratch_of(c), n = 0;
    for (uint32_t i = 0; i < n_senders; i++) {
        const uint32_t *rows =
            tdm_call_rows_sent(c, tdm_call_sender(c, i)) + tdm_call_first_expert(c);
        next[i] = n;
        for (uint32_t e = 0; e < n_local; e++)
            n += rows[e];
    }
    const float *from = host_f32(c, 0);
    float *to = host_f32(c, 1);
    uint64_t row = 0;
    for (uint32_t e = 0; e < n_local; e++)
        for (uint32_t i = 0; i < n_senders; i++) {
            uint32_t rows =
                tdm_call_rows_sent(c, tdm_call_sender(c, i))[tdm_call_first_expert(c) + e];
            uint64_t in = sorts ? next[i] : row, out = sorts ? row : next[i];
            if (rows > 0)
                memcpy(to + out * c->h, from + in * c->h, rows * c->h * sizeof *to);
            next[i] += rows;
            row += rows;
        }
}

void host_sort(const tdm_call *c)
{
    reorder(c, true);
}

void host_unsort(const tdm_call *c)
{
    reorder(c, false);
}
