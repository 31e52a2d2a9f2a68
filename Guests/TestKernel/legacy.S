// What legacy32.c needs beside C: exception entries that keep the whole frame, the way to
// virtual-8086 mode, and a task.

#include "selectors.h"

    .text
    .code32
// The entry of vector n is at 16 n. All end the guarded call that they interrupt.
    .globl legacy_vectors
    .balign 16
legacy_vectors:
    .set vector, 0
    .rept 0x41
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
    push $0
    .endif
    push $vector
    jmp legacy_trap
    .set vector, vector + 1
    .endr
    .balign 16
legacy_trap:
    push %ebx
    push %ds
    mov $FLAT_DATA, %ebx
    mov %ebx, %ds
    mov %ebx, %es
    mov %esp, %esi
    mov $legacy_frame, %edi
    mov $14, %ecx
    cld
    rep movsl
    mov legacy_guard, %esp
    mov %ebx, %ss
    mov $1, %eax
    jmp 1f

// bool legacy_guarded(fn, a): calls fn(a). True: an exception ended it; see legacy_frame.
    .globl legacy_guarded
legacy_guarded:
    push %ebx; push %ebp; push %esi; push %edi
    mov %esp, legacy_guard
    mov 20(%esp), %eax
    push 24(%esp)
    call *%eax
    add $4, %esp
    xor %eax, %eax
1:  // A task that was left by an exception is nested still.
    pushf
    andl $~0x4100, (%esp)
    popf
    pop %edi; pop %esi; pop %ebp; pop %ebx
    ret

// legacy_enter86(flags): to 800:0 in virtual-8086 mode, stack 900:1000.
    .globl legacy_enter86
legacy_enter86:
    mov 4(%esp), %eax
    push $0x44; push $0x33; push $0x22; push $0x11      // GS, FS, DS, ES
    push $0x900; push $0x1000
    push %eax
    push $0x800; push $0
    iret

// What tasks run: counts, notes its flags, and goes back to the task that it is nested in.
    .globl legacy_task
legacy_task:
    incl legacy_hits
    pushf
    pop legacy_flags
    iret
    jmp legacy_task

// The same for an exception with an error code: the other task goes on two bytes later.
    .globl legacy_fault_task
legacy_fault_task:
    incl legacy_hits
    mov %esp, legacy_stack
    pop legacy_error
    addl $2, legacy_tss + 32
    iret
    jmp legacy_fault_task

    .data
    .balign 8
    .globl legacy_frame, legacy_hits, legacy_flags, legacy_stack, legacy_error
legacy_frame: .fill 14, 4, 0
legacy_guard: .long 0
legacy_hits: .long 0
legacy_flags: .long 0
legacy_stack: .long 0
legacy_error: .long 0
