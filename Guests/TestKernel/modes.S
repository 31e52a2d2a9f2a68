// Code for the other modes, copied to LOW (below 1 MiB) and left for by way of compatibility mode.
// It stores what it finds at RESULTS, in the order in which modes.c checks it; EDI counts on.

#include "selectors.h"
#define LOW 0x8000
#define RESULTS 0x20000
#define HERE(label) (LOW + label - low_code)

    .section .rodata
    .globl low_code, low_code_end
    .code64
low_code:
    // void (*)(void), in 64-bit mode: everything that C needs is saved, and the way out is to
    // compatibility mode.
    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15
    mov %rsp, HERE(saved_rsp)
    mov %cr3, %rax
    mov %rax, HERE(saved_cr3)
    sidt HERE(saved_idt)
    mov $LOW + 0x3000, %esp
    ljmp *HERE(to_compatibility)
to_compatibility:
    .long HERE(compatibility)
    .word CODE32

    .code32
compatibility:
    mov $FLAT_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $RESULTS, %edi
    mov %cr0, %eax                  // paging off: protected mode
    and $0x7fffffff, %eax
    mov %eax, %cr0
    jmp 1f
1:  mov $0xc0000080, %ecx           // EFER.LMA went with it; LME off too
    rdmsr
    stosl                           // 0: EFER
    and $~0x100, %eax
    wrmsr
    lidt HERE(protected_idt)

    // ---- Protected mode, 32 bits
    mov $0x12345678, %eax
    mov $0x9abcdef0, %ebx
    mul %ebx
    stosl                           // 1, 2: the product
    mov %edx, %eax
    stosl
    mov $0x00190008, %eax           // 3: 9 + 8, decimal adjusted
    mov $9, %al
    add $8, %al
    daa
    stosl
    mov $0x0307, %eax               // 4: AAD
    aad
    stosl
    mov $0x00ff, %eax               // 5: AAM
    aam
    stosl
    // PUSHA and POPA: 6 is what POPA left of ESP, 7 the ESP that PUSHA stored.
    mov %esp, %ebp
    pusha
    mov 12(%esp), %edx
    popa
    mov %esp, %eax
    sub %ebp, %eax
    stosl
    pusha
    mov 12(%esp), %eax
    sub %ebp, %eax
    mov %eax, 28(%esp)
    popa
    stosl
    // Limits: GS gets a small segment; 8 and 9: vector and error code of the fault, 10: RIP right.
    mov $SCRATCH, %eax
    mov %eax, %gs
    mov $HERE(2f), %esi             // where a fault goes on
    xor %ebx, %ebx
1:  mov %gs:0xffd, %eax
    mov $0, %ebx
2:  mov %ebx, %eax
    stosl
    mov %ecx, %eax
    stosl
    mov %edx, %eax
    sub $HERE(1b), %eax
    stosl
    mov %gs:0xffc, %eax             // 11: within the limit
    mov $1, %eax
    stosl
    // A selector that is not there: 12 and 13.
    mov $HERE(2f), %esi
    xor %ebx, %ebx
    mov $0xfff8, %eax
    mov %eax, %gs
2:  mov %ebx, %eax
    stosl
    mov %ecx, %eax
    stosl
    // INTO, BOUND: 14, 15.
    mov $HERE(2f), %esi
    xor %ebx, %ebx
    mov $0x7f, %al
    inc %al
    into
2:  mov %ebx, %eax
    stosl
    mov $HERE(2f), %esi
    xor %ebx, %ebx
    movl $1, HERE(bounds)
    movl $5, HERE(bounds) + 4
    mov $6, %eax
    bound %eax, HERE(bounds)
2:  mov %ebx, %eax
    stosl
    // A far call within the mode, to 16-bit code and back: 16.
    mov $0x11112222, %eax
    lcall $SCRATCH + 8, $(code16 - low_code)
    stosl
    // Into real mode.
    ljmp $SCRATCH + 8, $(leave - low_code)

    .code16
code16:
    add $0x1111, %ax                // 16 bits: the upper half stays
    lretl

leave:
    mov $DATA16, %ax                // limits of 64 KiB, but for FS, which keeps 4 GiB
    mov %ax, %ds
    mov %ax, %ss
    mov %ax, %gs
    mov $FLAT_DATA, %ax
    mov %ax, %fs
    lidtl %cs:(real_idt - low_code)
    mov %cr0, %eax
    and $~1, %eax
    mov %eax, %cr0
    ljmp $(LOW >> 4), $(real - low_code)

    // ---- Real mode: CS = LOW / 16, DS = CS, ES:DI = RESULTS + what is there, SS = 0
real:
    mov %cs, %ax
    mov %ax, %ds
    mov $(RESULTS >> 4), %ax
    mov %ax, %es
    sub $RESULTS, %edi
    xor %ax, %ax
    mov %ax, %ss
    mov $LOW + 0x3000, %esp
    cld
    mov $300, %ax                   // 17: 300 × 300
    mov %ax, %bx
    mul %bx
    shl $16, %edx
    mov %ax, %dx
    mov %edx, %eax
    stosl
    // INT: 18 is what the handler saw, 19 the bytes on its stack.
    xor %ax, %ax
    mov %ax, %gs
    movl $((LOW >> 4) << 16) + (real_handler - low_code), %gs:0x60 * 4
    movl $((LOW >> 4) << 16) + (real_fault - low_code), %gs:13 * 4
    movl $((LOW >> 4) << 16) + (real_fault - low_code), %gs:0
    movl $((LOW >> 4) << 16) + (real_fault - low_code), %gs:6 * 4
    mov %esp, %ebp
    stc
    sti
    mov $0, %eax
    int $0x60
    cli
    stosl
    mov %ecx, %eax
    stosl
    // #DE: 20 is where it says it was.
    mov $(2f - low_code), %si
    xor %cx, %cx
1:  div %cx
2:  movzwl %bx, %eax
    sub $(1b - low_code), %eax
    stosl
    // Beyond the segment's limit: 21; across it: 22.
    mov $(2f - low_code), %si
    mov $0x10000, %ebx
1:  addr32 mov (%ebx), %al
2:  movzwl %bx, %eax
    sub $(1b - low_code), %eax
    stosl
    mov $(2f - low_code), %si
    mov $0xffff, %bx
1:  mov (%bx), %ax
2:  movzwl %bx, %eax
    sub $(1b - low_code), %eax
    stosl
    // 23: #UD of what needs protected mode (LLDT).
    mov $(2f - low_code), %si
1:  lldt %ax
2:  movzwl %bx, %eax
    sub $(1b - low_code), %eax
    stosl
    // 24: FS still reaches all of memory ("unreal mode").
    mov $0x200000, %ebx
    addr32 mov %fs:(%ebx), %eax
    stosl
    // 25: FFFF:0010 is 1 MiB, A20 being on.
    mov $0xffff, %ax
    mov %ax, %gs
    mov %gs:0x10, %eax
    stosl
    // 26: a string move between segments, wrapping at 64 KiB.
    push %di
    push %es
    mov $0x3000, %ax
    mov %ax, %es
    mov $0xfffe, %di
    mov $0x1234, %ax
    mov $2, %cx
    rep stosw
    mov %es:0xfffe, %ax
    shl $16, %eax
    mov %es:0, %ax
    pop %es
    pop %di
    stosl
    // 27: LOOP counts CX; JCXZ; XLAT.
    mov $5, %cx
    xor %eax, %eax
1:  inc %ax
    loop 1b
    jcxz 1f
    xor %ax, %ax
1:  stosl
    // 28: LES and a far call through memory.
    push %es
    movw $(far_target - low_code), bounds - low_code
    movw $(LOW >> 4), bounds - low_code + 2
    les bounds - low_code, %bx
    mov %es, %ax
    pop %es
    shl $16, %eax
    mov %bx, %ax
    sub $((LOW >> 4) << 16) + (far_target - low_code), %eax
    lcall *(bounds - low_code)
    stosl
    // 29: PUSHF in real mode has IOPL, NT and all of the flags that POPF was given; not TF here.
    pushw $0x7cd7
    popfw
    pushfw
    popw %ax
    pushw $2
    popfw
    movzwl %ax, %eax
    stosl
    // 30: SMSW.
    smsw %eax
    stosl

    // ---- Back: protected mode, then long mode
    lgdtl kernel_gdt - low_code
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $CODE32, $HERE(protected)
    .code32
protected:
    mov $FLAT_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    mov HERE(saved_cr3), %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    ljmp $KERNEL_CODE, $HERE(long_mode)
    .code64
long_mode:
    mov HERE(saved_rsp), %rsp
    lidt HERE(saved_idt)
    mov $KERNEL_DATA, %eax
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx
    ret

    .code16
real_handler:
    pushf
    pop %ax                         // IF and TF are clear here; CF as it was
    and $0x301, %ax
    mov %ebp, %ecx
    sub %esp, %ecx
    iret
real_fault:                         // goes on at SI with BX = the IP that was saved
    pop %bx
    push %si
    iret
far_target:
    add $7, %ax
    lret

    .code32
    // Protected-mode faults go on at ESI with EBX = vector, ECX = error code, EDX = EIP.
    .balign 16
fault_10:
    mov $10, %ebx; jmp with_code
fault_11:
    mov $11, %ebx; jmp with_code
fault_13:
    mov $13, %ebx; jmp with_code
fault_4:
    push $0; mov $4, %ebx; jmp with_code
fault_5:
    push $0; mov $5, %ebx
with_code:
    pop %ecx
    mov (%esp), %edx
    mov %esi, (%esp)
    iret

    .balign 8
saved_rsp: .quad 0
saved_cr3: .quad 0
saved_idt: .fill 10
    .balign 8
bounds: .quad 0
real_idt:
    .word 0x3ff
    .long 0
kernel_gdt:
    .word 0x1ff
    .long gdt
    .balign 8
protected_idt:
    .word 14 * 8 - 1
    .long HERE(idt32)
    .balign 8
#define GATE(label) .word (LOW + label - low_code), CODE32, 0x8e00, 0
idt32:
    .quad 0, 0, 0, 0
    GATE(fault_4)
    GATE(fault_5)
    .quad 0, 0, 0, 0
    GATE(fault_10)
    GATE(fault_11)
    .quad 0
    GATE(fault_13)
low_code_end:
