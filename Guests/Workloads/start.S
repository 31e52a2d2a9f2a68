# What Swift has no words for: the entry from the kernel, a system call, a thread on a stack of its
# own, CPUID, x87 arithmetic, and the three functions that compilers call on their own
# account. All else is Swift.

        .text
        .globl  _start, workloads_system_call, workloads_start_thread, workloads_mark
        .globl  workloads_sum_of_quotients
        .globl  memset, memcpy, memmove

# RSP points to the number of arguments, then their addresses and a null (System V ABI §3.4.1).
_start:
        xor     %ebp, %ebp
        mov     %rsp, %rdi
        and     $-16, %rsp
        call    workloads_main
        mov     %eax, %edi
        mov     $231, %eax              # exit_group
        syscall

# Int workloads_system_call(number, five arguments): what the kernel returns. No call here has six
# arguments but mmap, whose last is 0.
workloads_system_call:
        mov     %rdi, %rax
        mov     %rsi, %rdi
        mov     %rdx, %rsi
        mov     %rcx, %rdx
        mov     %r8, %r10
        mov     %r9, %r8
        xor     %r9d, %r9d
        syscall
        ret

# Int workloads_start_thread(top of its stack, argument): clone(2) of a process that shares all
# memory and files (CLONE_VM | FS | FILES | SIGHAND) and is waited for as any child (SIGCHLD).
workloads_start_thread:
        mov     %rsi, -16(%rdi)
        lea     -16(%rdi), %rsi
        mov     $0xf11, %edi
        xor     %edx, %edx
        xor     %r10d, %r10d
        xor     %r8d, %r8d
        mov     $56, %eax
        syscall
        test    %rax, %rax
        jnz     1f
        xor     %ebp, %ebp
        pop     %rdi
        add     $8, %rsp
        call    workloads_thread
        mov     %eax, %edi
        mov     $60, %eax               # exit
        syscall
1:      ret

# UInt32 workloads_mark(leaf, subleaf): CPUID's EAX.
workloads_mark:
        push    %rbx
        mov     %edi, %eax
        mov     %esi, %ecx
        cpuid
        pop     %rbx
        ret

# UInt64 workloads_sum_of_quotients(terms): the significand of the sum of 1/k² for k from 1, in
# extended precision.
workloads_sum_of_quotients:
        fldz
        fld1                            # k, sum
1:      fld     %st(0)
        fmul    %st(0), %st(0)
        fld1
        fdivp   %st, %st(1)             # 1/k², k, sum
        faddp   %st, %st(2)
        fld1
        faddp   %st, %st(1)
        dec     %rdi
        jnz     1b
        fstp    %st(0)
        fstpt   -16(%rsp)
        mov     -16(%rsp), %rax
        ret

memset: mov     %rdi, %r8
        mov     %esi, %eax
        mov     %rdx, %rcx
        rep stosb
        mov     %r8, %rax
        ret

memmove:
        mov     %rdi, %rax
        sub     %rsi, %rax
        cmp     %rdx, %rax
        jae     memcpy
        # The target begins inside the source: backward.
        mov     %rdi, %rax
        mov     %rdx, %rcx
        lea     -1(%rdi,%rdx), %rdi
        lea     -1(%rsi,%rdx), %rsi
        std
        rep movsb
        cld
        ret

memcpy: mov     %rdi, %rax
        mov     %rdx, %rcx
        rep movsb
        ret

        .section .note.GNU-stack,"",@progbits
