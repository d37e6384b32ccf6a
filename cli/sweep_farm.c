/* sweep_farm.c: computes the points in children, so many at a time. What a child does, crash or
 * loop for ever, stays its own affair: it becomes a row. */
#define _DEFAULT_SOURCE /* strsignal */
#include "sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TICK_MS = 100, SHARED_TICK_MS = 2, MAX_OUTPUT_BYTES = 1024 * 1024, LAST_WORDS = 200 };

typedef struct child {
    pid_t pid; /* 0: no child */
    int pipe;
    uint32_t point;
    double deadline_s;
    bool late;
    char *text; /* what it wrote, [n] of [capacity] */
    size_t n, capacity;
} child;

typedef struct farm {
    tdm_arena *arena;
    tdm_sweep *sweep;
    tdm_error *err;
    child *children; /* [n_jobs] */
    uint32_t n_running;
    int signals; /* descriptor */
    sigset_t old_mask;
    tdm_sweep_progress progress;
} farm;

/* A child in a group of its own, so that it can be ended with those it started; it ends when the
 * parent does. */
static _Noreturn void child_main(const farm *f, uint32_t point, const int pipe_ends[2],
                                 pid_t parent)
{
    const struct rlimit no_core = {0, 0};
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1); /* it died in between */
    setrlimit(RLIMIT_CORE, &no_core);
    close(f->signals);
    sigprocmask(SIG_SETMASK, &f->old_mask, NULL);
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
        dup2(pipe_ends[1], STDERR_FILENO) < 0)
        _exit(1);
    tdm_sweep_child(f->sweep, point, pipe_ends[1]);
    _exit(0); /* not exit(): the parent's buffers are none of its business */
}

static tdm_code start_child(farm *f, uint32_t point)
{
    child *c = f->children;
    while (c->pid)
        c++;
    int ends[2];
    if (pipe(ends) != 0)
        return tdm_error_add(f->err, TDM_E_INTERNAL, "sweep: pipe: %s", strerror(errno));
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        child_main(f, point, ends, parent);
    int reason = errno;
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return tdm_error_add(f->err, TDM_E_INTERNAL, "sweep: fork: %s (fewer children with -j)",
                             strerror(reason));
    }
    setpgid(pid, pid); /* both do: whoever comes first */
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    c->pid = pid;
    c->pipe = ends[0];
    c->point = point;
    c->deadline_s = tdm_sweep_clock_s() + f->sweep->timeout_s;
    c->late = false;
    c->n = 0;
    f->n_running++;
    return TDM_OK;
}

/* The last line a dead child wrote, for people. */
static const char *last_words(tdm_arena *arena, const child *c)
{
    size_t end = c->n, start;
    while (end > 0 && (unsigned char)c->text[end - 1] <= ' ')
        end--;
    for (start = end; start > 0 && c->text[start - 1] != '\n' && end - start < LAST_WORDS;)
        start--;
    if (start == end)
        return "";
    char *words = tdm_arena_strndup(arena, c->text + start, end - start);
    for (char *w = words; *w; w++)
        if ((unsigned char)*w < ' ')
            *w = ' ';
    return tdm_arena_printf(arena, ": %s", words);
}

static void explain_death(farm *f, const child *c, int status, tdm_sweep_row *row)
{
    const char *words = last_words(f->arena, c);
    *row = (tdm_sweep_row){.status = TDM_SWEEP_FAILED, .plan_hash = ""};
    if (c->late)
        row->reason =
            tdm_arena_printf(f->arena, "no result within %g s (--timeout)", f->sweep->timeout_s);
    else if (WIFSIGNALED(status))
        row->reason = tdm_arena_printf(f->arena, "crashed, signal %d (%s)%s", WTERMSIG(status),
                                       strsignal(WTERMSIG(status)), words);
    else
        row->reason = tdm_arena_printf(f->arena, "ended early with exit code %d%s",
                                       WEXITSTATUS(status), words);
}

/* The line behind the last frame mark; NULL when there is no whole one. */
static char *find_line(const child *c)
{
    if (c->n == 0 || c->text[c->n - 1] != '\n')
        return NULL;
    for (size_t i = c->n; i-- > 0;)
        if (c->text[i] == TDM_SWEEP_FRAME[0])
            return c->text + i + 1;
    return NULL;
}

/* A line of `n` bytes, its end included. */
static tdm_code take_line(farm *f, uint32_t point, const char *line, size_t n, tdm_sweep_row *row,
                          bool *computed)
{
    const char *why;
    *computed = line[0] != '=';
    if (!*computed) {
        const tdm_sweep_row *known =
            tdm_sweep_journal_find(&f->sweep->journal, strtoull(line + 1, NULL, 16));
        if (!known)
            return tdm_error_add(f->err, TDM_E_INTERNAL, "sweep: point %u: a row that is unknown",
                                 point);
        *row = *known;
        return TDM_OK;
    }
    if (!tdm_sweep_row_read(f->arena, line, n - 1, row, &why))
        return tdm_error_add(f->err, TDM_E_INTERNAL, "sweep: point %u: %s", point, why);
    /* An equal point may have been faster. */
    if (row->status == TDM_SWEEP_FAILED || tdm_sweep_journal_find(&f->sweep->journal, row->key))
        return TDM_OK;
    return tdm_sweep_journal_add(f->arena, &f->sweep->journal, tdm_arena_strndup(f->arena, line, n),
                                 row, f->err);
}

static int reap(farm *f, child *c)
{
    int status = 0;
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    close(c->pipe);
    c->pid = 0;
    f->n_running--;
    return status;
}

static void note_row(farm *f, uint32_t point, const tdm_sweep_row *row, bool computed)
{
    f->sweep->rows[point] = *row;
    f->sweep->n_known += !computed;
    tdm_sweep_progress_row(&f->progress, row, computed);
}

/* The line of a point that another process has computed. */
static tdm_code take_shared(void *context, uint32_t point, const char *line, size_t n)
{
    tdm_sweep_row row;
    bool computed = true;
    tdm_code code = take_line(context, point, line, n, &row, &computed);
    if (code == TDM_OK)
        note_row(context, point, &row, computed);
    return code;
}

/* What came out goes to process 0: the child's line, or one that says how it died. */
static tdm_code tell(farm *f, uint32_t point, const char *line, const tdm_sweep_row *death)
{
    char *written = line ? NULL : tdm_sweep_row_write(death, &f->sweep->grid, point);
    if (!line && !written)
        return tdm_error_add(f->err, TDM_E_INTERNAL, "sweep: out of memory");
    tdm_code code = tdm_sweep_share_tell(&f->sweep->share, point, line ? line : written, f->err);
    free(written);
    return code;
}

/* A child has closed its pipe: it is at its end, one way or another. */
static tdm_code finish_child(farm *f, child *c)
{
    int status = reap(f, c);
    tdm_sweep_row row;
    bool computed = true;
    char *line = WIFEXITED(status) && WEXITSTATUS(status) == 0 ? find_line(c) : NULL;
    size_t n = line ? c->n - (size_t)(line - c->text) : 0;
    tdm_code code = TDM_OK;
    if (!line)
        explain_death(f, c, status, &row);
    if (tdm_sweep_share_works(&f->sweep->share))
        return tell(f, c->point, line ? tdm_arena_strndup(f->arena, line, n) : NULL, &row);
    if (line)
        code = take_line(f, c->point, line, n, &row, &computed);
    if (code == TDM_OK)
        note_row(f, c->point, &row, computed);
    return code;
}

static bool make_room(child *c)
{
    if (c->capacity - c->n >= 4096)
        return true;
    char *larger = realloc(c->text, 2 * c->capacity + 8192);
    if (!larger)
        return false;
    c->text = larger;
    c->capacity = 2 * c->capacity + 8192;
    return true;
}

static tdm_code read_child(farm *f, child *c)
{
    /* A child that babbles is cut short; the end of what it says is what counts. */
    if (c->n > MAX_OUTPUT_BYTES) {
        memmove(c->text, c->text + c->n / 2, c->n - c->n / 2);
        c->n -= c->n / 2;
    }
    if (!make_room(c))
        return tdm_error_add(f->err, TDM_E_INTERNAL, "sweep: out of memory");
    ssize_t n = read(c->pipe, c->text + c->n, c->capacity - c->n);
    if (n > 0)
        c->n += (size_t)n;
    return n == 0 || (n < 0 && errno != EINTR) ? finish_child(f, c) : TDM_OK;
}

static void end_late_children(farm *f)
{
    double now_s = tdm_sweep_clock_s();
    for (uint32_t i = 0; i < f->sweep->n_jobs; i++) {
        child *c = &f->children[i];
        if (c->pid && !c->late && now_s > c->deadline_s) {
            c->late = true;
            kill(-c->pid, SIGKILL);
        }
    }
}

/* Milliseconds to wait at most: to the next deadline or the next look at the progress. */
static int wait_ms(const farm *f)
{
    double now_s = tdm_sweep_clock_s(),
           wait_s = 1e-3 * (f->sweep->share.world ? SHARED_TICK_MS : TICK_MS);
    for (uint32_t i = 0; i < f->sweep->n_jobs; i++) {
        const child *c = &f->children[i];
        if (c->pid && !c->late && c->deadline_s - now_s < wait_s)
            wait_s = c->deadline_s - now_s;
    }
    return wait_s > 0 ? (int)(1e3 * wait_s) + 1 : 0;
}

/* Waits for children and signals, and takes what they have. */
static tdm_code wait_some(farm *f, struct pollfd *fds, child **of, int *signal_number)
{
    nfds_t n = 1;
    tdm_code code = TDM_OK;
    fds[0] = (struct pollfd){.fd = f->signals, .events = POLLIN};
    for (uint32_t i = 0; i < f->sweep->n_jobs; i++)
        if (f->children[i].pid) {
            of[n] = &f->children[i];
            fds[n++] = (struct pollfd){.fd = f->children[i].pipe, .events = POLLIN};
        }
    if (poll(fds, n, wait_ms(f)) < 0)
        return errno == EINTR
                   ? TDM_OK
                   : tdm_error_add(f->err, TDM_E_INTERNAL, "sweep: poll: %s", strerror(errno));
    struct signalfd_siginfo info;
    if (fds[0].revents && read(f->signals, &info, sizeof info) == (ssize_t)sizeof info)
        *signal_number = (int)info.ssi_signo;
    for (nfds_t i = 1; i < n && code == TDM_OK; i++)
        if (fds[i].revents)
            code = read_child(f, of[i]);
    end_late_children(f);
    return code;
}

static bool is_busy(const farm *f, uint32_t next)
{
    bool some = !tdm_sweep_share_works(&f->sweep->share) && next < f->sweep->grid.n_points;
    return some || f->n_running > 0 || !tdm_sweep_share_is_over(&f->sweep->share);
}

/* As many as there is room for; and points for other processes, or from process 0. */
static tdm_code start_children(farm *f, uint32_t *next, int *signal_number)
{
    tdm_sweep *sweep = f->sweep;
    if (!tdm_sweep_share_works(&sweep->share)) {
        tdm_code code = TDM_OK;
        while (code == TDM_OK && f->n_running < sweep->n_jobs && *next < sweep->grid.n_points)
            code = start_child(f, (*next)++);
        if (code == TDM_OK)
            code = tdm_sweep_share_serve(&sweep->share, next, sweep->grid.n_points, take_shared, f,
                                         signal_number, f->err);
        return code;
    }
    uint32_t point = UINT32_MAX;
    tdm_code code =
        tdm_sweep_share_ask(&sweep->share, f->n_running < sweep->n_jobs, &point, f->err);
    return code == TDM_OK && point != UINT32_MAX ? start_child(f, point) : code;
}

static tdm_code work(farm *f, int *signal_number)
{
    tdm_sweep *sweep = f->sweep;
    uint32_t next = 0;
    tdm_code code = TDM_OK;
    struct pollfd *fds = TDM_ALLOC(f->arena, struct pollfd, sweep->n_jobs + 1);
    child **of = TDM_ALLOC(f->arena, child *, sweep->n_jobs + 1);
    while (code == TDM_OK && !*signal_number && is_busy(f, next)) {
        code = start_children(f, &next, signal_number);
        if (code == TDM_OK)
            code = wait_some(f, fds, of, signal_number);
        tdm_code synced = tdm_sweep_journal_sync(&sweep->journal, f->err);
        code = code == TDM_OK ? synced : code;
        tdm_sweep_progress_show(&f->progress);
    }
    return code;
}

static void end_all(farm *f)
{
    for (uint32_t i = 0; i < f->sweep->n_jobs; i++) {
        child *c = &f->children[i];
        if (c->pid) {
            kill(-c->pid, SIGKILL);
            kill(c->pid, SIGKILL); /* its group may not be there yet */
            reap(f, c);
        }
        free(c->text);
    }
}

tdm_code tdm_sweep_farm(tdm_arena *arena, tdm_sweep *sweep, int *signal, tdm_error *err)
{
    farm f = {.arena = arena, .sweep = sweep, .err = err};
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGHUP);
    sigprocmask(SIG_BLOCK, &wanted, &f.old_mask);
    f.signals = signalfd(-1, &wanted, SFD_CLOEXEC);
    if (f.signals < 0)
        return tdm_error_add(err, TDM_E_INTERNAL, "sweep: signalfd: %s", strerror(errno));
    f.children = TDM_ALLOC(arena, child, sweep->n_jobs);
    sweep->rows = TDM_ALLOC(arena, tdm_sweep_row, sweep->grid.n_points);
    *signal = 0;
    tdm_sweep_progress_start(&f.progress, sweep->grid.n_points,
                             sweep->quiet || tdm_sweep_share_works(&sweep->share));
    tdm_code code = work(&f, signal);
    if (code == TDM_OK && *signal && tdm_sweep_share_works(&sweep->share))
        code = tdm_sweep_share_interrupt(&sweep->share, *signal, err);
    end_all(&f);
    tdm_sweep_progress_clear(&f.progress);
    close(f.signals);
    sigprocmask(SIG_SETMASK, &f.old_mask, NULL);
    return code;
}
