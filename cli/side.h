/* side.h: one side of a comparison: what a result folder, a figures.json or a foreign trace says of
 * a step, in one shape. What a side does not know is NAN, or missing from its lists. Times in
 * seconds. */
#ifndef TDM_SIDE_H
#define TDM_SIDE_H

#include "core/figures.h"
#include "core/kernel_rules.h"

typedef struct tdm_side_rank {
    uint32_t rank, stage; /* stage UINT32_MAX: unknown */
    tdm_waterfall waterfall;
    double compute_busy_s, comm_busy_s;
    double peak_memory_bytes;
    double class_s[TDM_N_OP_CLASSES]; /* summed over ops; waiting for peers included */
} tdm_side_rank;

typedef struct tdm_side_stage {
    uint32_t stage;
    double bubble_fraction, span_s, forward_s, backward_input_s, backward_weight_s;
    double peak_memory_bytes;
} tdm_side_stage;

/* As tdm_comm_figures; means over ranks. */
typedef struct tdm_side_comm {
    const char *kind, *group;
    double n_calls, bytes_per_rank, busy_s, exposed_s, avg_s, max_s;
} tdm_side_comm;

/* All runs of one op: same stage, phase, name and kind, whatever rank, microbatch and layer. */
typedef struct tdm_side_op {
    uint32_t stage;
    const char *phase, *name, *kind;
    tdm_op_class class_;
    uint64_t n;
    double total_s;
} tdm_side_op;

typedef struct tdm_side {
    const char *path;   /* as the user gave it */
    const char *folder; /* of the result; NULL for a single file or a foreign trace */
    const char *name, *engine;
    const char *plan_hash; /* NULL: unknown */
    bool is_trace;
    bool has_classes, has_ops;
    double *figures; /* by place in tdm_figure_infos */
    tdm_waterfall waterfall;
    tdm_side_rank *ranks;
    uint32_t n_ranks;
    tdm_side_stage *stages;
    uint32_t n_stages;
    tdm_side_comm *comms;
    uint32_t n_comms;
    double
        *steps_s; /* [n_steps] of each step that the result holds; all else is of the median one */
    uint32_t n_steps;
    tdm_side_op *ops; /* by stage, phase and name */
    uint32_t n_ops;
    const char *notes; /* lines for people; NULL: none */
} tdm_side;

/* What reading the sides of one command shares. The rules for foreign kernels are read, and what is
 * wrong with them is said, once. */
typedef struct tdm_side_reader {
    const char *root;       /* data folder */
    const char *rules_path; /* NULL: the rules that ship */
    bool tried;
    tdm_code code;
    tdm_kernel_rules rules;
} tdm_side_reader;

/* Reads a side: a folder with figures.json, such a file, a trace file or a folder of trace files.
 */
tdm_code tdm_side_read(tdm_arena *arena, tdm_side_reader *reader, const char *path, tdm_side *side,
                       tdm_error *err);
/* The parts of it. */
tdm_code tdm_side_read_figures(tdm_arena *arena, const char *path, tdm_side *side, tdm_error *err);
tdm_code tdm_side_read_ops(tdm_arena *arena, const char *path, tdm_side *side, tdm_error *err);

/* Place of a figure in tdm_figure_infos; UINT32_MAX when there is none of that name. */
uint32_t tdm_side_figure(const char *name);

#endif
