/* step.c: what a step ends in: cross-entropy over a vocabulary that is shared out over TP, the norm
 * of the gradient, and Adam on this rank's share of the parameters. */
#include "parts.h"

#include <stdlib.h>

/* ---- loss ---- */

static uint64_t n_words(const cuda_call *c)
{
    return c->of.model->vocab_size / c->of.plan->mesh.tp;
}

static uint64_t first_word(const cuda_call *c)
{
    return n_words(c) * c->of.rank->tp;
}

tdm_code cuda_loss_max(const cuda_call *c, tdm_error *err)
{
    return cuda_ok(c,
                   tdm_cuda_loss_max(c->stream, cuda_tensor(c, 0), c->of.tokens, n_words(c),
                                     cuda_tensor(c, 1)),
                   err);
}

/* Exponentials in place of the logits; their sum, and the target's logit, where it is here. */
tdm_code cuda_loss_exp(const cuda_call *c, tdm_error *err)
{
    return cuda_ok(c,
                   tdm_cuda_loss_exp(c->stream, cuda_tensor(c, 0), cuda_words(c), c->of.s,
                                     c->of.tokens, first_word(c), n_words(c), cuda_tensor(c, 1),
                                     cuda_tensor(c, 2)),
                   err);
}

/* The softmax in place of the exponentials. All TP ranks have the same loss; the first counts it.
 */
tdm_code cuda_loss(const cuda_call *c, tdm_error *err)
{
    double *loss = c->of.rank->tp == 0 ? c->rank->tables.loss + c->of.step : NULL;
    return cuda_ok(c,
                   tdm_cuda_loss(c->stream, cuda_tensor(c, 0), c->of.tokens, n_words(c),
                                 cuda_tensor(c, 1), loss),
                   err);
}

/* Of the mean over all tokens of the global batch. */
tdm_code cuda_loss_backward(const cuda_call *c, tdm_error *err)
{
    const tdm_plan *plan = c->of.plan;
    float scale = 1 / (float)((double)c->of.tokens * plan->num_microbatches * plan->mesh.dp);
    return cuda_ok(c,
                   tdm_cuda_loss_backward(c->stream, c->type, scale, cuda_tensor(c, 0),
                                          cuda_words(c), c->of.s, c->of.tokens, first_word(c),
                                          n_words(c), cuda_tensor(c, 1)),
                   err);
}

/* ---- optimizer ---- */

/* Each parameter of the model counts once: on the first of the ranks that hold the same. */
tdm_code cuda_grad_norm(const cuda_call *c, tdm_error *err)
{
    const cuda_tables *t = &c->rank->tables;
    return cuda_ok(c,
                   tdm_cuda_squares(c->stream, c->gradient_type, t->counted, t->n_counted,
                                    t->counted_blocks, t->norm, c->rank->scratch),
                   err);
}

/* Numbers of the GPU as fp32 in this process's memory; NULL, with a message: it went wrong. */
static float *fetch(const cuda_call *c, tdm_cuda_type type, const void *data, uint64_t count,
                    tdm_error *err)
{
    float *out = malloc(count * sizeof *out + 1), *there = NULL;
    const void *from = data;
    cudaError_t error = cudaSuccess;
    if (type != TDM_CUDA_FP32) {
        error = cudaMalloc((void **)&there, count * sizeof *there);
        if (error == cudaSuccess)
            error = tdm_cuda_cast(c->stream, type, data, TDM_CUDA_FP32, there, count);
        from = there;
    }
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(c->stream);
    if (error == cudaSuccess && out)
        error = cudaMemcpy(out, from, count * sizeof *out, cudaMemcpyDeviceToHost);
    cudaFree(there);
    if (out && cuda_ok(c, error, err) == TDM_OK)
        return out;
    free(out);
    return NULL;
}

static tdm_code show(const cuda_call *c, const tdm_rank_param *p, tdm_error *err)
{
    const tdm_cuda *cuda = c->rank->cuda;
    uint64_t gradient_bytes = c->gradient_type == TDM_CUDA_FP32 ? 4 : 2;
    float *gradient =
        fetch(c, c->gradient_type, (char *)p->gradient + p->first * gradient_bytes, p->count, err);
    float *weight = p->master ? fetch(c, TDM_CUDA_FP32, p->master, p->count, err)
                              : fetch(c, c->type, cuda_at(c, p->weight, p->first), p->count, err);
    bool shown = gradient && weight;
    if (shown)
        cuda->options.watch(cuda->options.context, &(tdm_piece){.rank = c->of.rank->rank,
                                                                .step = c->of.step,
                                                                .layer = p->layer,
                                                                .kind = p->kind,
                                                                .param = p->param,
                                                                .first = p->first,
                                                                .count = p->count,
                                                                .gradient = gradient,
                                                                .weight = weight});
    free(gradient);
    free(weight);
    return shown ? TDM_OK : TDM_E_DEVICE;
}

/* Clips, updates, and clears all gradients. */
tdm_code cuda_adam(const cuda_call *c, tdm_error *err)
{
    cuda_rank *rank = c->rank;
    const cuda_tables *t = &rank->tables;
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; rank->cuda->options.watch && !c->rehearses && i < rank->of->n_params; i++)
        if (rank->of->params[i].count > 0 && code == TDM_OK)
            code = show(c, &rank->of->params[i], err);
    tdm_cuda_adam adam = {.rate = TDM_ADAM_RATE,
                          .beta_1 = TDM_ADAM_BETA_1,
                          .beta_2 = TDM_ADAM_BETA_2,
                          .epsilon = TDM_ADAM_EPSILON,
                          .clip = c->of.plan->training.clip_grad,
                          .square = t->norm,
                          .norm = t->grad_norm + c->of.step,
                          .step = c->of.step};
    if (code == TDM_OK)
        code = cuda_ok(c,
                       tdm_cuda_adam_step(c->stream, c->type, c->gradient_type, &adam, t->all,
                                          t->n_all, t->all_blocks),
                       err);
    if (code == TDM_OK)
        code =
            cuda_ok(c, cudaMemsetAsync(rank->gradients, 0, rank->gradients_bytes, c->stream), err);
    return code;
}
