/* loss.c: cross-entropy over a vocabulary that is shared out over TP. The targets are the words one
 * place further on. Source: Megatron Core's vocab_parallel_cross_entropy. */
#include "parts.h"

#include <math.h>

typedef struct share {
    uint64_t first, n; /* words of this rank */
} share;

static share share_of(const tdm_call *c)
{
    uint64_t n = (uint64_t)c->model->vocab_size / c->plan->mesh.tp;
    return (share){n * c->rank->tp, n};
}

static uint64_t target(const tdm_call *c, uint64_t token)
{
    return tdm_data_word(c->plan, tdm_call_sample(c, token), token % c->s + 1);
}

void host_loss_max(const tdm_call *c)
{
    share w = share_of(c);
    for (uint64_t t = 0; t < c->tokens; t++) {
        const float *logits = host_f32(c, 0) + t * w.n;
        float most = logits[0];
        for (uint64_t i = 1; i < w.n; i++)
            most = logits[i] > most ? logits[i] : most;
        host_f32(c, 1)[t] = most;
    }
}

/* Exponentials in place of the logits; their sum, and the target's logit, where it is here. */
void host_loss_exp(const tdm_call *c)
{
    share w = share_of(c);
    for (uint64_t t = 0; t < c->tokens; t++) {
        float *logits = host_f32(c, 1) + t * w.n, *sums = host_f32(c, 2) + 2 * t, sum = 0;
        float most = host_f32(c, 0)[t];
        uint64_t word = target(c, t);
        bool here = word >= w.first && word < w.first + w.n;
        sums[1] = here ? logits[word - w.first] - most : 0;
        for (uint64_t i = 0; i < w.n; i++)
            sum += logits[i] = expf(logits[i] - most);
        sums[0] = sum;
    }
}

/* The softmax in place of the exponentials. All TP ranks have the same loss; the first counts it.
 */
void host_loss(const tdm_call *c)
{
    share w = share_of(c);
    double loss = 0;
    for (uint64_t t = 0; t < c->tokens; t++) {
        const float *sums = host_f32(c, 0) + 2 * t;
        loss += log(sums[0]) - sums[1];
        for (uint64_t i = 0; i < w.n; i++)
            host_f32(c, 1)[t * w.n + i] /= sums[0];
    }
    if (c->rank->tp == 0)
        host_rank_of(c)->loss[c->step] += loss;
}

/* Of the mean over all tokens of the global batch. */
void host_loss_backward(const tdm_call *c)
{
    share w = share_of(c);
    float scale = 1 / (float)((double)c->tokens * c->plan->num_microbatches * c->plan->mesh.dp);
    for (uint64_t t = 0; t < c->tokens; t++) {
        uint64_t word = target(c, t);
        for (uint64_t i = 0; i < w.n; i++)
            host_f32(c, 1)[t * w.n + i] =
                scale * (host_f32(c, 0)[t * w.n + i] - (w.first + i == word ? 1 : 0));
    }
}
