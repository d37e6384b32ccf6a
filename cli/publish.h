/* publish.h: what follows a prediction or a run, the same for every engine. */
#ifndef TDM_PUBLISH_H
#define TDM_PUBLISH_H

#include "launched.h"
#include "repeat.h"
#include "sensitivity.h"

typedef struct tdm_publish_options {
    const char *verb;    /* for messages */
    const char *format;  /* "text", "json", "csv", "md" */
    const char *file;    /* printed to; NULL: standard output */
    const char *out_dir; /* of the files; NULL: runs/NAME */
    bool no_files, enforce, quiet;
} tdm_publish_options;

/* What is known once everything is predicted, or carried out. */
typedef struct tdm_outcome {
    const tdm_result *result;
    const tdm_repeat *repeat;           /* NULL: not repeated */
    const tdm_sensitivity *sensitivity; /* NULL: not asked for */
    const tdm_verdict *verdicts;        /* filled by tdm_publish, as is the JSON document */
    char *text;
} tdm_outcome;

/* Writes the files of the run, prints the report, judges the targets. Returns the exit code. */
int tdm_publish(tdm_arena *arena, const tdm_publish_options *options, tdm_outcome *outcome,
                tdm_error *err);

/* Runs the plan in a text file, as `tandem plan` prints it, and prints and writes what there is to
 * say without a machine: steps, trace, plan. Returns the exit code. */
int tdm_run_text(tdm_arena *arena, const char *path, const tdm_run_options *run,
                 const tdm_publish_options *options, tdm_launched *launched);

#endif
