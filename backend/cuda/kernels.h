/* kernels.h: what a GPU computes of a plan besides matrix products: launchers of the kernels in
 * kernels/, one for every op of the host device, with its numerics (backend/host/).
 *
 * A launcher enqueues on a stream and returns at once; what it returns is the launch's error.
 * Pointers are the device's unless said otherwise, and may have any alignment that their numbers
 * allow: what is aligned to 16 bytes, with rows of a multiple of 16 bytes, moves 16 bytes at a
 * time. Matrices lie row by row. `type` is that of activations and weights, `gradient_type` that of
 * the gradients of parameters, which are added to. Sums are made in fp32, in an order that does not
 * depend on chance: the same call gives the same bits. Nothing is launched for zero rows. An output
 * may be an input only where it says "in place".
 *
 * A workspace needs no particular contents, is free again when the call's last kernel has ended,
 * and is aligned to 16 bytes; how large it must be says the function of the same name with
 * _workspace. */
#ifndef TDM_CUDA_KERNELS_H
#define TDM_CUDA_KERNELS_H

#include <cuda_runtime_api.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In the order of tdm_dtype. */
typedef enum tdm_cuda_type { TDM_CUDA_BF16, TDM_CUDA_FP16, TDM_CUDA_FP32 } tdm_cuda_type;

/* ---- random numbers: data.cu ---- */

/* Element i stays when the number of (key, first + i) is at least the rate; what stays is
 * multiplied by `scale`. The numbers are those of the host device's data.c. */
typedef struct tdm_cuda_dropout {
    uint64_t key, first;
    uint64_t threshold; /* ceil(rate 2^53) */
    float scale;        /* 1 / (1 - rate) */
} tdm_cuda_dropout;

tdm_cuda_dropout tdm_cuda_dropout_of(double rate, uint64_t key, uint64_t first);

/* words [n_samples][s + 1]: the words of samples from first_sample on, and the one behind them.
 * key: of the words of all samples; a sample's own is mixed from it and the sample. */
cudaError_t tdm_cuda_words(cudaStream_t stream, uint64_t key, uint64_t first_sample,
                           uint64_t n_samples, uint64_t s, uint32_t vocabulary, int32_t *words);

/* How a rank's parameter lies in the model's (host_shape of the host device), and what it starts
 * as. */
typedef struct tdm_cuda_shape {
    uint64_t row0, columns; /* columns on this rank */
    uint64_t width[3];      /* columns of a section on this rank */
    uint32_t n_sections, part, n_parts;
    double bound;     /* numbers lie within +-bound; 0: no random start */
    uint64_t n_start; /* bound 0: so many numbers are `start`, the others 0 */
    float start;
} tdm_cuda_shape;

/* weight [count], and of [first, first + n_master) the fp32 copies master [n_master] (may be NULL).
 */
cudaError_t tdm_cuda_start(cudaStream_t stream, tdm_cuda_type type, const tdm_cuda_shape *shape,
                           uint64_t key, uint64_t count, void *weight, uint64_t first,
                           uint64_t n_master, float *master);

/* ---- embedding: embedding.cu ----
 * words [samples][s + 1]; tokens = samples x s. */

/* out [tokens][columns]: row of each token's word in table [n_words][columns], which has the words
 * from first_word on; 0 for other words. */
cudaError_t tdm_cuda_lookup(cudaStream_t stream, tdm_cuda_type type, const int32_t *words,
                            uint64_t s, uint64_t tokens, const void *table, uint64_t first_word,
                            uint64_t n_words, uint64_t columns, void *out);

/* gradient [n_words][columns] += rows of dout [tokens][columns]. Without atomics: every token looks
 * for the next one with the same word (a comparison for each pair of tokens), and the first of them
 * sums all rows, in order of tokens. */
cudaError_t tdm_cuda_lookup_backward(cudaStream_t stream, tdm_cuda_type type,
                                     tdm_cuda_type gradient_type, const int32_t *words, uint64_t s,
                                     uint64_t tokens, const void *dout, uint64_t first_word,
                                     uint64_t n_words, uint64_t columns, void *gradient,
                                     void *workspace);
size_t tdm_cuda_lookup_backward_workspace(uint64_t tokens);

/* x [rows][columns] += row (row0 + r) % s of positions [s][columns] (NULL: none), then dropout
 * (NULL: none), which writes mask [rows][columns]; in place. */
cudaError_t tdm_cuda_position(cudaStream_t stream, tdm_cuda_type type, void *x,
                              const void *positions, uint64_t row0, uint64_t s, uint64_t rows,
                              uint64_t columns, const tdm_cuda_dropout *dropout,
                              unsigned char *mask);

/* mask: dx [rows][columns] = dy where it stays, times scale; without (NULL) dx is not written.
 * gradient [s][columns] (NULL: none) += the rows that pass. */
cudaError_t tdm_cuda_position_backward(cudaStream_t stream, tdm_cuda_type type,
                                       tdm_cuda_type gradient_type, const void *dy,
                                       const unsigned char *mask, float scale, uint64_t row0,
                                       uint64_t s, uint64_t rows, uint64_t columns, void *dx,
                                       void *gradient);

/* ---- norms: norm.cu ----
 * layer: layer norm, whose weight is gains [columns], then shifts [columns]; otherwise RMS norm,
 * with gains alone. */

/* y [rows][columns]. */
cudaError_t tdm_cuda_norm(cudaStream_t stream, tdm_cuda_type type, bool layer, float epsilon,
                          const void *x, const void *weight, uint64_t rows, uint64_t columns,
                          void *y);

/* dx = gradient of x, plus beside (NULL: none); in place of dy or beside. gradient: of the weight.
 */
cudaError_t tdm_cuda_norm_backward(cudaStream_t stream, tdm_cuda_type type,
                                   tdm_cuda_type gradient_type, bool layer, float epsilon,
                                   const void *dy, const void *x, const void *beside,
                                   const void *weight, uint64_t rows, uint64_t columns, void *dx,
                                   void *gradient, void *workspace);
size_t tdm_cuda_norm_backward_workspace(uint64_t columns);

/* Norms of each head's query and key: of the first heads_q + heads_k heads of x [tokens][columns],
 * heads `size` wide; y [tokens][heads_q + heads_k][size]. */
cudaError_t tdm_cuda_head_norm(cudaStream_t stream, tdm_cuda_type type, bool layer, float epsilon,
                               const void *x, uint64_t columns, const void *q_weight,
                               const void *k_weight, uint64_t tokens, uint64_t heads_q,
                               uint64_t heads_k, uint64_t size, void *y);

/* d [tokens][columns]: the gradient of y becomes that of x, in place. */
cudaError_t tdm_cuda_head_norm_backward(cudaStream_t stream, tdm_cuda_type type,
                                        tdm_cuda_type gradient_type, bool layer, float epsilon,
                                        const void *x, uint64_t columns, const void *q_weight,
                                        const void *k_weight, uint64_t tokens, uint64_t heads_q,
                                        uint64_t heads_k, uint64_t size, void *d, void *q_gradient,
                                        void *k_gradient, void *workspace);
size_t tdm_cuda_head_norm_backward_workspace(uint64_t size);

/* ---- rotary positions: rope.cu ---- */

/* table [s][size / 2] of (cosine, sine): of position / base^(2i / size). */
cudaError_t tdm_cuda_rope_table(cudaStream_t stream, uint64_t s, uint64_t size, double base,
                                float *table);

/* Turns the first `heads` heads of x [tokens][columns], or turns them back; in place. */
cudaError_t tdm_cuda_rope(cudaStream_t stream, tdm_cuda_type type, const float *table, bool back,
                          uint64_t s, uint64_t tokens, uint64_t heads, uint64_t size,
                          uint64_t columns, void *x);

/* ---- attention with stored scores: softmax.cu ----
 * Scores and weights [samples x heads][s][s]. */

/* weights = softmax of scale times the scores up to the row's own place, 0 behind it; sinks [heads]
 * (NULL: none) take part and get nothing; in place. */
cudaError_t tdm_cuda_softmax(cudaStream_t stream, tdm_cuda_type type, float scale,
                             const void *scores, const void *sinks, uint64_t samples,
                             uint64_t heads, uint64_t s, void *weights);

/* d: the gradient of the weights becomes scale times that of scale x scores, in place. The
 * workspace is used with sinks alone. */
cudaError_t tdm_cuda_softmax_backward(cudaStream_t stream, tdm_cuda_type type,
                                      tdm_cuda_type gradient_type, float scale, const void *weights,
                                      uint64_t samples, uint64_t heads, uint64_t s, void *d,
                                      void *sinks_gradient, void *workspace);
size_t tdm_cuda_softmax_backward_workspace(uint64_t samples, uint64_t heads, uint64_t s);

/* Places of dropout among the model's: sample, head, query, key. */
typedef struct tdm_cuda_weights_dropout {
    tdm_cuda_dropout dropout; /* its `first` is not used */
    uint64_t first_sample, all_heads, first_head;
} tdm_cuda_weights_dropout;

/* out = weights that stay; mask, one byte each. */
cudaError_t tdm_cuda_weights_dropout_forward(cudaStream_t stream, tdm_cuda_type type,
                                             const tdm_cuda_weights_dropout *dropout,
                                             const void *weights, uint64_t samples, uint64_t heads,
                                             uint64_t s, void *out, unsigned char *mask);
/* out = in where mask says so, times scale, and 0 elsewhere; in place. That is also the backward
 * pass of every other dropout. */
cudaError_t tdm_cuda_dropout_backward(cudaStream_t stream, tdm_cuda_type type,
                                      const unsigned char *mask, float scale, const void *in,
                                      uint64_t count, void *out);

/* ---- attention in one kernel: attention*.cu ---- */

/* Causal, with grouped queries: head i uses key and value i / (heads / kv_heads). A head's row of
 * token t starts at q + t qk_step + head size, likewise k; v + t v_step; o [tokens][heads][size].
 */
typedef struct tdm_cuda_attention {
    tdm_cuda_type type;
    uint64_t samples, s;
    uint32_t heads, kv_heads, size; /* of this rank; size at most 256 */
    float scale;                    /* 1 / sqrt(size) */
    const void *q, *k, *v;
    uint64_t qk_step, v_step;                /* numbers from token to token */
    const void *sinks;                       /* [heads]; NULL: none */
    const tdm_cuda_weights_dropout *dropout; /* NULL: none */
    void *o;
    float *lse; /* [tokens][heads]: log-sum-exp of the scaled scores and the sink */
    bool plain; /* not on tensor cores, whatever the type: fp32 products, slow */
} tdm_cuda_attention;

/* On tensor cores for bf16 and fp16 with heads of 64 or 128 numbers whose rows are aligned to 16
 * bytes; otherwise by a plain kernel. */
cudaError_t tdm_cuda_attention_forward(cudaStream_t stream, const tdm_cuda_attention *a);

/* Reads o and lse. Writes dq, dk and dv, with d_step numbers from token to token. Products are made
 * twice rather than summed by atomics. */
cudaError_t tdm_cuda_attention_backward(cudaStream_t stream, const tdm_cuda_attention *a,
                                        tdm_cuda_type gradient_type, const void *d_o, void *dq,
                                        void *dk, void *dv, uint64_t d_step, void *sinks_gradient,
                                        void *workspace);
size_t tdm_cuda_attention_backward_workspace(const tdm_cuda_attention *a);

/* ---- experts: gate.cu, permute.cu ----
 * A choice is an expert, or -1 - expert where it is full and the choice dropped. Pair i is choice
 * i % k of token i / k. */

/* probability [tokens][k] of the chosen experts, out of the softmax of logits [tokens][n_experts];
 * choice: a copy of `planned`. */
cudaError_t tdm_cuda_topk(cudaStream_t stream, const float *logits, const int32_t *planned,
                          uint64_t tokens, uint32_t n_experts, uint32_t k, float *probability,
                          int32_t *choice);
/* dlogits [tokens][n_experts]. */
cudaError_t tdm_cuda_topk_backward(cudaStream_t stream, const float *logits, const int32_t *choice,
                                   const float *dprobability, uint64_t tokens, uint32_t n_experts,
                                   uint32_t k, float *dlogits);

/* places [tokens x k]: a pair's row in order of expert, then of pair; UINT32_MAX: dropped. sent
 * [n_experts] is the number of rows of each expert, its pairs before the others. */
cudaError_t tdm_cuda_places(cudaStream_t stream, const int32_t *choice, uint64_t pairs,
                            uint32_t n_experts, const uint32_t *sent, uint32_t *places,
                            void *workspace);
size_t tdm_cuda_places_workspace(uint64_t pairs, uint32_t n_experts);

/* rows[places[i]] = x[i / k]. */
cudaError_t tdm_cuda_permute(cudaStream_t stream, tdm_cuda_type type, const void *x,
                             const uint32_t *places, uint64_t tokens, uint32_t k, uint64_t columns,
                             void *rows);
/* dx[t] = sum of the rows of its pairs. */
cudaError_t tdm_cuda_permute_backward(cudaStream_t stream, tdm_cuda_type type, const void *drows,
                                      const uint32_t *places, uint64_t tokens, uint32_t k,
                                      uint64_t columns, void *dx);
/* y[t] = sum of the rows of its pairs times their probabilities. */
cudaError_t tdm_cuda_unpermute(cudaStream_t stream, tdm_cuda_type type, const void *rows,
                               const uint32_t *places, const float *probability, uint64_t tokens,
                               uint32_t k, uint64_t columns, void *y);
/* drows[places[i]] = probability[i] dy[t]; dprobability[i] = dy[t] . rows[places[i]], 0 when
 * dropped. */
cudaError_t tdm_cuda_unpermute_backward(cudaStream_t stream, tdm_cuda_type type, const void *dy,
                                        const void *rows, const uint32_t *places,
                                        const float *probability, uint64_t tokens, uint32_t k,
                                        uint64_t columns, float *dprobability, void *drows);

/* Rows that came by sender, each sender's by expert, put by expert, then by sender; or back. Sender
 * i has counts[i * step + e] rows for local expert e; `rows` is the sum of all. */
cudaError_t tdm_cuda_sort(cudaStream_t stream, tdm_cuda_type type, bool back, const void *in,
                          const uint32_t *counts, uint64_t step, uint32_t n_senders,
                          uint32_t n_local, uint64_t rows, uint64_t columns, void *out);

/* ---- biases: bias.cu ----
 * Of n_groups groups of rows, one after the other, group g with counts[g] rows; counts NULL: one
 * group of all. bias and gradient [n_groups][columns]. */

/* y [rows][columns] += the bias of its group, in place. */
cudaError_t tdm_cuda_bias(cudaStream_t stream, tdm_cuda_type type, const void *bias,
                          const uint32_t *counts, uint32_t n_groups, uint64_t rows,
                          uint64_t columns, void *y);
/* The same for fp32 rows, such as the router's, with a bias of `type`. */
cudaError_t tdm_cuda_bias_fp32(cudaStream_t stream, tdm_cuda_type type, const void *bias,
                               uint64_t rows, uint64_t columns, float *y);
/* gradient += sums of the rows of dy. */
cudaError_t tdm_cuda_bias_backward(cudaStream_t stream, tdm_cuda_type type,
                                   tdm_cuda_type gradient_type, const void *dy,
                                   const uint32_t *counts, uint32_t n_groups, uint64_t rows,
                                   uint64_t columns, void *gradient, void *workspace);
size_t tdm_cuda_bias_backward_workspace(uint32_t n_groups, uint64_t columns);

/* ---- activation: activation.cu ---- */

/* gated: g [rows][gate f, up f], u = silu(gate) up; otherwise g [rows][f], u = gelu(g). bias: of
 * the columns of g, added first (NULL: none). */
cudaError_t tdm_cuda_activation(cudaStream_t stream, tdm_cuda_type type, bool gated, const void *g,
                                const void *bias, uint64_t rows, uint64_t f, void *u);
/* dg from du and g; of gelu in place of du. */
cudaError_t tdm_cuda_activation_backward(cudaStream_t stream, tdm_cuda_type type, bool gated,
                                         const void *du, const void *g, const void *bias,
                                         uint64_t rows, uint64_t f, void *dg);

/* ---- sums and copies: elementwise.cu ---- */

/* out = a + b after dropout (NULL: none), which writes mask [count]; out NULL: the mask alone. out
 * in place of either. */
cudaError_t tdm_cuda_add(cudaStream_t stream, tdm_cuda_type type, const void *a, const void *b,
                         uint64_t count, const tdm_cuda_dropout *dropout, void *out,
                         unsigned char *mask);
/* to += from. */
cudaError_t tdm_cuda_sum(cudaStream_t stream, tdm_cuda_type type, const void *from, uint64_t count,
                         void *to);
cudaError_t tdm_cuda_cast(cudaStream_t stream, tdm_cuda_type from_type, const void *from,
                          tdm_cuda_type to_type, void *to, uint64_t count);
/* Bytes become the word's, lowest first, from the first byte on. */
cudaError_t tdm_cuda_fill(cudaStream_t stream, uint32_t word, void *to, uint64_t bytes);
/* *first becomes the place of the first byte that tdm_cuda_fill would change, if smaller; the
 * caller sets it before. */
cudaError_t tdm_cuda_find_other(cudaStream_t stream, uint32_t word, const void *bytes, uint64_t n,
                                uint64_t *first);

/* ---- cross-entropy, vocabulary over TP: loss.cu ----
 * Logits fp32 [tokens][n_words], of words from first_word on; the target of a token is the word
 * behind its own. */

cudaError_t tdm_cuda_loss_max(cudaStream_t stream, const float *logits, uint64_t tokens,
                              uint64_t n_words, float *max);
/* Logits become exponentials; sums [tokens][2]: their sum, and the target's logit less the maximum,
 * 0 where it is elsewhere. */
cudaError_t tdm_cuda_loss_exp(cudaStream_t stream, const float *max, const int32_t *words,
                              uint64_t s, uint64_t tokens, uint64_t first_word, uint64_t n_words,
                              float *logits, float *sums);
/* Exponentials become the softmax; *loss (NULL: not counted) += the sum of the tokens' losses. */
cudaError_t tdm_cuda_loss(cudaStream_t stream, const float *sums, uint64_t tokens, uint64_t n_words,
                          float *logits, double *loss);
/* dlogits of `type` = scale (softmax - 1 at the target). */
cudaError_t tdm_cuda_loss_backward(cudaStream_t stream, tdm_cuda_type type, float scale,
                                   const float *softmax, const int32_t *words, uint64_t s,
                                   uint64_t tokens, uint64_t first_word, uint64_t n_words,
                                   void *dlogits);

/* ---- optimizer: optimizer.cu ---- */

/* What a rank's optimizer updates of one parameter: `count` numbers from the first of its share on
 * (ZeRO-1), all pointers to the first of them. */
typedef struct tdm_cuda_piece {
    void *weight;
    float *master; /* NULL: the weight is fp32 and its own master copy */
    void *gradient;
    float *first_moment, *second_moment;
    uint64_t count;
    uint64_t first_block; /* set by tdm_cuda_pieces_number */
} tdm_cuda_piece;

/* On the host, before pieces are copied to the device: numbers their blocks and returns how many
 * there are. */
uint64_t tdm_cuda_pieces_number(tdm_cuda_piece *pieces, uint32_t n);

/* *sum = sum of squares of all gradients of pieces [n], which lie on the device. */
cudaError_t tdm_cuda_squares(cudaStream_t stream, tdm_cuda_type gradient_type,
                             const tdm_cuda_piece *pieces, uint32_t n, uint64_t n_blocks,
                             float *sum, void *workspace);
size_t tdm_cuda_squares_workspace(void);

typedef struct tdm_cuda_adam {
    double rate, beta_1, beta_2, epsilon;
    double clip;         /* largest norm; 0: no clipping */
    const float *square; /* of the norm; unused without clipping */
    double *norm;        /* where the norm goes; NULL: nowhere */
    uint32_t step;       /* from 0 */
} tdm_cuda_adam;

/* Clips as torch.nn.utils.clip_grad_norm_ does, and updates; gradients are left as they are. */
cudaError_t tdm_cuda_adam_step(cudaStream_t stream, tdm_cuda_type type, tdm_cuda_type gradient_type,
                               const tdm_cuda_adam *adam, const tdm_cuda_piece *pieces, uint32_t n,
                               uint64_t n_blocks);

/* ---- between ranks on one GPU: shared.cu ----
 * Lists are on the host and read before the call returns. */

enum { TDM_CUDA_MAX_MEMBERS = 128 };

/* Each of out [m] [count] = the sum, or the largest, of in [n] [count], in order; in place. n and m
 * at most TDM_CUDA_MAX_MEMBERS. */
cudaError_t tdm_cuda_reduce(cudaStream_t stream, tdm_cuda_type type, bool largest,
                            const void *const *in, uint32_t n, void *const *out, uint32_t m,
                            uint64_t count);
/* out [i] = the i-th run of ceil(count / n) numbers of the sum; in place of that run. */
cudaError_t tdm_cuda_reduce_scatter(cudaStream_t stream, tdm_cuda_type type, const void *const *in,
                                    void *const *out, uint32_t n, uint64_t count);

typedef struct tdm_cuda_copy {
    const void *from;
    void *to;
    uint64_t bytes;
} tdm_cuda_copy;

/* All copies, in no order; they do not overlap each other, but may have from equal to to. Gathers,
 * shards and the rows of an all-to-all are lists of such. */
cudaError_t tdm_cuda_copies(cudaStream_t stream, const tdm_cuda_copy *copies, uint32_t n);

#ifdef __cplusplus
}
#endif

#endif
