// Entry from the Multiboot loader, the way into 64-bit mode, exception entries, and the calls that
// cross privilege levels. Everything else is C.

#include "selectors.h"

    .section .multiboot, "a"
    .balign 4
    .long 0x1badb002, 3, -(0x1badb002 + 3)

    .text
    .code32
    .globl start
start:
    cli
    cld
    mov %ebx, %esi                  // the Multiboot information, kept for main
    mov $boot_stack_end, %esp
    mov $0xa0, %eax                 // CR4: PAE, PGE
    mov %eax, %cr4
    mov $kernel_pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx           // EFER: SCE, LME, NXE
    rdmsr
    or $0x901, %eax
    wrmsr
    mov $0x80010033, %eax           // CR0: PG, WP, NE, ET, MP, PE
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $KERNEL_CODE, $start64
    .code64
start64:
    mov $KERNEL_DATA, %eax
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    lea boot_stack_end(%rip), %rsp
    fninit
    mov %esi, %edi
    xor %ebp, %ebp
    call main
1:  hlt
    jmp 1b

// ---- Exceptions and interrupts: 16 bytes an entry; struct Frame is what is on the stack.
    .globl vectors
    .balign 16
vectors:
    .set vector, 0
    .rept 256
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
    push $0
    .endif
    pushq $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

    .balign 16
trap_common:
    cld
    push %rax; push %rbx; push %rcx; push %rdx; push %rsi; push %rdi; push %rbp
    push %r8; push %r9; push %r10; push %r11; push %r12; push %r13; push %r14; push %r15
    mov %rsp, %rdi
    mov %rsp, %rbp
    and $-16, %rsp
    call trap
    mov %rbp, %rsp
    .globl resume
resume:
    pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8
    pop %rbp; pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rbx; pop %rax
    add $16, %rsp
    iretq

// bool guarded(fn, a, b): calls fn(a, b). True: an exception ended it; see `last`.
    .globl guarded
guarded:
    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15
    pushfq
    push guard_stack(%rip)
    mov %rsp, guard_stack(%rip)
    sub $8, %rsp
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    call *%rax
    add $8, %rsp
    xor %eax, %eax
    jmp 1f
    .globl guard_return
guard_return:
    mov guard_stack(%rip), %rsp
    mov $KERNEL_DATA, %eax
    mov %eax, %ss
    mov $1, %eax
1:  pop guard_stack(%rip)
    popfq
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx
    ret

// void enter_user(rip, argument): IRETQ to ring 3 with `user_flags`; comes back only by a trap.
    .globl enter_user, enter_user_at
enter_user:
    mov $USER_CODE, %edx
enter_user_at:                      // void enter_user_at(rip, argument, cs)
    push $USER_DATA
    push user_stack(%rip)
    push user_flags(%rip)
    push %rdx
    push %rdi
    mov %rsi, %rdi
    iretq

// What guarded calls do: one access each, of 8 aligned bytes.
    .globl touch_read, touch_write, touch_fetch, user_read, user_write
touch_read:
    mov (%rdi), %rax
    mov %rax, touched(%rip)
    ret
touch_write:
    mov %rsi, (%rdi)
    ret
touch_fetch:
    jmp *%rdi
user_read:
    mov (%rdi), %rax
    int $USER_EXIT
user_write:
    movq $0x55, (%rdi)
    int $USER_EXIT

    .data
    .balign 16
    .globl gdt, gdt_pointer
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        // BOOT_CODE
    .quad 0x00cf93000000ffff        // FLAT_DATA
    .quad 0x00af9b000000ffff        // KERNEL_CODE
    .quad 0x00cf93000000ffff        // KERNEL_DATA
    .quad 0x00cffb000000ffff        // USER_CODE32
    .quad 0x00cff3000000ffff        // USER_DATA
    .quad 0x00affb000000ffff        // USER_CODE
    .quad 0x00cff3000000ffff        // USER_DATA after SYSEXIT
    .quad 0x00af9f000000ffff        // CONFORMING_CODE
    .quad 0x00009b000000ffff        // CODE16
    .quad 0x000093000000ffff        // DATA16
    .quad 0x00cf9b000000ffff        // CODE32
    .quad 0, 0, 0                   // free
    .quad 0, 0                      // TASK
    .quad 0, 0                      // LOCAL_TABLE
    .fill 28, 8, 0                  // SCRATCH
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt

    .globl kernel_pml4
    .balign 4096
kernel_pml4:
    .quad identity_pdpt + 7
    .fill 31, 8, 0
    .quad user_pdpt + 7             // slot 32: USER_ALIAS
    .fill 479, 8, 0
identity_pdpt:
    .quad identity_pd + 7, identity_pd + 0x1007, identity_pd + 0x2007, identity_pd + 0x3007
    .fill 508, 8, 0
user_pdpt:
    .quad user_pd + 7
    .fill 511, 8, 0
    .globl identity_pd
identity_pd:                        // 0…4 GiB, supervisor
    .set frame, 0
    .rept 2048
    .quad frame + 0xe3
    .set frame, frame + 0x200000
    .endr
user_pd:                            // 0…1 GiB again, user
    .set frame, 0
    .rept 512
    .quad frame + 0xe7
    .set frame, frame + 0x200000
    .endr

    .bss
    .balign 4096
    .skip 0x8000
boot_stack_end:
