/* data.c: random numbers as pure functions of what they are for, so that every layout sees the same
 * model and the same data. */
#include "parts.h"

#include <string.h>

/* Source: Steele, Lea, Flood 2014, SplitMix64's finalizer. */
uint64_t host_mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9E3779B97F4A7C15u + b + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t text_key(uint64_t key, const char *text)
{
    for (; *text; text++)
        key = host_mix(key, (unsigned char)*text);
    return host_mix(key, 256);
}

uint64_t host_key(uint64_t seed, const char *kind, const char *name, uint64_t number)
{
    return host_mix(text_key(text_key(host_mix(seed, 1), kind), name), number);
}

double host_uniform(uint64_t key, uint64_t index)
{
    return (double)(host_mix(key, index) >> 11) / 9007199254740992.0; /* 2^53 */
}

/* Samples of a step are shared out microbatch by microbatch, replica by replica; every step has
 * others. */
uint64_t host_sample(const host_call *c, uint64_t token)
{
    const tdm_plan *plan = c->plan;
    uint64_t b = plan->micro_batch_size, dp = plan->mesh.dp;
    uint64_t of_step = ((uint64_t)c->in->pass.microbatch * dp + c->rank->dp) * b + token / c->s;
    return (uint64_t)c->step * plan->num_microbatches * dp * b + of_step;
}

uint32_t host_word_of(const tdm_host *host, uint64_t sample, uint64_t position)
{
    uint64_t key = host_key(host->seed, "data", "words", sample);
    return (uint32_t)(host_uniform(key, position) * host->plan->model.vocab_size);
}

uint32_t host_word(const host_call *c, uint64_t sample, uint64_t position)
{
    return host_word_of(c->rank->host, sample, position);
}

uint64_t host_op_key(const host_call *c, const char *what)
{
    return host_key(c->rank->host->seed, "op", what, c->in->layer);
}
