// The way from 64-bit mode to 32-bit protected mode without paging and back, and what 32-bit code
// needs there: exception entries, guarded calls, and ring 3.

#include "selectors.h"

    .text
    .code64
// void run32(u32 fn): calls 32-bit code with paging off. The way back loads CR4 from return_cr4 and
// CR3 from return_cr3.
    .globl run32
run32:
    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15
    pushfq
    cli
    mov %rsp, saved_rsp
    sidt saved_idt
    mov %edi, %ebx
    mov $stack32_end, %esp
    ljmp *to_protected
    .code32
compatible:
    mov $FLAT_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %cr0, %eax
    mov %eax, saved_cr0
    and $0x7fffffff, %eax
    mov %eax, %cr0
    mov $0xc0000080, %ecx
    rdmsr
    and $~0x100, %eax               // LME
    wrmsr
    mov %cr4, %eax
    and $~0x1000b0, %eax            // PSE, PAE, PGE, SMEP
    mov %eax, %cr4
    lidt idt32_pointer
    mov $SCRATCH + 0x10, %eax
    ltr %ax
    call *%ebx
    mov saved_cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0
    mov $0xc0000080, %ecx
    rdmsr
    or $0x900, %eax                 // LME, NXE
    wrmsr
    mov return_cr4, %eax
    mov %eax, %cr4
    mov return_cr3, %eax
    mov %eax, %cr3
    mov saved_cr0, %eax
    mov %eax, %cr0
    ljmp $KERNEL_CODE, $back
    .code64
back:
    mov saved_rsp, %rsp
    lidt saved_idt
    mov $KERNEL_DATA, %eax
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    andb $~2, gdt + TASK + 5        // not busy
    mov $TASK, %eax
    ltr %ax
    popfq
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx
    ret

    .code32
    .globl nothing32
nothing32:
    ret

// ---- Exceptions: the entry of vector n is at 16 n. All end the guarded call that they interrupt.
    .globl vectors32
    .balign 16
vectors32:
    .set vector, 0
    .rept USER_EXIT + 1
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
    push $0
    .endif
    push $vector
    jmp trap32
    .set vector, vector + 1
    .endr
    .balign 16
trap32:
    mov $FLAT_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    pop trap32_vector
    pop trap32_error
    mov %cr2, %eax
    mov %eax, trap32_cr2
    mov guard32_stack, %esp
    mov $1, %eax
    jmp 1f

// bool guarded32(fn, a, b): calls fn(a, b). True: an exception ended it; see trap32_vector.
    .globl guarded32
guarded32:
    push %ebx; push %ebp; push %esi; push %edi
    pushf
    mov %esp, guard32_stack
    mov 24(%esp), %eax
    mov 28(%esp), %ecx
    mov 32(%esp), %edx
    push %edx
    push %ecx
    call *%eax
    add $8, %esp
    xor %eax, %eax
1:  popf
    pop %edi; pop %esi; pop %ebp; pop %ebx
    ret

// Accesses for guarded32: read32(address), write32(address, value), fetch32(address).
    .globl read32, write32, fetch32, enter32, user_read32, user_write32
read32:
    mov 4(%esp), %eax
    mov (%eax), %eax
    mov %eax, touched32
    ret
write32:
    mov 4(%esp), %eax
    mov 8(%esp), %edx
    mov %edx, (%eax)
    ret
fetch32:
    jmp *4(%esp)
// enter32(eip, argument): to ring 3, with the argument in EDX; comes back only by a trap.
enter32:
    mov 4(%esp), %eax
    mov 8(%esp), %edx
    mov $USER_DATA, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    push $USER_DATA
    push $0
    push $2
    push $USER_CODE32
    push %eax
    iret
user_read32:
    mov (%edx), %eax
    int $USER_EXIT
user_write32:
    movl $0x55, (%edx)
    int $USER_EXIT

    .data
    .balign 8
to_protected:
    .long compatible
    .word CODE32
    .balign 8
saved_rsp: .quad 0
saved_idt: .fill 10
    .balign 8
    .globl return_cr3, return_cr4
return_cr3: .quad 0
return_cr4: .quad 0
saved_cr0: .long 0
idt32_pointer:
    .word (USER_EXIT + 1) * 8 - 1
    .long idt32
    .balign 4
    .globl trap32_vector, trap32_error, trap32_cr2, touched32, tss32
trap32_vector: .long 0
trap32_error: .long 0
trap32_cr2: .long 0
touched32: .long 0
guard32_stack: .long 0
tss32:
    .long 0, trap_stack32_end, FLAT_DATA
    .fill 92
    .globl idt32
    .balign 8
idt32:
    .fill USER_EXIT + 1, 8, 0

    .bss
    .balign 16
    .skip 0x4000
stack32_end:
    .skip 0x1000
trap_stack32_end:
