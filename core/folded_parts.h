/* folded_parts.h: what the files of the folded evaluation share. Private to them. */
#ifndef TDM_FOLDED_PARTS_H
#define TDM_FOLDED_PARTS_H

#include "folded.h"
#include "lower_build.h"
#include "net.h"

#define TDM_FOLD_NONE UINT32_MAX

/* ---- caches ---- */

enum { TDM_FOLD_KEY = 14 };

typedef struct tdm_fold_key {
    uint32_t words[TDM_FOLD_KEY]; /* unused ones 0 */
} tdm_fold_key;

typedef struct tdm_fold_entry {
    tdm_fold_key key;
    void *value; /* NULL: free */
} tdm_fold_entry;

/* Open addressing; grows before it is half full. */
typedef struct tdm_fold_map {
    tdm_arena *arena;
    tdm_fold_entry *entries;
    uint32_t capacity, n;
} tdm_fold_map;

/* The value's place for the key; a new one holds NULL and must be filled before the next call. */
void **tdm_fold_map_at(tdm_fold_map *map, const tdm_fold_key *key);

/* ---- network: folded_net.c ---- */

/* Communication of one mesh on the machine, by the slowest group within each stage. Worked out on
 * first use. */
typedef struct tdm_fold_net {
    tdm_mesh mesh;
    tdm_net *net; /* of all meshes */
    const tdm_pass_times *pass_times;
    uint32_t n_stages;          /* stages that differ: 1 where all GPUs hang on one switch */
    tdm_group *slowest;         /* [n_stages][TDM_N_COMM_KEYS], size UINT32_MAX: not known yet */
    uint32_t (*transfers)[2];   /* [pp][2] ranks of the slowest pair to the next stage, to the
                                 * previous; [n][0]: sender */
    const uint32_t *placements; /* [n_stages] equal where TP, EP and ETP groups are as fast */
    bool unreachable;           /* two ranks that must talk share no route */
} tdm_fold_net;

enum { TDM_FOLD_PLACED = 6, TDM_FOLD_PROBES = 2 }; /* kinds of communication of a layer; sizes */

/* The kinds of placement seen so far: seconds of each kind of communication at some sizes. */
typedef struct tdm_fold_placements {
    tdm_arena *arena;
    tdm_net *net;
    double (*known)[TDM_FOLD_PLACED][TDM_FOLD_PROBES];
    uint32_t n, capacity;
} tdm_fold_placements;

tdm_fold_net *tdm_fold_net_new(tdm_arena *arena, const tdm_scenario *scenario, const tdm_mesh *mesh,
                               tdm_fold_placements *placements);
/* Seconds of a collective of even shares, and of a transfer to the next (0) or previous (1) stage.
 */
double tdm_fold_net_s(tdm_fold_net *net, uint32_t stage, tdm_op_kind kind, tdm_group_kind group,
                      double bytes);
double tdm_fold_net_transfer_s(tdm_fold_net *net, uint32_t stage, uint32_t direction, double bytes);

/* ---- blocks: folded_block.c ---- */

/* Where a tensor's bytes are: the heaps of layout_place.h. */
enum {
    TDM_FOLD_LONG,
    TDM_FOLD_AHEAD_RECV,
    TDM_FOLD_AHEAD_RECV_GRAD,
    TDM_FOLD_N_CARRIED, /* the others hold nothing between passes, as a rule */
    TDM_FOLD_SHORT = TDM_FOLD_N_CARRIED,
    TDM_FOLD_AHEAD_TP,
    TDM_FOLD_AHEAD_EP,
    TDM_FOLD_N_HEAPS
};

/* A pass over some blocks. It is linear in (max, +): with the stage's streams free at T and the
 * first op issued at I + launch it ends at max(T + run_s, I + issued_s). */
typedef struct tdm_fold_time {
    double run_s;
    double issued_s;          /* -INFINITY without ops of its own */
    double issue_s;           /* to issue all its ops */
    double first_s;           /* issue of the first op but receives, from I; INFINITY without */
    double serial_s;          /* all ops one after the other */
    double compute_s;         /* kernels, with the mean number of tokens */
    double exposed_s, comm_s; /* transfers without a kernel beside; all TP and EP communication */
    double model_flops, hardware_flops;
    /* of all-reduces, then of all-to-alls */
    double calls[2], call_s[2], longest_s[2];
} tdm_fold_time;

/* Bytes that a pass takes in each heap: afterwards, and at most, both relative to before. */
typedef struct tdm_fold_memory {
    double net[TDM_FOLD_N_HEAPS], peak[TDM_FOLD_N_HEAPS];
} tdm_fold_memory;

typedef struct tdm_fold_pass_map {
    tdm_fold_time time;
    tdm_fold_memory memory;
} tdm_fold_pass_map;

/* Passes F, B, W, BW of one block kind. Memory depends on the heaps of four tensors that
 * neighbours share. */
enum { TDM_FOLD_N_PASSES = TDM_PASS_BW + 1, TDM_FOLD_MAX_VARIANTS = 16 };

/* A birth (bytes above 0) or a death. `heap` past TDM_FOLD_N_HEAPS: a shared tensor. */
typedef struct tdm_fold_event {
    double bytes;
    uint32_t heap;
} tdm_fold_event;

enum {
    TDM_FOLD_X = TDM_FOLD_N_HEAPS, /* own input */
    TDM_FOLD_NEXT_X,
    TDM_FOLD_DX,
    TDM_FOLD_NEXT_DX,
    TDM_FOLD_N_PLACES
};

typedef struct tdm_fold_variant {
    uint32_t key;
    tdm_fold_memory memory[TDM_FOLD_N_PASSES];
} tdm_fold_variant;

typedef struct tdm_fold_kind {
    tdm_fold_time times[TDM_FOLD_N_PASSES];
    const tdm_fold_event *events[TDM_FOLD_N_PASSES];
    uint32_t n_events[TDM_FOLD_N_PASSES];
    uint32_t next_x_heap; /* where it is born ahead of compute; else TDM_FOLD_NONE */
    uint32_t dx_heap;     /* the same of its own gradient */
    uint32_t x_dies, dx_born, next_dx_dies; /* passes */
    tdm_fold_variant variants[TDM_FOLD_MAX_VARIANTS];
    uint32_t n_variants;
} tdm_fold_kind;

/* The kinds of a plan, for one way to split a layer. */
typedef struct tdm_fold_kinds {
    tdm_plan plan;        /* kinds with names and parameters only */
    tdm_fold_kind *kinds; /* [plan.n_kinds] */
    double x_bytes;
    double kept_share;    /* as in tdm_stage_times */
    double largest_share; /* expected tokens of the fullest expert rank over the mean */
} tdm_fold_kinds;

/* Token-expert pairs that a rank receives on average, and how much more the fullest of a group gets
 * of so many on average. */
double tdm_fold_mean_received(const tdm_dims *dims);
double tdm_fold_largest_share(const tdm_dims *dims, double mean);

/* Schedules the kinds of `dims` with the rates of one stage. scratch may be freed afterwards. */
tdm_fold_kinds *tdm_fold_kinds_new(tdm_arena *arena, tdm_arena *scratch, const tdm_dims *dims,
                                   tdm_fold_net *net, uint32_t stage);

/* Memory of a kind between two others (NULL: none). */
const tdm_fold_memory *tdm_fold_kind_memory(tdm_fold_kind *kind, const tdm_fold_kind *previous,
                                            const tdm_fold_kind *next);

/* Algebra: one after the other; n times. */
void tdm_fold_time_then(tdm_fold_time *time, const tdm_fold_time *next);
tdm_fold_time tdm_fold_time_repeat(const tdm_fold_time *time, uint32_t n);
void tdm_fold_memory_then(tdm_fold_memory *memory, const tdm_fold_memory *next);
tdm_fold_memory tdm_fold_memory_repeat(const tdm_fold_memory *memory, uint32_t n);

/* ---- stages: folded_stages.c ---- */

/* An op of the O pass. */
typedef struct tdm_fold_step_op {
    tdm_stream stream;
    uint32_t waits; /* mask of streams whose tails it waits for */
    double seconds;
    tdm_group_kind group; /* EMBED and WORLD span stages */
    tdm_op_kind kind;
} tdm_fold_step_op;

typedef struct tdm_fold_stage {
    const tdm_fold_pass_map *const *chunks; /* [vpp] of [TDM_FOLD_N_PASSES] */
    double static_bytes;
    const tdm_fold_step_op *step; /* [n_step] */
    uint32_t n_step;
} tdm_fold_stage;

typedef struct tdm_fold_stages {
    tdm_fold_stage *stages; /* [pp] */
    tdm_fold_net *net;
    double x_bytes, launch_s, largest_share, kept_share;
    uint32_t n_carried; /* heaps to follow from pass to pass */
} tdm_fold_stages;

/* kinds [pp]. Everything lives in arena; plan-wide settings come from sc and dims. */
tdm_fold_stages *tdm_fold_stages_new(tdm_arena *arena, const tdm_scenario *sc, const tdm_dims *dims,
                                     tdm_fold_net *net, tdm_fold_kinds *const *kinds);

/* ---- order of passes: folded_order.c ---- */

typedef struct tdm_fold_pass {
    uint32_t stage, chunk, kind;
    uint32_t recv, send; /* edges; TDM_FOLD_NONE without */
    uint32_t sent[3];    /* edges whose transfers must have ended */
} tdm_fold_pass;

/* Streams that send: activations, gradients, and both again for chunks that run back in a V. Those
 * that receive carry what the passes take in their order: activations, gradients. */
enum { TDM_FOLD_N_SENDS = 4, TDM_FOLD_N_RECEIVES = 2 };

typedef struct tdm_fold_edge {
    uint32_t sender, receiver; /* passes */
    uint32_t posted;           /* pass of the receiver after which it is posted */
    uint32_t source, target;   /* stages */
    uint32_t stream;           /* of the sends; modulo TDM_FOLD_N_RECEIVES of the receives */
    uint32_t direction;        /* 0: to the next stage, 1: to the previous */
} tdm_fold_edge;

/* The passes of all stages and the transfers between them, in an order in which each comes after
 * all it waits for. */
typedef struct tdm_fold_order {
    bool deadlocks; /* then the rest means nothing */
    uint32_t n_stages, n_chunks, n_microbatches, n_passes, n_edges;
    bool has[TDM_FOLD_N_PASSES]; /* pass kinds that occur */
    const tdm_fold_pass *passes; /* stage by stage in issue order */
    const tdm_fold_edge *edges;
    const uint32_t *first; /* [n_stages + 1] first pass of each stage */
    /* edges by stream, of a stage from its first pass on, in issue order; how many by stage */
    const uint32_t *sends[TDM_FOLD_N_SENDS], *n_sends[TDM_FOLD_N_SENDS];
    const uint32_t *receives[TDM_FOLD_N_RECEIVES], *n_receives[TDM_FOLD_N_RECEIVES];
    uint32_t n_send_streams; /* of them in use */
    const uint32_t *events;  /* [n_passes + n_edges]: a pass, or n_passes + an edge */
} tdm_fold_order;

tdm_fold_order *tdm_fold_order_new(tdm_arena *arena, const tdm_schedule *schedule,
                                   const tdm_schedule_shape *shape, tdm_placement placement);

/* ---- run: folded_run.c ---- */

typedef struct tdm_fold_run {
    double start_s, end_s; /* of the step */
    /* by stage */
    double *busy_s, *passes_s, *first_s, *last_s, *end_of_passes_s, *exposed_s, *step_exposed_s,
        *recv_s, *send_s, *within_s, *waiting_s, *peak_bytes, *step_busy_s;
    double calls[2], call_s[2], longest_s[2]; /* sums over stages, of one rank each */
    double model_flops, hardware_flops;
} tdm_fold_run;

/* Room that runs use one after the other. */
typedef struct tdm_fold_room {
    tdm_arena arena;
    double *values;
    size_t capacity;
} tdm_fold_room;

tdm_fold_run tdm_fold_run_order(tdm_fold_room *room, const tdm_fold_order *order,
                                const tdm_fold_stages *stages);

#endif
