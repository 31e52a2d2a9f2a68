// Far transfers through gates and between code segments, compatibility mode, and the instructions
// that ask about descriptors (SDM Vol. 3A chapter 5, Vol. 2 LAR, LSL, VERR).
#include "kernel.h"

#define FREE(n) (SCRATCH + 8 * (n))         // scratch descriptors
#define AT(selector) gdt[(selector) / 8]

static u64 gate_low(u16 selector, u64 target, u64 dpl) {
    return (target & 0xffff) | (u64)selector << 16 | (0x8cull | dpl << 5) << 40
           | (target & 0xffff0000) << 32;
}

static void set_call_gate(u16 gate, u16 selector, u64 target, u64 dpl) {
    AT(gate) = gate_low(selector, target, dpl);
    AT(gate + 8) = target >> 32;
}

struct __attribute__((packed)) FarPointer {
    u64 offset;
    u16 selector;
};
static struct FarPointer pointer;
static volatile u64 seen_cs, seen_ss, seen_rsp, seen[4];

// What gates lead to: notes where it is, and returns far.
__attribute__((naked)) static void gate_target(void) {
    __asm__ volatile(
        "mov %%cs, seen_cs(%%rip); mov %%ss, seen_ss(%%rip); mov %%rsp, seen_rsp(%%rip)\n"
        "mov (%%rsp), %%rcx; mov %%rcx, seen(%%rip)\n"
        "mov 8(%%rsp), %%rcx; mov %%rcx, 8+seen(%%rip)\n"
        "mov 16(%%rsp), %%rcx; mov %%rcx, 16+seen(%%rip)\n"
        "mov 24(%%rsp), %%rcx; mov %%rcx, 24+seen(%%rip)\n"
        "lretq"
        :
        : "i"(0));
}
static void call_far(struct FarPointer *p) {
    __asm__ volatile("rex.w lcall *(%0)" : : "r"(p) : "rcx", "memory");
}
static void call_far_user(struct FarPointer *p) {
    __asm__ volatile("rex.w lcall *(%0); int %1" : : "r"(p), "i"(USER_EXIT) : "rcx", "memory");
}
static void jump_far(struct FarPointer *p) { __asm__ volatile("rex.w ljmp *(%0)" : : "r"(p)); }

#define expect_far(vec, err, fn)                                                                   \
    do {                                                                                           \
        last.vector = ~0ull;                                                                       \
        guarded(fn, &pointer, 0);                                                                  \
        check(last.vector == (vec) && last.error == (err), "line %d: vector %d error %x",          \
              (u64)__LINE__, last.vector, last.error);                                             \
    } while (0)

static void call_gates(void) {
    u16 gate = FREE(0);
    set_call_gate(gate, KERNEL_CODE, (u64)gate_target, 3);
    pointer = (struct FarPointer){0x1234, gate};
    check(!guarded(call_far, &pointer, 0), "a call gate from ring 0: vector %d error %x",
          last.vector, last.error);
    check((seen_cs & 0xffff) == KERNEL_CODE && seen[1] == KERNEL_CODE, "CS %x on the stack %x",
          seen_cs, seen[1]);
    // From ring 3: to RSP0, with SS and RSP of before; back by RETF.
    run_user(call_far_user, AS_USER(&pointer));
    check(last.vector == USER_EXIT && last.cs == USER_CODE && last.ss == USER_DATA,
          "a call gate from ring 3: vector %d error %x", last.vector, last.error);
    check((seen_cs & 0xffff) == KERNEL_CODE && (seen_ss & 0xffff) == 0, "in the gate CS %x SS %x",
          seen_cs, seen_ss);
    check(seen_rsp == task.rsp[0] - 32 && seen[1] == USER_CODE && seen[3] == USER_DATA,
          "the gate's stack: RSP %x CS %x SS %x", seen_rsp, seen[1], seen[3]);
    check(seen[2] == last.rsp, "RSP of before: %x, later %x", seen[2], last.rsp);
    // Refusals.
    set_call_gate(gate, KERNEL_CODE, (u64)gate_target, 0);
    run_user(call_far_user, AS_USER(&pointer));
    check(last.vector == GP && last.error == gate, "a gate of DPL 0 from ring 3: %d %x",
          last.vector, last.error);
    AT(gate) &= ~(1ull << 47);
    expect_far(NP, gate, call_far);
    set_call_gate(gate, FLAT_DATA, (u64)gate_target, 3);
    expect_far(GP, FLAT_DATA, call_far);
    set_call_gate(gate, 0, (u64)gate_target, 3);
    expect_far(GP, 0, call_far);
    set_call_gate(gate, CODE32, (u64)gate_target, 3);
    expect_far(GP, CODE32, call_far);
    set_call_gate(gate, KERNEL_CODE, 1ull << 47, 3);
    expect_far(GP, 0, call_far);
    set_call_gate(gate, KERNEL_CODE, (u64)gate_target, 3);
    AT(gate + 8) |= 1ull << 40;             // the upper half's type must be 0
    expect_far(GP, gate, call_far);
    // Direct ones.
    pointer = (struct FarPointer){(u64)gate_target, KERNEL_CODE};
    check(!guarded(call_far, &pointer, 0), "a direct far call");
    pointer.selector = FLAT_DATA;
    expect_far(GP, FLAT_DATA, call_far);
    expect_far(GP, FLAT_DATA, jump_far);
    pointer.selector = USER_CODE & ~3;
    expect_far(GP, USER_CODE & ~3, jump_far);
    pointer.selector = 0;
    expect_far(GP, 0, jump_far);
    pointer.selector = TASK;
    expect_far(GP, TASK, jump_far);
    pointer = (struct FarPointer){1ull << 47, KERNEL_CODE};
    expect_far(GP, 0, jump_far);
    // A conforming segment keeps the caller's privilege.
    pointer = (struct FarPointer){AS_USER(user_read), CONFORMING_CODE};
    run_user(jump_far, AS_USER(&pointer));
    check(last.vector == USER_EXIT && last.cs == (CONFORMING_CODE | 3),
          "conforming code from ring 3: CS %x vector %d", last.cs, last.vector);
    pointer.selector = KERNEL_CODE;
    run_user(jump_far, AS_USER(&pointer));
    check(last.vector == GP && last.error == KERNEL_CODE, "kernel code from ring 3: %d",
          last.vector);
}

// ---- Descriptors asked about
#define ASK(name, instruction)                                                                     \
    static bool name(u64 selector, u64 *value) {                                                   \
        bool zero;                                                                                 \
        *value = 0x5555;                                                                           \
        __asm__ volatile(instruction "; setz %1"                                                   \
                         : "+r"(*value), "=q"(zero)                                                \
                         : "r"(selector)                                                           \
                         : "cc");                                                                  \
        return zero;                                                                               \
    }
ASK(ask_rights, "lar %2, %0")
ASK(ask_limit, "lsl %2, %0")
static bool can_read(u64 s) {
    bool z;
    __asm__ volatile("verr %w1; setz %0" : "=q"(z) : "r"(s) : "cc");
    return z;
}
static bool can_write(u64 s) {
    bool z;
    __asm__ volatile("verw %w1; setz %0" : "=q"(z) : "r"(s) : "cc");
    return z;
}

static void asking(void) {
    u64 v;
    check(ask_rights(KERNEL_CODE, &v) && (v & 0xf0ff00) == 0xa09b00, "LAR of code: %x", v);
    check(ask_rights(USER_DATA, &v) && (v & 0xf0ff00) == 0xc0f300, "LAR of data: %x", v);
    check(ask_rights(TASK, &v) && v == 0x8b00, "LAR of the task state: %x", v);
    check(!ask_rights(0, &v) && v == 0x5555, "LAR of a null selector");
    check(!ask_rights(0xfff8, &v) && v == 0x5555, "LAR beyond the table");
    check(!ask_rights(KERNEL_CODE | 3, &v), "LAR with RPL 3 of DPL 0");
    check(ask_rights(CONFORMING_CODE | 3, &v), "LAR of conforming code");
    check(ask_limit(KERNEL_DATA, &v) && v == 0xffffffff, "LSL of a large segment: %x", v);
    check(ask_limit(DATA16, &v) && v == 0xffff, "LSL of a small segment: %x", v);
    check(ask_limit(TASK, &v) && v == sizeof task - 1, "LSL of the task state: %x", v);
    u16 s = FREE(2);
    set_call_gate(s, KERNEL_CODE, (u64)gate_target, 3);
    check(ask_rights(s, &v) && (v & 0xff00) == 0xec00, "LAR of a call gate: %x", v);
    check(!ask_limit(s, &v), "LSL of a call gate");
    AT(s) = 0x00cf11000000ffff;             // not present: still answers
    AT(s + 8) = 0;
    check(ask_rights(s, &v) && (v & 0xf0ff00) == 0xc01100, "LAR of an absent segment: %x", v);
    check(can_read(KERNEL_DATA) && can_write(KERNEL_DATA), "VERR and VERW of data");
    check(can_read(KERNEL_CODE) && !can_write(KERNEL_CODE), "VERR and VERW of code");
    check(!can_read(0) && !can_read(TASK) && !can_write(0xfff8), "VERR of what is no segment");
    check(!can_read(KERNEL_DATA | 3) && can_read(USER_DATA), "VERR and privilege");
    AT(s) = 0x00cf91000000ffff;             // read only
    check(can_read(s) && !can_write(s), "VERR and VERW of read-only data");
    AT(s) = 0x00cf99000000ffff;             // execute only
    check(!can_read(s), "VERR of execute-only code");
    // The table registers.
    struct __attribute__((packed)) {
        u16 limit;
        u64 base;
    } p;
    __asm__ volatile("sgdt %0" : "=m"(p));
    check(p.base == (u64)gdt && (p.limit & 7) == 7, "SGDT");
    __asm__ volatile("sidt %0" : "=m"(p));
    check(p.base == (u64)idt && p.limit == sizeof idt - 1, "SIDT");
    __asm__ volatile("str %0" : "=r"(v));
    check((v & 0xffff) == TASK, "STR %x", v);
    // A local table.
    static u64 local[4] = {0, 0x00cf93000000ffff, 0x42cf93111111ffff, 0};
    AT(LOCAL_TABLE) = 0x0000820000000000 | ((u64)local & 0xffffff) << 16 | 23
                      | ((u64)local & 0xff000000) << 32;
    AT(LOCAL_TABLE + 8) = (u64)local >> 32;
    __asm__ volatile("lldt %w0" : : "r"(LOCAL_TABLE));
    __asm__ volatile("sldt %0" : "=r"(v));
    check((v & 0xffff) == LOCAL_TABLE, "SLDT %x", v);
    check(ask_limit(0x0c, &v) && v == 0xffffffff, "LSL in the local table");
    check(!ask_limit(0x1c, &v), "LSL beyond the local table");
    __asm__ volatile("mov %w0, %%fs" : : "r"(0x14));
    check(read_msr(0xc0000100) == 0x42111111, "a base by the local table: %x",
          read_msr(0xc0000100));
    __asm__ volatile("mov %w0, %%fs; lldt %w0" : : "r"(0));
}

// ---- Compatibility mode: 32-bit and 16-bit code under long mode, in rings 0 and 3.
#define CODE_BASE 0x80000000ull
static struct Chain c;
static u8 *low;

static void user_low(void) {
    c = new_chain(kernel_pml4, 70);
    static u64 top[512] __attribute__((aligned(4096)));
    u64 *identity = (u64 *)(kernel_pml4[0] & ~0xfffull);
    for (int i = 0; i < 512; i++) top[i] = identity[i];
    top[2] = (u64)c.pd | P | W | U;
    low = (u8 *)new_page();
    c.pt[0] = (u64)low | P | W | U;
    c.pt[1] = (u64)new_page() | P | W | U;
    kernel_pml4[0] = (u64)top | P | W | U;
    flush_all();
}

static void put_code(const u8 *bytes, int count) {
    for (int i = 0; i < count; i++) low[i] = bytes[i];
}

// Goes to `cs`:CODE_BASE with a stack at `ss`, by IRETQ.
static u64 go_ss, go_rsp;
static void go(u64 cs, u64 offset) {
    __asm__ volatile(
        "mov $0x11111111, %%eax; mov $0x22222222, %%ebx\n"
        "push %2; push %3; push $2; push %0; push %1; iretq"
        :
        : "r"(cs), "r"(offset), "m"(go_ss), "m"(go_rsp)
        : "rax", "rbx", "memory");
}

static void compatibility(void) {
    u64 keep = kernel_pml4[0];
    user_low();
    static const u8 code32[] = {
        0x40,                               // inc eax: no REX here
        0x01, 0xd8,                         // add eax, ebx
        0x6a, 0x07,                         // push 7: four bytes
        0x59,                               // pop ecx
        0x89, 0xe2,                         // mov edx, esp
        0x66, 0x68,      0x34, 0x12,             // push word
        0x29, 0xe2,                         // sub edx, esp
        0xcd, USER_EXIT,
    };
    put_code(code32, sizeof code32);
    for (int ring = 0; ring < 4; ring += 3) {
        go_ss = ring ? USER_DATA : FLAT_DATA;
        go_rsp = CODE_BASE + 0x1f00;
        guarded(go, ring ? USER_CODE32 : CODE32, CODE_BASE);
        check(last.vector == USER_EXIT && last.cs == (ring ? USER_CODE32 : CODE32)
                  && last.rip == CODE_BASE + sizeof code32 && last.rax == 0x33333334
                  && last.rcx == 7 && last.rdx == 2,
              "32-bit code in ring %d: vector %d RAX %x RCX %x RDX %x", (u64)ring, last.vector,
              last.rax, last.rcx, last.rdx);
    }
    // Addresses wrap at 4 GiB, and limits count.
    static const u8 wrap[] = {0xbb, 0xf0,     0xff, 0xff, 0xff,                 // mov ebx, -16
                              0x2e, 0x8a,     0x83, 0x10, 0,
                              0,    0x80,           // mov al, cs:[ebx + 0x80000010]
                              0xcd, USER_EXIT};
    put_code(wrap, sizeof wrap);
    guarded(go, USER_CODE32, CODE_BASE);
    check(last.vector == USER_EXIT && (u8)last.rax == 0xbb,
          "an address that wraps: vector %d AL %x", last.vector, last.rax);
    AT(FREE(4)) = 0x8040f30000000fff; // limit 0xfff, base 0x80000000
    static const u8 limit[] = {0x8e, 0xd9, // mov ds, ecx
                               0xa1, 0xfc,     0x0f, 0, 0, // mov eax, [0xffc]
                               0xa1, 0xfd,     0x0f, 0, 0, // mov eax, [0xffd]
                               0xcd, USER_EXIT};
    static const u8 load[] = {0xb9, FREE(4) | 3, 0, 0, 0}; // mov ecx, selector
    put_code(load, 5);
    for (unsigned i = 0; i < sizeof limit; i++) low[5 + i] = limit[i];
    go_ss = USER_DATA;
    guarded(go, USER_CODE32, CODE_BASE);
    check(last.vector == GP && last.error == 0 && last.rip == CODE_BASE + 12,
          "a limit: vector %d RIP %x", last.vector, last.rip);
    AT(FREE(4)) = 0x8040f70000000fff; // expands down: above 0xfff
    guarded(go, USER_CODE32, CODE_BASE);
    check(last.vector == GP && last.rip == CODE_BASE + 7,
          "a segment that expands down: vector %d RIP %x", last.vector, last.rip);
    // A write to a read-only segment, a read of an execute-only one, a null one.
    AT(FREE(4)) = 0x8040f10000000fff;
    static const u8 write[] = {0x8e, 0xd9, 0xa3, 0, 0, 0, 0, 0xcd, USER_EXIT};
    for (unsigned i = 0; i < sizeof write; i++) low[5 + i] = write[i];
    guarded(go, USER_CODE32, CODE_BASE);
    check(last.vector == GP && last.rip == CODE_BASE + 7,
          "a write to a read-only segment: vector %d", last.vector);
    low[1] = 0;
    guarded(go, USER_CODE32, CODE_BASE);
    check(last.vector == GP && last.rip == CODE_BASE + 7, "an access by a null selector: vector %d",
          last.vector);
    // BOUND, INTO and far calls exist here.
    static const u8 into[] = {0xb8, 0xff, 0xff, 0xff, 0x7f, 0x40, 0xce, 0xcd, USER_EXIT};
    put_code(into, sizeof into);
    set_gate(OF, (u64)vectors + 16 * OF, 0, 0xee);
    guarded(go, USER_CODE32, CODE_BASE);
    check(last.vector == OF && last.rip == CODE_BASE + 7, "INTO: vector %d", last.vector);
    set_gate(OF, (u64)vectors + 16 * OF, 0, 0x8e);
    // 32-bit ring 3 code calls a 64-bit gate into ring 0.
    set_call_gate(FREE(6), KERNEL_CODE, (u64)gate_target, 3);
    static const u8 gate[] = {0x9a, 0, 0, 0, 0, FREE(6), 0, 0xcd, USER_EXIT};
    put_code(gate, sizeof gate);
    guarded(go, USER_CODE32, CODE_BASE);
    check(last.vector == USER_EXIT && last.cs == USER_CODE32 && last.rip == CODE_BASE + 9
              && seen[1] == USER_CODE32,
          "a call gate from 32-bit code: vector %d error %x RIP %x", last.vector, last.error,
          last.rip);
    // 16-bit code: a base, and IP that wraps to 16 bits.
    AT(FREE(8)) = 0x8000fb000000ffff;
    static const u8 code16[] = {0xb8, 0x34,      0x12, // mov ax, 0x1234
                                0x66, 0x05,      1,    0, 1, 0, // add eax, 0x10001
                                0xe8, 2,         0, // call +2
                                0xcd, USER_EXIT, 0xc3}; // ret
    put_code(code16, sizeof code16);
    low[14] = 0xc3;
    go_rsp = CODE_BASE + 0x1f00;
    guarded(go, FREE(8) | 3, 0);
    check(last.vector == USER_EXIT && last.rax == 0x11121235 && last.rip == 14,
          "16-bit code: vector %d RAX %x RIP %x", last.vector, last.rax, last.rip);
    kernel_pml4[0] = keep;
    kernel_pml4[70] = 0;
    flush_all();
}

void test_segments(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"call gates", call_gates},
        {"descriptors", asking},
        {"compatibility mode", compatibility},
    };
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        begin(parts[i].name);
        parts[i].run();
        end();
    }
}
