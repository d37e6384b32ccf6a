/* sweep.h: many scenarios that differ in a few keys, predicted side by side. The parts of `tandem
 * sweep`:
 *
 *     grid     which points there are               sweep_grid.c, sweep_points.c
 *     row      what came out at a point             sweep_row.c
 *     journal  the rows that are known already      sweep_journal.c
 *     key      when two points are the same one     sweep_key.c
 *     child    computes one point                   sweep_child.c
 *     farm     many children, signals, deadlines    sweep_farm.c, sweep_progress.c
 *     share    points for other processes           sweep_share.c
 *     table    Pareto front, order, output          sweep_pareto.c, sweep_files.c, sweep_report.c
 */
#ifndef TDM_SWEEP_H
#define TDM_SWEEP_H

#include "backend/world.h"
#include "cli.h"
#include "core/figures.h"
#include "table.h"

#include <jansson.h>

/* The points, in order; a point has one value per key. */
typedef struct tdm_sweep_grid {
    uint32_t n_keys, n_points;
    const char **keys;   /* [n_keys] canonical: "parallel.pipeline_model_parallel_size" */
    const char **briefs; /* [n_keys] for the heads of tables: "pp" */
    const char **values; /* [n_points][n_keys]; NULL: as the scenario has it */
} tdm_sweep_grid;

/* The product of every `--vary KEY=VALUES`, of all `--zip KEY=VALUES` walked together, and of the
 * rows of `--points FILE` (NULL: none); the first changes slowest. Reports every mistake. */
tdm_code tdm_sweep_grid_make(tdm_arena *arena, const tdm_cli_strings *varies,
                             const tdm_cli_strings *zips, const char *points_path,
                             tdm_sweep_grid *grid, tdm_error *err);

/* Several keys that change together, a part of the grid. */
typedef struct tdm_sweep_axis {
    const char *mark; /* "--vary", "--zip" or the file: what messages call it */
    uint32_t n_keys, n_rows;
    const char **keys, **briefs; /* [n_keys] */
    const char **values;         /* [n_rows][n_keys] */
} tdm_sweep_axis;

/* One `KEY=VALUES`: VALUES are values separated by commas, and ranges of whole numbers A..B,
 * A..B+STEP, A..B*FACTOR; commas within quotes or brackets do not count. */
tdm_code tdm_sweep_axis_parse(tdm_arena *arena, const char *mark, const char *text,
                              tdm_sweep_axis *axis, tdm_error *err);
/* A CSV file: keys in its first line, a point in each other; an empty cell leaves its key alone. */
tdm_code tdm_sweep_points_read(tdm_arena *arena, const char *path, tdm_sweep_axis *axis,
                               tdm_error *err);

typedef enum tdm_sweep_status {
    TDM_SWEEP_PENDING,
    TDM_SWEEP_OK,
    TDM_SWEEP_NO_MEMORY,  /* predicted, and a rank needs more memory than there is */
    TDM_SWEEP_INVALID,    /* no such layout */
    TDM_SWEEP_INFEASIBLE, /* there is, but nothing can be said about it */
    TDM_SWEEP_FAILED,     /* crash, time is out, or an internal error: tried again next time */
    TDM_SWEEP_N_STATUSES
} tdm_sweep_status;
const char *tdm_sweep_status_name(tdm_sweep_status status); /* "ok", "no-memory", ... */

typedef struct tdm_sweep_row {
    tdm_sweep_status status;
    uint64_t key;          /* of content, sweep_key.c */
    const char *reason;    /* "" when the status is OK */
    const char *plan_hash; /* "fnv1a64:...", "" when there is no plan */
    double *figures;       /* [tdm_sweep_n_figures()] as tdm_figure_infos; NAN: not known */
    bool front;            /* on the Pareto front */
} tdm_sweep_row;
uint32_t tdm_sweep_n_figures(void);
/* Index into figures; UINT32_MAX for no such figure. */
uint32_t tdm_sweep_figure(const char *name);
/* True for rows with figures. */
static inline bool tdm_sweep_has_figures(const tdm_sweep_row *row)
{
    return row->status == TDM_SWEEP_OK || row->status == TDM_SWEEP_NO_MEMORY;
}

/* A row as a line of JSON, with its point for people; free() it. NULL when memory is out. */
char *tdm_sweep_row_write(const tdm_sweep_row *row, const tdm_sweep_grid *grid, uint32_t point);
/* And back: `n` bytes without the line's end. On failure *why says what is wrong. */
bool tdm_sweep_row_read(tdm_arena *arena, const char *line, size_t n, tdm_sweep_row *row,
                        const char **why);

/* FNV-1a, 64 bits. */
#define TDM_SWEEP_HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t tdm_sweep_hash(uint64_t hash, const void *bytes, size_t n);
/* Of the program itself: results of another build are not taken over. */
uint64_t tdm_sweep_program_hash(void);
/* Whatever the prediction of a loaded scenario depends on. `start`: the hash so far. */
uint64_t tdm_sweep_key(tdm_arena *arena, uint64_t start, const char *root,
                       const tdm_scenario *scenario);

/* The rows computed so far, in a file that each is appended to as soon as it is there. */
typedef struct tdm_sweep_journal {
    const char *path;
    int file;
    uint64_t n_bytes;
    bool unsynced;
    tdm_sweep_row **slots; /* [capacity] hash table by key */
    size_t capacity, n_rows;
    size_t n_torn_bytes; /* dropped from the end */
} tdm_sweep_journal;
/* Opens and locks folder/journal.jsonl and reads it; `fresh` empties it instead. */
tdm_code tdm_sweep_journal_open(tdm_arena *arena, const char *folder, bool fresh,
                                tdm_sweep_journal *journal, tdm_error *err);
const tdm_sweep_row *tdm_sweep_journal_find(const tdm_sweep_journal *journal, uint64_t key);
/* Appends a line (with its end) and remembers its row; on failure the file is as before. */
tdm_code tdm_sweep_journal_add(tdm_arena *arena, tdm_sweep_journal *journal, const char *line,
                               const tdm_sweep_row *row, tdm_error *err);
/* Waits until all lines are on the disk. */
tdm_code tdm_sweep_journal_sync(tdm_sweep_journal *journal, tdm_error *err);
void tdm_sweep_journal_close(tdm_sweep_journal *journal);
/* All of the file, for another process; and a journal without a file, of such a text. */
tdm_code tdm_sweep_journal_text(tdm_arena *arena, tdm_sweep_journal *journal, char **text,
                                size_t *n, tdm_error *err);
tdm_code tdm_sweep_journal_adopt(tdm_arena *arena, tdm_sweep_journal *journal, const char *text,
                                 size_t n, tdm_error *err);

/* How points are shared out among processes; all zero where there is only one. */
typedef struct tdm_sweep_share {
    tdm_world *world;
    uint32_t n_away, n_dismissed; /* process 0: points, and processes that have none to come */
    bool asked, over;             /* the others: for a point; no more come */
} tdm_sweep_share;

typedef struct tdm_sweep {
    const char *root, *scenario_path, *engine;
    tdm_cli_strings sets;
    tdm_sweep_grid grid;
    tdm_sweep_journal journal;
    tdm_sweep_row *rows; /* [grid.n_points] */
    uint32_t n_jobs;
    double timeout_s;
    bool quiet;
    uint32_t n_known;   /* rows from the journal */
    uint64_t key_start; /* hash of program and engine */
    tdm_sweep_share share;
} tdm_sweep;

/* Gives the other processes the journal; fails where programs differ. */
tdm_code tdm_sweep_share_begin(tdm_arena *arena, tdm_sweep *sweep, tdm_error *err);
/* Whether this process works for process 0; whether there is nothing left to wait for. */
bool tdm_sweep_share_works(const tdm_sweep_share *share);
bool tdm_sweep_share_is_over(const tdm_sweep_share *share);
/* Process 0: answers those that ask, from *next on, and takes the lines [n] of points. */
typedef tdm_code tdm_sweep_take(void *context, uint32_t point, const char *line, size_t n);
tdm_code tdm_sweep_share_serve(tdm_sweep_share *share, uint32_t *next, uint32_t n_points,
                               tdm_sweep_take *take, void *context, int *signal, tdm_error *err);
/* The others: asks for a point if one is wanted; UINT32_MAX: none has come yet. */
tdm_code tdm_sweep_share_ask(tdm_sweep_share *share, bool wants, uint32_t *point, tdm_error *err);
tdm_code tdm_sweep_share_tell(const tdm_sweep_share *share, uint32_t point, const char *line,
                              tdm_error *err);
tdm_code tdm_sweep_share_interrupt(const tdm_sweep_share *share, int signal, tdm_error *err);

/* Computes one point, or finds it in the journal, and writes its line to `out`: what a child does.
 */
#define TDM_SWEEP_FRAME "\x1e" /* stands before the line: what comes earlier was printed */
void tdm_sweep_child(const tdm_sweep *sweep, uint32_t point, int out);

/* Fills all rows. *signal: the number of the signal that ended it early, else 0. */
tdm_code tdm_sweep_farm(tdm_arena *arena, tdm_sweep *sweep, int *signal, tdm_error *err);

/* How far it got, on standard error: a bar on a terminal, else a line now and then. */
typedef struct tdm_sweep_progress {
    bool quiet, terminal, shown;
    uint32_t n_points, n_done, n_computed, n_without;
    double start_s, last_s;
} tdm_sweep_progress;
double tdm_sweep_clock_s(void);
void tdm_sweep_progress_start(tdm_sweep_progress *progress, uint32_t n_points, bool quiet);
void tdm_sweep_progress_row(tdm_sweep_progress *progress, const tdm_sweep_row *row, bool computed);
void tdm_sweep_progress_show(tdm_sweep_progress *progress);
void tdm_sweep_progress_clear(tdm_sweep_progress *progress);

/* What to show, and by which figures. */
typedef struct tdm_sweep_view {
    uint32_t sort;        /* figure that orders the table */
    uint32_t pareto[2];   /* figures of the front */
    uint32_t figures[32]; /* columns of the table */
    uint32_t n_figures, top;
} tdm_sweep_view;

/* Marks the rows that fit and that no other one beats in one of the two figures without losing in
 * the other. */
void tdm_sweep_mark_front(tdm_arena *arena, tdm_sweep *sweep, const tdm_sweep_view *view);
/* The points whose rows `wanted` lets pass, best first by the figure, equal ones in order of
 * points; sets *n. */
uint32_t *tdm_sweep_order(tdm_arena *arena, const tdm_sweep *sweep, uint32_t figure,
                          bool (*wanted)(const tdm_sweep_row *row), uint32_t *n);
bool tdm_sweep_is_ok(const tdm_sweep_row *row);
bool tdm_sweep_is_front(const tdm_sweep_row *row);

/* sweep.csv, or the given points of it; sweep.json's text (free() it, NULL when memory is out). */
char *tdm_sweep_csv(const tdm_sweep *sweep, const uint32_t *points, uint32_t n_points);
char *tdm_sweep_json(const tdm_sweep *sweep, const tdm_sweep_view *view);
/* Writes sweep.csv, sweep.json and pareto.csv into the folder. */
tdm_code tdm_sweep_files(tdm_arena *arena, const tdm_sweep *sweep, const tdm_sweep_view *view,
                         const char *folder, tdm_error *err);
/* The table of the best, and how many fit or why not. */
void tdm_sweep_report(tdm_arena *arena, const tdm_sweep *sweep, const tdm_sweep_view *view,
                      const tdm_style *style, FILE *file);

#endif
