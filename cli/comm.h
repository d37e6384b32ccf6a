/* comm.h: parts of `tandem comm`. */
#ifndef TDM_CLI_COMM_H
#define TDM_CLI_COMM_H

#include "cli.h"
#include "core/graph.h"
#include "core/nccl/concurrent.h"
#include "core/nccl_log.h"

/* Ranks that run the collective among themselves. */
typedef struct tdm_comm_group {
    uint32_t n_ranks;
    const uint32_t *ranks; /* [n_ranks] GPUs of the machine */
    tdm_nccl_comm comm;
    tdm_nccl_user user;
} tdm_comm_group;

/* What one group takes for one size, launch included: at the same time as the others, and alone. */
typedef struct tdm_comm_part {
    tdm_nccl_cost cost;
    double time_s, alone_s;
} tdm_comm_part;

/* One line of the table. */
typedef struct tdm_comm_row {
    uint64_t bytes;
    tdm_comm_part *parts; /* [n_groups] */
    uint32_t slowest;     /* group */
    tdm_nccl_cost cost;   /* of the slowest, as time_s */
    double time_s;        /* launch included */
    double measured_s;    /* 0: none */
} tdm_comm_row;

typedef struct tdm_comm_table {
    const char *machine;
    bool grouped; /* --groups was given; else there is one group, of all */
    uint32_t n_groups;
    tdm_comm_group *groups; /* [n_groups] */
    tdm_nccl_comm comm;     /* of the first group */
    tdm_nccl_func func;
    double launch_s;
    bool launch_fitted;
    uint32_t n_rows;
    tdm_comm_row *rows; /* [n_rows] */
} tdm_comm_table;

/* What a machine's name means, GPUs of known generation; its notes go to standard error. gpu: the
 * option --gpu, or NULL. */
tdm_code tdm_comm_load_machine(tdm_arena *arena, const char *machine, const char *gpu,
                               tdm_graph *graph, tdm_error *err);
/* A collective's name; without one that of the log's program ("all_reduce_perf"). verb: for
 * messages. */
tdm_code tdm_comm_find_func(tdm_arena *arena, const char *verb, const char *name,
                            const tdm_nccl_log *log, tdm_nccl_func *func, tdm_error *err);
/* The communicator of the first GPUs, as --gpus says (NULL: all), with the machine's site. */
tdm_code tdm_comm_build(tdm_arena *arena, const char *verb, const tdm_graph *graph,
                        const char *gpus, const tdm_nccl_settings *settings, tdm_nccl_comm *comm,
                        tdm_error *err);

/* How many GPUs --gpus says (NULL: all). */
tdm_code tdm_comm_count_gpus(const char *verb, const char *gpus, const tdm_graph *graph,
                             uint32_t *n, tdm_error *err);

/* Fills groups of the table, with their communicators and the machine's site. spec: "/8" (groups of
 * 8 in a row), "%2" (every second rank), "0-3;4,6,8" (lists), or NULL: one of all. */
tdm_code tdm_comm_build_groups(tdm_arena *arena, const tdm_graph *graph, const char *gpus,
                               const char *spec, const tdm_nccl_settings *settings,
                               tdm_comm_table *table, tdm_error *err);
/* Times of all rows, whose bytes are set. */
tdm_code tdm_comm_fill(tdm_arena *arena, tdm_comm_table *table, tdm_error *err);

/* Bands of sizes: up to 64 KiB, to 16 MiB, above. */
enum { TDM_COMM_BANDS = 3 };
extern const char *const tdm_comm_band_names[TDM_COMM_BANDS];
int tdm_comm_band(uint64_t bytes);
/* Median absolute error of each band; negative: no point. */
void tdm_comm_errors(tdm_arena *arena, const tdm_comm_table *table, double errors[TDM_COMM_BANDS]);

/* Prints predictions, shaped as nccl-tests does; with measurements beside them where there are any.
 */
void tdm_comm_print_text(tdm_arena *arena, const tdm_comm_table *table);
void tdm_comm_print_csv(const tdm_comm_table *table);
void tdm_comm_print_json(tdm_arena *arena, const tdm_comm_table *table);

/* Draws predictions beside measurements, as `tandem plot` does: FOLDER/comm.png and comm.svg. log:
 * what was measured, for the title. */
tdm_code tdm_comm_plot(tdm_arena *arena, const tdm_comm_table *table, const char *log,
                       const char *folder, tdm_error *err);

/* Reads "8:8GiB", "8:8GiB:4", "1MiB:16MiB+1MiB" or one size. False: it is none of these. */
bool tdm_comm_sizes(const char *text, uint64_t *first, uint64_t *last, uint64_t *factor,
                    uint64_t *step);

#endif
