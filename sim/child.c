/* child.c: one child process: fork, discard or keep what it prints, wait, explain how it died. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, strsignal */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* What is kept of the child's last words. */
enum { N_TAIL_BYTES = 8000, N_TAIL_LINES = 6 };

void *tdm_child_memory_new(size_t n_bytes)
{
    void *memory = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void tdm_child_memory_free(void *memory, size_t n_bytes)
{
    if (memory)
        munmap(memory, n_bytes);
}

_Noreturn void tdm_child_exit(void)
{
    /* Not exit(): the parent's buffers and exit handlers are none of the child's business. */
    _exit(0);
}

static _Noreturn void child_main(pid_t parent, int error_pipe, void (*work)(void *context),
                                 void *context)
{
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    /* Nobody waits for the result of a parent that was killed, possibly before this line. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
        dup2(error_pipe, STDERR_FILENO) < 0)
        _exit(1);
    close(error_pipe);
    close(null);
    work(context);
    tdm_child_exit();
}

/* Reads to the end; tail holds the last of it. */
static void read_tail(int fd, char *tail)
{
    size_t length = 0;
    for (;;) {
        char buffer[N_TAIL_BYTES];
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        size_t new = (size_t)n;
        size_t keep = length + new > N_TAIL_BYTES ? N_TAIL_BYTES - new : length;
        memmove(tail, tail + length - keep, keep);
        memcpy(tail + keep, buffer, new);
        length = keep + new;
    }
    tail[length] = '\0';
}

/* Lines of the backtraces that SimGrid prints when it aborts: addresses that push its reason out of
 * sight. */
static bool is_backtrace(const char *line)
{
    return strncmp(line, "Backtrace ", 10) == 0 || strncmp(line, "  -> ", 5) == 0;
}

/* The last lines of tail that say something. */
static const char *last_lines(char *tail)
{
    char *end = tail;
    bool more = true;
    for (char *line = tail; more;) {
        size_t length = strcspn(line, "\n");
        more = line[length] == '\n';
        if (length > 0 && !is_backtrace(line)) {
            memmove(end, line, length);
            end += length;
            *end++ = '\n';
        }
        line += length + 1;
    }
    if (end == tail)
        return "";
    end[-1] = '\0';
    unsigned n_lines = 0;
    for (char *c = end - 1; c > tail; c--)
        if (c[-1] == '\n' && ++n_lines == N_TAIL_LINES)
            return c;
    return tail;
}

static tdm_code explain_death(int status, char *tail, const char *what, tdm_error *err)
{
    char how[128];
    if (WIFSIGNALED(status))
        snprintf(how, sizeof how, "was killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(how, sizeof how, "ended early with exit code %d", WEXITSTATUS(status));
    const char *words = last_lines(tail);
    if (*words == '\0')
        return tdm_error_add(err, TDM_E_INTERNAL, "%s %s and wrote nothing", what, how);
    return tdm_error_add(err, TDM_E_INTERNAL, "%s %s; its last words:\n%s", what, how, words);
}

tdm_code tdm_child_run(void (*work)(void *context), void *context, const char *what, tdm_error *err)
{
    int ends[2];
    if (pipe(ends) != 0)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: pipe: %s", what, strerror(errno));
    pid_t parent = getpid(), child = fork();
    if (child < 0) {
        int code = errno;
        close(ends[0]);
        close(ends[1]);
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: fork: %s", what, strerror(code));
    }
    if (child == 0) {
        close(ends[0]);
        child_main(parent, ends[1], work, context);
    }
    close(ends[1]);
    char tail[N_TAIL_BYTES + 2]; /* room to end the last line */
    read_tail(ends[0], tail);
    close(ends[0]);
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return tdm_error_add(err, TDM_E_INTERNAL, "%s: waitpid: %s", what, strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return TDM_OK;
    return explain_death(status, tail, what, err);
}
