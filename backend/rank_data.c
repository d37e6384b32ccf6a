/* rank_data.c: random numbers as pure functions of what they are for, so that every layout sees the
 * same model and the same data. */
#include "rank.h"

/* Source: Steele, Lea, Flood 2014, SplitMix64's finalizer. */
uint64_t tdm_data_mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9E3779B97F4A7C15u + b + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t text_key(uint64_t key, const char *text)
{
    for (; *text; text++)
        key = tdm_data_mix(key, (unsigned char)*text);
    return tdm_data_mix(key, 256);
}

uint64_t tdm_data_purpose(uint64_t seed, const char *kind, const char *name)
{
    return text_key(text_key(tdm_data_mix(seed, 1), kind), name);
}

uint64_t tdm_data_key(uint64_t seed, const char *kind, const char *name, uint64_t number)
{
    return tdm_data_mix(tdm_data_purpose(seed, kind, name), number);
}

double tdm_data_uniform(uint64_t key, uint64_t index)
{
    return (double)(tdm_data_mix(key, index) >> 11) / 9007199254740992.0; /* 2^53 */
}

uint32_t tdm_data_word(const tdm_plan *plan, uint64_t sample, uint64_t position)
{
    uint64_t key = tdm_data_key(plan->routing_spec.seed, "data", "words", sample);
    return (uint32_t)(tdm_data_uniform(key, position) * plan->model.vocab_size);
}
