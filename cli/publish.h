/* publish.h: what follows a prediction or a run, the same for every engine. */
#ifndef TDM_PUBLISH_H
#define TDM_PUBLISH_H

#include "predict.h"

typedef struct tdm_publish_options {
    const char *verb;    /* for messages */
    const char *format;  /* "text", "json", "csv", "md" */
    const char *file;    /* printed to; NULL: standard output */
    const char *out_dir; /* of the files; NULL: runs/NAME */
    bool no_files, enforce, quiet;
} tdm_publish_options;

/* Writes the files of the run, prints the report, judges the targets. Returns the exit code. */
int tdm_publish(tdm_arena *arena, const tdm_publish_options *options, const tdm_result *result,
                tdm_error *err);

/* Runs the plan in a text file, as `tandem plan` prints it, and prints and writes what there is to
 * say without a machine: steps, trace, plan. Returns the exit code. */
int tdm_run_text(tdm_arena *arena, const char *path, const tdm_run_options *run,
                 const tdm_publish_options *options);

#endif
