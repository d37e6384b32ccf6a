/* ramp.c: what measurements say beyond NCCL's tables, one ramp per kind of operation.
 *
 * Fitted together over 152 sets of nccl-tests on DGX and HGX machines, one launch floor per set,
 * never to one file: single nodes of A100, H100, H200 and B200 in AIConfigurator's published data
 * (ai-dynamo/aiconfigurator, NCCL 2.23 to 2.29), logs of single H100 and A100 nodes, of 2 x 8 and
 * 12 x 8 H100 and 2 x 8 A100 with InfiniBand, 2 x 4 H100, and 16 DGX-2. docs/fidelity.md names
 * each set and its error, and what comes out when every other size is held back;
 * tests/bench/ramps.c prints these rows from the measurements. Behind each row: points, sets,
 * median error in percent. Several nodes share one row per algorithm and protocol: there are too
 * few such sets for more. */
#include "core/nccl/time.h"

enum { ANY = -1, OTHERS = 0, ALL_REDUCE = 1 };

typedef struct row {
    int generation;
    tdm_nccl_algo algo;
    tdm_nccl_proto proto;
    int all_reduce;
    bool one_node;
    tdm_nccl_ramp ramp; /* latency_share, efficiency, own_steps, half_bytes, power */
} row;

/* clang-format off */
static const row rows[] = {
    {ANY, TDM_NCCL_NVLS_TREE, TDM_NCCL_SIMPLE, ANY, false, {0.638, 1.05, 0, 8.24e+05, 0.564}}, /* 30, 3, 1.5 */
    {ANY, TDM_NCCL_RING, TDM_NCCL_LL, ANY, false, {0.422, 1, 0, 2.22e+05, 0.482}}, /* 14, 2, 5.3 */
    {ANY, TDM_NCCL_RING, TDM_NCCL_LL128, ANY, false, {1.08, 1, 0, 4.95e+04, 0.68}}, /* 9, 3, 7.4 */
    {ANY, TDM_NCCL_RING, TDM_NCCL_SIMPLE, ANY, false, {0.687, 1, 1.26, 0.268, 0.887}}, /* 14, 4, 3.0 */
    {ANY, TDM_NCCL_TREE, TDM_NCCL_LL, ANY, false, {0.784, 0.9996, 0, 5.21e+03, 0.859}}, /* 45, 3, 3.6 */
    {ANY, TDM_NCCL_TREE, TDM_NCCL_LL128, ANY, false, {0.799, 1, 0, 2.34e+04, 0.564}}, /* 21, 5, 3.6 */
    {ANY, TDM_NCCL_TREE, TDM_NCCL_SIMPLE, ANY, false, {1, 1.03, 0, 74.4, 0.989}}, /* 7, 1, 21.6 */
    {TDM_NCCL_AMPERE, TDM_NCCL_P2P, TDM_NCCL_LL, OTHERS, true, {0.945, 0.9664, 0, 1.84e+05, 0.432}}, /* 27, 3, 4.9 */
    {TDM_NCCL_AMPERE, TDM_NCCL_P2P, TDM_NCCL_SIMPLE, OTHERS, true, {1.14, 0.9418, 0.325, 5.66e+05, 0.582}}, /* 21, 4, 4.0 */
    {TDM_NCCL_AMPERE, TDM_NCCL_RING, TDM_NCCL_LL, OTHERS, true, {0.364, 0.9996, 0, 5.55e+03, 0.564}}, /* 45, 6, 10.2 */
    {TDM_NCCL_AMPERE, TDM_NCCL_RING, TDM_NCCL_LL, ALL_REDUCE, true, {0.408, 0.9996, 0, 3.19e+04, 0.984}}, /* 43, 4, 3.1 */
    {TDM_NCCL_AMPERE, TDM_NCCL_RING, TDM_NCCL_LL128, ANY, true, {0.65, 1, 0, 5.27e+04, 0.37}}, /* 7, 5, 2.4 */
    {TDM_NCCL_AMPERE, TDM_NCCL_RING, TDM_NCCL_SIMPLE, OTHERS, true, {1.72, 0.9139, 0.419, 4.36e+04, 1}}, /* 29, 6, 3.3 */
    {TDM_NCCL_AMPERE, TDM_NCCL_RING, TDM_NCCL_SIMPLE, ALL_REDUCE, true, {1.72, 0.9778, 0.513, 39.8, 1}}, /* 24, 4, 4.9 */
    {TDM_NCCL_HOPPER, TDM_NCCL_NVLS, TDM_NCCL_SIMPLE, ALL_REDUCE, true, {0.614, 1.023, 0, 9.33e+05, 0.6}}, /* 65, 8, 1.8 */
    {TDM_NCCL_HOPPER, TDM_NCCL_P2P, TDM_NCCL_LL, OTHERS, true, {0.894, 1, 0, 1.73e+05, 0.758}}, /* 135, 18, 10.2 */
    {TDM_NCCL_HOPPER, TDM_NCCL_P2P, TDM_NCCL_SIMPLE, OTHERS, true, {0.799, 0.9925, 0.269, 6.03e+05, 0.513}}, /* 130, 22, 3.7 */
    {TDM_NCCL_HOPPER, TDM_NCCL_RING, TDM_NCCL_LL, OTHERS, true, {0.662, 1.03, 0, 9.84e+04, 0.929}}, /* 325, 39, 5.3 */
    {TDM_NCCL_HOPPER, TDM_NCCL_RING, TDM_NCCL_LL, ALL_REDUCE, true, {0.384, 1.03, 0, 9.84e+04, 0.959}}, /* 111, 14, 2.9 */
    {TDM_NCCL_HOPPER, TDM_NCCL_RING, TDM_NCCL_LL128, ANY, true, {0.741, 0.9958, 0, 6.69e+03, 0.582}}, /* 27, 16, 2.4 */
    {TDM_NCCL_HOPPER, TDM_NCCL_RING, TDM_NCCL_SIMPLE, OTHERS, true, {1.25, 1.03, 0.569, 0.268, 0.911}}, /* 223, 42, 3.3 */
    {TDM_NCCL_HOPPER, TDM_NCCL_RING, TDM_NCCL_SIMPLE, ALL_REDUCE, true, {1.12, 1.03, 0.381, 1.82e+04, 1}}, /* 58, 9, 2.5 */
    {TDM_NCCL_BLACKWELL, TDM_NCCL_NVLS, TDM_NCCL_SIMPLE, ALL_REDUCE, true, {1, 1.019, 0, 3.89e+05, 0.609}}, /* 25, 4, 7.1 */
    {TDM_NCCL_BLACKWELL, TDM_NCCL_P2P, TDM_NCCL_LL, OTHERS, true, {0.27, 0.7517, 0, 3.23e+05, 0.521}}, /* 102, 12, 3.8 */
    {TDM_NCCL_BLACKWELL, TDM_NCCL_P2P, TDM_NCCL_SIMPLE, OTHERS, true, {0.637, 0.8416, 0.888, 1.96e+05, 0.636}}, /* 67, 12, 3.5 */
    {TDM_NCCL_BLACKWELL, TDM_NCCL_RING, TDM_NCCL_LL, OTHERS, true, {0.2, 0.9382, 0, 1.05e+05, 0.846}}, /* 227, 24, 3.8 */
    {TDM_NCCL_BLACKWELL, TDM_NCCL_RING, TDM_NCCL_LL, ALL_REDUCE, true, {0.208, 1.03, 0, 3.85e+04, 0.929}}, /* 115, 12, 3.0 */
    {TDM_NCCL_BLACKWELL, TDM_NCCL_RING, TDM_NCCL_LL128, ANY, true, {1.32, 1, 0, 6.41e+05, 0.639}}, /* 20, 12, 20.3 */
    {TDM_NCCL_BLACKWELL, TDM_NCCL_RING, TDM_NCCL_SIMPLE, OTHERS, true, {0.981, 0.9925, 0.662, 1.25e+04, 0.656}}, /* 97, 24, 2.7 */
    {TDM_NCCL_BLACKWELL, TDM_NCCL_RING, TDM_NCCL_SIMPLE, ALL_REDUCE, true, {1.06, 0.9704, 0.55, 1.09e+03, 0.607}}, /* 32, 8, 2.7 */
};
/* clang-format on */

/* How little a row fits: 0 exactly, UINT32_MAX not at all. Other generations and machines come
 * after other functions. */
static uint32_t distance(const row *it, const tdm_nccl_ramp_key *key)
{
    int apart = it->generation == ANY ? 0 : it->generation - (int)key->generation;
    if (it->algo != key->algo || it->proto != key->proto)
        return UINT32_MAX;
    return (it->one_node != key->one_node ? 100 : 0) + 10 * (uint32_t)(apart < 0 ? -apart : apart) +
           (it->all_reduce != ANY && it->all_reduce != (int)key->all_reduce ? 1 : 0);
}

const tdm_nccl_ramp *tdm_nccl_ramp_for(const tdm_nccl_ramp_key *key)
{
    /* PAT was not measured: what NCCL's model says. */
    static const tdm_nccl_ramp plain = {
        .latency_share = 1, .efficiency = 1, .own_steps = 0, .half_bytes = 0, .power = 1};
    const tdm_nccl_ramp *best = &plain;
    uint32_t nearest = UINT32_MAX;
    for (size_t i = 0; i < TDM_COUNT(rows); i++) {
        uint32_t d = distance(&rows[i], key);
        if (d < nearest) {
            nearest = d;
            best = &rows[i].ramp;
        }
    }
    return best;
}

double tdm_nccl_default_launch_s(tdm_nccl_generation generation)
{
    /* Medians over the sets named above; no single node of Volta was measured. */
    static const double us[TDM_NCCL_N_GENERATIONS] = {8.3, 8.3, 1.4, 8.7};
    return us[generation] * 1e-6;
}
