/* clocks.c: what is certain to have ended before what: vector clocks of streams, and faults. */
#include "parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

pthread_mutex_t cuda_double_lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
    bool taken[MAX_SLOTS];
    uint32_t number[MAX_SLOTS], n_used;
    vector_clock host;
    unsigned n_faults;
    char text[4096];
    size_t length;
} all;

void clock_join(vector_clock *clock, const vector_clock *other)
{
    for (uint32_t i = 0; i < all.n_used; i++)
        if (other->at[i] > clock->at[i])
            clock->at[i] = other->at[i];
}

uint32_t slot_take(uint32_t *number)
{
    uint32_t slot = 0;
    while (slot < MAX_SLOTS && all.taken[slot])
        slot++;
    if (slot == MAX_SLOTS) {
        fprintf(stderr, "cuda double: more than %d streams at once\n", MAX_SLOTS);
        abort();
    }
    all.taken[slot] = true;
    all.n_used = slot >= all.n_used ? slot + 1 : all.n_used;
    *number = all.number[slot];
    return slot;
}

void slot_give(uint32_t slot, uint32_t number)
{
    all.taken[slot] = false;
    all.number[slot] = number;
}

void host_learns(const vector_clock *clock)
{
    clock_join(&all.host, clock);
}

void host_knows(vector_clock *clock)
{
    memcpy(clock, &all.host, all.n_used * sizeof clock->at[0]);
    memset(clock->at + all.n_used, 0, (MAX_SLOTS - all.n_used) * sizeof clock->at[0]);
}

/* ---- clocks that others hand on ---- */

struct cuda_double_clock {
    vector_clock clock;
};

cuda_double_clock *cuda_double_clock_new(void)
{
    return calloc(1, sizeof(cuda_double_clock));
}

void cuda_double_clock_free(cuda_double_clock *clock)
{
    free(clock);
}

/* The operation counts as ended for whoever learns of it. */
void cuda_double_publish(cuda_double_clock *clock)
{
    const operation *op = operation_now();
    pthread_mutex_lock(&cuda_double_lock);
    clock_join(&clock->clock, op->clock);
    pthread_mutex_unlock(&cuda_double_lock);
}

void cuda_double_learn(const cuda_double_clock *clock)
{
    operation *op = operation_now();
    pthread_mutex_lock(&cuda_double_lock);
    clock_join(op->clock, &clock->clock);
    pthread_mutex_unlock(&cuda_double_lock);
}

/* ---- faults ---- */

void cuda_double_fault(const char *format, ...)
{
    enum { MOST_PRINTED = 20 };
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    pthread_mutex_lock(&cuda_double_lock);
    if (all.n_faults++ < MOST_PRINTED) {
        fprintf(stderr, "cuda double: %s\n", line);
        int n = snprintf(all.text + all.length, sizeof all.text - all.length, "%s\n", line);
        all.length += (size_t)n;
        if (all.length >= sizeof all.text)
            all.length = sizeof all.text - 1;
    }
    pthread_mutex_unlock(&cuda_double_lock);
}

bool fault_pending(void)
{
    pthread_mutex_lock(&cuda_double_lock);
    bool pending = all.n_faults > 0;
    pthread_mutex_unlock(&cuda_double_lock);
    return pending;
}

unsigned cuda_double_faults(char *text, size_t size)
{
    pthread_mutex_lock(&cuda_double_lock);
    unsigned n = all.n_faults;
    if (text && size > 0)
        snprintf(text, size, "%s", all.text);
    all.n_faults = 0;
    all.length = 0;
    all.text[0] = '\0';
    pthread_mutex_unlock(&cuda_double_lock);
    return n;
}
