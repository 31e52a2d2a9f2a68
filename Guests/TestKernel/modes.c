// Protected mode without paging, 16-bit code, and real mode: modes.S goes through them, and what it
// found is checked here.
#include "kernel.h"

extern u8 low_code[], low_code_end[];
#define LOW ((volatile u8 *)0x8000)
#define RESULTS ((volatile u32 *)0x20000)

void test_modes(void) {
    static const struct {
        u32 want;
        const char *what;
    } results[] = {
        {0x801, "EFER with paging off: LMA clear, LME set (checked by mask)"},
        {0, "the low half of a product"},
        {0, "the high half"},
        {0x00190017, "DAA"},
        {0x25, "AAD"},
        {0x1905, "AAM"},
        {0, "ESP after POPA"},
        {0, "the ESP that PUSHA stored"},
        {13, "beyond a limit: vector"},
        {0, "its error code"},
        {0, "its EIP"},
        {1, "within it"},
        {13, "a selector beyond the table: vector"},
        {0xfff8, "its error code"},
        {4, "INTO"},
        {5, "BOUND"},
        {0x11113333, "16-bit code in protected mode"},
        {90000, "MUL in real mode"},
        {1, "the flags in an INT handler"},
        {6, "its stack"},
        {0, "IP of #DE"},
        {0, "IP of #GP beyond 64 KiB"},
        {0, "IP of #GP across 64 KiB"},
        {0, "IP of #UD"},
        {0, "memory through a 4 GiB segment"},
        {0, "FFFF:0010"},
        {0x12341234, "a string that wraps"},
        {5, "LOOP"},
        {7, "LES and a far call"},
        {0x7cd7, "flags in real mode"},
        {0, "SMSW"},
    };
    begin("modes");
    u64 product = 0x12345678ull * 0x9abcdef0ull;
    gdt[SCRATCH / 8] = 0x0040930000000fff; // limit 0xfff
    gdt[SCRATCH / 8 + 1] = 0x00009b008000ffff; // 16-bit code at LOW
    *(volatile u32 *)0x100000 = 0xfeedface;
    u32 vectors_kept[256];
    for (int i = 0; i < 256; i++) vectors_kept[i] = ((volatile u32 *)8)[i - 2];
    for (int round = 0; round < 3; round++) {
        for (u64 i = 0; i < (u64)(low_code_end - low_code); i++) LOW[i] = low_code[i];
        for (int i = 0; i < 64; i++) RESULTS[i] = 0xdeadbeef;
        u64 flags = read_flags(), cr4 = read_cr4();
        write_cr4(cr4 & ~CR4_PGE);
        ((void (*)(void))(u64)LOW)();
        write_cr4(cr4);
        write_flags(flags);
        for (unsigned i = 0; i < sizeof results / sizeof *results; i++) {
            u32 got = RESULTS[i], want = results[i].want;
            if (i == 0) got &= 0x500, want = 0x100;
            if (i == 1) want = product;
            if (i == 2) want = product >> 32;
            if (i == 24) want = *(volatile u32 *)0x200000;
            if (i == 25) want = 0xfeedface;
            if (i == 30) got &= 0xffff0001, want = (read_cr0() & 0x7fff0000);
            check(got == want, "%s (%d): %x, want %x", results[i].what, (u64)i, (u64)got,
                  (u64)want);
        }
    }
    for (int i = 0; i < 256; i++) ((volatile u32 *)8)[i - 2] = vectors_kept[i];
    end();
}
