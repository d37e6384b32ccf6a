/* nccl_api.c: opens NCCL at run time. */
#include "nccl_api.h"

#include "../../core/base.h"
#include "library.h"

#include <stdio.h>

static const char LIBRARY[] = "libnccl.so.2";

#define FUNCTION(member)                                                                           \
    {                                                                                              \
        "nccl" #member, offsetof(nccl_api, member), false                                          \
    }

static const cuda_symbol symbols[] = {
    FUNCTION(GetVersion),
    FUNCTION(GetUniqueId),
    FUNCTION(CommInitRankConfig),
    FUNCTION(CommSplit),
    FUNCTION(CommFinalize),
    FUNCTION(CommDestroy),
    FUNCTION(CommAbort),
    FUNCTION(CommGetAsyncError),
    FUNCTION(GetErrorString),
    FUNCTION(GetLastError),
    FUNCTION(GroupStart),
    FUNCTION(GroupEnd),
    FUNCTION(AllReduce),
    FUNCTION(AllGather),
    FUNCTION(ReduceScatter),
    FUNCTION(Reduce),
    FUNCTION(Broadcast),
    FUNCTION(Send),
    FUNCTION(Recv),
    {"ncclAlltoAll", offsetof(nccl_api, AlltoAll), true},
};

const nccl_api *nccl_open(char *problem, size_t n_bytes)
{
    /* One library per process: a mutable global, written once. */
    static nccl_api api;
    nccl_api found;
    int version = 0;
    if (api.GetVersion)
        return &api;
    if (!cuda_library_open(LIBRARY, symbols, TDM_COUNT(symbols), &found, problem, n_bytes))
        return NULL;
    found.GetVersion(&version);
    if (version < NCCL_OLDEST) {
        snprintf(problem, n_bytes, "%s is NCCL %d.%d.%d, and 2.18.5 or newer is wanted", LIBRARY,
                 version / 10000, version % 10000 / 100, version % 100);
        return NULL;
    }
    api = found;
    return &api;
}
