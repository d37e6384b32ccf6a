/* executor_parts.h: what the two ways of carrying out a step share. On devices that compute when
 * they are told to, every stream of a rank is a thread that waits and computes
 * (executor_threads.c); on devices whose work is queued the rank's host thread walks the program
 * and puts each op on its stream (executor_queue.c). Private to executor*.c. */
#ifndef TDM_EXECUTOR_PARTS_H
#define TDM_EXECUTOR_PARTS_H

#include "executor.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct executor executor;

typedef struct exec_rank {
    executor *e;
    uint32_t rank;
    const tdm_program *program;
    tdm_span *spans; /* of the step */
    tdm_exec_memory *memory;
} exec_rank;

typedef struct exec_way {
    /* What is kept for all steps. */
    tdm_code (*open)(tdm_arena *arena, executor *e, tdm_error *err);
    /* Starts the threads of a step; they wait at the gate. False: this machine allows no more. */
    bool (*start)(executor *e);
    /* After a failure: whoever waits gives up. */
    void (*wake)(executor *e);
    void (*join)(executor *e);
    void (*close)(executor *e);
} exec_way;

extern const exec_way exec_threads, exec_queue;

struct executor {
    const tdm_exec_job *job;
    const exec_way *way;
    void *of_way;     /* what the way keeps */
    exec_rank *ranks; /* [n_ranks] */
    uint32_t n_ranks, step;
    tdm_exec_clock clock;
    pthread_attr_t attributes;
    pthread_mutex_t gate_mutex;
    pthread_cond_t gate;
    bool open; /* the step has begun */
    bool rehearses;
    atomic_bool failed;
    atomic_bool hangs; /* the device does not end what it was given */
    pthread_mutex_t error_mutex;
    tdm_code code;
    tdm_error *err;
};

/* Keeps the first failure and ends all threads. what NULL: there was no memory to say. */
void exec_fail(executor *e, tdm_code code, const tdm_error *what);

/* Waits for the step to begin. */
void exec_await_gate(executor *e);

#endif
