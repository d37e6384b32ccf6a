/* fit.h: parts of `tandem fit`. */
#ifndef TDM_CLI_FIT_H
#define TDM_CLI_FIT_H

#include "comm.h"
#include "core/nccl/site_fit.h"

/* One log, and its error on the sizes that were held back. */
typedef struct tdm_fit_log {
    const char *path;
    tdm_nccl_measured measured;
    uint64_t *bytes; /* [measured.n] ascending */
    double *held;    /* [measured.n] error of the fit to every other size, as a share */
} tdm_fit_log;

typedef struct tdm_fit {
    const char *machine;
    tdm_nccl_comm comm;          /* without site */
    const tdm_nccl_site *before; /* NULL: none */
    uint32_t n_logs;
    tdm_fit_log *logs;       /* [n_logs] */
    tdm_nccl_site_fit whole; /* to all sizes */
} tdm_fit;

/* Prints what was fitted, and the error on what was held back. */
void tdm_fit_report(tdm_arena *arena, const tdm_fit *fit);

/* Writes the topology file at `path` to `output`, under a temporary name first, with the site in
 * place of the block `site` that it had, or at its end; everything else stays as it is. */
tdm_code tdm_fit_write(tdm_arena *arena, const char *path, const tdm_nccl_site *site,
                       const char *output, tdm_error *err);

#endif
