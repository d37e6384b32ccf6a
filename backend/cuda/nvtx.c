/* nvtx.c: ranges around the issuing of ops, named as the plan names them, which profilers show. */
#include "parts.h"

#include <nvtx3/nvToolsExt.h>

void cuda_range_push(const char *name)
{
    nvtxRangePushA(name);
}

void cuda_range_pop(void)
{
    nvtxRangePop();
}
