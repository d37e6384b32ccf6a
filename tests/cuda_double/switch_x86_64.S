/* switch_x86_64.S: what switch.h says, after the System V calling convention: six registers and the
 * stack pointer are all that a call preserves. */
    .text
    .globl cuda_double_switch
    .type cuda_double_switch, @function
cuda_double_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size cuda_double_switch, . - cuda_double_switch

/* The first switch to a stack comes here, with body in r12 and its argument in r13. */
    .type begin, @function
begin:
    movq %r13, %rdi
    callq *%r12
    ud2
    .size begin, . - begin

    .globl cuda_double_stack
    .type cuda_double_stack, @function
cuda_double_stack:
    leaq -72(%rdi,%rsi), %rax
    movq $0, 0(%rax)
    movq $0, 8(%rax)
    movq %rcx, 16(%rax)
    movq %rdx, 24(%rax)
    movq $0, 32(%rax)
    movq $0, 40(%rax)
    leaq begin(%rip), %rdx
    movq %rdx, 48(%rax)
    ret
    .size cuda_double_stack, . - cuda_double_stack
    .section .note.GNU-stack, "", @progbits
