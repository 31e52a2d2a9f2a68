// The registers of the local APIC in both modes, level-triggered pins, and x87 exceptions by IRQ 13
// (SDM Vol. 3A chapter 11; data sheet of the 82093AA).
#include "interrupts.h"

// ---- x87 exceptions where CR0.NE is clear: FERR#, IRQ 13, and port 0xf0 (Vol. 1 D.2)
static void coprocessor_done(void) {
    out8(0xf0, 0);
    __asm__ volatile("fwait; fnclex");      // IGNNE# lets it through
    out8(0xa0, 0x20), out8(0x20, 0x20);
}

void coprocessor(void) {
    apic_on(false);
    apic_write(0x350, 0x700);
    pic_start(0x50, 0xfb);
    out8(0xa1, 0xdf);
    forget();
    acknowledge = coprocessor_done;
    u64 cr0 = read_cr0(), at;
    write_cr0(cr0 & ~(1ull << 5 | CR0_TS | CR0_EM));
    static const u16 unmasked = 0x37b;
    for (int i = 0; i < 3; i++) {
        __asm__ volatile("fninit; fldcw %1; fld1; fldz; fdivrp; fnstsw %%ax\n"
                         "sti; nop; nop; 1: fld1; cli; lea 1b(%%rip), %0"
                         : "=r"(at)
                         : "m"(unmasked)
                         : "rax", "memory");
        check(arrived[0x5d] == 1ull + i && stopped_at == at, "IRQ 13: %d at %x, want %x",
              arrived[0x5d], stopped_at, at);
    }
    // What does not wait does not report; nor is it reported where all is masked.
    __asm__ volatile("fninit; fldcw %0; fld1; fldz; fdivrp; sti; fnstsw %%ax; fnclex; fwait; cli"
                     :
                     : "m"(unmasked)
                     : "rax", "memory");
    check(arrived[0x5d] == 3, "IRQ 13 without a pending exception: %d", arrived[0x5d]);
    __asm__ volatile("fninit");
    write_cr0(cr0);
    out8(0x21, 0xff), out8(0xa1, 0xff);
    apic_write(0x350, 1 << 16);
}

// ---- The registers of x2APIC mode: what can be read and written, and which bits.
static bool in_set(u32 r, const u8 *set, int count) {
    for (int i = 0; i < count; i++)
        if (set[i] == r) return true;
    return r >= 0x10 && r < 0x28;
}

void extended_apic(void) {
    static const u8 readable[] = {0x02, 0x03, 0x08, 0x0a, 0x0d, 0x0f, 0x28, 0x30, 0x32, 0x33,
                                  0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3e};
    static const u8 writable[] = {0x08, 0x0b, 0x0f, 0x28, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37,
                                  0x38, 0x3e};
    if (!has_x2apic()) {
        check(!(!guarded(write_msr, 0x1b, read_msr(0x1b) | 0x400)), "EXTD without x2APIC");
        return;
    }
    apic_on(false);
    for (u32 r = 0; r < 0x100; r++) {
        check(guarded(read_msr, 0x800 + r, 0) && last.vector == GP, "xAPIC: reads MSR %x",
              (u64)r + 0x800);
        check(guarded(write_msr, 0x800 + r, 0) && last.vector == GP, "xAPIC: writes MSR %x",
              (u64)r + 0x800);
    }
    apic_on(true);
    for (u32 r = 0; r < 0x100; r++) {
        bool reads = in_set(r, readable, sizeof readable);
        bool writes = in_set(r, writable, sizeof writable) && !(r >= 0x10 && r < 0x28);
        check(guarded(read_msr, 0x800 + r, 0) != reads, "x2APIC: reading MSR %x", (u64)r + 0x800);
        if (r == 0x30 || r == 0x3f) continue;               // these send
        check(guarded(write_msr, 0x800 + r, r == 0x0f ? 0x1ff : r >= 0x32 && r <= 0x37 ? 1 << 16 : 0)
                  != writes, "x2APIC: writing MSR %x", (u64)r + 0x800);
        check(guarded(write_msr, 0x800 + r, 1ull << 32) && last.vector == GP,
              "x2APIC: bit 32 of MSR %x", (u64)r + 0x800);
    }
    // Bits of those that have reserved ones.
    static const struct {
        u32 r, bits;
    } masks[] = {{0x08, 0xff}, {0x32, 0x710ff}, {0x33, 0x117ff}, {0x34, 0x117ff}, {0x35, 0x1f7ff},
                 {0x36, 0x1f7ff}, {0x37, 0x110ff}, {0x3e, 0xb}, {0x3f, 0xff}, {0x28, 0}, {0x0b, 0}};
    for (unsigned i = 0; i < sizeof masks / sizeof *masks; i++)
        for (int bit = 0; bit < 32; bit++) {
            if (masks[i].bits >> bit & 1) continue;
            check(guarded(write_msr, 0x800 + masks[i].r, 1ull << bit) && last.vector == GP,
                  "x2APIC: reserved bit %d of MSR %x", (u64)bit, (u64)masks[i].r + 0x800);
        }
    for (int bit = 0; bit < 32; bit++)
        if (!(0xccfff >> bit & 1))
            check(guarded(write_msr, 0x830, 1ull << bit) && last.vector == GP,
                  "x2APIC: reserved bit %d of ICR", (u64)bit);
    check(apic_read(0xd0) == (1u << (apic_read(0x20) & 15) | apic_read(0x20) >> 4 << 16),
          "the logical ID %x", (u64)apic_read(0xd0));
    // An illegal vector is an error of the sender, seen after a write to ESR.
    apic_write(0x370, 0x9e);
    apic_write(0x280, 0);
    forget();
    acknowledge = apic_done;
    write_msr(0x83f, 5);
    check(apic_read(0x280) == 0, "ESR before it is written: %x", (u64)apic_read(0x280));
    apic_write(0x280, 0);
    check(apic_read(0x280) == 0x20, "ESR: %x", (u64)apic_read(0x280));
    apic_write(0x280, 0);
    check(apic_read(0x280) == 0, "ESR after: %x", (u64)apic_read(0x280));
    enable();
    pause_for(5);
    disable();
    check(arrived[0x9e] == 1, "the error interrupt: %d", arrived[0x9e]);
    apic_write(0x370, 1 << 16);
    // Each way to name oneself.
    u32 id = apic_read(0x20);
    const u64 ways[] = {(u64)id << 32, 0xffffffffull << 32, (u64)apic_read(0xd0) << 32 | 1 << 11,
                        0xffffffffull << 32 | 1 << 11, 1 << 18, 2 << 18};
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        forget();
        write_msr(0x830, ways[i] | 1 << 14 | 0x9f);
        enable();
        pause_for(5);
        disable();
        check(arrived[0x9f] == 1, "an IPI to %x: %d", ways[i], arrived[0x9f]);
    }
    const u64 others[] = {(u64)(id + 1) << 32, (u64)(apic_read(0xd0) ^ 0xffff) << 32 | 1 << 11,
                          0x10001ull << 32 | 1 << 11, 3 << 18};
    if ((cpuid(1, 0).b >> 16 & 255) == 1)
        for (unsigned i = 0; i < sizeof others / sizeof *others; i++) {
            forget();
            write_msr(0x830, others[i] | 1 << 14 | 0x9f);
            enable();
            pause_for(5);
            disable();
            check(!arrived[0x9f], "an IPI to %x, who is not here", others[i]);
        }
    apic_on(false);
}

// ---- xAPIC mode: logical destinations, local vectors while disabled, the base register
void legacy_apic(void) {
    apic_on(false);
    forget();
    acknowledge = apic_done;
    static const struct {
        u32 dfr, ldr, destination;
        bool comes;
    } logical[] = {
        {0xf, 0x01, 0x01, true}, {0xf, 0x01, 0x02, false}, {0xf, 0x82, 0x80, true},
        {0xf, 0x04, 0xff, true}, {0x0, 0x21, 0x21, true}, {0x0, 0x21, 0x22, false},
        {0x0, 0x21, 0x31, false}, {0x0, 0x23, 0x22, true}, {0x0, 0x21, 0xff, true},
    };
    for (unsigned i = 0; i < sizeof logical / sizeof *logical; i++) {
        apic_write(0xe0, logical[i].dfr << 28);
        apic_write(0xd0, logical[i].ldr << 24);
        check(apic_read(0xe0) == (logical[i].dfr << 28 | 0xfffffff), "DFR %x", (u64)apic_read(0xe0));
        arrived[0x9f] = 0;
        apic_write(0x310, logical[i].destination << 24);
        apic_write(0x300, 1 << 14 | 1 << 11 | 0x9f);
        check(!(apic_read(0x300) & 1 << 12), "the IPI is on its way still");
        enable();
        pause_for(5);
        disable();
        check(arrived[0x9f] == logical[i].comes, "DFR %x LDR %x destination %x: %d",
              (u64)logical[i].dfr, (u64)logical[i].ldr, (u64)logical[i].destination, arrived[0x9f]);
    }
    apic_write(0xe0, ~0u), apic_write(0xd0, 0);
    // Disabled by software the masks are set and stay; what is pending stays too.
    send_self(0x9f);
    apic_write(0x320, 0x60);
    apic_write(0xf0, 0xff);
    for (u32 r = 0x320; r <= 0x370; r += 0x10) {
        apic_write(r, 0x60);
        check(apic_read(r) & 1 << 16, "LVT %x can be unmasked", (u64)r);
    }
    check(in_bits(0x200, 0x9f), "a request from before");
    apic_write(0xf0, 0x1ff);
    arrived[0x9f] = 0;
    enable();
    pause_for(5);
    disable();
    check(arrived[0x9f] == 1, "it came after all: %d", arrived[0x9f]);
    // Off by the base register: not in CPUID, and what was set up is gone.
    u64 base = read_msr(0x1b);
    check(base & 0x100, "the bootstrap processor's flag");
    apic_write(0x80, 0x20);
    write_msr(0x1b, base & ~0x800ull);
    check(!(cpuid(1, 0).d >> 9 & 1), "CPUID.APIC while it is off");
    check(*(volatile u32 *)0xfee00030ull == ~0u, "registers while it is off");
    if (has_x2apic())
        check(guarded(write_msr, 0x1b, base | 0xc00) && last.vector == GP, "off to x2APIC");
    check(guarded(write_msr, 0x1b, (base & ~0x800ull) | 0x400) && last.vector == GP,
          "EXTD without EN");
    write_msr(0x1b, base);
    check(cpuid(1, 0).d >> 9 & 1, "CPUID.APIC once it is on");
    check(apic_read(0xf0) == 0xff && apic_read(0x80) == 0, "registers after it was off: %x %x",
          (u64)apic_read(0xf0), (u64)apic_read(0x80));
    for (int bit = 0; bit < 64; bit++) {
        bool known = bit == 8 || bit == 10 || bit == 11 || (bit >= 12 && bit < 36);
        if (!known && bit >= (int)(cpuid(0x80000008, 0).a & 255))
            check(guarded(write_msr, 0x1b, base | 1ull << bit) && last.vector == GP,
                  "bit %d of the base", (u64)bit);
        if (!known && bit < 12)
            check(guarded(write_msr, 0x1b, base | 1ull << bit) && last.vector == GP,
                  "bit %d of the base", (u64)bit);
    }
    // Moved by a page.
    write_msr(0x1b, (base & 0xfff) | 0xfee01000);
    check((*(volatile u32 *)0xfee01030ull & 0xff) >= 0x10, "the version at the new place");
    check(*(volatile u32 *)0xfee00030ull == ~0u, "nothing at the old one");
    write_msr(0x1b, base);
    apic_on(false);
    // A level-triggered pin: while its input is up each EOI brings it again.
    pic_start(0x50, 0xff);
    pit_rate(0, 10);                        // its output stays up
    settle();
    forget();
    acknowledge = 0;
    io_write(0x10 + 2 * 2 + 1, apic_read(0x20) >> 24 << 24);
    io_write(0x10 + 2 * 2, 1 << 15 | 0x62);
    enable();
    pause_for(5);
    check(arrived[0x62] == 1 && io_read(0x10 + 2 * 2) & 1 << 14 && in_bits(0x180, 0x62),
          "a level: %d, entry %x", arrived[0x62], (u64)io_read(0x10 + 2 * 2));
    apic_done();
    pause_for(5);
    check(arrived[0x62] == 2, "once more after the EOI: %d", arrived[0x62]);
    io_write(0x10 + 2 * 2, 1 << 16 | 1 << 15 | 0x62);
    apic_done();
    pause_for(5);
    check(arrived[0x62] == 2 && !(io_read(0x10 + 2 * 2) & 1 << 14), "masked before the EOI: %d",
          arrived[0x62]);
    io_write(0x10 + 2 * 2, 1 << 15 | 0x62);
    pause_for(5);
    check(arrived[0x62] == 3, "unmasked while it is up: %d", arrived[0x62]);
    io_write(0x10 + 2 * 2, 1 << 16 | 0x62);     // an edge from now on: no remote IRR
    check(!(io_read(0x10 + 2 * 2) & 1 << 14), "remote IRR of an edge");
    apic_done();
    disable();
}
