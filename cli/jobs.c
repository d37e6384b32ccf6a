/* jobs.c: workers take the next number until none is left; results come back through shared memory,
 * news of them through a pipe that closes with the last worker. */
#include "jobs.h"

#include "sim/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 1024, TICK_MS = 100, MAX_WORKERS = 256 };

/* One computation, in shared memory. */
typedef struct slot {
    bool begun, done;
    tdm_code code;
    char message[MESSAGE_BYTES];
} slot;

typedef struct shared {
    atomic_uint next;
    slot slots[];
} shared;

typedef struct crew {
    const tdm_jobs *jobs;
    shared *shared;
    unsigned char *results; /* [n][result_bytes], shared as well */
    uint32_t n_workers;
    pid_t workers[MAX_WORKERS];
    int news[2];
} crew;

uint32_t tdm_jobs_default(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > MAX_WORKERS ? MAX_WORKERS : (uint32_t)n;
}

static void compute(const crew *c, uint32_t i, tdm_error *err)
{
    tdm_arena arena = {0};
    slot *s = &c->shared->slots[i];
    s->begun = true;
    *err = (tdm_error){0};
    s->code =
        c->jobs->work(&arena, c->jobs->context, i, c->results + i * c->jobs->result_bytes, err);
    snprintf(s->message, sizeof s->message, "%.*s", (int)strcspn(err->text, "\n"), err->text);
    s->done = true;
    tdm_arena_free(&arena);
}

static _Noreturn void work(const crew *c, pid_t parent)
{
    const struct rlimit no_core = {0, 0};
    tdm_arena arena = {0};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1); /* it died in between */
    for (uint32_t i; (i = atomic_fetch_add(&c->shared->next, 1)) < c->jobs->n;) {
        compute(c, i, err);
        if (write(c->news[1], "", 1) != 1)
            _exit(1);
    }
    _exit(0);
}

static tdm_code start(crew *c, tdm_error *err)
{
    const tdm_jobs *jobs = c->jobs;
    uint32_t wanted = jobs->n_parallel < jobs->n ? jobs->n_parallel : jobs->n;
    wanted = wanted < MAX_WORKERS ? wanted : MAX_WORKERS;
    pid_t parent = getpid();
    while (c->n_workers < wanted) {
        pid_t pid = fork();
        if (pid == 0)
            work(c, parent);
        if (pid < 0 && c->n_workers == 0)
            return tdm_error_add(err, TDM_E_INTERNAL, "fork: %s", strerror(errno));
        if (pid < 0)
            break; /* fewer do it as well */
        c->workers[c->n_workers++] = pid;
    }
    return TDM_OK;
}

/* Until the last worker has closed its end of the pipe. */
static void watch(const crew *c)
{
    bool terminal = !c->jobs->quiet && isatty(STDERR_FILENO), shown = false;
    uint32_t n_done = 0;
    struct pollfd news = {.fd = c->news[0], .events = POLLIN};
    for (;;) {
        char bytes[256];
        int n_ready = poll(&news, 1, TICK_MS);
        ssize_t n = n_ready > 0 ? read(c->news[0], bytes, sizeof bytes) : -1;
        n_done += n > 0 ? (uint32_t)n : 0;
        if (n == 0 || (n_ready < 0 && errno != EINTR))
            break;
        if (!terminal || (n_ready > 0 && !shown))
            continue; /* what is over within a tick shows nothing */
        fprintf(stderr, "\r%s %u of %u", c->jobs->what, n_done, c->jobs->n);
        shown = true;
    }
    if (shown)
        fprintf(stderr, "\r%*s\r", 60, "");
}

/* The signal that ended a worker, 0 for none. */
static int reap(const crew *c)
{
    int signal_number = 0;
    for (uint32_t i = 0; i < c->n_workers; i++) {
        int status = 0;
        while (waitpid(c->workers[i], &status, 0) < 0 && errno == EINTR)
            continue;
        signal_number = WIFSIGNALED(status) ? WTERMSIG(status) : signal_number;
    }
    return signal_number;
}

static tdm_code judge(const crew *c, int signal_number, tdm_error *err)
{
    for (uint32_t i = 0; i < c->jobs->n; i++) {
        const slot *s = &c->shared->slots[i];
        if (s->done && s->code != TDM_OK)
            return tdm_error_add(err, s->code, "%s %u: %s", c->jobs->what, i + 1, s->message);
        if (s->begun && !s->done)
            return tdm_error_add(err, TDM_E_INTERNAL, "%s %u: its process died, signal %d",
                                 c->jobs->what, i + 1, signal_number);
    }
    for (uint32_t i = 0; i < c->jobs->n; i++)
        if (!c->shared->slots[i].done)
            return tdm_error_add(err, TDM_E_INTERNAL, "%s %u: no process computed it",
                                 c->jobs->what, i + 1);
    return TDM_OK;
}

static tdm_code run(crew *c, tdm_error *err)
{
    if (pipe(c->news) != 0)
        return tdm_error_add(err, TDM_E_INTERNAL, "pipe: %s", strerror(errno));
    tdm_code code = start(c, err);
    close(c->news[1]);
    if (code == TDM_OK) {
        watch(c);
        code = judge(c, reap(c), err);
    }
    close(c->news[0]);
    return code;
}

tdm_code tdm_jobs_run(const tdm_jobs *jobs, void *results, tdm_error *err)
{
    size_t slots_bytes = sizeof(shared) + jobs->n * sizeof(slot);
    size_t results_bytes = jobs->n * jobs->result_bytes;
    if (jobs->n == 0)
        return TDM_OK;
    crew c = {.jobs = jobs,
              .shared = tdm_child_memory_new(slots_bytes),
              .results = tdm_child_memory_new(results_bytes)};
    tdm_code code = c.shared && c.results
                        ? run(&c, err)
                        : tdm_error_add(err, TDM_E_INTERNAL, "no memory for %u results", jobs->n);
    if (code == TDM_OK)
        memcpy(results, c.results, results_bytes);
    tdm_child_memory_free(c.shared, slots_bytes);
    tdm_child_memory_free(c.results, results_bytes);
    return code;
}
