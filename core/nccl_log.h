/* nccl_log.h: reads what nccl-tests measured: its text output, its JSON (-J), or a CSV file with
 * the columns size_bytes and time_us. */
#ifndef TDM_NCCL_LOG_H
#define TDM_NCCL_LOG_H

#include "core/base.h"

typedef struct tdm_nccl_log_row {
    uint64_t bytes;
    double time_s; /* out of place; in place where the log has only that */
    uint32_t line;
} tdm_nccl_log_row;

typedef struct tdm_nccl_log {
    const char *program; /* "all_reduce_perf"; NULL: the log does not say */
    uint32_t n_ranks;    /* that its header lists; 0: it does not say */
    uint32_t n_rows;
    const tdm_nccl_log_row *rows; /* [n_rows] in the order of the file */
} tdm_nccl_log;

enum { TDM_NCCL_LOG_MAX_ROWS = 65536 };

/* Reads from memory; path is what messages call it, as path:line: message. Sizes of 0 are left out.
 * Fails when a row does not read as one, or when there is none. */
tdm_code tdm_nccl_log_parse(tdm_arena *arena, const char *path, const char *text, size_t length,
                            tdm_nccl_log *log, tdm_error *err);
/* The same from a file. */
tdm_code tdm_nccl_log_read(tdm_arena *arena, const char *path, tdm_nccl_log *log, tdm_error *err);

#endif
