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
    tdm_cli_command command;            /* that made it */
    const tdm_repeat *repeat;           /* NULL: not repeated */
    const tdm_sensitivity *sensitivity; /* NULL: not asked for */
    const tdm_verdict *verdicts;        /* filled by tdm_publish, as is the JSON document */
    char *text;
} tdm_outcome;

/* Judges the targets and makes the JSON document, which is to be freed. Returns TDM_OK, or the exit
 * code after a message. */
int tdm_outcome_complete(tdm_arena *arena, const char *verb, tdm_outcome *outcome);
/* Writes the files of a complete outcome to `folder`, all or none. */
tdm_code tdm_outcome_write(tdm_arena *arena, const tdm_outcome *outcome, const char *folder,
                           tdm_error *err);

/* Writes the files of the run, prints the report, judges the targets. Returns the exit code. */
int tdm_publish(tdm_arena *arena, const tdm_publish_options *options, tdm_outcome *outcome,
                tdm_error *err);

/* Runs the plan in a text file, as `tandem plan` prints it, and prints and writes what there is to
 * say without a machine: steps, trace, plan. Returns the exit code. */
int tdm_run_text(tdm_arena *arena, const char *path, const tdm_run_options *run,
                 const tdm_publish_options *options, tdm_launched *launched);

#endif
