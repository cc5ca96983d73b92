/* Trampolines in place of CUDA's libraries: every function jumps to the address in its entry. As long as that is empty,
 * the call goes through vaeanomaly_cuda_find (find.c), all of its arguments kept.
 *
 * An entry is `struct entry` of find.c: address, name, library. Symbols are hidden: other plugins of the process, such
 * as those that look CUDA up themselves, do not see them. */

#if defined(__x86_64__)

.macro lazy_jump name
    movq    entry_\name(%rip), %r11
    testq   %r11, %r11
    jz      1f
    jmp     *%r11
1:  leaq    entry_\name(%rip), %r11
    jmp     find_then_jump
.endm

.text
find_then_jump:
    pushq   %rbp
    movq    %rsp, %rbp
    /* Six integer and eight floating point arguments; what lies on the stack stays there. */
    subq    $192, %rsp
    movq    %rdi, 0(%rsp)
    movq    %rsi, 8(%rsp)
    movq    %rdx, 16(%rsp)
    movq    %rcx, 24(%rsp)
    movq    %r8, 32(%rsp)
    movq    %r9, 40(%rsp)
    movups  %xmm0, 48(%rsp)
    movups  %xmm1, 64(%rsp)
    movups  %xmm2, 80(%rsp)
    movups  %xmm3, 96(%rsp)
    movups  %xmm4, 112(%rsp)
    movups  %xmm5, 128(%rsp)
    movups  %xmm6, 144(%rsp)
    movups  %xmm7, 160(%rsp)
    movq    %r11, %rdi
    call    vaeanomaly_cuda_find
    movq    %rax, %r11
    movq    0(%rsp), %rdi
    movq    8(%rsp), %rsi
    movq    16(%rsp), %rdx
    movq    24(%rsp), %rcx
    movq    32(%rsp), %r8
    movq    40(%rsp), %r9
    movups  48(%rsp), %xmm0
    movups  64(%rsp), %xmm1
    movups  80(%rsp), %xmm2
    movups  96(%rsp), %xmm3
    movups  112(%rsp), %xmm4
    movups  128(%rsp), %xmm5
    movups  144(%rsp), %xmm6
    movups  160(%rsp), %xmm7
    leave
    jmp     *%r11

#elif defined(__aarch64__)

.macro lazy_jump name
    adrp    x17, entry_\name
    add     x17, x17, :lo12:entry_\name
    ldr     x16, [x17]
    cbz     x16, 1f
    br      x16
1:  b       find_then_jump
.endm

.text
find_then_jump:
    stp     x29, x30, [sp, #-224]!
    mov     x29, sp
    /* Eight integer arguments, the address of a result, eight floating point arguments. */
    stp     x0, x1, [sp, #16]
    stp     x2, x3, [sp, #32]
    stp     x4, x5, [sp, #48]
    stp     x6, x7, [sp, #64]
    str     x8, [sp, #80]
    stp     q0, q1, [sp, #96]
    stp     q2, q3, [sp, #128]
    stp     q4, q5, [sp, #160]
    stp     q6, q7, [sp, #192]
    mov     x0, x17
    bl      vaeanomaly_cuda_find
    mov     x16, x0
    ldp     x0, x1, [sp, #16]
    ldp     x2, x3, [sp, #32]
    ldp     x4, x5, [sp, #48]
    ldp     x6, x7, [sp, #64]
    ldr     x8, [sp, #80]
    ldp     q0, q1, [sp, #96]
    ldp     q2, q3, [sp, #128]
    ldp     q4, q5, [sp, #160]
    ldp     q6, q7, [sp, #192]
    ldp     x29, x30, [sp], #224
    br      x16

#else
#error "feature cuda: x86-64 and aarch64 are known"
#endif

.macro lazy library, name
    .section .rodata.vaeanomaly_cuda, "a"
name_\name:
    .asciz  "\name"
    .section .data.rel.vaeanomaly_cuda, "aw"
    .balign 8
entry_\name:
    .quad   0, name_\name, vaeanomaly_library_\library
    .text
    .balign 16
    .globl  \name
    .hidden \name
    .type   \name, %function
\name:
    lazy_jump \name
    .size   \name, . - \name
.endm

#define LAZY(library, name) lazy library, name
#include "symbols.h"

.section .note.GNU-stack, "", %progbits
