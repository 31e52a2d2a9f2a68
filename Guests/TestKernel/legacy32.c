// What 64-bit mode has not: segments with limits, tasks, and virtual-8086 mode (SDM Vol. 3A
// chapters 5 to 7, Vol. 3B chapter 20). 32-bit code without paging.
#include "legacy32.h"

struct TaskState32 legacy_tss __attribute__((aligned(16)));
struct TaskState32 other __attribute__((aligned(16)));
static u64 gdt32[32] __attribute__((aligned(16))), idt_32[0x41] __attribute__((aligned(16)));
static u64 ldt32[4] __attribute__((aligned(16)));
static u8 stack0[4096] __attribute__((aligned(16))), stack1[4096] __attribute__((aligned(16)));

void legacy_check(bool right, u32 line) {
    struct FormTests *t = &form_tests;
    t->checks++;
    if (right || t->failures++ >= 8) return;
    u32 n = t->failures - 1;
    t->first[n].text = (u32) "legacy32.c line %d: vector %d error %x at %x:%x flags %x";
    u32 values[] = {line, legacy_frame.vector, legacy_frame.error, legacy_frame.cs,
                    legacy_frame.eip, legacy_frame.eflags};
    for (int i = 0; i < 6; i++) t->first[n].arguments[i] = values[i];
}
static u64 segment(u32 base, u32 limit, u32 attributes) {
    return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)(attributes & 0xff) << 40
        | (u64)(limit >> 16 & 15) << 48 | (u64)(attributes >> 8 & 15) << 52
        | (u64)(base >> 24) << 56;
}
static u64 gate(u16 selector, u32 offset, u32 type) {
    return (offset & 0xffff) | (u64)selector << 16 | (u64)type << 40 | (u64)(offset >> 16) << 48;
}

static void load_fs(u32 s) { __asm__ volatile("mov %w0, %%fs" : : "r"(s)); }
static void load_ss(u32 s) { __asm__ volatile("mov %w0, %%ss" : : "r"(s)); }
static void pop_fs(u32 s) { __asm__ volatile("push %0; pop %%fs" : : "r"(s)); }
static void read8(u32 a) { __asm__ volatile("mov %%fs:(%0), %%al" : : "r"(a) : "eax"); }
static void read32(u32 a) { __asm__ volatile("mov %%fs:(%0), %%eax" : : "r"(a) : "eax"); }
static void write8(u32 a) { __asm__ volatile("movb $1, %%fs:(%0)" : : "r"(a) : "memory"); }
static void write_code(u32 a) { __asm__ volatile("movb $1, %%cs:(%0)" : : "r"(a) : "memory"); }
static void load_local(u32 s) { __asm__ volatile("lldt %w0" : : "r"(s)); }
static void load_task(u32 s) { __asm__ volatile("ltr %w0" : : "r"(s)); }
static struct __attribute__((packed)) {
    u32 offset;
    u16 selector;
} far;
void call_far(u32 s) {
    far.selector = s;
    __asm__ volatile("lcall *%0" : : "m"(far) : "memory");
}
static void jump_far(u32 s) {
    far.selector = s;
    __asm__ volatile("ljmp *%0" : : "m"(far) : "memory");
}
static void interrupt(void) { __asm__ volatile("int $0x40"); }
static void undefined(void) { __asm__ volatile("ud2"); }
static void return_nested(u32 flags) {
    __asm__ volatile("push %0; popf; iret" : : "r"(flags) : "memory");
}
static void into(u32 a) { __asm__ volatile("add $1, %b0; into" : : "a"(a)); }
static void bound(u32 i) {
    static int limits[2] = {1, 5};
    __asm__ volatile("bound %0, %1" : : "r"(i), "m"(limits));
}

static void set_up(void) {
    gdt32[FLAT_DATA / 8] = segment(0, 0xfffff, 0xc93);
    gdt32[CODE32 / 8] = segment(0, 0xfffff, 0xc9b);
    gdt32[TASK0 / 8] = segment((u32)&legacy_tss, sizeof legacy_tss - 1, 0x89);
    gdt32[TASK1 / 8] = segment((u32)&other, 103, 0x89);
    gdt32[LOCAL / 8] = segment((u32)ldt32, sizeof ldt32 - 1, 0x82);
    gdt32[SMALL / 8] = segment(0, 0xfff, 0x493);
    gdt32[DOWN / 8] = segment(0, 0xfff, 0x497);
    gdt32[DOWN16 / 8] = segment(0, 0xfff, 0x097);
    gdt32[READ_ONLY / 8] = segment(0, 0xfffff, 0xc91);
    gdt32[EXECUTE_ONLY / 8] = segment(0, 0xfffff, 0xc99);
    gdt32[ABSENT / 8] = segment(0, 0xfffff, 0xc13);
    gdt32[DATA3 / 8] = segment(0, 0xfffff, 0xcf3);
    gdt32[CODE3 / 8] = segment(0, 0xfffff, 0xcfb);
    gdt32[TASK_GATE / 8] = gate(TASK1, 0, 0x85);
    gdt32[SHORT_TASK / 8] = segment((u32)&other, 50, 0x89);
    gdt32[ABSENT_TASK / 8] = segment((u32)&other, 103, 0x09);
    gdt32[CODE_16 / 8] = segment(0, 0xffff, 0x09b);
    gdt32[GATE / 8] = gate(CODE32, (u32)undefined, 0x8c);
    gdt32[ABSENT_GATE / 8] = gate(CODE32, (u32)undefined, 0x0c);
    for (int i = 0; i <= 0x40; i++)
        idt_32[i] = gate(CODE32, (u32)legacy_vectors + 16 * i, i == BP || i == 0x40 ? 0xee : 0x8e);
    legacy_tss.esp0 = (u32)stack0 + sizeof stack0;
    legacy_tss.ss0 = FLAT_DATA;
    legacy_tss.map = __builtin_offsetof(struct TaskState32, bits);
    for (unsigned i = 0; i < sizeof legacy_tss.bits; i++) legacy_tss.bits[i] = 0xff;
}

// Loads (selectors, types, levels) and accesses (limits, types).
static void segments(void) {
    EXPECT(load_fs, NOTHING, GP, NOTHING);
    EXPECT(load_fs, TASK0, GP, TASK0);
    EXPECT(load_fs, EXECUTE_ONLY, GP, EXECUTE_ONLY);
    EXPECT(load_fs, ABSENT, NP, ABSENT);
    EXPECT(load_fs, 0x0c, GP, 0x0c); // no LDT
    EXPECT(load_fs, FLAT_DATA | 3, GP, FLAT_DATA);
    EXPECT(pop_fs, NOTHING, GP, NOTHING);
    EXPECT_NONE(load_fs, DATA3 | 3);
    EXPECT_NONE(load_fs, CODE3);
    EXPECT(load_ss, 0, GP, 0);
    EXPECT(load_ss, READ_ONLY, GP, READ_ONLY);
    EXPECT(load_ss, ABSENT, SS, ABSENT);
    EXPECT(load_ss, DATA3, GP, DATA3);
    EXPECT(load_ss, FLAT_DATA | 1, GP, FLAT_DATA);
    EXPECT(load_ss, CODE32, GP, CODE32);
    EXPECT_NONE(load_fs, 0);
    EXPECT(read8, 0, GP, 0);
    EXPECT_NONE(load_fs, SMALL);
    EXPECT_NONE(read8, 0xfff);
    EXPECT(read8, 0x1000, GP, 0);
    EXPECT(read32, 0xffd, GP, 0);
    EXPECT_NONE(read32, 0xffc);
    EXPECT(read32, 0xfffffffe, GP, 0);
    EXPECT_NONE(load_fs, DOWN);
    EXPECT(read8, 0xfff, GP, 0);
    EXPECT_NONE(read8, 0x1000);
    EXPECT(read32, 0xffe, GP, 0);
    EXPECT(read32, 0xfffffffe, GP, 0);
    EXPECT_NONE(load_fs, DOWN16);
    EXPECT(read8, 0xfff, GP, 0);
    EXPECT_NONE(read8, 0xffff);
    EXPECT(read8, 0x10000, GP, 0);
    EXPECT(read32, 0xfffd, GP, 0);
    EXPECT_NONE(load_fs, READ_ONLY);
    EXPECT_NONE(read8, 0x9000);
    EXPECT(write8, 0x9000, GP, 0);
    EXPECT(write_code, 0x9000, GP, 0);
    EXPECT(load_local, FLAT_DATA, GP, FLAT_DATA);
    EXPECT(load_local, LOCAL | 4, GP, LOCAL | 4);
    EXPECT(load_local, NOTHING, GP, NOTHING);
    EXPECT_NONE(load_local, LOCAL);
    ldt32[1] = segment(0, 0xfffff, 0xc93);
    EXPECT_NONE(load_fs, 0x0c);
    EXPECT(load_fs, 0x14, GP, 0x14);
    EXPECT(load_fs, 0x44, GP, 0x44);
    EXPECT_NONE(load_fs, 0);
    EXPECT_NONE(load_local, 0);
    EXPECT(load_task, TASK0, GP, TASK0); // busy
    EXPECT(load_task, FLAT_DATA, GP, FLAT_DATA);
    EXPECT(load_task, 0, GP, 0);
    EXPECT(load_task, ABSENT_TASK, NP, ABSENT_TASK);
    EXPECT(into, 0x7f, OF, 0);
    EXPECT_NONE(into, 1);
    for (u32 i = 0; i < 8; i++)
        if (i >= 1 && i <= 5) EXPECT_NONE(bound, i);
        else EXPECT(bound, i, BR, 0);
}

static void transfers(void) {
    far.offset = 0;
    EXPECT(call_far, 0, GP, 0);
    EXPECT(call_far, FLAT_DATA, GP, FLAT_DATA);
    EXPECT(call_far, CODE3, GP, CODE3);
    EXPECT(call_far, NOTHING, GP, NOTHING);
    EXPECT(call_far, ABSENT_GATE, NP, ABSENT_GATE);
    EXPECT(call_far, GATE, UD, 0);
    EXPECT(call_far, SHORT_TASK, TS, SHORT_TASK);
    EXPECT(call_far, ABSENT_TASK, NP, ABSENT_TASK);
    EXPECT(call_far, TASK0, GP, TASK0);
    far.offset = 0x10000;
    EXPECT(jump_far, CODE_16, GP, 0);
}

void prepare_task(void (*entry)()) {
    other.eip = (u32)entry;
    other.eflags = 2;
    other.esp = (u32)stack1 + sizeof stack1;
    other.cs = CODE32;
    other.ss = other.ds = other.es = other.fs = other.gs = FLAT_DATA;
    other.ldt = other.cr3 = other.trap = 0;
    legacy_hits = 0;
}
static bool is_busy(u16 selector) { return gdt32[selector / 8] >> 41 & 1; }
// After an exception in the other task: back to the first, without a switch.
static void leave_task(void) {
    gdt32[TASK0 / 8] &= ~(2ull << 40);
    gdt32[TASK1 / 8] &= ~(2ull << 40);
    load_task(TASK0);
}

static void tasks(void) {
    prepare_task(legacy_task);
    EXPECT_NONE(call_far, TASK1);
    CHECK(legacy_hits == 1 && other.link == TASK0 && (legacy_flags & NT));
    CHECK(is_busy(TASK0) && !is_busy(TASK1) && !(other.eflags & NT));
    u32 cr0;
    __asm__ volatile("mov %%cr0, %0; clts" : "=r"(cr0));
    CHECK(cr0 & 8); // TS
    prepare_task(legacy_task);
    EXPECT_NONE(call_far, TASK_GATE);
    CHECK(legacy_hits == 1);
    u64 keep = idt_32[0x40];
    prepare_task(legacy_task);
    idt_32[0x40] = gate(TASK1, 0, 0x85);
    EXPECT_NONE(interrupt, 0);
    CHECK(legacy_hits == 1 && other.link == TASK0);
    static const u32 bad[][3] = {{SHORT_TASK, TS, SHORT_TASK}, {ABSENT_TASK, NP, ABSENT_TASK},
                                 {FLAT_DATA, GP, FLAT_DATA}, {TASK0, GP, TASK0}, {0, GP, 0},
                                 {TASK1 | 4, GP, TASK1 | 4}};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        idt_32[0x40] = gate(bad[i][0], 0, 0x85);
        EXPECT(interrupt, 0, bad[i][1], bad[i][2]);
    }
    idt_32[0x40] = gate(TASK1, 0, 0x05);
    EXPECT(interrupt, 0, NP, 0x40 * 8 + 2);
    idt_32[0x40] = keep;
    // Exceptions through task gates: the error code goes to the new stack; EXT where they fail.
    keep = idt_32[GP];
    idt_32[GP] = gate(TASK1, 0, 0x85);
    prepare_task(legacy_fault_task);
    EXPECT_NONE(load_fs, NOTHING);
    CHECK(legacy_hits == 1 && legacy_error == NOTHING);
    CHECK(legacy_stack == (u32)stack1 + sizeof stack1 - 4 && (legacy_tss.eflags & RF));
    idt_32[GP] = keep;
    keep = idt_32[UD];
    idt_32[UD] = gate(FLAT_DATA, 0, 0x85);
    EXPECT(undefined, 0, GP, FLAT_DATA | 1);
    idt_32[UD] = keep;
    // IRET with NT and a back link that is none.
    static const u32 links[] = {FLAT_DATA, TASK1, 0, NOTHING};
    for (unsigned i = 0; i < 4; i++) {
        legacy_tss.link = links[i];
        EXPECT(return_nested, NT | 2, TS, links[i]);
    }
    // What is wrong with the new task faults in it.
    prepare_task(legacy_task);
    other.ds = NOTHING | 8;
    EXPECT(call_far, TASK1, TS, NOTHING | 8);
    u32 task;
    __asm__ volatile("str %0" : "=r"(task));
    CHECK((task & 0xffff) == TASK1 && legacy_frame.eip == (u32)legacy_task && legacy_hits == 0);
    leave_task();
    prepare_task(legacy_task);
    other.trap = 1;
    EXPECT(call_far, TASK1, DB, 0);
    u32 dr6;
    __asm__ volatile("mov %%db6, %0" : "=r"(dr6));
    CHECK((dr6 & 0x8000) && legacy_frame.eip == (u32)legacy_task);
    __asm__ volatile("mov %0, %%db6" : : "r"(0xffff0ff0));
    leave_task();
}

// ---- Virtual-8086 mode: code, how it ends, with which error code, and where.
u32 run86(u32 flags, const u8 *code, int count) {
    for (int i = 0; i < count; i++) ((volatile u8 *)0x8000)[i] = code[i];
    legacy_frame.vector = 999;
    legacy_guarded(legacy_enter86, flags | VM | 2);
    return legacy_frame.vector;
}
static void virtual86(void) {
    EXPECT86(0, GP, 0, 0, 0xfa);                                // cli, with IOPL 0
    CHECK(legacy_frame.ss == 0x900 && legacy_frame.esp == 0x1000 && legacy_frame.ds == 0);
    CHECK(legacy_frame.es86 == 0x11 && legacy_frame.ds86 == 0x22 && legacy_frame.fs86 == 0x33
          && legacy_frame.gs86 == 0x44);
    EXPECT86(0, GP, 0, 0, 0xfb);                                // sti
    EXPECT86(0, GP, 0, 0, 0x9c);                                // pushf
    EXPECT86(0, GP, 0, 0, 0x9d);                                // popf
    EXPECT86(0, GP, 0, 0, 0xcf);                                // iret
    EXPECT86(0, GP, 0, 0, 0xcd, 0x40);                          // int
    EXPECT86(0, BP, 0, 1, 0xcc);                                // int3, whatever IOPL
    EXPECT86(0, GP, 0, 0, 0xcd, 0x03);
    EXPECT86(IOPL3, 0x40, 0, 2, 0xcd, 0x40);
    EXPECT86(IOPL3, UD, 0, 5, 0xfa, 0x9c, 0x58, 0xfb, 0x90, 0x0f, 0x0b);
    EXPECT86(IOPL3, GP, 0x21 * 8 + 2, 0, 0xcd, 0x21);           // a gate of DPL 0
    EXPECT86(IOPL3, GP, 0, 0, 0xf4);                            // hlt
    EXPECT86(IOPL3, GP, 0, 0, 0xe4, 0x60);                      // in: by the map alone
    legacy_tss.bits[0x60 / 8] &= ~1;
    EXPECT86(0, UD, 0, 2, 0xe4, 0x60, 0x0f, 0x0b);
    legacy_tss.bits[0x60 / 8] |= 1;
    EXPECT86(0, UD, 0, 0, 0x0f, 0x00, 0xc0);                    // sldt
    EXPECT86(0, UD, 0, 0, 0x0f, 0x02, 0xc0);                    // lar
    EXPECT86(0, UD, 0, 0, 0x63, 0xc0);                          // arpl
    EXPECT86(0, UD, 0, 0, 0xf0, 0x90);                          // lock nop
    EXPECT86(0, UD, 0, 0, 0xc4, 0xc0);                          // VEX, or les of a register
    EXPECT86(0, UD, 0, 3, 0x0f, 0x01, 0xe0, 0x0f, 0x0b);        // smsw may be
    EXPECT86(0, GP, 0, 0, 0x0f, 0x20, 0xc0);                    // mov from cr0
    EXPECT86(0, GP, 0, 0, 0x0f, 0x30);                          // wrmsr
    EXPECT86(0, GP, 0, 0, 0x0f, 0x06);                          // clts
    EXPECT86(0, GP, 0, 0, 0x0f, 0x09);                          // wbinvd
    EXPECT86(0, UD, 0, 3, 0xa0, 0xff, 0xff, 0x0f, 0x0b);        // the last byte of a segment
    EXPECT86(0, GP, 0, 0, 0xa1, 0xff, 0xff);                    // beyond it
    EXPECT86(0, GP, 0, 0, 0x67, 0x66, 0xa1, 0, 0, 1, 0);
    EXPECT86(AC, UD, 0, 0, 0x0f, 0x0b);
    EXPECT86(0x100, DB, 0, 1, 0x90);                            // TF
    __asm__ volatile("mov %0, %%db6" : : "r"(0xffff0ff0));
    // mov ax, 1234h; mov ds, ax; mov bx, ds; ud2
    EXPECT86(0, UD, 0, 7, 0xb8, 0x34, 0x12, 0x8e, 0xd8, 0x8c, 0xdb, 0x0f, 0x0b);
    CHECK((legacy_frame.ebx & 0xffff) == 0x1234 && legacy_frame.ds86 == 0x1234);
    // A handler must be of level 0.
    u64 keep = idt_32[0x40];
    idt_32[0x40] = gate(CODE3, (u32)undefined, 0xee);
    static const u8 code[] = {0xcd, 0x40};
    CHECK(run86(IOPL3, code, 2) == GP && legacy_frame.error == CODE3);
    idt_32[0x40] = keep;
}

struct __attribute__((packed)) Table {
    u16 limit;
    u32 base;
};

void test_legacy32(void) {
    struct Table keep, table = {sizeof gdt32 - 1, (u32)gdt32};
    struct Table vectors = {sizeof idt_32 - 1, (u32)idt_32};
    set_up();
    __asm__ volatile("sgdt %0" : "=m"(keep));
    __asm__ volatile("lgdt %0; lidt %1" : : "m"(table), "m"(vectors));
    load_task(TASK0);
    segments();
    transfers();
    tasks();
    virtual86();
    virtual_interrupts32();
    load_fs(FLAT_DATA);
    __asm__ volatile("clts; lgdt %0" : : "m"(keep));
}
