/* machine.c: see machine.h. Every figure is the median of several trials: other programs disturb
 * some of them. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "machine.h"

#include "../executor.h"
#include "blas_api.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, by_size);
    return n > 0 ? values[n / 2] : 0;
}

uint32_t tdm_host_n_cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    return n > 0 ? (uint32_t)n : 1;
}

/* ---- load by others ---- */

tdm_host_reading tdm_host_read_load(void)
{
    tdm_host_reading reading = {.wall_s = now_s()};
    struct rusage own;
    double user = 0, nice_ = 0, system = 0, ticks = (double)sysconf(_SC_CLK_TCK);
    FILE *file = fopen("/proc/stat", "r");
    if (file && fscanf(file, "cpu %lf %lf %lf", &user, &nice_, &system) == 3)
        reading.busy_s = (user + nice_ + system) / ticks;
    if (file)
        fclose(file);
    getrusage(RUSAGE_SELF, &own);
    reading.own_s = (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
                    1e-6 * (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec);
    return reading;
}

double tdm_host_other_load(const tdm_host_reading *before, const tdm_host_reading *after)
{
    double wall_s = (after->wall_s - before->wall_s) * (double)sysconf(_SC_NPROCESSORS_ONLN);
    double others_s = (after->busy_s - before->busy_s) - (after->own_s - before->own_s);
    return wall_s > 0 && others_s > 0 && after->busy_s > 0 ? others_s / wall_s : 0;
}

/* ---- threads that begin together ---- */

typedef struct crew {
    void (*work)(void *context, uint32_t index);
    void *context;
    uint32_t n;
    pthread_barrier_t begin;
} crew;

typedef struct hand {
    crew *crew;
    uint32_t index;
    pthread_t thread;
    double from_s, to_s;
} hand;

static void *hand_main(void *argument)
{
    hand *h = argument;
    pthread_barrier_wait(&h->crew->begin);
    h->from_s = now_s();
    h->crew->work(h->crew->context, h->index);
    h->to_s = now_s();
    return NULL;
}

/* Seconds from the first's beginning to the last's end; negative: no threads. */
static double run_crew(uint32_t n, void (*work)(void *context, uint32_t index), void *context)
{
    crew c = {.work = work, .context = context, .n = n};
    hand *hands = calloc(n, sizeof *hands);
    if (!hands)
        return -1;
    pthread_barrier_init(&c.begin, NULL, n);
    for (uint32_t i = 0; i < n; i++) {
        hands[i] = (hand){.crew = &c, .index = i};
        if (pthread_create(&hands[i].thread, NULL, hand_main, &hands[i]) != 0)
            abort(); /* those that wait already would wait for ever */
    }
    double from_s = 0, to_s = 0;
    for (uint32_t i = 0; i < n; i++) {
        pthread_join(hands[i].thread, NULL);
        from_s = i == 0 || hands[i].from_s < from_s ? hands[i].from_s : from_s;
        to_s = hands[i].to_s > to_s ? hands[i].to_s : to_s;
    }
    pthread_barrier_destroy(&c.begin);
    free(hands);
    return to_s - from_s;
}

/* ---- meetings, as transports have them ---- */

enum { GROUPS = 4, MEMBERS = 4 };

typedef struct meeting {
    pthread_mutex_t mutex;
    pthread_cond_t all_here;
    uint32_t n_here, n_members;
    uint64_t n_met;
} meeting;

typedef struct meetings {
    meeting groups[GROUPS];
    uint32_t rounds;
} meetings;

static void meet(meeting *m)
{
    pthread_mutex_lock(&m->mutex);
    uint64_t number = m->n_met;
    if (++m->n_here == m->n_members) {
        m->n_here = 0;
        m->n_met++;
        pthread_cond_broadcast(&m->all_here);
    }
    while (m->n_met == number)
        pthread_cond_wait(&m->all_here, &m->mutex);
    pthread_mutex_unlock(&m->mutex);
}

static void meet_often(void *context, uint32_t index)
{
    meetings *all = context;
    for (uint32_t i = 0; i < all->rounds; i++)
        meet(&all->groups[index % GROUPS]);
}

/* Seconds of so many rounds of meetings of n_groups groups. */
static double time_meetings(uint32_t n_groups, uint32_t n_members, uint32_t rounds)
{
    meetings all = {.rounds = rounds};
    for (uint32_t i = 0; i < GROUPS; i++) {
        all.groups[i].n_members = n_members;
        pthread_mutex_init(&all.groups[i].mutex, NULL);
        pthread_cond_init(&all.groups[i].all_here, NULL);
    }
    double seconds = run_crew(n_groups * n_members, meet_often, &all);
    for (uint32_t i = 0; i < GROUPS; i++) {
        pthread_cond_destroy(&all.groups[i].all_here);
        pthread_mutex_destroy(&all.groups[i].mutex);
    }
    return seconds;
}

/* More threads than cores: who lets the others go on, and who goes on, take turns on the cores. */
static double measure_switch(uint32_t n_cores, uint32_t rounds, uint32_t trials)
{
    double values[16];
    for (uint32_t i = 0; i < trials; i++)
        values[i] = time_meetings(GROUPS, MEMBERS, rounds) * n_cores /
                    ((double)rounds * GROUPS * (MEMBERS - 1));
    return median(values, trials);
}

typedef struct ping {
    meeting ball;
    uint32_t rounds;
    atomic_uint turn;
} ping;

/* Two threads hand each other a ball: one sleeps while the other has it. */
static void play(void *context, uint32_t index)
{
    ping *p = context;
    for (uint32_t i = 0; i < p->rounds; i++) {
        pthread_mutex_lock(&p->ball.mutex);
        while (atomic_load(&p->turn) % 2 != index)
            pthread_cond_wait(&p->ball.all_here, &p->ball.mutex);
        atomic_fetch_add(&p->turn, 1);
        pthread_cond_signal(&p->ball.all_here);
        pthread_mutex_unlock(&p->ball.mutex);
    }
}

static double measure_wake(uint32_t rounds, uint32_t trials)
{
    double values[16];
    for (uint32_t i = 0; i < trials; i++) {
        ping p = {.rounds = rounds};
        atomic_init(&p.turn, 0);
        pthread_mutex_init(&p.ball.mutex, NULL);
        pthread_cond_init(&p.ball.all_here, NULL);
        values[i] = run_crew(2, play, &p) / (2.0 * rounds);
        pthread_cond_destroy(&p.ball.all_here);
        pthread_mutex_destroy(&p.ball.mutex);
    }
    return median(values, trials);
}

/* Locking, counting and signalling where nobody waits, as the thread does that issues ops. */
static double measure_issue(uint32_t trials)
{
    enum { N = 20000 };
    double values[16];
    meeting m = {0};
    pthread_mutex_init(&m.mutex, NULL);
    pthread_cond_init(&m.all_here, NULL);
    for (uint32_t i = 0; i < trials; i++) {
        double from_s = now_s();
        for (uint32_t k = 0; k < N; k++) {
            pthread_mutex_lock(&m.mutex);
            m.n_met++;
            pthread_cond_signal(&m.all_here);
            pthread_mutex_unlock(&m.mutex);
        }
        values[i] = (now_s() - from_s) / N;
    }
    pthread_cond_destroy(&m.all_here);
    pthread_mutex_destroy(&m.mutex);
    return median(values, trials);
}

/* ---- slices ---- */

/* How long Linux spares a thread from others that wake up. Source: Linux 6.18, kernel/sched/fair.c,
 * sysctl_sched_base_slice; by runs of many ranks here it fits without its scaling by cores. */
static const double BASE_SLICE_S = 0.7e-3;

typedef struct spin {
    double until_s;
    double stretches[256];
    atomic_uint n;
} spin;

/* Looks at the clock all the time: a gap is a time without a core. */
static void spin_on(void *context, uint32_t index)
{
    (void)index;
    static const double GAP_S = 1e-4;
    spin *s = context;
    double from_s = now_s(), last_s = from_s;
    while (last_s < s->until_s) {
        double at_s = now_s();
        if (at_s - last_s > GAP_S) {
            unsigned i = atomic_fetch_add(&s->n, 1);
            if (i < TDM_COUNT(s->stretches))
                s->stretches[i] = last_s - from_s;
            from_s = at_s;
        }
        last_s = at_s;
    }
}

static double measure_slice(uint32_t n_cores, double seconds)
{
    static const double LINUX_S = 3e-3; /* a usual base slice, where there was no gap */
    spin *s = calloc(1, sizeof *s);
    if (!s)
        return LINUX_S;
    s->until_s = now_s() + seconds;
    run_crew(2 * n_cores, spin_on, s);
    unsigned n = atomic_load(&s->n);
    n = n < TDM_COUNT(s->stretches) ? n : (unsigned)TDM_COUNT(s->stretches);
    double slice_s = n > 0 ? median(s->stretches, n) : LINUX_S;
    free(s);
    return slice_s;
}

/* ---- bytes and products, on all cores at once ---- */

/* Buffers of 128 KiB, more than the caches next to a core hold: what a rank communicates was
 * written by another. */
enum { BUFFER_FLOATS = 32 * 1024, BUFFERS = 64, PRODUCT = 384 };

typedef struct data {
    const host_blas *blas;
    float *numbers; /* of each core: BUFFERS buffers, or three matrices */
    size_t per_core;
    uint32_t rounds;
} data;

static float *buffer(const data *d, uint32_t core, uint32_t i)
{
    return d->numbers + core * d->per_core + (size_t)(i % BUFFERS) * BUFFER_FLOATS;
}

static void copy_all(void *context, uint32_t core)
{
    const data *d = context;
    for (uint32_t i = 0; i < d->rounds; i++)
        memcpy(buffer(d, core, 2 * i), buffer(d, core, 2 * i + 1), BUFFER_FLOATS * sizeof(float));
}

static void add_all(void *context, uint32_t core)
{
    const data *d = context;
    for (uint32_t r = 0; r < d->rounds; r++) {
        const float *const in[MEMBERS] = {buffer(d, core, 5 * r), buffer(d, core, 5 * r + 1),
                                          buffer(d, core, 5 * r + 2), buffer(d, core, 5 * r + 3)};
        float *const out = buffer(d, core, 5 * r + 4);
        tdm_exec_reduce(in, MEMBERS, BUFFER_FLOATS, false, &out, 1);
    }
}

static void multiply_all(void *context, uint32_t core)
{
    const data *d = context;
    const size_t n = (size_t)PRODUCT * PRODUCT;
    float *a = d->numbers + core * d->per_core;
    for (uint32_t i = 0; i < d->rounds; i++)
        d->blas->sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, PRODUCT, PRODUCT, PRODUCT, 1, a,
                       PRODUCT, a + n, PRODUCT, 0, a + 2 * n, PRODUCT);
}

/* Work a second and core, of `work` in each round. */
static double measure_rate(data *d, uint32_t n_cores, uint32_t trials, uint32_t rounds, double work,
                           void (*run)(void *context, uint32_t core))
{
    double values[16];
    d->rounds = rounds;
    for (uint32_t i = 0; i < trials; i++) {
        double seconds = run_crew(n_cores, run, d);
        values[i] = seconds > 0 ? work * rounds / seconds : 0;
    }
    return median(values, trials);
}

/* ---- all of it ---- */

static const char *cpu_name(tdm_arena *arena)
{
    char line[512];
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", strlen("model name")) != 0 || !colon)
            continue;
        fclose(file);
        line[strcspn(line, "\n")] = '\0';
        return tdm_arena_printf(arena, "%s", colon + 1 + strspn(colon + 1, " "));
    }
    if (file)
        fclose(file);
    return "a processor";
}

tdm_code tdm_host_measure(tdm_arena *arena, bool quick, tdm_host_machine *machine, tdm_error *err)
{
    char problem[256];
    const host_blas *blas = host_blas_open(problem, sizeof problem);
    if (!blas)
        return tdm_error_add(err, TDM_E_INVALID, "%s", problem);
    uint32_t n = tdm_host_n_cores(), trials = quick ? 3 : 9;
    data d = {.blas = blas, .per_core = (size_t)BUFFERS * BUFFER_FLOATS};
    if (d.per_core < 3 * (size_t)PRODUCT * PRODUCT)
        d.per_core = 3 * (size_t)PRODUCT * PRODUCT;
    d.numbers = calloc(n * d.per_core, sizeof *d.numbers);
    if (!d.numbers)
        return tdm_error_add(err, TDM_E_INTERNAL, "out of memory");
    blas->set_num_threads(1);
    tdm_host_reading before = tdm_host_read_load();
    const double buffer_bytes = BUFFER_FLOATS * sizeof(float);
    *machine = (tdm_host_machine){
        .cpu = cpu_name(arena),
        .memory_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE),
        .issue_s = measure_issue(trials),
        .cores = {.n_cores = n,
                  .hold_s = BASE_SLICE_S,
                  .slice_s = measure_slice(n, quick ? 0.1 : 0.4),
                  .switch_s = measure_switch(n, quick ? 300 : 1000, trials),
                  .wake_s = measure_wake(quick ? 300 : 1000, trials),
                  .copy_bytes_per_s = measure_rate(&d, n, trials, 400, buffer_bytes, copy_all),
                  .reduce_bytes_per_s =
                      measure_rate(&d, n, trials, 100, MEMBERS * buffer_bytes, add_all)},
        .peak_flops_per_s = measure_rate(&d, n, trials, quick ? 4 : 12,
                                         2.0 * PRODUCT * PRODUCT * PRODUCT, multiply_all)};
    tdm_host_reading after = tdm_host_read_load();
    machine->other_load = tdm_host_other_load(&before, &after);
    free(d.numbers);
    return TDM_OK;
}
