/* settings.h: the NCCL_ environment variables that change what NCCL chooses, as it reads them. */
#ifndef TDM_NCCL_SETTINGS_H
#define TDM_NCCL_SETTINGS_H

#include "core/nccl/nccl.h"

typedef struct tdm_nccl_settings {
    bool algo[TDM_NCCL_N_TUNED][TDM_NCCL_N_ALGOS];
    bool proto[TDM_NCCL_N_TUNED][TDM_NCCL_N_PROTOS];
    bool force_ll128; /* NCCL_PROTO names it: also where it is off by default */
    bool algo_given, proto_given;
    uint32_t min_channels, max_channels;      /* 0: not given */
    uint32_t cross_nic;                       /* 0, 1, 2 */
    uint32_t nvls_enable, nvls_channels;      /* channels 0: not given */
    uint32_t pat_enable;                      /* 0 off, 1 on, 2 where NCCL would */
    uint32_t threads, ll128_threads;          /* 0: not given */
    uint64_t buffer_bytes[TDM_NCCL_N_PROTOS]; /* 0: not given */
    double net_overhead_us;                   /* negative: by processor */
    uint64_t p2p_ll_threshold;
    uint64_t p2p_chunk_nvl, p2p_chunk_pci, p2p_chunk_net;
    uint32_t min_p2p_channels, max_p2p_channels;
} tdm_nccl_settings;

tdm_nccl_settings tdm_nccl_settings_default(void);

/* One variable, "NCCL_ALGO" or "ALGO", and its text. NCCL_ALGO and NCCL_PROTO take a list,
 * "ring,tree" or "^tree" for all but these, and lists by function, "ring;allreduce:tree,nvls". An
 * unknown variable, name or value is an error that begins with `mark`. */
tdm_code tdm_nccl_settings_set(tdm_nccl_settings *settings, const char *mark, const char *name,
                               const char *value, tdm_error *err);

/* The same for "NCCL_ALGO=ring". */
tdm_code tdm_nccl_settings_assign(tdm_nccl_settings *settings, const char *mark,
                                  const char *assignment, tdm_error *err);

#endif
