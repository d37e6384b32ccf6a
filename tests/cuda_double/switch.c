/* switch.c: stacks by ucontext, on any machine; switch_x86_64.S is twenty times as fast. */
#include "switch.h"

#include <stdint.h>
#include <ucontext.h>

typedef struct start {
    ucontext_t context;
    void (*body)(void *argument);
    void *argument;
} start;

static void begin(unsigned high, unsigned low)
{
    const start *s = (const start *)(((uintptr_t)high << 31 << 1) | low);
    s->body(s->argument);
}

/* A stack pointer is the address of a context, which lies on top of its stack. */
void *cuda_double_stack(char *stack, size_t bytes, void (*body)(void *argument), void *argument)
{
    size_t room = (sizeof(start) + 63) / 64 * 64;
    start *s = (start *)(void *)(stack + bytes - room);
    getcontext(&s->context);
    s->context.uc_stack.ss_sp = stack;
    s->context.uc_stack.ss_size = bytes - room;
    s->context.uc_link = NULL;
    s->body = body;
    s->argument = argument;
    uintptr_t at = (uintptr_t)s;
    makecontext(&s->context, (void (*)(void))begin, 2, (unsigned)(at >> 31 >> 1), (unsigned)at);
    return &s->context;
}

void cuda_double_switch(void **from, void *to)
{
    ucontext_t here;
    *from = &here;
    swapcontext(&here, to);
}
