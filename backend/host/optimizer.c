/* optimizer.c: norm of the gradient, clipping, and Adam on this rank's share of the parameters. */
#include "parts.h"

#include <math.h>
#include <string.h>

/* Each parameter of the model counts once: on the first of the ranks that hold the same. */
void host_grad_norm(const tdm_call *c)
{
    host_rank *rank = host_rank_of(c);
    double sum = 0;
    for (uint32_t i = 0; i < c->rank->n_params; i++) {
        const tdm_rank_param *p = &c->rank->params[i];
        for (uint64_t k = 0; p->counted && k < p->count; k++) {
            double g = host_gradient(p)[p->first + k];
            sum += g * g;
        }
    }
    rank->norm = (float)sum;
}

static void watch(const tdm_call *c, const tdm_rank_param *p)
{
    const tdm_host *host = host_rank_of(c)->host;
    if (host->watch && p->count > 0)
        host->watch(host->context, &(tdm_piece){.rank = c->rank->rank,
                                                .step = c->step,
                                                .layer = p->layer,
                                                .kind = p->kind,
                                                .param = p->param,
                                                .first = p->first,
                                                .count = p->count,
                                                .gradient = host_gradient(p) + p->first,
                                                .weight = host_weight(p) + p->first});
}

static void update(const tdm_rank_param *p, double scale, uint32_t step)
{
    double correct_1 = 1 - pow(TDM_ADAM_BETA_1, step + 1.0),
           correct_2 = 1 - pow(TDM_ADAM_BETA_2, step + 1.0);
    for (uint64_t i = 0; i < p->count; i++) {
        double g = scale * host_gradient(p)[p->first + i];
        double m = TDM_ADAM_BETA_1 * p->first_moment[i] + (1 - TDM_ADAM_BETA_1) * g;
        double v = TDM_ADAM_BETA_2 * p->second_moment[i] + (1 - TDM_ADAM_BETA_2) * g * g;
        p->first_moment[i] = (float)m;
        p->second_moment[i] = (float)v;
        host_weight(p)[p->first + i] -=
            (float)(TDM_ADAM_RATE * (m / correct_1) / (sqrt(v / correct_2) + TDM_ADAM_EPSILON));
    }
}

/* Clips as torch.nn.utils.clip_grad_norm_ does, updates, and clears all gradients. */
void host_adam(const tdm_call *c)
{
    host_rank *rank = host_rank_of(c);
    double clip = c->plan->training.clip_grad, scale = 1;
    if (clip > 0) {
        double norm = sqrt((double)rank->norm);
        rank->grad_norm[c->step] = norm;
        scale = fmin(1, clip / (norm + 1e-6));
    }
    for (uint32_t i = 0; i < c->rank->n_params; i++) {
        const tdm_rank_param *p = &c->rank->params[i];
        watch(c, p);
        update(p, scale, c->step);
        memset(p->gradient, 0, p->param->count * sizeof(float));
    }
}
