/* figures.h: the figures of a run, one definition each, from plan and trace alone.
 * Definitions: README.md, section Figures. Times in seconds, sizes in bytes, shares 0 to 1. */
#ifndef TDM_FIGURES_H
#define TDM_FIGURES_H

#include "engine.h"
#include "layout.h"

/* The step of one rank without rest: the parts add up to step_time_s. */
typedef struct tdm_waterfall {
    double compute_s;          /* F, B and W kernels on the compute stream */
    double exposed_transfer_s; /* compute stream idle, a communication's members have all started */
    double peer_wait_s; /* compute stream idle, inside a collective that waits for a late member */
    double bubble_s;    /* compute stream idle, nothing to do: waiting for another stage */
    double issue_gap_s; /* compute stream idle, the host has not issued the next op yet */
    double optimizer_s; /* the O pass, its communication included */
    double optimizer_transfer_s; /* of optimizer_s, no part of its own: exposed transfer */
    double optimizer_wait_s;     /* of optimizer_s, no part of its own: waiting for a late member */
} tdm_waterfall;

/* Time of one kind of communication over a run. busy: from an op's own start, waiting included;
 * transfer: from its last member's start. exposed: transfer while the compute stream is idle, O
 * pass included; where transfers overlap, the first stream in order of tdm_stream has the time, so
 * that kinds add up. */
typedef struct tdm_comm_figures {
    tdm_op_kind kind;
    tdm_group_kind group; /* TDM_N_GROUP_KINDS for send and receive */
    uint64_t n_calls;     /* ops, over all ranks: a collective of 8 ranks counts 8 times */
    double busy_s;        /* mean over ranks */
    double exposed_s;     /* mean over ranks */
    double avg_s, max_s;  /* of one call, transfer only */
    uint64_t bytes; /* of all calls of one rank, mean over ranks; as tdm_figures_op_bytes counts */
} tdm_comm_figures;

typedef struct tdm_rank_figures {
    uint32_t rank, stage;
    tdm_waterfall waterfall;
    double compute_busy_s;      /* compute kernels of all passes */
    double comm_busy_s;         /* at least one communication op running, waiting included */
    double any_busy_s;          /* a compute kernel or a communication op running */
    uint64_t peak_memory_bytes; /* arena + context */
    uint64_t live_peak_bytes;
    uint64_t class_at_peak[TDM_N_CLASSES];
} tdm_rank_figures;

typedef struct tdm_stage_figures {
    double span_s;    /* last B or W end minus first F start, largest over the stage's ranks */
    double pass_s[3]; /* mean time of a pass of kind F, B, W over microbatches and ranks; BW is
                         split by op */
    double bubble_fraction; /* 1 - passes / the largest span of all stages */
    uint64_t peak_memory_bytes;
} tdm_stage_figures;

typedef struct tdm_figures {
    double step_time_s;
    double bubble_fraction, bubble_global;
    double comm_busy_fraction;
    double comm_exposed_fraction; /* exposed transfer, that of the O pass included */
    double gpu_utilization, nvml_utilization;
    double load_imbalance;
    double min_compute_share; /* least loaded rank's compute time over the mean */
    double expert_efficiency; /* 1 without experts */
    double dropped_fraction;  /* choices of experts that had reached their capacity, over all */
    double hot_rank_share;    /* tokens that hot_rank receives over its stage's mean; 1 without */
    double hot_expert_share;  /* tokens of hot_expert over the mean of its layer; 1 without */
    uint32_t hot_rank, hot_layer, hot_expert;
    double tokens_per_s;      /* 0 for pass times */
    double forward_latency_s; /* 0 until set from a forward-only run */
    double mfu, hfu;          /* 0 for pass times */
    uint64_t peak_memory_bytes;
    uint32_t peak_memory_rank;
    tdm_waterfall waterfall; /* mean over ranks */
    tdm_rank_figures *ranks; /* [n_ranks] */
    uint32_t n_ranks;
    tdm_stage_figures *stages; /* [n_stages] */
    uint32_t n_stages;
    tdm_comm_figures *comms; /* [n_comms], kinds that occur */
    uint32_t n_comms;
} tdm_figures;

/* layouts [n_ranks], or NULL for no memory figures. machine may be NULL (no mfu, no context bytes).
 */
tdm_code tdm_figures_compute(tdm_arena *arena, const tdm_plan *plan, const tdm_trace *trace,
                             const tdm_layout *layouts, const tdm_machine *machine,
                             tdm_figures *figures, tdm_error *err);

/* Bytes of an op as files report them: of a collective or transfer the bytes it is called with
 * (all-to-all: what this rank sends, its own share included), of a memory-bound kernel what it
 * touches, else 0. */
uint64_t tdm_figures_op_bytes(const tdm_plan *plan, uint32_t rank, const tdm_instance *instance);

/* A scalar figure by name, as targets and machine-readable output know it. */
typedef struct tdm_figure_info {
    const char *name; /* "step_time_s" */
    const char *unit; /* "s", "bytes", "tokens/s", "" for shares */
    const char *text; /* one line for people */
    bool higher_is_better;
} tdm_figure_info;
extern const tdm_figure_info tdm_figure_infos[]; /* ends with name NULL */
/* Value by name; NAN when there is no such figure. */
double tdm_figures_get(const tdm_figures *figures, const char *name);

#endif
