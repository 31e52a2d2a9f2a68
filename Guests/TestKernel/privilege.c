// Ring 3: ways in and out, and what it may not do (SDM Vol. 3A chapters 5, 6, 7; Vol. 1 chapter 19
// for I/O permission).
#include "kernel.h"

#define leave_user() __asm__ volatile("int %0" : : "i"(USER_EXIT))
#define expect_user(vec, err, fn, x)                                                               \
    do {                                                                                           \
        run_user(fn, x);                                                                           \
        check(last.vector == (vec) && last.error == (err), "line %d: vector %d error %x",          \
              (u64)__LINE__, last.vector, last.error);                                             \
    } while (0)

static u8 user_buffer[32] __attribute__((aligned(64)));
// Runs machine code in ring 3, then leaves.
static void run_user_code(const u8 *bytes, int count, u64 argument) {
    for (int i = 0; i < count; i++) user_buffer[i] = bytes[i];
    user_buffer[count] = 0xcd;
    user_buffer[count + 1] = USER_EXIT;
    run_user(user_buffer, argument);
}
#define expect_user_code(vec, ...)                                                                 \
    do {                                                                                           \
        run_user_code((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}),                \
                      AS_USER(watch));                                                             \
        check(last.vector == (vec) && last.error == 0 && last.cs == USER_CODE,                     \
              "line %d: vector %d error %x", (u64)__LINE__, last.vector, last.error);              \
    } while (0)
static u64 watch[8];

static void privileged(void) {
    expect_user_code(GP, 0xf4);                                 // hlt
    expect_user_code(GP, 0xfa);                                 // cli
    expect_user_code(GP, 0xfb);                                 // sti
    expect_user_code(GP, 0x0f, 0x06);                           // clts
    expect_user_code(GP, 0x0f, 0x08);                           // invd
    expect_user_code(GP, 0x0f, 0x09);                           // wbinvd
    expect_user_code(GP, 0x0f, 0x30);                           // wrmsr
    expect_user_code(GP, 0x0f, 0x32);                           // rdmsr
    expect_user_code(GP, 0x0f, 0x20, 0xc0);                     // mov from cr0
    expect_user_code(GP, 0x0f, 0x22, 0xd8);                     // mov to cr3
    expect_user_code(GP, 0x0f, 0x21, 0xc0);                     // mov from dr0
    expect_user_code(GP, 0x0f, 0x23, 0xf8);                     // mov to dr7
    expect_user_code(GP, 0x0f, 0x01, 0x17);                     // lgdt (rdi)
    expect_user_code(GP, 0x0f, 0x01, 0x1f);                     // lidt (rdi)
    expect_user_code(GP, 0x0f, 0x00, 0xd0);                     // lldt ax
    expect_user_code(GP, 0x0f, 0x00, 0xd8);                     // ltr ax
    expect_user_code(GP, 0x0f, 0x01, 0xf0);                     // lmsw ax
    expect_user_code(GP, 0x0f, 0x01, 0x3f);                     // invlpg (rdi)
    expect_user_code(GP, 0x0f, 0x01, 0xf8);                     // swapgs
    expect_user_code(GP, 0x0f, 0x07);                           // sysret
    expect_user_code(GP, 0x0f, 0x35);                           // sysexit
    expect_user_code(GP, 0xec);                                 // in al, dx
    expect_user_code(GP, 0xee);                                 // out dx, al
    expect_user_code(GP, 0x6c);                                 // insb
    expect_user_code(UD, 0x0f, 0x01, 0xca);                     // clac
    expect_user_code(UD, 0x0f, 0x01, 0xcb);                     // stac
    // UMIP: five instructions that tell of the system.
    static const u8 umip[][3] = {{0x0f, 0x01, 0x07},
                                 {0x0f, 0x01, 0x0f},
                                 {0x0f, 0x00, 0x07},
                                 {0x0f, 0x00, 0x0f},
                                 {0x0f, 0x01, 0x27}};
    for (int on = 0; on < 2; on++) {
        write_cr4(on ? read_cr4() | CR4_UMIP : read_cr4() & ~CR4_UMIP);
        for (int i = 0; i < 5; i++) {
            run_user_code(umip[i], 3, AS_USER(watch));
            check(last.vector == (on ? GP : USER_EXIT), "UMIP %d, instruction %d: %d", (u64)on,
                  (u64)i, last.vector);
        }
    }
    write_cr4(read_cr4() & ~CR4_UMIP);
    // TSD.
    expect_user_code(USER_EXIT, 0x0f, 0x31);                    // rdtsc
    write_cr4(read_cr4() | CR4_TSD);
    expect_user_code(GP, 0x0f, 0x31);
    check(!guarded(read_tsc, 0, 0), "RDTSC in ring 0 with TSD");
    write_cr4(read_cr4() & ~CR4_TSD);
    // POPF in ring 3 leaves IF and IOPL alone; so does IRETQ.
    static const u8 flags[] = {0x68, 0xd5, 0x3e, 0,
                               0,    0x9d, 0x9c, 0x58};   // push; popf; pushf; pop rax
    user_flags = 2;
    run_user_code(flags, sizeof flags, 0);
    check((last.rax & 0x7fd5) == (0x0cd5 & 0x7fd5), "POPF in ring 3: %x", last.rax);
}

static void go(u64 *s) {
    __asm__ volatile("push %1; push %2; push $2; push %0; push %3; iretq"
                     :
                     : "r"(s[0]), "r"(s[1]), "r"(user_stack), "r"(AS_USER(user_read)));
}

static void nested(void) {
    write_flags(read_flags() | NT);
    __asm__ volatile("iretq");
}

static void entry(void) {
    user_flags = 2 | CF | IF | AC;
    run_user(user_read, AS_USER(watch));
    check(last.vector == USER_EXIT && last.cs == USER_CODE && last.ss == USER_DATA
              && last.rsp == user_stack && (last.rflags & (CF | IF | AC)) == (CF | IF | AC),
          "IRETQ to ring 3");
    check(!(read_flags() & IF), "IF on the way back");
    user_flags = 2;
    // The frame went to RSP0.
    u64 keep = task.rsp[0];
    static u8 other[512] __attribute__((aligned(16)));
    task.rsp[0] = (u64)other + 500;
    run_user(user_read, AS_USER(watch));
    u64 *top = (u64 *)(((u64)other + 500) & ~15ull);
    check(top[-1] == USER_DATA && top[-2] == user_stack && top[-4] == USER_CODE,
          "the frame at RSP0");
    task.rsp[0] = 0x7f0000000000;
    run_user(user_read, AS_USER(watch));
    check(last.vector == DOUBLE && last.error == 0, "no page at RSP0: %d", last.vector);
    task.rsp[0] = keep;
    // IRETQ's refusals.
    static const struct {
        u64 cs, ss, error;
    } bad[] = {
        {0, USER_DATA, 0},
        {USER_DATA, USER_DATA, USER_DATA & ~3},
        {USER_CODE & ~3, USER_DATA, USER_CODE & ~3},
        {USER_CODE, KERNEL_DATA, KERNEL_DATA},
        {USER_CODE, 0, 0},
        {USER_CODE, USER_CODE, USER_CODE & ~3},
        {USER_CODE, USER_DATA & ~3, USER_DATA & ~3},
        {0xfffb, USER_DATA, 0xfff8},
        {KERNEL_CODE | 3, USER_DATA, KERNEL_CODE},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        static u64 selectors[2];
        selectors[0] = bad[i].cs, selectors[1] = bad[i].ss;
        last.vector = ~0ull;
        guarded(go, (u64)selectors, 0);
        check(last.vector == GP && last.error == bad[i].error && last.cs == KERNEL_CODE,
              "IRETQ to %x:%x: vector %d error %x", bad[i].cs, bad[i].ss, last.vector, last.error);
    }
    check(guarded(nested, 0, 0) && last.vector == GP, "IRETQ with NT");
}

// ---- SYSCALL and SYSENTER. The kernel's side notes what it finds, and leaves by INT.
__attribute__((used)) static u8 call_stack[1024] __attribute__((aligned(16)));
static volatile u64 call_rcx, call_r11, call_flags, call_cs, call_ss, call_rsp;

__attribute__((naked)) static void syscall_target(void) {
    __asm__ volatile("mov %%rcx, call_rcx(%%rip); mov %%r11, call_r11(%%rip)\n"
                     "mov %%rsp, call_rsp(%%rip); lea call_stack + 1024(%%rip), %%rsp\n"
                     "pushfq; pop call_flags(%%rip)\n"
                     "mov %%cs, call_cs(%%rip); mov %%ss, call_ss(%%rip)\n"
                     "int %0"
                     :
                     : "i"(USER_EXIT));
}
static u64 target, flags;
static void do_syscall(void) { __asm__ volatile("stc; syscall; 1:"); }
static void do_sysenter(void) { __asm__ volatile("sysenter"); }

static void ret64(void) {
    __asm__ volatile("mov %0, %%rcx; mov %1, %%r11; mov %2, %%rdi; mov %3, %%rsp; sysretq"
                     :
                     : "r"(target), "r"(flags), "r"(AS_USER(watch)), "r"(user_stack)
                     : "rcx", "r11", "rdi");
}

static void ret32(void) {
    __asm__ volatile("mov %0, %%rcx; mov %1, %%r11; mov %2, %%esp; sysretl"
                     :
                     : "r"(target), "r"(flags), "r"(0x80000ff0)
                     : "rcx", "r11");
}

static void bad_ret(void) {
    __asm__ volatile("mov %0, %%rcx; mov $2, %%r11; sysretq"
                     :
                     : "r"(0x800000000000)
                     : "rcx", "r11");
}

static void exit64(void) {
    __asm__ volatile("mov %0, %%rdx; mov %1, %%rcx; mov %2, %%rdi; rex.w sysexit"
                     :
                     : "r"(target), "r"(user_stack), "r"(AS_USER(watch))
                     : "rcx", "rdx", "rdi");
}

static void exit32(void) {
    __asm__ volatile("mov %0, %%edx; mov %1, %%ecx; sysexitl"
                     :
                     : "r"(0x80000000), "r"(0x80000ff0)
                     : "rcx", "rdx");
}

static void fast_calls(void) {
    write_msr(0xc0000081, (u64)KERNEL_CODE << 32 | (u64)USER_CODE32 << 48);
    write_msr(0xc0000082, (u64)syscall_target);
    write_msr(0xc0000084, IF | TF | DF);
    user_flags = 2 | IF;
    run_user(do_syscall, 0);
    check(last.vector == USER_EXIT && last.cs == KERNEL_CODE, "SYSCALL: vector %d", last.vector);
    check((call_cs & 0xffff) == KERNEL_CODE && (call_ss & 0xffff) == KERNEL_DATA,
          "SYSCALL: CS %x SS %x", call_cs, call_ss);
    check(call_rsp == user_stack, "SYSCALL leaves RSP alone: %x", call_rsp);
    check(!(call_flags & IF) && (call_flags & CF) && (call_r11 & (IF | CF)) == (IF | CF),
          "SYSCALL: flags %x", call_flags);
    const u8 *code = (const u8 *)(call_rcx - USER_ALIAS - 2);
    check(code[0] == 0x0f && code[1] == 5, "RCX is past SYSCALL: %x", call_rcx);
    write_msr(EFER, read_msr(EFER) & ~1ull);
    expect_user(UD, 0, do_syscall, 0);
    write_msr(EFER, read_msr(EFER) | 1);
    // SYSRET to 64-bit code, flags from R11 but for RF and VM.
    target = AS_USER(user_read);
    flags = 2 | CF | IF | RF;
    watch[0] = 0x1234;
    guarded(ret64, 0, 0);
    check(last.vector == USER_EXIT && last.cs == USER_CODE && last.ss == USER_DATA
              && last.rax == 0x1234,
          "SYSRETQ: CS %x SS %x vector %d", last.cs, last.ss, last.vector);
    check((last.rflags & (CF | IF | RF)) == (CF | IF), "SYSRETQ: flags %x", last.rflags);
    // To compatibility mode: 32-bit code at a low address that ring 3 may fetch from.
    static u8 low[4096] __attribute__((aligned(4096)));
    static const u8 low_code[] = {0x8c, 0xc8, 0x40, 0xcd, USER_EXIT}; // mov eax, cs; inc eax; int
    for (unsigned i = 0; i < sizeof low_code; i++) low[i] = low_code[i];
    struct Chain c = new_chain(kernel_pml4, 69);
    u64 keep = kernel_pml4[0];
    static u64 top[512] __attribute__((aligned(4096)));
    u64 *identity = (u64 *)(keep & ~0xfffull);
    for (int i = 0; i < 512; i++) top[i] = identity[i];
    top[2] = (u64)c.pd | P | W | U; // in place of the third gigabyte
    c.pt[0] = (u64)low | P | W | U;
    kernel_pml4[0] = (u64)top | P | W | U;
    flush_all();
    target = 0x80000000;
    guarded(ret32, 0, 0);
    check(last.vector == USER_EXIT && last.cs == USER_CODE32 && last.ss == USER_DATA
              && last.rax == USER_CODE32 + 1 && last.rip == 0x80000005,
          "SYSRETL: CS %x RAX %x RIP %x vector %d", last.cs, last.rax, last.rip, last.vector);
    check(guarded(bad_ret, 0, 0) && last.vector == GP && last.cs == KERNEL_CODE,
          "SYSRETQ to a non-canonical address: %d", last.vector);
    // SYSENTER and SYSEXIT.
    write_msr(0x174, 0);
    expect_user(GP, 0, do_sysenter, 0);
    write_msr(0x174, KERNEL_CODE);
    write_msr(0x175, 0x12345678);
    write_msr(0x176, (u64)syscall_target);
    user_flags = 2 | IF;
    run_user(do_sysenter, 0);
    check(last.vector == USER_EXIT && (call_cs & 0xffff) == KERNEL_CODE
              && (call_ss & 0xffff) == KERNEL_DATA && call_rsp == 0x12345678 && !(call_flags & IF),
          "SYSENTER: CS %x SS %x RSP %x", call_cs, call_ss, call_rsp);
    target = AS_USER(user_read);
    guarded(exit64, 0, 0);
    check(last.vector == USER_EXIT && last.cs == USER_CODE && (last.ss & ~3ull) == 0x40
              && last.rax == 0x1234,
          "SYSEXIT: CS %x SS %x", last.cs, last.ss);
    guarded(exit32, 0, 0);
    check(last.vector == USER_EXIT && last.cs == USER_CODE32 && last.rip == 0x80000005,
          "SYSEXIT to 32-bit code: CS %x RIP %x", last.cs, last.rip);
    kernel_pml4[0] = keep;
    kernel_pml4[69] = 0;
    flush_all();
    user_flags = 2;
}

// ---- I/O permission
static void user_in8(u16 port) {
    in8(port);
    leave_user();
}
static void user_in32(u16 port) {
    u32 v;
    __asm__ volatile("in %1, %0" : "=a"(v) : "d"(port));
    leave_user();
}

static void ports(void) {
    expect_user(GP, 0, user_in8, 0x61);
    user_flags = 2 | 3 << 12; // IOPL 3
    expect_user(USER_EXIT, 0, user_in8, 0x61);
    user_flags = 2;
    task.bits[0x61 / 8] &= ~(1 << (0x61 & 7));
    expect_user(USER_EXIT, 0, user_in8, 0x61);
    expect_user(GP, 0, user_in8, 0x60);
    expect_user(GP, 0, user_in8, 0x62);
    for (u16 port = 0x84; port < 0x8c; port++) {
        for (int i = 0; i < 4; i++) task.bits[(port + i) / 8] &= ~(1 << ((port + i) & 7));
        expect_user(USER_EXIT, 0, user_in32, port);
        for (int i = 0; i < 4; i++) {
            task.bits[(port + i) / 8] |= 1 << ((port + i) & 7);
            expect_user(GP, 0, user_in32, port);
            task.bits[(port + i) / 8] &= ~(1 << ((port + i) & 7));
        }
        for (int i = 0; i < 4; i++) task.bits[(port + i) / 8] |= 1 << ((port + i) & 7);
    }
    task.bits[0x61 / 8] |= 1 << (0x61 & 7);
    // Both bytes of the map must lie within the limit.
    task.bits[0xfff0 / 8] = 0;
    expect_user(USER_EXIT, 0, user_in8, 0xfff0);
    u64 keep = gdt[TASK / 8];
    gdt[TASK / 8] = (keep & ~0xffffull & ~(2ull << 40))
                    | (__builtin_offsetof(struct TaskState, bits) + 0xfff0 / 8);
    __asm__ volatile("ltr %w0" : : "r"(TASK));
    expect_user(GP, 0, user_in8, 0xfff0);
    gdt[TASK / 8] = keep & ~(2ull << 40);
    __asm__ volatile("ltr %w0" : : "r"(TASK));
    task.bits[0xfff0 / 8] = 0xff;
}

// ---- Segment bases
static u64 base_of(int r) { return read_msr(0xc0000100 + r); }

static void bad(void) { __asm__ volatile("wrfsbase %0" : : "r"(1ull << 62)); }

static void bases(void) {
    write_cr4(read_cr4() | CR4_FSGSBASE);
    u64 v;
    __asm__ volatile("wrfsbase %1; rdfsbase %0" : "=r"(v) : "r"(0x123456789abcull));
    check(v == 0x123456789abc && base_of(0) == v, "FS base %x", v);
    __asm__ volatile("wrgsbase %1; rdgsbase %0" : "=r"(v) : "r"((u64)watch));
    watch[1] = 0x77;
    __asm__ volatile("mov %%gs:8, %0" : "=r"(v));
    check(v == 0x77, "an access by GS: %x", v);
    write_msr(0xc0000102, 0x1000);
    __asm__ volatile("swapgs");
    check(base_of(1) == 0x1000 && base_of(2) == (u64)watch, "SWAPGS");
    __asm__ volatile("swapgs");
    check(guarded(bad, 0, 0) && last.vector == GP, "WRFSBASE of a non-canonical address");
    static const u8 user[] = {0xf3, 0x48, 0x0f, 0xae, 0xd7, 0x64, 0x48,
                              0x8b, 0x04, 0x25, 8,    0,    0,    0};
    run_user_code(user, sizeof user, AS_USER(watch)); // wrfsbase rdi; mov rax, fs:8
    check(last.vector == USER_EXIT && last.rax == 0x77, "FS base in ring 3: %x", last.rax);
    write_cr4(read_cr4() & ~CR4_FSGSBASE);
    run_user_code(user, sizeof user, AS_USER(watch));
    check(last.vector == UD, "WRFSBASE without FSGSBASE");
    // A load of a selector loads its base; a null one leaves an Intel processor's base at 0.
    gdt[SCRATCH / 8] = 0x12cf93345678ffff;
    __asm__ volatile("mov %w0, %%fs" : : "r"(SCRATCH));
    check(base_of(0) == 0x12345678, "FS base by a descriptor: %x", base_of(0));
    __asm__ volatile("mov %w0, %%fs; mov %w0, %%gs" : : "r"(0));
    check(base_of(0) == 0, "FS base by a null selector: %x", base_of(0));
}

// ---- CR4.PVI (Vol. 3B 20.4): ring 3 has VIF where IOPL keeps IF from it.
static void virtual_interrupts(void) {
    if (!(cpuid(1, 0).d & 2)) {
        check(true, "");
        return;
    }
    static const u8 sti[] = {0xfb, 0x9c, 0x58}, cli[] = {0xfa};
    u64 vif = 1 << 19, vip = 1 << 20;
    run_user_code(sti, sizeof sti, 0);
    check(last.vector == GP, "STI without PVI: %d", last.vector);
    write_cr4(read_cr4() | 2);
    run_user_code(sti, sizeof sti, 0);
    check(last.vector == USER_EXIT && (last.rflags & (vif | IF)) == vif
              && (last.rax & (vif | IF)) == vif, "STI: %d flags %x", last.vector, last.rflags);
    user_flags = 2 | vif;
    run_user_code(cli, sizeof cli, 0);
    check(last.vector == USER_EXIT && !(last.rflags & vif), "CLI: %d flags %x", last.vector,
          last.rflags);
    user_flags = 2 | vip;
    run_user_code(sti, sizeof sti, 0);
    check(last.vector == GP && !(last.rflags & vif), "STI with VIP: %d flags %x", last.vector,
          last.rflags);
    user_flags = 2 | vip | vif;
    run_user_code(cli, sizeof cli, 0);
    check(last.vector == GP && (last.rflags & vif), "VIF and VIP: %d flags %x", last.vector,
          last.rflags);
    user_flags = 0x3002;
    run_user_code(sti, sizeof sti, 0);
    check(last.vector == USER_EXIT && (last.rflags & (vif | IF)) == IF, "STI with IOPL 3: %d %x",
          last.vector, last.rflags);
    write_cr4(read_cr4() & ~2ull);
}

void test_privilege(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"privileged instructions", privileged},
        {"entry to ring 3", entry},
        {"fast calls", fast_calls},
        {"I/O permission", ports},
        {"segment bases", bases},
        {"virtual interrupts", virtual_interrupts},
    };
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        begin(parts[i].name);
        parts[i].run();
        user_flags = 2;
        end();
    }
}
