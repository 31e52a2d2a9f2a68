// Each exception: its error code, its saved RIP, RF, its stack (SDM Vol. 3A chapter 6).
#include "kernel.h"

static u8 buffer[64] __attribute__((aligned(4096)));

// Runs machine code, followed by RET; says whether it trapped.
static bool run_code(const u8 *bytes, int count) {
    for (int i = 0; i < count; i++) buffer[i] = bytes[i];
    buffer[count] = 0xc3;
    return guarded((void *)buffer, 0, 0);
}
#define CODE(...) run_code((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))
#define expect_trap(vec, err, offset, ...)                                                         \
    do {                                                                                           \
        last.vector = ~0ull;                                                                       \
        CODE(__VA_ARGS__);                                                                         \
        check(last.vector == (vec) && last.error == (err) && last.rip == (u64)buffer + (offset)    \
                  && !(last.rflags & RF) == !!(offset) && last.cs == KERNEL_CODE,                  \
              "line %d: vector %d error %x at +%x flags %x", (u64)__LINE__, last.vector,           \
              last.error, last.rip - (u64)buffer, last.rflags);                                    \
    } while (0)
#define expect_none(...)                                                                           \
    do {                                                                                           \
        bool t = CODE(__VA_ARGS__);                                                                \
        check(!t, "line %d: vector %d error %x", (u64)__LINE__, last.vector, last.error);          \
    } while (0)
// The same for C functions, where RIP does not matter.
#define expect_in(vec, err, fn, x, y)                                                              \
    do {                                                                                           \
        last.vector = ~0ull;                                                                       \
        guarded(fn, x, y);                                                                         \
        check(last.vector == (vec) && last.error == (err), "line %d: vector %d error %x",          \
              (u64)__LINE__, last.vector, last.error);                                             \
    } while (0)

static void undefined(void) {
    expect_trap(UD, 0, 0, 0x0f, 0x0b);                          // ud2
    expect_trap(UD, 0, 0, 0x0f, 0xff, 0xc0);                    // ud0
    expect_trap(UD, 0, 0, 0x0f, 0xb9, 0xc0);                    // ud1
    static const u8 legacy[] = {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f,
                                0x37, 0x3f, 0x60, 0x61, 0xce, 0xd4, 0xd5, 0xd6};
    for (unsigned i = 0; i < sizeof legacy; i++) {              // not in 64-bit mode
        u8 bytes[] = {legacy[i], 0x90, 0x90};
        last.vector = ~0ull;
        run_code(bytes, 3);
        check(last.vector == UD && last.rip == (u64)buffer, "opcode %x: %d", (u64)legacy[i],
              last.vector);
    }
    expect_trap(UD, 0, 0, 0x9a, 0, 0, 0, 0, 0, 0);              // call far immediate
    expect_trap(UD, 0, 0, 0xea, 0, 0, 0, 0, 0, 0);              // jmp far immediate
    expect_trap(UD, 0, 0, 0x82, 0xc0, 0);                       // alias of 0x80
    expect_trap(UD, 0, 0, 0xf0, 0x90);                          // lock nop
    expect_trap(UD, 0, 0, 0xf0, 0x89, 0x04, 0x24);              // lock mov
    expect_trap(UD, 0, 0, 0xf0, 0x01, 0xc0);                    // lock add to a register
    expect_trap(UD, 0, 0, 0xf0, 0x39, 0x04, 0x24);              // lock cmp
    expect_trap(UD, 0, 0, 0x8e, 0xc8);                          // mov to cs
    expect_trap(UD, 0, 0, 0x8e, 0xf0);                          // mov to segment register 6
    expect_trap(UD, 0, 0, 0x0f, 0x20, 0xc8);                    // mov from cr1
    expect_trap(UD, 0, 0, 0x0f, 0x20, 0xe8);                    // mov from cr5
    expect_trap(UD, 0, 0, 0x0f, 0xc7, 0xc8);                    // cmpxchg8b of a register
    expect_trap(UD, 0, 0, 0x8d, 0xc0);                          // lea of a register
    expect_trap(UD, 0, 0, 0x0f, 0x0a);
    expect_trap(UD, 0, 0, 0x0f, 0x04);
    expect_trap(UD, 0, 0, 0x0f, 0xaa);                          // rsm, outside SMM
    expect_trap(UD, 0, 0, 0x0f, 0x01, 0xd0);                    // xgetbv without OSXSAVE
    expect_trap(UD, 0, 0, 0xc7, 0xc8, 0, 0, 0, 0);              // c7 /1
    expect_trap(UD, 0, 0, 0xfe, 0xd0);                          // fe /2
    expect_trap(UD, 0, 0, 0xff, 0xf8);                          // ff /7
    expect_trap(UD, 0, 0, 0x0f, 0x00, 0xf0);                    // 0f 00 /6
    write_cr4(read_cr4() & ~CR4_FSGSBASE);
    expect_trap(UD, 0, 0, 0xf3, 0x48, 0x0f, 0xae, 0xc0);        // rdfsbase without FSGSBASE
    write_cr4(read_cr4() | CR4_DE);
    expect_trap(UD, 0, 0, 0x0f, 0x21, 0xe0);                    // mov from dr4 with DE
    write_cr4(read_cr4() & ~CR4_DE);
    expect_none(0x0f, 0x21, 0xe0);                              // and without: dr6
    // Fifteen bytes are an instruction, sixteen are not.
    expect_none(0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e,
                0x90);
    expect_trap(GP, 0, 0, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e,
                0x2e, 0x2e, 0x2e, 0x90);
}

static void load_mxcsr(u32 *v) { __asm__ volatile("ldmxcsr %0" : : "m"(*v)); }

static void floating_point(void) {
    u64 cr0 = read_cr0(), cr4 = read_cr4();
    write_cr4(cr4 & ~CR4_OSFXSR);
    expect_trap(UD, 0, 0, 0x0f, 0x57, 0xc0);                    // xorps without OSFXSR
    write_cr4(cr4 | CR4_OSFXSR | CR4_OSXMMEXCPT);
    expect_none(0x0f, 0x57, 0xc0);
    write_cr0(cr0 | CR0_TS);
    expect_trap(NM, 0, 0, 0x0f, 0x57, 0xc0);                    // xorps
    expect_trap(NM, 0, 0, 0xd9, 0xe8);                          // fld1
    expect_trap(NM, 0, 0, 0x0f, 0x77);                          // emms
    expect_trap(NM, 0, 0, 0x9b);                                // fwait with MP and TS
    expect_none(0x0f, 0xae, 0xf8);                              // sfence does not care
    write_cr0((cr0 | CR0_TS) & ~CR0_MP);
    expect_none(0x9b);
    __asm__ volatile("clts");
    write_cr0(cr0);
    expect_none(0xd9, 0xe8, 0xdd, 0xd8);                        // fld1; fstp st0
    write_cr0(cr0 | CR0_EM);
    expect_trap(NM, 0, 0, 0xd9, 0xe8);
    expect_trap(UD, 0, 0, 0x0f, 0x57, 0xc0);
    expect_trap(UD, 0, 0, 0x0f, 0x77);
    write_cr0(cr0);
    // #MF comes at the next waiting instruction: fldz; fld1; fdiv; fwait
    static u16 control = 0x37b;
    __asm__ volatile("fninit; fldcw %0" : : "m"(control));
    CODE(0xd9, 0xe8, 0xd9, 0xee, 0xd8, 0xf9);
    expect_trap(MF, 0, 0, 0x9b);
    __asm__ volatile("fninit");
    // #XM: divps with division by zero unmasked: xorps xmm0; xmm1 = 1.0; divps
    static u32 state = 0x1d80;
    __asm__ volatile("ldmxcsr %0" : : "m"(state));
    CODE(0x0f, 0x57, 0xc0, 0x66, 0x0f, 0x76, 0xc9, 0x66, 0x0f, 0x72, 0xd1, 0x1f, 0x0f, 0x5b, 0xc9);
    expect_trap(XM, 0, 0, 0x0f, 0x5e, 0xc8);
    state = 0x1f80;
    __asm__ volatile("ldmxcsr %0" : : "m"(state));
    state = 0xffffffff;
    expect_in(GP, 0, load_mxcsr, &state, 0);
    write_cr4(cr4);
}

static void read_at(u64 a) { (void)*(volatile u8 *)a; }
static void read_by_stack(u64 a) {
    __asm__ volatile("mov %%rbp, %%rbx; mov %0, %%rbp; mov (%%rbp), %%al; mov %%rbx, %%rbp"
                     :
                     : "r"(a)
                     : "rax", "rbx");
}
static void push_by(u64 a) {
    __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; push %%rax; mov %%rbx, %%rsp"
                     :
                     : "r"(a)
                     : "rbx", "memory");
}
static void jump_to(u64 a) { __asm__ volatile("jmp *%0" : : "r"(a)); }
static void return_to(u64 a) { __asm__ volatile("push %0; ret" : : "r"(a)); }
static void load_ds(u64 s) { __asm__ volatile("mov %w0, %%ds" : : "r"(s)); }
static void load_ss(u64 s) { __asm__ volatile("mov %w0, %%ss" : : "r"(s)); }
static void load_fs(u64 s) { __asm__ volatile("mov %w0, %%fs" : : "r"(s)); }
static void load_task(u64 s) { __asm__ volatile("ltr %w0" : : "r"(s)); }
static void load_local(u64 s) { __asm__ volatile("lldt %w0" : : "r"(s)); }
static void read_register(u64 r) { read_msr(r); }
static void load_idt(u64 base) {
    struct __attribute__((packed)) {
        u16 limit;
        u64 base;
    } p = {sizeof idt - 1, base};
    __asm__ volatile("lidt %0" : : "m"(p));
}

static void protection(void) {
    u64 hole = 0x800000000000;              // the first non-canonical address
    expect_in(GP, 0, read_at, hole, 0);
    expect_in(GP, 0, read_at, hole - 1 + (1ull << 63), 0);
    expect_in(SS, 0, read_by_stack, hole, 0);
    idt[SS].type |= 1;                      // its frame needs another stack
    expect_in(SS, 0, push_by, hole + 64, 0);
    idt[SS].type &= ~7;
    expect_in(GP, 0, jump_to, hole, 0);
    expect_in(GP, 0, return_to, hole, 0);
    check(last.rip != hole, "RET to a non-canonical address faults before it jumps");
    // Selectors: beyond the table, of the wrong type or privilege, not present.
    gdt[SCRATCH / 8] = 0x00cf13000000ffff;                      // data, not present
    gdt[SCRATCH / 8 + 1] = 0x00cf99000000ffff;                  // code, execute only
    gdt[SCRATCH / 8 + 2] = 0x00cf91000000ffff;                  // data, read only
    expect_in(GP, 0xfff8, load_ds, 0xfff8, 0);
    expect_in(GP, 0xfff8, load_ds, 0xfffb, 0);
    expect_in(NP, SCRATCH, load_ds, SCRATCH, 0);
    expect_in(GP, SCRATCH + 8, load_ds, SCRATCH + 8, 0);
    expect_in(GP, TASK, load_ds, TASK, 0);
    expect_in(GP, FLAT_DATA, load_ds, FLAT_DATA | 3, 0);
    expect_in(SS, SCRATCH, load_ss, SCRATCH, 0);
    expect_in(GP, SCRATCH + 16, load_ss, SCRATCH + 16, 0);
    expect_in(GP, FLAT_DATA, load_ss, FLAT_DATA | 3, 0);
    expect_in(GP, USER_DATA & ~3, load_ss, USER_DATA & ~3, 0);
    expect_in(GP, 4, load_fs, 4, 0);                            // there is no LDT
    check(!guarded(load_ss, 0, 0), "a null SS in ring 0 of 64-bit mode");
    check(!guarded(load_ds, 3, 0), "a null DS");
    check(!guarded(load_ds, SCRATCH + 16, 0), "a read-only DS");
    check((gdt[SCRATCH / 8 + 2] >> 40 & 1), "the accessed bit of a descriptor");
    load_ds(0);
    load_ss(KERNEL_DATA);
    expect_in(GP, 0, load_task, 0, 0);
    expect_in(GP, TASK, load_task, TASK, 0);                    // busy
    expect_in(GP, FLAT_DATA, load_task, FLAT_DATA, 0);
    expect_in(GP, FLAT_DATA, load_local, FLAT_DATA, 0);
    check(!guarded(load_local, 0, 0), "a null LDT");
    // Registers. With 57-bit addresses in the model they hold what is canonical in these.
    u64 beyond = 1ull << 62;
    expect_in(GP, 0, read_register, 0x12345, 0);
    expect_in(GP, 0, write_msr, EFER, read_msr(EFER) | 1ull << 40);
    expect_in(GP, 0, write_msr, EFER, read_msr(EFER) & ~0x100ull);  // LME while paging
    expect_in(GP, 0, write_msr, 0xc0000100, beyond);            // FS base
    expect_in(GP, 0, write_msr, 0xc0000082, beyond);            // LSTAR
    expect_in(GP, 0, write_cr0, read_cr0() & ~1ull, 0);         // PG without PE
    expect_in(GP, 0, write_cr0, (read_cr0() | 1ull << 29) & ~(1ull << 30), 0);  // NW without CD
    expect_in(GP, 0, write_cr0, read_cr0() | 1ull << 32, 0);
    expect_in(GP, 0, write_cr4, read_cr4() & ~0x20ull, 0);      // PAE in long mode
    expect_in(GP, 0, write_cr4, read_cr4() | 1ull << 63, 0);
    expect_in(GP, 0, write_cr3, read_cr3() | 1ull << 52, 0);
    expect_in(GP, 0, write_cr8, 16, 0);
    expect_in(GP, 0, write_db7, 1ull << 32, 0);
    expect_in(GP, 0, write_db6, 1ull << 32, 0);
    expect_in(GP, 0, load_idt, beyond, 0);
}

static void int_vector(void) { __asm__ volatile("int $0x55"); }
static void divide(void) {
    __asm__ volatile("xor %%edx, %%edx; xor %%ecx, %%ecx; div %%ecx" : : : "rax", "rcx", "rdx");
}
static void breakpoint(void) { __asm__ volatile("int3"); }
static void undefine(void) { __asm__ volatile("ud2"); }

static void gates(void) {
    expect_in(DE, 0, divide, 0, 0);
    expect_trap(BP, 0, 1, 0xcc);
    expect_trap(BP, 0, 2, 0xcd, 3);
    expect_trap(0x55, 0, 2, 0xcd, 0x55);
    struct Gate keep = idt[0x55], ud = idt[UD], de = idt[DE], bp = idt[BP];
    idt[0x55].type &= ~0x8000;
    expect_trap(NP, 0x55 * 8 + 2, 0, 0xcd, 0x55);
    idt[0x55].type = 0x8500;                // a task gate
    expect_trap(GP, 0x55 * 8 + 2, 0, 0xcd, 0x55);
    idt[0x55] = keep;
    idt[0x55].selector = FLAT_DATA;
    expect_trap(GP, FLAT_DATA, 0, 0xcd, 0x55);
    idt[0x55].selector = 0;
    expect_trap(GP, 0, 0, 0xcd, 0x55);
    idt[0x55].selector = CODE32;            // not 64-bit code
    expect_trap(GP, CODE32, 0, 0xcd, 0x55);
    gdt[SCRATCH / 8] = 0x00af1b000000ffff;  // code, not present
    idt[0x55].selector = SCRATCH;
    expect_trap(NP, SCRATCH, 0, 0xcd, 0x55);
    idt[0x55] = keep;
    // From an event that software did not ask for, EXT is set.
    idt[UD].type &= ~0x8000;
    expect_trap(NP, UD * 8 + 3, 0, 0x0f, 0x0b);
    idt[UD] = ud;
    idt[BP].type &= ~0x8000;
    expect_trap(NP, BP * 8 + 2, 0, 0xcc);
    idt[BP] = bp;
    // Contributory upon contributory: a double fault, with error code 0.
    idt[DE].type &= ~0x8000;
    expect_in(DOUBLE, 0, divide, 0, 0);
    idt[DE] = de;
    idt[GP].type &= ~0x8000;
    expect_in(DOUBLE, 0, write_cr8, 16, 0);
    idt[GP].type |= 0x8000;
    idt[PF].type &= ~0x8000;
    expect_in(DOUBLE, 0, read_at, 0x7f0000000000, 0);
    idt[PF].type |= 0x8000;
    // Beyond the limit.
    struct __attribute__((packed)) {
        u16 limit;
        u64 base;
    } p = {0x55 * 16 - 1, (u64)idt};
    __asm__ volatile("lidt %0" : : "m"(p));
    expect_trap(GP, 0x55 * 8 + 2, 0, 0xcd, 0x55);
    p.limit = sizeof idt - 1;
    __asm__ volatile("lidt %0" : : "m"(p));
    // In ring 3 the gate's DPL counts, for INT n and INT3, but not for exceptions.
    run_user(int_vector, 0);
    check(last.vector == GP && last.error == 0x55 * 8 + 2, "INT 0x55 in ring 3: %x", last.error);
    run_user(breakpoint, 0);
    check(last.vector == GP && last.error == BP * 8 + 2, "INT3 in ring 3: %x", last.error);
    set_gate(BP, (u64)vectors + 16 * BP, 0, 0xee);
    run_user(breakpoint, 0);
    check(last.vector == BP, "INT3 in ring 3 by a DPL 3 gate: %d", last.vector);
    idt[BP] = bp;
    run_user(undefine, 0);
    check(last.vector == UD && last.cs == USER_CODE && last.ss == USER_DATA, "UD2 in ring 3");
}

static u64 frame_top, handler_flags;
static bool note_frame(struct Frame *f) {
    frame_top = (u64)(f + 1);
    handler_flags = read_flags();
    return true;
}
static u64 int_at(u64 sp) {
    u64 after;
    __asm__ volatile("mov %%rsp, %%rbx; mov %1, %%rsp; int $0x55; mov %%rsp, %0; mov %%rbx, %%rsp"
                     : "=&r"(after)
                     : "r"(sp)
                     : "rbx", "memory");
    return after;
}

// The frame is aligned to 16 bytes; RSP comes back as it was; IF and TF as the gate has them.
static void frames(void) {
    static u8 area[512] __attribute__((aligned(16)));
    hook = note_frame;
    for (u64 i = 0; i < 16; i++) {
        u64 sp = (u64)area + 400 + i;
        check(int_at(sp) == sp, "RSP after IRETQ");
        check(frame_top == (sp & ~15ull), "a frame below %x ends at %x", sp, frame_top);
    }
    write_flags(read_flags() | IF);
    int_at((u64)area + 400);
    check(!(handler_flags & IF), "IF in an interrupt gate");
    set_gate(0x55, (u64)vectors + 16 * 0x55, 0, 0x8f);
    int_at((u64)area + 400);
    check(handler_flags & IF, "IF in a trap gate");
    write_flags(read_flags() & ~IF);
    // An interrupt stack is used whatever the privilege.
    set_gate(0x55, (u64)vectors + 16 * 0x55, 7, 0x8e);
    static u8 other[512] __attribute__((aligned(16)));
    task.ist[6] = (u64)other + 400;
    check(int_at((u64)area + 400) == (u64)area + 400 && frame_top == (u64)other + 400, "IST 7");
    set_gate(0x55, (u64)vectors + 16 * 0x55, 0, 0x8e);
    hook = 0;
    // No stack for a fault's frame, nor for the fault that this gives: a double fault, by its IST.
    expect_in(DOUBLE, 0, push_by, 0x7f0000000000, 0);
    check(last_cr2 == 0x7f0000000000 - 16 || last_cr2 == 0x7f0000000000 - 8, "CR2 %x", last_cr2);
    task.ist[6] = 0x800000000000;
    set_gate(0x55, (u64)vectors + 16 * 0x55, 7, 0x8e);
    expect_in(SS, 0, int_vector, 0, 0);
    set_gate(0x55, (u64)vectors + 16 * 0x55, 0, 0x8e);
}

static void misaligned(u64 a) {
    __asm__ volatile("mov 1(%0), %%eax" : : "r"(a) : "rax");
    __asm__ volatile("int %0" : : "i"(USER_EXIT));
}

// Alignment checks: ring 3 with AM and AC only.
static void alignment(void) {
    u64 where = AS_USER(buffer);
    for (int i = 0; i < 4; i++) {
        write_cr0(i & 1 ? read_cr0() | CR0_AM : read_cr0() & ~CR0_AM);
        user_flags = i & 2 ? 2 | AC : 2;
        run_user(misaligned, where);
        if (i == 3)
            check(last.vector == ALIGN && last.error == 0, "#AC: %d %x", last.vector, last.error);
        else
            check(last.vector == USER_EXIT, "AM %d AC %d: vector %d", (u64)i & 1, (u64)i >> 1,
                  last.vector);
        user_flags = 2;
    }
    write_flags(read_flags() | AC);
    check(!guarded(load_ds, 0, 0) && !guarded(read_at, (u64)buffer + 1, 0), "AC in ring 0");
    write_flags(read_flags() & ~AC);
    write_cr0(read_cr0() & ~CR0_AM);
}

void test_exceptions(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"undefined instructions", undefined},
        {"floating point", floating_point},
        {"protection", protection},
        {"gates", gates},
        {"frames", frames},
        {"alignment", alignment},
    };
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        begin(parts[i].name);
        parts[i].run();
        end();
    }
}
