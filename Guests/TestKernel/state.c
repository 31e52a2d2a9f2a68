// Extended state, and operands that instructions about paging refuse: XSETBV, XSAVE and XRSTOR
// (SDM Vol. 1 chapter 13), x87 pointers, CR3, INVPCID, MONITOR and MWAIT.
#include "kernel.h"

static u8 area[4096] __attribute__((aligned(64))), other[4096] __attribute__((aligned(64)));
#define BV (*(volatile u64 *)(area + 512))
#define COMPACT (*(volatile u64 *)(area + 520))
#define RESERVED ((volatile u64 *)(area + 528))

static void xsetbv(u32 number, u64 value) {
    __asm__ volatile("xsetbv" : : "c"(number), "a"((u32)value), "d"((u32)(value >> 32)));
}
static void xgetbv(u32 number, u64 *value) {
    u32 a, d;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(number));
    *value = (u64)d << 32 | a;
}
static void xsave(u8 *at, u64 mask) {
    __asm__ volatile("xsave64 (%0)" : : "r"(at), "a"((u32)mask), "d"((u32)(mask >> 32)) : "memory");
}
static void xrstor(u8 *at, u64 mask) {
    __asm__ volatile("xrstor64 (%0)" : : "r"(at), "a"((u32)mask), "d"((u32)(mask >> 32)) : "memory");
}
#define REFUSED(vec, ...) (guarded(__VA_ARGS__) && last.vector == (vec))

static void clear(void) {
    for (unsigned i = 0; i < sizeof area; i++) area[i] = 0;
    *(u32 *)(area + 24) = 0x1f80;
    *(u16 *)area = 0x37f;
}

static void extended_state(void) {
    if (!(cpuid(1, 0).c >> 26 & 1)) {
        check(true, "");
        return;
    }
    u64 cr4 = read_cr4(), value, cr0 = read_cr0();
    write_cr4(cr4 & ~(1ull << 18));
    check(!(cpuid(1, 0).c >> 27 & 1), "OSXSAVE in CPUID");
    check(REFUSED(UD, xgetbv, 0, (u64)&value), "XGETBV without OSXSAVE");
    check(REFUSED(UD, xsetbv, 0, 1), "XSETBV without OSXSAVE");
    check(REFUSED(UD, xsave, (u64)area, 1), "XSAVE without OSXSAVE");
    check(REFUSED(UD, xrstor, (u64)area, 1), "XRSTOR without OSXSAVE");
    write_cr4(cr4 | 1 << 18 | CR4_OSFXSR);
    check(cpuid(1, 0).c >> 27 & 1, "OSXSAVE in CPUID");
    u64 all = cpuid(13, 0).a | (u64)cpuid(13, 0).d << 32;
    check((all & 3) == 3, "the components %x", all);
    for (u64 v = 0; v < 1024; v++) {
        bool may = (v & 1) && !(v & ~all) && (!(v & 4) || (v & 2));
        check(guarded(xsetbv, 0, v) != may, "XCR0 %x", v);
        xgetbv(0, &value);
        if (may) check(value == v, "XCR0 is %x, not %x", value, v);
    }
    for (int bit = 10; bit < 64; bit++)
        check(REFUSED(GP, xsetbv, 0, 1ull << bit | 1), "XCR0 bit %d", (u64)bit);
    check(REFUSED(GP, xsetbv, 1, 1), "XSETBV of register 1");
    check(REFUSED(GP, xgetbv, 2, (u64)&value), "XGETBV of register 2");
    bool has_xgetbv1 = cpuid(13, 1).a >> 2 & 1;
    check(guarded(xgetbv, 1, (u64)&value) != has_xgetbv1, "XGETBV of register 1");
    xsetbv(0, 1);
    check(cpuid(13, 0).b == 576, "the size with x87 alone: %d", (u64)cpuid(13, 0).b);
    xsetbv(0, all);
    check(cpuid(13, 0).b == cpuid(13, 0).c, "the size with all: %d", (u64)cpuid(13, 0).b);
    for (int i = 2; i < 63; i++)
        check((cpuid(13, i).a != 0) == (all >> i & 1), "the size of component %d", (u64)i);
    // What XSAVE writes: the header's first word alone, of it the bits that are asked for.
    clear();
    BV = 1ull << 60 | 3;
    COMPACT = 0x1234;
    RESERVED[0] = 0x5678;
    xsave(area, 1);
    check((BV & ~1ull) == (1ull << 60 | 2) && COMPACT == 0x1234 && RESERVED[0] == 0x5678,
          "the header after XSAVE: %x", BV);
    // Headers.
    clear();
    BV = 3;
    check(!guarded(xrstor, (u64)area, 3), "a good header");
    check(REFUSED(GP, xrstor, (u64)area + 16, 3), "XRSTOR of an area that is not aligned");
    check(REFUSED(GP, xsave, (u64)area + 16, 3), "XSAVE to an area that is not aligned");
    for (int bit = 0; bit < 64; bit++) {
        BV = 1ull << bit;
        bool may = all >> bit & 1;
        check(guarded(xrstor, (u64)area, 3) != may, "XSTATE_BV bit %d", (u64)bit);
        check(guarded(xrstor, (u64)area, 0) != may, "XSTATE_BV bit %d, with nothing asked", (u64)bit);
        BV = 3;
        if (bit < 63) {
            COMPACT = 1ull << bit;
            check(REFUSED(GP, xrstor, (u64)area, 3), "XCOMP_BV bit %d", (u64)bit);
            COMPACT = 0;
        }
        RESERVED[0] = 1ull << bit;
        check(REFUSED(GP, xrstor, (u64)area, 3), "reserved bit %d of the header", (u64)bit);
        RESERVED[0] = 0;
    }
    bool compacts = cpuid(13, 1).a >> 1 & 1;
    COMPACT = 1ull << 63 | 3;
    check(guarded(xrstor, (u64)area, 3) != compacts, "a compacted area");
    COMPACT = 1ull << 63 | 1;
    check(REFUSED(GP, xrstor, (u64)area, 3), "XSTATE_BV beyond XCOMP_BV");
    COMPACT = 0;
    for (int bit = 16; bit < 32; bit++) {
        *(u32 *)(area + 24) = 0x1f80 | 1u << bit;
        check(REFUSED(GP, xrstor, (u64)area, 2), "MXCSR bit %d", (u64)bit);
        check(!guarded(xrstor, (u64)area, 1), "MXCSR bit %d, without SSE", (u64)bit);
    }
    *(u32 *)(area + 24) = 0x1f80;
    // A component that the header has not is put into its initial state.
    BV = 0;
    __asm__ volatile("fld1");
    xrstor(area, 1);
    xsave(other, 1);
    check(*(u16 *)other == 0x37f && *(u16 *)(other + 2) == 0 && other[4] == 0, "x87's initial state");
    write_cr0(cr0 | CR0_TS);
    check(REFUSED(NM, xsave, (u64)area, 3) && REFUSED(NM, xrstor, (u64)area, 3), "with CR0.TS");
    write_cr0(cr0);
    // IA32_XSS has no component.
    bool has_xsaves = cpuid(13, 1).a >> 3 & 1;
    check(guarded(read_msr, 0xda0, 0) != has_xsaves, "IA32_XSS");
    for (int bit = 0; bit < 64; bit++)
        check(REFUSED(GP, write_msr, 0xda0, 1ull << bit), "IA32_XSS bit %d", (u64)bit);
    write_cr4(cr4);
}

// ---- The last x87 instruction (Vol. 1 8.1.8)
static void pointers(void) {
    u64 cr0 = read_cr0(), at;
    write_cr0((cr0 | 1 << 5) & ~(CR0_TS | CR0_EM));
    bool only_at_exceptions = cpuid(7, 0).b >> 6 & 1;
    static double zero;
    static const u16 unmasked = 0x37b;
    __asm__ volatile("fninit; 1: fld1; fnstsw %%ax; fxsave64 (%1); lea 1b(%%rip), %0"
                     : "=r"(at)
                     : "r"(other)
                     : "rax", "memory");
    check(*(u64 *)(other + 8) == at, "FIP %x, not %x", *(u64 *)(other + 8), at);
    if (only_at_exceptions) check(*(u64 *)(other + 16) == 0, "FDP %x", *(u64 *)(other + 16));
    __asm__ volatile("fldcw %3; 1: fdivl (%2); fxsave64 (%1); fnstenv 1024(%1); fnclex; fninit\n"
                     "lea 1b(%%rip), %0"
                     : "=&r"(at)
                     : "r"(other), "r"(&zero), "m"(unmasked)
                     : "memory");
    u16 opcode = *(u16 *)(other + 6);
    check(*(u64 *)(other + 8) == at && *(u64 *)(other + 16) == (u64)&zero, "FIP %x, FDP %x",
          *(u64 *)(other + 8), *(u64 *)(other + 16));
    check((opcode & 0x738) == 0x430, "FOP %x", (u64)opcode);
    check(*(u32 *)(other + 1024 + 12) == (u32)at && *(u32 *)(other + 1024 + 20) == (u32)(u64)&zero,
          "the environment's FIP %x", (u64)*(u32 *)(other + 1024 + 12));
    if (cpuid(7, 0).b >> 13 & 1)
        check(!*(u16 *)(other + 1024 + 16) && !*(u16 *)(other + 1024 + 24), "FCS and FDS");
    // It is not reported by what does not wait; then it is, before it is executed.
    __asm__ volatile("fninit; fxsave64 (%0)" : : "r"(other) : "memory");
    check(*(u64 *)(other + 8) == 0 && *(u64 *)(other + 16) == 0 && *(u16 *)(other + 6) == 0,
          "FNINIT clears them");
    write_cr0(cr0);
}

// ---- What CR3, INVPCID and their kin refuse
static void load_root(u64 v) { __asm__ volatile("mov %0, %%cr3" : : "r"(v) : "memory"); }
static void paging_off(void) { write_cr0(read_cr0() & ~(1ull << 31)); }
static void invalidate(u64 type, u64 *descriptor) {
    __asm__ volatile("invpcid (%1), %0" : : "r"(type), "r"(descriptor) : "memory");
}

static void operands(void) {
    u64 cr3 = read_cr3(), cr4 = read_cr4();
    int bits = cpuid(0x80000008, 0).a & 255;
    for (int bit = bits; bit < 64; bit++)
        check(REFUSED(GP, load_root, cr3 | 1ull << bit, 0) && read_cr3() == cr3, "CR3 bit %d",
              (u64)bit);
    // Without PCIDs the low bits are kept, and mean little.
    for (int bit = 0; bit < 12; bit++)
        check(!guarded(load_root, cr3 | 1ull << bit, 0) && read_cr3() == (cr3 | 1ull << bit),
              "CR3 bit %d", (u64)bit);
    if (cpuid(1, 0).c >> 17 & 1) {
        for (int bit = 0; bit < 12; bit++) {
            load_root(cr3 | 1ull << bit);
            check(REFUSED(GP, write_cr4, cr4 | CR4_PCIDE, 0), "PCIDE with CR3 bit %d", (u64)bit);
        }
        load_root(cr3);
        check(!guarded(write_cr4, cr4 | CR4_PCIDE, 0), "PCIDE");
        check(!guarded(load_root, cr3 | 1ull << 63 | 5, 0) && read_cr3() == (cr3 | 5),
              "bit 63 with PCIDE: CR3 %x", read_cr3());
        check(REFUSED(GP, load_root, cr3 | 1ull << 62, 0), "CR3 bit 62 with PCIDE");
        check(REFUSED(GP, paging_off, 0, 0), "PG off with PCIDE");
        load_root(cr3);
    }
    load_root(cr3);
    if (has_invpcid()) {
        for (int pcids = 0; pcids < 2; pcids++) {
            write_cr4(pcids ? cr4 | CR4_PCIDE : cr4 & ~CR4_PCIDE);
            bool on = read_cr4() & CR4_PCIDE;
            for (u64 type = 0; type < 8; type++) {
                u64 good[2] = {0, 0x1000}, some[2] = {5, 0x1000}, wide[2] = {1 << 12, 0x1000};
                u64 odd[2] = {0, 1ull << 62};
                check(guarded(invalidate, type, (u64)good) == (type > 3), "INVPCID %d", type);
                check(guarded(invalidate, type, (u64)some) == (type > 3 || (type < 2 && !on)),
                      "INVPCID %d of PCID 5, PCIDE %d", type, (u64)on);
                check(REFUSED(GP, invalidate, type, (u64)wide), "INVPCID %d of PCID 4096", type);
                check(guarded(invalidate, type, (u64)odd) == (type > 3 || type == 0),
                      "INVPCID %d of a non-canonical address", type);
            }
            u64 none[2] = {0, 0};
            check(REFUSED(GP, invalidate, 1ull << 32, (u64)none), "a type of 64 bits");
            check(REFUSED(PF, invalidate, 2, SLOT(99)), "INVPCID of an operand that is not there");
        }
        write_cr4(cr4);
    }
    load_root(cr3);
}

void test_state(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"extended state", extended_state},
        {"x87 pointers", pointers},
        {"operands of paging", operands},
    };
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        begin(parts[i].name);
        parts[i].run();
        end();
    }
}
