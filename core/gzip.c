/* gzip.c: reads packed files with zlib, which reads plain ones as they are. */
#include "gzip.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

enum { CHUNK_BYTES = 1 << 20 };

/* All there is, into a growing buffer; *bytes is to be freed also on failure. */
static tdm_code read_all(gzFile file, const char *path, char **bytes, size_t *n_bytes,
                         tdm_error *err)
{
    size_t n = 0, capacity = 0;
    for (;;) {
        if (n + CHUNK_BYTES >= capacity) {
            capacity = 2 * capacity + 2 * CHUNK_BYTES;
            char *larger = realloc(*bytes, capacity);
            if (!larger)
                return tdm_error_add(err, TDM_E_INTERNAL, "%s: out of memory", path);
            *bytes = larger;
        }
        int got = gzread(file, *bytes + n, CHUNK_BYTES);
        if (got < 0) {
            int number;
            const char *reason = gzerror(file, &number);
            return tdm_error_add(err, TDM_E_INVALID, "%s: %s", path,
                                 number == Z_ERRNO ? strerror(errno) : reason);
        }
        n += (size_t)got;
        if (n > TDM_GZIP_MAX_BYTES)
            return tdm_error_add(err, TDM_E_INVALID, "%s: larger than 4 GiB", path);
        if (got == 0)
            break;
    }
    (*bytes)[n] = '\0';
    *n_bytes = n;
    return TDM_OK;
}

tdm_code tdm_gzip_read(const char *path, char **bytes, size_t *n_bytes, tdm_error *err)
{
    errno = 0;
    gzFile file = gzopen(path, "rb");
    if (!file)
        return tdm_error_add(err, TDM_E_INVALID, "%s: %s", path,
                             errno ? strerror(errno) : "out of memory");
    gzbuffer(file, 1 << 17);
    *bytes = NULL;
    tdm_code code = read_all(file, path, bytes, n_bytes, err);
    /* A packed file that was cut off shows only now. */
    if (gzclose(file) != Z_OK && code == TDM_OK)
        code = tdm_error_add(err, TDM_E_INVALID, "%s: the packed file ends too early", path);
    if (code != TDM_OK) {
        free(*bytes);
        *bytes = NULL;
    }
    return code;
}
