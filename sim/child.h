/* child.h: runs a function in a child process with memory shared between both: whatever a library
 * does there (abort, print, leak) stays there. */
#ifndef TDM_SIM_CHILD_H
#define TDM_SIM_CHILD_H

#include "core/base.h"

/* Memory that a child started later shares; zeroed. NULL when there is none. */
void *tdm_child_memory_new(size_t n_bytes);
void tdm_child_memory_free(void *memory, size_t n_bytes);

/* Runs work(context) in a child and waits for its end. The child's standard output is discarded.
 * Fails with TDM_E_INTERNAL when it did not get to tdm_child_exit or died: the message says of
 * what, with the last lines it wrote to standard error. `what` names the work in messages. */
tdm_code tdm_child_run(void (*work)(void *context), void *context, const char *what,
                       tdm_error *err);

/* Ends the child with success, from however deep inside a library. */
_Noreturn void tdm_child_exit(void);

#endif
