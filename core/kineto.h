/* kineto.h: reads a Chrome trace as PyTorch's profiler (Kineto) writes it, one file per rank, or
 * Tandem's own trace.json, all ranks in one file: what ran on the GPUs, when the host issued it,
 * and where steps begin. Source: Trace Event Format (Chromium project); Kineto's keys as PyTorch 2
 * writes them. Times in nanoseconds of the trace's clock. */
#ifndef TDM_KINETO_H
#define TDM_KINETO_H

#include "kernel_rules.h"

#define TDM_KINETO_NONE UINT32_MAX

/* Something that ran on a GPU. */
typedef struct tdm_kineto_event {
    int64_t start_ns, end_ns;
    int64_t correlation; /* with the call that issued it; -1: unknown */
    uint32_t rank;
    uint32_t name; /* into names */
    tdm_op_class class_;
    tdm_op_kind kind;
    tdm_group_kind group; /* of communication; TDM_N_GROUP_KINDS: unknown, or a transfer */
    uint32_t group_size;  /* 0: unknown */
    uint32_t comm;        /* into names: the communicator; NONE: unknown */
    uint32_t call;        /* own traces: the same number on all members; else NONE */
    uint8_t stream;       /* own traces: tdm_stream; else TDM_N_STREAMS */
    bool phase_o;         /* own traces: counts as O */
    uint64_t bytes;
} tdm_kineto_event;

/* A call of the host that issued work. */
typedef struct tdm_kineto_launch {
    int64_t correlation, start_ns, end_ns;
    uint32_t rank;
} tdm_kineto_launch;

/* ProfilerStep#NUMBER, on the host or on the GPU. */
typedef struct tdm_kineto_mark {
    int64_t start_ns, end_ns;
    uint32_t rank, number;
    bool on_gpu;
} tdm_kineto_mark;

typedef struct tdm_kineto {
    const char *engine; /* of an own trace; NULL: Kineto's */
    double launch_s;    /* own traces: host time per op */
    tdm_kineto_event *events;
    size_t n_events;
    tdm_kineto_launch *launches;
    size_t n_launches;
    tdm_kineto_mark *marks;
    size_t n_marks;
    const char **names;
    uint32_t n_names;
    uint32_t *ranks; /* [n_ranks] ascending */
    uint32_t n_ranks;
    uint64_t n_ignored;
} tdm_kineto;

/* Reads the files of a run, packed by gzip or not. The rank of a file is what its distributedInfo
 * says, else the number behind "rank" in its name, else its place in the list. Fails when a file is
 * no such trace, is cut off, or when two files are of one rank. */
tdm_code tdm_kineto_read(tdm_arena *arena, const char *const *paths, size_t n_paths,
                         const tdm_kernel_rules *rules, tdm_kineto *kineto, tdm_error *err);
/* The same from memory; path is what messages call it. */
tdm_code tdm_kineto_parse(tdm_arena *arena, const char *path, const char *text, size_t n_bytes,
                          const tdm_kernel_rules *rules, tdm_kineto *kineto, tdm_error *err);

#endif
