/* run_arguments.h: how a plan is carried out, as the command line says it, the same for every verb
 * that does. */
#ifndef TDM_RUN_ARGUMENTS_H
#define TDM_RUN_ARGUMENTS_H

#include "backend/backend.h"
#include "launched.h"

#include <string.h>

typedef struct tdm_run_arguments {
    const char *verb;                   /* for messages */
    const char *steps, *pace, *timeout; /* as given; NULL: not */
    tdm_run_options run;
    double deadline_s; /* how long to wait for other processes */
} tdm_run_arguments;

/* What holds where nothing is said: device host, 3 steps. */
tdm_run_arguments tdm_run_arguments_default(const char *verb);

enum { TDM_N_RUN_ARGUMENTS = 6 };
/* The options: --device, --transport, --steps, --pace, --timeout, --check-memory. */
void tdm_run_arguments_options(tdm_run_arguments *a, tdm_cli_option options[TDM_N_RUN_ARGUMENTS]);
/* Reads the values, and says what does not go together. Returns TDM_CLI_GO_ON, or the exit code
 * after a message. */
int tdm_run_arguments_check(tdm_run_arguments *a);
/* Joins the processes that were started together, as tdm_launched_open does, and runs with them. */
int tdm_run_arguments_launch(tdm_run_arguments *a, bool silent, tdm_launched *launched);

static inline bool tdm_run_is_paced(const tdm_run_options *run)
{
    return strcmp(run->device, "paced") == 0;
}

#endif
