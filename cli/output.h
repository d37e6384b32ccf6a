/* output.h: the files of a run. Each is written under a temporary name; they get their names
 * together, once all are complete, so that a failure leaves nothing half-written. */
#ifndef TDM_OUTPUT_H
#define TDM_OUTPUT_H

#include "predict.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>

typedef struct tdm_output_file {
    const char *temporary, *final; /* paths */
    bool exists;
} tdm_output_file;

typedef struct tdm_output {
    const char *folder;
    tdm_output_file files[16];
    uint32_t n_files;
} tdm_output;

/* Holds back SIGINT, SIGTERM and SIGHUP; the caller restores `before` with sigprocmask once its
 * files are committed or aborted, and the signal takes effect then. */
void tdm_output_hold_signals(sigset_t *before);
/* Makes the folder and those above it. */
tdm_code tdm_output_open(tdm_arena *arena, const char *folder, tdm_output *output, tdm_error *err);
/* The temporary path to write file `name` under. */
const char *tdm_output_add(tdm_arena *arena, tdm_output *output, const char *name);
/* Gives all files their names. */
tdm_code tdm_output_commit(tdm_output *output, tdm_error *err);
/* Removes what was not committed. Does nothing after a commit. */
void tdm_output_abort(tdm_output *output);

/* The run as a document: what figures.json holds. The caller owns the reference. */
json_t *tdm_output_figures_json(const tdm_result *result, const tdm_verdict *verdicts);
/* Its text, as file and standard output have it; free() it. NULL when memory is out. */
char *tdm_output_json_text(const json_t *document);

/* A text. */
tdm_code tdm_output_text(const char *path, const char *text, size_t n_bytes, tdm_error *err);
/* Chrome trace (opens in Perfetto). layouts may be NULL: no memory counters. */
tdm_code tdm_output_trace(const tdm_prediction *prediction, const tdm_layout *layouts,
                          const char *path, tdm_error *err);
/* One row per op; live bytes by class after each pass. */
tdm_code tdm_output_ops(const tdm_prediction *prediction, const char *path, tdm_error *err);
tdm_code tdm_output_memory(const tdm_result *result, const char *path, tdm_error *err);
/* The scenario with every value resolved. */
void tdm_output_scenario(const tdm_scenario *scenario, FILE *file);

/* Writes all files of a run but platform.xml, and commits them. */
tdm_code tdm_output_write(tdm_arena *arena, const tdm_result *result, const char *figures_text,
                          tdm_output *output, tdm_error *err);

#endif
