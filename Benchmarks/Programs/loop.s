# The benchmarks' guest: a multiboot 1 kernel that enters 64-bit mode and runs a loop of ten
# register-only integer instructions ROUNDS times; then it ends the machine through the debug-exit
# port 0xf4 with status (1 << 1) | 1 = 3, or 5 where the loop's result is not CHECK.
#
# Benchmarks/Programs/reference.swift runs the same ten operations.
        .set    MAGIC, 0x1badb002
        .text
        .code32
        .globl  start
header: .long   MAGIC, 0, -MAGIC

start:  # Identity-map the first 1 GiB with one large page, and turn paging and long mode on.
        movl    $(directory + 3), table
        movl    $0x83, directory
        movl    $table, %eax
        movl    %eax, %cr3
        movl    %cr4, %eax
        orl     $0x20, %eax                     # PAE
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx               # EFER
        rdmsr
        orl     $0x100, %eax                    # LME
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000001, %eax               # PG, PE
        movl    %eax, %cr0
        lgdt    gdtr
        ljmp    $8, $long

        .code64
long:   movl    $ROUNDS, %ecx
        xorl    %eax, %eax
        movl    $1, %ebx
        xorl    %edx, %edx
        .balign 16
again:  addq    %rbx, %rax
        xorq    %rax, %rdx
        movq    %rax, %rsi
        shlq    $3, %rsi
        subq    %rsi, %rbx
        andq    $0xfffffff, %rbx
        orq     $1, %rbx
        addq    $7, %rdx
        decq    %rcx
        jnz     again

        movabsq $CHECK, %rsi
        movl    $1, %eax
        cmpq    %rsi, %rdx
        je      1f
        movl    $2, %eax
1:      outl    %eax, $0xf4
2:      hlt
        jmp     2b

        .balign 8
gdt:    .quad   0, 0x00af9b000000ffff           # null; 64-bit code, ring 0
gdtr:   .word   15
        .long   gdt

        .bss
        .balign 4096
table:  .skip   4096
directory:
        .skip   4096
