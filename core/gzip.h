/* gzip.h: whole files, packed by gzip or not: the one door to zlib. */
#ifndef TDM_GZIP_H
#define TDM_GZIP_H

#include "base.h"

/* What a profiler writes for a step is up to some gigabytes. */
#define TDM_GZIP_MAX_BYTES ((size_t)4 << 30)

/* The file's bytes, unpacked, with a NUL behind them; free() them. Fails when the file cannot be
 * read, is damaged, or holds more than TDM_GZIP_MAX_BYTES. */
tdm_code tdm_gzip_read(const char *path, char **bytes, size_t *n_bytes, tdm_error *err);

#endif
