/* nccl_api.h: what is used of NCCL, opened at run time. Types and numbers are those of nccl.h of
 * NCCL 2.28, whose binary interface only grows: nothing of it is needed to build. */
#ifndef TDM_CUDA_NCCL_API_H
#define TDM_CUDA_NCCL_API_H

#include <cuda_runtime_api.h>

#include <stddef.h>

typedef struct ncclComm *nccl_comm; /* ncclComm_t */

typedef struct nccl_id { /* ncclUniqueId */
    char internal[128];
} nccl_id;

enum { NCCL_SUCCESS = 0, NCCL_REMOTE_ERROR = 6, NCCL_IN_PROGRESS = 7 }; /* ncclResult_t */
enum { NCCL_SUM = 0, NCCL_MAX = 2 };                                    /* ncclRedOp_t */
enum { NCCL_FLOAT16 = 6, NCCL_FLOAT32 = 7, NCCL_BFLOAT16 = 9 };         /* ncclDataType_t */
#define NCCL_NO_COLOUR (-1)

/* Oldest that this is written for: the first with splits. */
enum { NCCL_OLDEST = 21805 };

/* ncclConfig_t as NCCL 2.18 has it: a library takes an older one for what it is by its size and
 * version, and fills in the rest. */
typedef struct nccl_config {
    size_t size;
    unsigned magic, version;
    int blocking, cga_cluster_size, min_ctas, max_ctas;
    const char *net_name;
    int split_share;
} nccl_config;

/* Source: NCCL_CONFIG_INITIALIZER; INT_MIN: as NCCL likes. */
#define NCCL_CONFIG                                                                                \
    {                                                                                              \
        sizeof(nccl_config), 0xcafebeef, NCCL_OLDEST, (-2147483647 - 1), (-2147483647 - 1),        \
            (-2147483647 - 1), (-2147483647 - 1), NULL, (-2147483647 - 1)                          \
    }

/* Member NAME is the function ncclNAME. */
typedef struct nccl_api {
    int (*GetVersion)(int *version);
    int (*GetUniqueId)(nccl_id *id);
    int (*CommInitRankConfig)(nccl_comm *comm, int n_ranks, nccl_id id, int rank,
                              nccl_config *config);
    int (*CommSplit)(nccl_comm comm, int colour, int key, nccl_comm *part, nccl_config *config);
    int (*CommFinalize)(nccl_comm comm);
    int (*CommDestroy)(nccl_comm comm);
    int (*CommAbort)(nccl_comm comm);
    int (*CommGetAsyncError)(nccl_comm comm, int *error);
    const char *(*GetErrorString)(int result);
    const char *(*GetLastError)(nccl_comm comm);
    int (*GroupStart)(void);
    int (*GroupEnd)(void);
    int (*AllReduce)(const void *in, void *out, size_t count, int type, int op, nccl_comm comm,
                     cudaStream_t stream);
    int (*AllGather)(const void *in, void *out, size_t count, int type, nccl_comm comm,
                     cudaStream_t stream);
    int (*ReduceScatter)(const void *in, void *out, size_t count, int type, int op, nccl_comm comm,
                         cudaStream_t stream);
    int (*Reduce)(const void *in, void *out, size_t count, int type, int op, int root,
                  nccl_comm comm, cudaStream_t stream);
    int (*Broadcast)(const void *in, void *out, size_t count, int type, int root, nccl_comm comm,
                     cudaStream_t stream);
    int (*Send)(const void *data, size_t count, int type, int peer, nccl_comm comm,
                cudaStream_t stream);
    int (*Recv)(void *data, size_t count, int type, int peer, nccl_comm comm, cudaStream_t stream);
    /* Since 2.28; NULL before. */
    int (*AlltoAll)(const void *in, void *out, size_t count, int type, nccl_comm comm,
                    cudaStream_t stream);
} nccl_api;

/* Opens the library on the first call, which must not be one of several at once. NULL when it is
 * missing, too old or lacks a function; `problem` [n_bytes] then says what. */
const nccl_api *nccl_open(char *problem, size_t n_bytes);

#endif
