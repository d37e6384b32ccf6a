/* sweep_journal.c: the rows computed so far, one line of JSON each, appended as they come. What a
 * kill leaves of a line at the end is dropped; anything else that is wrong is an error, since the
 * file may be somebody's own. */
#include "sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char head[] = "{\"tandem_sweep_journal\":1}\n";

static tdm_code complain(const tdm_sweep_journal *journal, tdm_error *err)
{
    return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", journal->path, strerror(errno));
}

static size_t slot_of(const tdm_sweep_journal *journal, uint64_t key)
{
    size_t slot = (size_t)(key ^ key >> 32) & (journal->capacity - 1);
    while (journal->slots[slot] && journal->slots[slot]->key != key)
        slot = (slot + 1) & (journal->capacity - 1);
    return slot;
}

/* The first row of a key stays: equal keys have equal rows. */
static void remember(tdm_arena *arena, tdm_sweep_journal *journal, const tdm_sweep_row *row)
{
    if (2 * (journal->n_rows + 1) > journal->capacity) {
        tdm_sweep_journal old = *journal;
        journal->capacity = old.capacity ? 2 * old.capacity : 256;
        journal->slots = TDM_ALLOC(arena, tdm_sweep_row *, journal->capacity);
        for (size_t i = 0; i < old.capacity; i++)
            if (old.slots[i])
                journal->slots[slot_of(journal, old.slots[i]->key)] = old.slots[i];
    }
    size_t slot = slot_of(journal, row->key);
    if (journal->slots[slot])
        return;
    journal->slots[slot] = TDM_ALLOC(arena, tdm_sweep_row, 1);
    *journal->slots[slot] = *row;
    journal->n_rows++;
}

const tdm_sweep_row *tdm_sweep_journal_find(const tdm_sweep_journal *journal, uint64_t key)
{
    return journal->capacity ? journal->slots[slot_of(journal, key)] : NULL;
}

static bool write_all(int file, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = write(file, bytes, n);
        if (done < 0 && errno != EINTR)
            return false;
        bytes += done > 0 ? done : 0;
        n -= done > 0 ? (size_t)done : 0;
    }
    return true;
}

static tdm_code append(tdm_sweep_journal *journal, const char *text, tdm_error *err)
{
    size_t n = strlen(text);
    if (!write_all(journal->file, text, n)) {
        tdm_code code = complain(journal, err);
        /* Half a line must not have another one behind it. */
        if (ftruncate(journal->file, (off_t)journal->n_bytes) != 0)
            complain(journal, err);
        return code;
    }
    journal->n_bytes += n;
    journal->unsynced = true;
    return TDM_OK;
}

tdm_code tdm_sweep_journal_add(tdm_arena *arena, tdm_sweep_journal *journal, const char *line,
                               const tdm_sweep_row *row, tdm_error *err)
{
    tdm_code code = append(journal, line, err);
    if (code == TDM_OK)
        remember(arena, journal, row);
    return code;
}

tdm_code tdm_sweep_journal_sync(tdm_sweep_journal *journal, tdm_error *err)
{
    if (!journal->unsynced)
        return TDM_OK;
    if (fdatasync(journal->file) != 0)
        return complain(journal, err);
    journal->unsynced = false;
    return TDM_OK;
}

void tdm_sweep_journal_close(tdm_sweep_journal *journal)
{
    if (journal->file > 0)
        close(journal->file);
    journal->file = 0;
}

static tdm_code read_whole(tdm_arena *arena, tdm_sweep_journal *journal, char **text, size_t *n,
                           tdm_error *err)
{
    struct stat status;
    if (fstat(journal->file, &status) != 0)
        return complain(journal, err);
    if (!S_ISREG(status.st_mode))
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: not a regular file", journal->path);
    size_t size = (size_t)status.st_size;
    *text = TDM_ALLOC(arena, char, size + 1);
    for (*n = 0; *n < size;) {
        ssize_t got = pread(journal->file, *text + *n, size - *n, (off_t)*n);
        if (got < 0 && errno != EINTR)
            return complain(journal, err);
        if (got == 0)
            break;
        *n += got > 0 ? (size_t)got : 0;
    }
    return TDM_OK;
}

static tdm_code read_lines(tdm_arena *arena, tdm_sweep_journal *journal, const char *text, size_t n,
                           tdm_error *err)
{
    static const char remedy[] = "--fresh begins a new journal, --out-dir chooses another folder";
    size_t line = 1;
    for (const char *at = text, *end; at < text + n; at = end + 1, line++) {
        tdm_sweep_row row;
        const char *why;
        end = memchr(at, '\n', (size_t)(text + n - at));
        if (line == 1) {
            if ((size_t)(end + 1 - at) != sizeof head - 1 || memcmp(at, head, sizeof head - 1) != 0)
                return tdm_error_add(err, TDM_E_INVALID, "%s:1: not the journal of a sweep (%s)",
                                     journal->path, remedy);
            continue;
        }
        if (!tdm_sweep_row_read(arena, at, (size_t)(end - at), &row, &why))
            return tdm_error_add(err, TDM_E_INVALID, "%s:%zu: not a result: %s (%s)", journal->path,
                                 line, why, remedy);
        remember(arena, journal, &row);
    }
    return TDM_OK;
}

/* Reads what is there, and cuts off what stands behind the last line's end. */
static tdm_code load(tdm_arena *arena, tdm_sweep_journal *journal, tdm_error *err)
{
    char *text = NULL;
    size_t n = 0;
    tdm_code code = read_whole(arena, journal, &text, &n, err);
    if (code != TDM_OK)
        return code;
    size_t whole = n;
    while (whole > 0 && text[whole - 1] != '\n')
        whole--;
    /* Without any line it must be the start of a first one, or it is no journal. */
    if (whole == 0 && n > 0 && strncmp(text, head, n) != 0)
        whole = n, text[n - 1] = '\n';
    code = read_lines(arena, journal, text, whole, err);
    if (code != TDM_OK)
        return code;
    journal->n_torn_bytes = n - whole;
    journal->n_bytes = whole;
    return n > whole && ftruncate(journal->file, (off_t)whole) != 0 ? complain(journal, err)
                                                                    : TDM_OK;
}

static tdm_code lock(const tdm_sweep_journal *journal, tdm_error *err)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(journal->file, F_SETLK, &whole) == 0)
        return TDM_OK;
    if (errno == EACCES || errno == EAGAIN)
        return tdm_error_add(
            err, TDM_E_INTERNAL,
            "%s: another sweep writes to this folder (choose another with --out-dir)",
            journal->path);
    return complain(journal, err);
}

/* The file's name must survive a power failure as well as what is in it. */
static tdm_code sync_folder(const char *folder, tdm_error *err)
{
    int file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0 || (fsync(file) != 0 && errno != EINVAL)) {
        tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", folder, strerror(errno));
        if (file >= 0)
            close(file);
        return TDM_E_INTERNAL;
    }
    close(file);
    return TDM_OK;
}

tdm_code tdm_sweep_journal_open(tdm_arena *arena, const char *folder, bool fresh,
                                tdm_sweep_journal *journal, tdm_error *err)
{
    tdm_sweep_journal made = {.path = tdm_arena_printf(arena, "%s/journal.jsonl", folder)};
    made.file = open(made.path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
    if (made.file < 0)
        return complain(&made, err);
    tdm_code code = lock(&made, err);
    if (code == TDM_OK && fresh && ftruncate(made.file, 0) != 0)
        code = complain(&made, err);
    if (code == TDM_OK)
        code = load(arena, &made, err);
    if (code == TDM_OK && made.n_bytes == 0)
        code = append(&made, head, err);
    if (code == TDM_OK)
        code = tdm_sweep_journal_sync(&made, err);
    if (code == TDM_OK)
        code = sync_folder(folder, err);
    if (code == TDM_OK)
        *journal = made;
    else
        tdm_sweep_journal_close(&made);
    return code;
}

tdm_code tdm_sweep_journal_text(tdm_arena *arena, tdm_sweep_journal *journal, char **text,
                                size_t *n, tdm_error *err)
{
    return read_whole(arena, journal, text, n, err);
}

tdm_code tdm_sweep_journal_adopt(tdm_arena *arena, tdm_sweep_journal *journal, const char *text,
                                 size_t n, tdm_error *err)
{
    return read_lines(arena, journal, text, n, err);
}
