// The way of an application processor from its start-up IPI into 64-bit mode: real-mode code, copied
// to TRAMPOLINE, and what it jumps to.

#include "selectors.h"

    .text
    .globl trampoline, trampoline_end
    .code16
trampoline:
    cli
    lgdtl %cs:gdt_here - trampoline
    mov $0x11, %eax
    mov %eax, %cr0
    ljmpl $BOOT_CODE, $start32
gdt_here:
    .word 0x17f
    .long gdt
trampoline_end:

    .code32
start32:
    mov $0xa0, %eax                 // CR4: PAE, PGE
    mov %eax, %cr4
    mov $kernel_pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx           // EFER: SCE, LME, NXE
    xor %edx, %edx
    mov $0x901, %eax
    wrmsr
    mov $0x80010033, %eax           // CR0: PG, WP, NE, ET, MP, PE
    mov %eax, %cr0
    ljmp $KERNEL_CODE, $application
    .code64
application:
    mov $KERNEL_DATA, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    mov application_stack(%rip), %rsp
    call application_main
