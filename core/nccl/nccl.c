/* nccl.c: names, and the small rules that need nothing else. */
#include "core/nccl/nccl.h"

#include <ctype.h>
#include <strings.h>

static const char *const func_names[TDM_NCCL_N_FUNCS] = {
    "Broadcast", "Reduce", "AllGather", "ReduceScatter", "AllReduce", "SendRecv", "AlltoAll",
};

const char *tdm_nccl_func_name(tdm_nccl_func func)
{
    return func_names[func];
}

const char *tdm_nccl_algo_name(tdm_nccl_algo algo)
{
    static const char *const names[TDM_NCCL_N_ALGOS + 1] = {
        "Tree", "Ring", "CollNetDirect", "CollNetChain", "NVLS", "NVLSTree", "PAT", "P2P",
    };
    return names[algo];
}

const char *tdm_nccl_proto_name(tdm_nccl_proto proto)
{
    static const char *const names[TDM_NCCL_N_PROTOS] = {"LL", "LL128", "Simple"};
    return names[proto];
}

bool tdm_nccl_func_find(const char *name, tdm_nccl_func *func)
{
    char bare[32];
    size_t n = 0;
    for (const char *c = name; *c; c++) {
        if (*c == '-' || *c == '_')
            continue;
        if (n + 1 == sizeof bare)
            return false;
        bare[n++] = (char)tolower((unsigned char)*c);
    }
    bare[n] = '\0';
    for (int f = 0; f < TDM_NCCL_N_FUNCS; f++)
        if (strcasecmp(bare, func_names[f]) == 0) {
            *func = (tdm_nccl_func)f;
            return true;
        }
    return false;
}

double tdm_nccl_bus_factor(tdm_nccl_func func, uint32_t n_ranks)
{
    double n = n_ranks;
    switch (func) {
    case TDM_NCCL_ALL_REDUCE:
        return 2 * (n - 1) / n;
    case TDM_NCCL_ALL_GATHER:
    case TDM_NCCL_REDUCE_SCATTER:
    case TDM_NCCL_ALL_TO_ALL:
        return (n - 1) / n;
    default:
        return 1;
    }
}

tdm_nccl_generation tdm_nccl_generation_of(uint32_t sm)
{
    return sm >= 100  ? TDM_NCCL_BLACKWELL
           : sm >= 90 ? TDM_NCCL_HOPPER
           : sm >= 80 ? TDM_NCCL_AMPERE
                      : TDM_NCCL_VOLTA;
}
