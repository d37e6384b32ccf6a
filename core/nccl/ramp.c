/* ramp.c: the fitted ramps. */
#include "core/nccl/time.h"

static const tdm_nccl_ramp plain = {1, 1, 0, 0, 1};

const tdm_nccl_ramp *tdm_nccl_ramp_for(const tdm_nccl_ramp_key *key)
{
    (void)key;
    return &plain;
}

double tdm_nccl_default_launch_s(tdm_nccl_generation generation)
{
    (void)generation;
    return 5e-6;
}
