/* switch.h: from one stack to another. */
#ifndef CUDA_DOUBLE_SWITCH_H
#define CUDA_DOUBLE_SWITCH_H

#include <stddef.h>

/* A stack on which body(argument) begins when first switched to; body does not return. */
void *cuda_double_stack(char *stack, size_t bytes, void (*body)(void *argument), void *argument);
/* Goes on where `to` was left, and leaves this stack in *from. */
void cuda_double_switch(void **from, void *to);

#endif
