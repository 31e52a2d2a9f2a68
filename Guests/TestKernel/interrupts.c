// External interrupts: 8259s, 8254, I/O APIC, local APIC, shadows and priorities (SDM Vol. 3A
// chapter 11; data sheets of the 8259A, 8254 and 82093AA).
#include "interrupts.h"

volatile u64 arrived[256];
static volatile u8 order[64];
static volatile unsigned orders;
volatile u64 stopped_at;                    // RIP of the interrupted instruction
void (*volatile acknowledge)(void);

static bool note(struct Frame *f) {
    if (f->vector < 32) return false;
    arrived[f->vector]++;
    order[orders++ & 63] = f->vector;
    stopped_at = f->rip;
    if (acknowledge) acknowledge();
    return true;
}

void forget(void) {
    for (int i = 0; i < 256; i++) arrived[i] = 0;
    orders = 0;
    hook = note;
}

void settle(void) {
    out8(0x61, (in8(0x61) & ~2) | 1);
    out8(0x43, 0xb0);
    out8(0x42, 1200 & 255), out8(0x42, 1200 >> 8);
    while (!(in8(0x61) & 0x20)) {}
}

// ---- The local APIC, by memory or by MSRs
static bool x2apic;
bool has_x2apic(void) { return cpuid(1, 0).c >> 21 & 1; }
u32 apic_read(u32 r) {
    return x2apic ? read_msr(0x800 + (r >> 4)) : *(volatile u32 *)(0xfee00000ull + r);
}
void apic_write(u32 r, u32 v) {
    if (x2apic) write_msr(0x800 + (r >> 4), v);
    else *(volatile u32 *)(0xfee00000ull + r) = v;
}
void apic_done(void) { apic_write(0xb0, 0); }
void send_self(u8 vector) {
    if (x2apic) write_msr(0x830, 1 << 18 | vector);
    else apic_write(0x300, 1 << 18 | vector);
}
bool in_bits(u32 base, u8 vector) {
    return apic_read(base + (vector >> 5) * 16) >> (vector & 31) & 1;
}

void apic_on(bool x2) {
    x2 &= has_x2apic();
    u64 base = read_msr(0x1b);
    if (x2apic) write_msr(0x1b, base & ~0xc00ull);      // through off: there is no other way
    write_msr(0x1b, (base & ~0xc00ull) | 0x800);
    if (x2) write_msr(0x1b, (base & ~0xc00ull) | 0xc00);
    x2apic = x2;
    apic_write(0xf0, 0x1ff);
    apic_write(0x80, 0);
    apic_write(0x320, 1 << 16);
    apic_write(0x350, 1 << 16);
}

// ---- The 8259s
void pic_start(u8 base, u8 masks) {
    out8(0x20, 0x11), out8(0xa0, 0x11);
    out8(0x21, base), out8(0xa1, base + 8);
    out8(0x21, 4), out8(0xa1, 2);
    out8(0x21, 1), out8(0xa1, 1);
    out8(0x21, masks), out8(0xa1, 0xff);
}
static void pic_done(void) { out8(0x20, 0x20); }

void pit_rate(u8 mode, u16 count) {
    out8(0x43, 0x30 | mode << 1);
    out8(0x40, count), out8(0x40, count >> 8);
}

static void pic(void) {
    apic_on(false);
    apic_write(0x350, 0x700);               // LINT0: the 8259's, ExtINT
    pic_start(0x50, 0xfe);
    forget();
    acknowledge = pic_done;
    pit_rate(2, 1193);
    for (int i = 0; i < 5; i++) {
        while (!arrived[0x50]) wait();
        check(arrived[0x50] >= 1, "the timer by the 8259");
        arrived[0x50] = 0;
    }
    // Masked, the request stays.
    out8(0x21, 0xff);
    arrived[0x50] = 0;
    pit_rate(0, 100);
    settle();
    enable();
    disable();
    check(!arrived[0x50], "a masked request came");
    out8(0x20, 0x0a);
    check(in8(0x20) & 1, "IRR %x", (u64)in8(0x20));
    out8(0x21, 0xfe);
    enable();
    pause_for(10);
    disable();
    check(arrived[0x50] == 1, "an unmasked request: %d", arrived[0x50]);
    // Without an EOI nothing of the same level comes.
    acknowledge = 0;
    pit_rate(0, 100);
    enable();
    settle();
    check(arrived[0x50] == 2, "before the EOI: %d", arrived[0x50]);
    out8(0x20, 0x0b);
    check(in8(0x20) & 1, "ISR %x", (u64)in8(0x20));
    pit_rate(0, 100);
    settle();
    check(arrived[0x50] == 2, "without an EOI: %d", arrived[0x50]);
    pic_done();
    settle();
    check(arrived[0x50] == 3, "after the EOI: %d", arrived[0x50]);
    pic_done();
    disable();
    check(in8(0x21) == 0xfe, "the mask reads back: %x", (u64)in8(0x21));
    out8(0x21, 0xff);
    apic_write(0x350, 1 << 16);
}

u32 io_read(u32 r) {
    *(volatile u32 *)0xfec00000ull = r;
    return *(volatile u32 *)0xfec00010ull;
}
void io_write(u32 r, u32 v) {
    *(volatile u32 *)0xfec00000ull = r;
    *(volatile u32 *)0xfec00010ull = v;
}

static void io_apic(void) {
    apic_on(false);
    pic_start(0x50, 0xff);
    forget();
    acknowledge = apic_done;
    u32 pins = (io_read(1) >> 16 & 0xff) + 1;
    check(pins >= 16 && pins <= 240, "%d pins", (u64)pins);
    u32 id = apic_read(0x20) >> 24;
    io_write(0x10 + 2 * 2 + 1, id << 24);
    io_write(0x10 + 2 * 2, 0x61);
    pit_rate(2, 1193);
    for (int i = 0; i < 5; i++) {
        arrived[0x61] = 0;
        while (!arrived[0x61]) wait();
        check(arrived[0x61] >= 1, "the timer by the I/O APIC");
    }
    io_write(0x10 + 2 * 2, 1 << 16 | 0x61);
    pit_rate(0, 100);
    arrived[0x61] = 0;
    enable();
    settle();
    disable();
    check(!arrived[0x61], "a masked pin");
    for (u32 i = 0; i < pins; i++)
        check(io_read(0x10 + 2 * i) & 1 << 16, "pin %d is masked", (u64)i);
}

static void self(void) {
    for (int mode = 0; mode <= has_x2apic(); mode++) {
        apic_on(mode);
        forget();
        acknowledge = 0;
        send_self(0x71);
        check(in_bits(0x200, 0x71) && !arrived[0x71], "IRR with interrupts off");
        enable();
        pause_for(5);
        check(arrived[0x71] == 1 && in_bits(0x100, 0x71) && !in_bits(0x200, 0x71), "in service: %d",
              arrived[0x71]);
        check((apic_read(0xa0) & 0xf0) == 0x70, "the processor's priority: %x",
              (u64)apic_read(0xa0));
        // Lower and equal classes wait, a higher one comes.
        send_self(0x61);
        send_self(0x7f);
        pause_for(5);
        check(!arrived[0x61] && !arrived[0x7f], "a class that is not higher");
        send_self(0x81);
        pause_for(5);
        check(arrived[0x81] == 1, "a higher class");
        apic_done();
        check(!arrived[0x7f], "after the first EOI");
        apic_done();
        pause_for(5);
        check(arrived[0x7f] == 1 && !arrived[0x61], "after the second EOI");
        apic_done();
        pause_for(5);
        check(arrived[0x61] == 1, "after the third EOI");
        apic_done();
        disable();
        // The task priority, which CR8 shows.
        for (u64 priority = 0; priority < 16; priority++) {
            write_cr8(priority);
            check((apic_read(0x80) & 0xff) == priority << 4, "TPR %x for CR8 %d",
                  (u64)apic_read(0x80), priority);
            check(read_cr8() == priority, "CR8 %d", read_cr8());
            forget();
            send_self(0x95);
            enable();
            pause_for(5);
            check(arrived[0x95] == (priority < 9), "vector 0x95 with CR8 = %d: %d", priority,
                  arrived[0x95]);
            write_cr8(0);
            pause_for(5);
            check(arrived[0x95] == 1, "vector 0x95 after CR8 = 0: %d", arrived[0x95]);
            apic_done();
            disable();
        }
        apic_write(0x80, 0x35);
        check(read_cr8() == 3, "CR8 after TPR: %d", read_cr8());
        apic_write(0x80, 0);
        // All at once: the highest first.
        forget();
        acknowledge = apic_done;
        for (int v = 0x60; v < 0xf0; v += 0x10) send_self(v);
        enable();
        pause_for(10);
        disable();
        check(orders == 9, "%d of nine", (u64)orders);
        for (unsigned i = 0; i < 9; i++)
            check(order[i] == 0xe0 - 0x10 * i, "number %d: %x", (u64)i, (u64)order[i]);
        acknowledge = 0;
    }
    if (!x2apic) return;
    // x2APIC: what is reserved, and the register of its own for this.
    check(guarded(read_msr, 0x80e, 0) == 1 && last.vector == GP, "a reserved x2APIC register");
    check(guarded(write_msr, 0x802, 1) && last.vector == GP, "the read-only x2APIC ID");
    check(guarded(write_msr, 0x80b, 1) && last.vector == GP, "EOI of other than 0");
    forget();
    hook = note;
    write_msr(0x83f, 0x99);
    enable();
    pause_for(5);
    disable();
    check(arrived[0x99] == 1, "SELF IPI");
    apic_done();
    check(guarded(write_msr, 0x1b, (read_msr(0x1b) & ~0xc00ull) | 0x800) && last.vector == GP,
          "x2APIC straight back to xAPIC");
    apic_on(false);
    check((*(volatile u32 *)0xfee00030ull & 0xff) >= 0x10, "the version");
}

static void shadows(void) {
    apic_on(true);
    forget();
    acknowledge = apic_done;
    if (!x2apic) {
        check(true, "");
        return;
    }
    u64 at;
    // STI holds interrupts back for one instruction; a second STI does not prolong it.
    send_self(0x71);
    __asm__ volatile("sti; nop; 1: nop; cli; lea 1b(%%rip), %0" : "=r"(at) : : "memory");
    check(arrived[0x71] == 1 && stopped_at == at, "after STI: at %x, want %x", stopped_at, at);
    send_self(0x71);
    __asm__ volatile("sti; sti; 1: nop; cli; lea 1b(%%rip), %0" : "=r"(at) : : "memory");
    check(arrived[0x71] == 2 && stopped_at == at, "after STI twice: at %x, want %x", stopped_at,
          at);
    // STI; CLI lets nothing through.
    send_self(0x71);
    __asm__ volatile("sti; cli; nop" : : : "memory");
    check(arrived[0x71] == 2, "between STI and CLI");
    __asm__ volatile("pushfq; orq $0x200, (%%rsp); popfq; 1: nop; cli; lea 1b(%%rip), %0"
                     : "=r"(at)
                     :
                     : "memory", "cc");
    check(arrived[0x71] == 3 && stopped_at == at, "POPF has no shadow: at %x, want %x", stopped_at,
          at);
    // MOV SS with interrupts on.
    __asm__ volatile(
        "mov %%ss, %%eax; sti; nop\n"
        "mov $0x83f, %%ecx; mov $0x71, %%ebx; xor %%edx, %%edx; mov %%ss, %%esi; mov %%ebx, %%eax\n"
        "cli; wrmsr; pushfq; orq $0x200, (%%rsp)\n"
        "popfq; 1: mov %%esi, %%ss; nop; cli; lea 1b(%%rip), %0"
        : "=r"(at)
        :
        : "rax", "rbx", "rcx", "rdx", "rsi", "memory", "cc");
    check(arrived[0x71] == 4 && stopped_at == at, "before MOV SS: at %x, want %x", stopped_at, at);
    // HLT wakes, past itself.
    send_self(0x71);
    __asm__ volatile("sti; hlt; 1: cli; lea 1b(%%rip), %0" : "=r"(at) : : "memory");
    check(arrived[0x71] == 5 && stopped_at == at, "HLT: at %x, want %x", stopped_at, at);
    // IRETQ restores IF, and an interrupt may come at once.
    acknowledge = 0;
}

// ---- NMIs, which this processor's APIC sends to itself.
static volatile u64 nmis, nested, nesting, more, wrong_code;
static void send_nmi(void) {
    apic_write(0x310, 0);
    apic_write(0x300, 4 << 8 | 1 << 14);
    pause_for(5);
}
static bool note_nmi(struct Frame *f) {
    if (f->vector != NMI) return false;
    nmis++;
    if (nesting++) nested++;
    for (; more; more--) send_nmi();
    nesting--;
    if (wrong_code) f->cs = wrong_code;
    wrong_code = 0;
    return true;
}

static void non_maskable(void) {
    apic_on(false);
    nmis = nested = 0;
    hook = note_nmi;
    send_nmi();
    check(nmis == 1, "an NMI with IF clear: %d", nmis);
    // Those that come while one is served are one, after its IRET.
    more = 3;
    send_nmi();
    check(nmis == 3 && !nested, "three in the handler of one: %d more, %d in it", nmis - 2, nested);
    // An IRET that faults ends the blocking all the same.
    wrong_code = TASK;
    check(guarded(send_nmi, 0, 0) && last.vector == GP && last.error == TASK,
          "IRET to no code: vector %d error %x", last.vector, last.error);
    check(nmis == 4, "the NMI before it: %d", nmis);
    send_nmi();
    check(nmis == 5, "an NMI after an IRET that faulted: %d", nmis);
    hook = 0;
}

void test_interrupts(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"8259 and 8254", pic},
        {"I/O APIC", io_apic},
        {"local APIC", self},
        {"x2APIC registers", extended_apic},
        {"xAPIC registers", legacy_apic},
        {"x87 exceptions by IRQ 13", coprocessor},
        {"shadows", shadows},
        {"NMIs", non_maskable},
    };
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        begin(parts[i].name);
        parts[i].run();
        disable();
        hook = 0;
        end();
    }
}
