// What few programs do: LOCK on everything, non-canonical operands of every kind, each bit of the
// control and model-specific registers, and features against what CPUID says of them.
#include "kernel.h"

static u8 buffer[64] __attribute__((aligned(4096)));
static u8 area[1024] __attribute__((aligned(64)));

__attribute__((naked)) static void call_with() {
    // RDI and RAX are the first argument, RBP the second; the code may change what it likes.
    __asm__ volatile("push %%rbx; push %%rbp; push %%r12; mov %%rsi, %%rbp; mov %%rdi, %%rax\n"
                     "xor %%ecx, %%ecx; xor %%edx, %%edx; call *buffer_address(%%rip)\n"
                     "pop %%r12; pop %%rbp; pop %%rbx; ret"
                     :
                     : "i"(0));
}
__attribute__((used)) static void *buffer_address = buffer;

// Runs machine code and says how it ended: the vector, or NONE.
#define NONE 0x100
static u64 run(const u8 *bytes, int count, u64 rdi, u64 rbp) {
    for (int i = 0; i < count; i++) buffer[i] = bytes[i];
    buffer[count] = 0xc3;
    return guarded(call_with, rdi, rbp) ? last.vector : NONE;
}
#define RUN(rdi, rbp, ...)                                                                         \
    run((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}), rdi, rbp)

// ---- LOCK (Vol. 2A, LOCK): what may have it, with a destination in memory.
static bool may_lock(int map, int opcode, int reg) {
    if (!map) {
        if (opcode < 0x38) return (opcode & 7) < 2;             // ADD … XOR r/m, r
        if (opcode == 0x80 || opcode == 0x81 || opcode == 0x83) return reg != 7;
        if (opcode == 0x86 || opcode == 0x87) return true;      // XCHG
        if (opcode == 0xf6 || opcode == 0xf7) return reg == 2 || reg == 3;
        if (opcode == 0xfe || opcode == 0xff) return reg < 2;
        return false;
    }
    switch (opcode) {
    case 0xab: case 0xb3: case 0xbb:                            // BTS, BTR, BTC
    case 0xb0: case 0xb1: case 0xc0: case 0xc1: return true;    // CMPXCHG, XADD
    case 0xba: return reg >= 5;
    case 0xc7: return reg == 1;                                 // CMPXCHG8B
    }
    return false;
}

static void locks(void) {
    static const u8 plain[] = {0x00, 0x01, 0x02, 0x03, 0x08, 0x09, 0x0a, 0x10, 0x11, 0x13, 0x18,
                               0x19, 0x20, 0x21, 0x28, 0x29, 0x2b, 0x30, 0x31, 0x38, 0x39, 0x3b,
                               0x80, 0x81, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b,
                               0xc0, 0xc1, 0xc6, 0xc7, 0xd0, 0xd1, 0xd2, 0xd3, 0xf6, 0xf7, 0xfe,
                               0xff};
    static const u8 escaped[] = {0x40, 0x90, 0xa3, 0xa4, 0xa5, 0xab, 0xac, 0xaf, 0xb0, 0xb1, 0xb3,
                                 0xb6, 0xba, 0xbb, 0xbc, 0xbd, 0xbe, 0xc0, 0xc1, 0xc7, 0x10, 0x28,
                                 0x6f, 0xae};
    for (int map = 0; map < 2; map++)
        for (unsigned i = 0; i < (map ? sizeof escaped : sizeof plain); i++)
            for (int reg = 0; reg < 8; reg++)
                for (int form = 0; form < 2; form++) {
                    u8 code[12] = {0xf0};
                    int n = 1, opcode = map ? escaped[i] : plain[i];
                    // RSP is no good operand, and these call and jump.
                    if (!map && opcode == 0xff && reg >= 2 && reg < 7) continue;
                    if (map) code[n++] = 0x0f;
                    code[n++] = opcode;
                    code[n++] = (form ? 0xc0 : 0) | reg << 3 | (form ? 2 : 7);
                    // Immediates of up to four bytes; NOPs where there is none.
                    for (int k = 0; k < 4; k++) code[n++] = 0x90;
                    if (form == 0 && may_lock(map, opcode, reg)) continue;
                    u64 how = run(code, n, (u64)area, 0);
                    check(how == UD, "LOCK %x %x reg %d form %d: %d", (u64)map, (u64)opcode,
                          (u64)reg, (u64)form, how);
                }
    // What may.
    static const u8 good[][6] = {
        {0xf0, 0x01, 0x17}, {0xf0, 0x09, 0x17}, {0xf0, 0x11, 0x17}, {0xf0, 0x19, 0x17},
        {0xf0, 0x21, 0x17}, {0xf0, 0x29, 0x17}, {0xf0, 0x31, 0x17}, {0xf0, 0x83, 0x07, 1},
        {0xf0, 0x87, 0x17}, {0xf0, 0xf7, 0x17}, {0xf0, 0xf7, 0x1f}, {0xf0, 0xff, 0x07},
        {0xf0, 0xff, 0x0f}, {0xf0, 0x0f, 0xab, 0x17}, {0xf0, 0x0f, 0xb3, 0x17},
        {0xf0, 0x0f, 0xbb, 0x17}, {0xf0, 0x0f, 0xba, 0x2f, 1}, {0xf0, 0x0f, 0xba, 0x37, 1},
        {0xf0, 0x0f, 0xba, 0x3f, 1}, {0xf0, 0x0f, 0xb1, 0x17}, {0xf0, 0x0f, 0xc1, 0x17},
        {0xf0, 0x0f, 0xc7, 0x0f}, {0xf0, 0x48, 0x0f, 0xc7, 0x0f},
    };
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        int n = good[i][1] == 0x83 || good[i][2] == 0xba ? (good[i][1] == 0x83 ? 4 : 5)
            : good[i][1] == 0x48 ? 5 : good[i][1] == 0x0f ? 4 : 3;
        check(run(good[i], n, (u64)area, 0) == NONE, "LOCK %x %x: %d", (u64)good[i][1],
              (u64)good[i][2], last.vector);
    }
}

// ---- Non-canonical operands (Vol. 1 3.3.7.1): #SS where the stack segment is meant, else #GP.
static void noncanonical(void) {
    // Instructions with a ModRM operand, which is put at [rdi], then at [rbp].
    static const struct {
        u8 count, code[5];                  // the last byte is the reg field, in place
    } list[] = {
        {2, {0x8b, 0x08}}, {2, {0x89, 0x08}}, {2, {0x01, 0x08}}, {2, {0xff, 0x30}},
        {2, {0x8f, 0x00}}, {2, {0xff, 0x10}}, {2, {0xff, 0x20}}, {2, {0xf7, 0x20}},
        {2, {0xd1, 0x20}}, {3, {0x0f, 0xa3, 0x08}}, {3, {0x0f, 0xab, 0x08}},
        {3, {0x0f, 0xb1, 0x08}}, {3, {0x0f, 0xc7, 0x08}}, {4, {0x48, 0x0f, 0xc7, 0x08}},
        {3, {0x0f, 0xb6, 0x08}}, {3, {0x0f, 0x44, 0x08}}, {3, {0x0f, 0x90, 0x00}},
        {2, {0xd9, 0x00}}, {2, {0xdd, 0x18}}, {2, {0xdb, 0x28}}, {2, {0xd9, 0x28}},
        {3, {0x0f, 0x10, 0x00}}, {3, {0x0f, 0x11, 0x00}}, {4, {0xf3, 0x0f, 0x6f, 0x00}},
        {4, {0x66, 0x0f, 0x6e, 0x00}}, {4, {0xf2, 0x0f, 0x58, 0x00}}, {3, {0x0f, 0xae, 0x00}},
        {3, {0x0f, 0xae, 0x10}}, {3, {0x0f, 0xae, 0x18}}, {3, {0x0f, 0x6f, 0x00}},
        {3, {0x0f, 0x01, 0x10}}, {3, {0x0f, 0x01, 0x00}}, {3, {0x0f, 0x00, 0x20}},
        {3, {0x0f, 0x02, 0x08}}, {2, {0x8e, 0x18}}, {2, {0x8c, 0x18}}, {3, {0x0f, 0xc3, 0x08}},
        {3, {0x0f, 0xae, 0x38}}, {2, {0xdf, 0x38}}, {3, {0x0f, 0x50, 0x00}},
    };
    u64 cr4 = read_cr4();
    write_cr4(cr4 | CR4_OSFXSR | CR4_OSXMMEXCPT);
    for (unsigned i = 0; i < sizeof list / sizeof *list - 1; i++)
        for (int form = 0; form < 4; form++) {
            u8 code[12];
            int n = 0;
            // An override does not count in 64-bit mode, but for FS and GS.
            if (form == 2) code[n++] = 0x36;
            if (form == 3) code[n++] = 0x3e;
            for (int k = 0; k < list[i].count; k++) code[n++] = list[i].code[k];
            bool by_rbp = form & 1;
            code[n - 1] |= by_rbp ? 0x45 : 0x07;
            if (by_rbp) code[n++] = 0;
            // Aligned to 16, or #GP comes for another reason.
            u64 bad = 0x800000000000;
            u64 how = run(code, n, by_rbp ? (u64)area : bad, by_rbp ? bad : (u64)area);
            u64 want = by_rbp ? SS : GP;
            check(how == want && last.error == 0, "%x %x at a non-canonical address, form %d: %d",
                  (u64)list[i].code[0], (u64)list[i].code[1], (u64)form, how);
        }
    // At the edge: the last bytes below are canonical, those behind them are not.
    check(RUN(0x7ffffffffffc, 0, 0x48, 0x8b, 0x0f) == PF || last.vector == GP, "at the edge");
    // The stack itself: push, pop, call, ret, leave, enter, iretq, pushf, popf. The fault has a
    // stack of its own.
    set_gate(SS, (u64)vectors + 16 * SS, 1, 0x8e);
    static const u8 stack[][5] = {
        {1, 0x50}, {1, 0x58}, {1, 0xc3}, {1, 0xc9}, {1, 0x9c}, {1, 0x9d}, {2, 0x48, 0xcf},
        {2, 0x48, 0xcb}, {4, 0xc8, 0, 0, 0}, {4, 0xc8, 0, 0, 3}, {2, 0x6a, 0}, {2, 0xff, 0xd5},
        {2, 0x0f, 0xa0}, {2, 0x0f, 0xa1},
    };
    for (unsigned i = 0; i < sizeof stack / sizeof *stack; i++) {
        u8 code[12] = {0x48, 0x89, 0xfc};   // mov rsp, rdi
        int n = 3;
        if (stack[i][1] == 0xc9) code[1] = 0x89, code[2] = 0xfd; // mov rbp, rdi
        for (int k = 0; k < stack[i][0]; k++) code[n++] = stack[i][k + 1];
        u64 how = run(code, n, 0x900000000000, (u64)area + 512);
        check(how == SS && last.error == 0, "%x with a non-canonical stack: %d %x",
              (u64)stack[i][1], how, last.error);
    }
    // ENTER that reads its frames through RBP.
    static const u8 enter[] = {0xc8, 0, 0, 3};
    check(run(enter, 4, 0, 0x900000000000) == SS, "ENTER with a non-canonical RBP: %d",
          last.vector);
    // Branches to such addresses are faults of the branch.
    check(RUN(0x800000000000, 0, 0xff, 0xe0) == GP && last.rip == (u64)buffer, "JMP");
    check(RUN(0x800000000000, 0, 0xff, 0xd0) == GP && last.rip == (u64)buffer, "CALL");
    check(RUN(0x800000000000, 0, 0x50, 0xc3) == GP && last.rip == (u64)buffer + 1, "RET");
    set_gate(SS, (u64)vectors + 16 * SS, 0, 0x8e);
    write_cr4(cr4);
}

// ---- Bits of registers
static bool sets(void (*write)(u64), u64 value) { return !guarded(write, value, 0); }
static void write_register(u32 r, u64 v) { write_msr(r, v); }

static bool feature(u32 leaf, int reg, int bit) {
    struct CPUID c = cpuid(leaf, 0);
    return (reg == 0 ? c.a : reg == 1 ? c.b : reg == 2 ? c.c : c.d) >> bit & 1;
}

static void control_bits(void) {
    // Each bit of CR4 with the feature that it needs: leaf, register, bit.
    static const struct {
        int bit, reg, feature;
        u32 leaf;
    } bits[] = {
        {0, 3, 1, 1}, {1, 3, 1, 1}, {3, 3, 2, 1}, {4, 3, 3, 1}, {6, 3, 7, 1}, {7, 3, 13, 1},
        {9, 3, 24, 1}, {10, 3, 25, 1}, {11, 2, 2, 7}, {13, 2, 5, 1}, {14, 2, 6, 1},
        {16, 1, 0, 7}, {17, 2, 17, 1}, {18, 2, 26, 1}, {20, 1, 7, 7}, {21, 1, 20, 7},
        {22, 2, 3, 7}, {23, 2, 7, 7}, {24, 2, 31, 7},
    };
    u64 cr4 = read_cr4(), cr0 = read_cr0();
    u64 known = 1 << 2 | 1 << 5 | 1 << 8 | 1 << 12;
    for (unsigned i = 0; i < sizeof bits / sizeof *bits; i++) {
        u64 bit = 1ull << bits[i].bit;
        known |= bit;
        bool has = feature(bits[i].leaf, bits[i].reg, bits[i].feature);
        check(sets(write_cr4, cr4 | bit) == has, "CR4 bit %d, feature %d", (u64)bits[i].bit,
              (u64)has);
        write_cr4(cr4);
    }
    for (int i = 0; i < 64; i++)
        if (!(known >> i & 1))
            check(!sets(write_cr4, cr4 | 1ull << i), "reserved bit %d of CR4", (u64)i);
    // LA57 cannot change in IA-32e mode.
    check(!sets(write_cr4, cr4 ^ CR4_LA57), "CR4.LA57 in 64-bit mode");
    for (int i = 32; i < 64; i++) check(!sets(write_cr0, cr0 | 1ull << i), "bit %d of CR0", (u64)i);
    check(!sets(write_cr0, cr0 & ~(1ull << 31)), "CR0.PG in 64-bit mode");
    check(!sets(write_cr0, (cr0 & ~(1ull << 30)) | 1ull << 29), "CR0.NW without CD");
    for (int i = 6; i < 29; i++) {
        if (i == 16 || i == 18) continue;
        check(sets(write_cr0, cr0 | 1ull << i) && read_cr0() == cr0, "bit %d of CR0 is ignored",
              (u64)i);
    }
    // ET is fixed.
    check(sets(write_cr0, cr0 & ~16ull) && read_cr0() == cr0, "CR0.ET");
    write_cr0(cr0);
    for (int i = 4; i < 64; i++) check(!sets(write_cr8, 1ull << i), "bit %d of CR8", (u64)i);
}

static bool writes(u32 r, u64 v) { return !guarded(write_register, r, v); }

static void model_specific(void) {
    static const struct {
        u32 number;
        u64 writable, must;                 // bits that may be set beside those that must
    } registers[] = {
        {0xc0000081, ~0ull, 0}, {0xc0000084, 0xffffffff, 0}, {0x174, ~0ull, 0},
        {0xc0000103, 0xffffffff, 0}, {0x1d9, 2, 0},
    };
    for (unsigned i = 0; i < sizeof registers / sizeof *registers; i++) {
        u64 keep = read_msr(registers[i].number);
        for (int bit = 0; bit < 64; bit++) {
            bool may = registers[i].writable >> bit & 1;
            check(writes(registers[i].number, registers[i].must | 1ull << bit) == may,
                  "MSR %x bit %d", (u64)registers[i].number, (u64)bit);
        }
        write_msr(registers[i].number, keep);
    }
    // Those that hold addresses take canonical ones.
    static const u32 addresses[] = {0x175, 0x176, 0xc0000082, 0xc0000083, 0xc0000100, 0xc0000102};
    int width = feature(7, 2, 16) ? 57 : 48;
    for (unsigned i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        u64 keep = read_msr(addresses[i]);
        for (int bit = 0; bit < 64; bit++) {
            check(writes(addresses[i], 1ull << bit) == (bit < width - 1), "MSR %x bit %d",
                  (u64)addresses[i], (u64)bit);
            check(writes(addresses[i], ~0ull << bit) == (bit < width), "MSR %x from bit %d", (u64)addresses[i],
                  (u64)bit);
            if (bit > width - 1)
                check(!writes(addresses[i], 1ull << bit | 1), "MSR %x", (u64)addresses[i]);
        }
        write_msr(addresses[i], keep);
    }
    u64 efer = read_msr(EFER);
    for (int bit = 0; bit < 64; bit++) {
        bool known = bit == 0 || bit == 10 || bit == 11;
        check(writes(EFER, efer ^ 1ull << bit) == known, "EFER bit %d", (u64)bit);
        write_msr(EFER, efer);
    }
    // PAT: eight types, of which 2, 3 and those beyond 7 do not exist.
    u64 pat = read_msr(0x277);
    for (int byte = 0; byte < 8; byte++)
        for (int type = 0; type < 256; type++) {
            bool may = type < 8 && type != 2 && type != 3;
            u64 value = (pat & ~(0xffull << 8 * byte)) | (u64)type << 8 * byte;
            check(writes(0x277, value) == may, "PAT %d of type %d", (u64)byte, (u64)type);
        }
    write_msr(0x277, pat);
    // Memory types: the default one, ranges, and the fixed ranges; 2, 3 and those beyond 6 do not
    // exist.
    if (feature(1, 3, 12)) {
        int bits = cpuid(0x80000008, 0).a & 255;
        u64 keep = read_msr(0x2ff), ranges = read_msr(0xfe) & 255;
        check(!writes(0xfe, read_msr(0xfe)), "MTRRCAP is for reading");
        for (int type = 0; type < 256; type++) {
            bool may = type < 7 && type != 2 && type != 3;
            check(writes(0x2ff, (keep & ~255ull) | type) == may, "default type %d", (u64)type);
            check(writes(0x200, type) == may, "PHYSBASE of type %d", (u64)type);
            for (int byte = 0; byte < 8; byte++)
                check(writes(0x250, (u64)type << 8 * byte) == may, "fixed type %d", (u64)type);
        }
        write_msr(0x2ff, keep);
        write_msr(0x250, 0x0606060606060606);
        for (u64 n = 0; n < ranges; n++)
            for (int bit = 8; bit < 64; bit++) {
                check(writes(0x200 + 2 * n, 1ull << bit) == (bit >= 12 && bit < bits),
                      "PHYSBASE%d bit %d", n, (u64)bit);
                check(writes(0x201 + 2 * n, 1ull << bit) == (bit >= 11 && bit < bits),
                      "PHYSMASK%d bit %d", n, (u64)bit);
                write_msr(0x200 + 2 * n, 0), write_msr(0x201 + 2 * n, 0);
            }
        for (int bit = 8; bit < 64; bit++)
            check(writes(0x2ff, keep | 1ull << bit) == (bit == 10 || bit == 11),
                  "default type, bit %d", (u64)bit);
        write_msr(0x2ff, keep);
        check(guarded(read_msr, 0x200 + 2 * ranges, 0) || ranges > 32, "a range too many");
    }
    // What exists can be read, and what was read be written, but for what only reads; the rest is
    // #GP(0) both ways.
    static const u32 ranges[][2] = {{0, 0x800}, {0x900, 0x2000}, {0xc0000000, 0xc0002000},
                                    {0xc0010000, 0xc0011000}, {0x40000000, 0x40000100}};
    u64 found = 0;
    for (int r = 0; r < 5; r++)
        for (u32 n = ranges[r][0]; n < ranges[r][1]; n++) {
            if (guarded(read_msr, n, 0)) {
                if (last.vector != GP || last.error) check(0, "MSR %x: %d", (u64)n, last.vector);
                continue;
            }
            found++;
            u64 value = read_msr(n);
            // Time goes on; the rest must be what it was.
            if (n != 0x10) check(read_msr(n) == value, "MSR %x", (u64)n);
        }
    check(found > 15 && found < 90, "%d MSRs", found);
}

// ---- Features: an instruction is undefined exactly where CPUID does not have it.
static void features(void) {
    static const struct {
        u32 leaf;
        int reg, bit, count;
        u8 code[8];
    } list[] = {
        {1, 2, 3, 3, {0x0f, 0x01, 0xc8}},                       // monitor
        {1, 2, 22, 4, {0x0f, 0x38, 0xf0, 0x07}},                // movbe
        {1, 2, 30, 3, {0x0f, 0xc7, 0xf0}},                      // rdrand
        {7, 1, 3, 5, {0xc4, 0xe2, 0x78, 0xf2, 0xc0}},           // andn
        {7, 1, 8, 5, {0xc4, 0xe2, 0x7b, 0xf5, 0xc0}},           // pdep
        {7, 1, 18, 3, {0x0f, 0xc7, 0xf8}},                      // rdseed
        {7, 1, 19, 5, {0x66, 0x0f, 0x38, 0xf6, 0xc0}},          // adcx
        {7, 1, 20, 3, {0x0f, 0x01, 0xca}},                      // clac
        {7, 1, 23, 4, {0x66, 0x0f, 0xae, 0x3f}},                // clflushopt
        {7, 1, 24, 4, {0x66, 0x0f, 0xae, 0x37}},                // clwb
        {7, 1, 29, 4, {0x0f, 0x38, 0xc8, 0xc0}},                // sha1nexte
        {7, 2, 22, 4, {0xf3, 0x0f, 0xc7, 0xf8}},                // rdpid
        {7, 3, 14, 3, {0x0f, 0x01, 0xe8}},                      // serialize
        {1, 2, 1, 6, {0x66, 0x0f, 0x3a, 0x44, 0xc0, 0}},        // pclmulqdq
        {1, 2, 25, 5, {0x66, 0x0f, 0x38, 0xdc, 0xc0}},          // aesenc
        {0x80000001, 3, 27, 3, {0x0f, 0x01, 0xf9}},             // rdtscp
        {1, 2, 5, 3, {0x0f, 0x01, 0xc1}},                       // vmcall
        {0x80000001, 2, 2, 3, {0x0f, 0x01, 0xd9}},              // vmmcall
        {0x80000001, 2, 6, 4, {0x66, 0x0f, 0x79, 0xc0}},        // extrq
        {0x80000001, 2, 16, 5, {0x8f, 0xe9, 0x78, 0x01, 0xc8}}, // blcfill and the like
        {7, 2, 5, 4, {0x66, 0x0f, 0xae, 0xf0}},                 // tpause
        {0x80000001, 3, 31, 4, {0x0f, 0x0f, 0xc0, 0x9e}},       // 3DNow!
        {0x80000008, 1, 0, 3, {0x0f, 0x01, 0xfc}},              // clzero
        {0x80000008, 1, 4, 3, {0x0f, 0x01, 0xfd}},              // rdpru
        {1, 2, 28, 4, {0xc5, 0xfc, 0x57, 0xc0}},                // vxorps
        {7, 1, 16, 6, {0x62, 0xf1, 0x7c, 0x48, 0x57, 0xc0}},    // vxorps of 512 bits
    };
    u64 cr4 = read_cr4();
    bool has_xsave = feature(1, 2, 26);
    write_cr4(cr4 | CR4_OSFXSR | (has_xsave ? 1 << 18 : 0));
    if (feature(1, 2, 28)) __asm__ volatile("xsetbv" : : "a"(7), "c"(0), "d"(0));
    for (unsigned i = 0; i < sizeof list / sizeof *list; i++) {
        u64 how = run(list[i].code, list[i].count, (u64)area, 0);
        bool has = feature(list[i].leaf, list[i].reg, list[i].bit);
        check((how == UD) == !has, "leaf %x register %d bit %d is %d, the instruction ends by %d",
              (u64)list[i].leaf, (u64)list[i].reg, (u64)list[i].bit, (u64)has, how);
    }
    write_cr4(cr4);
    // Instructions that are NOPs, or others, where the feature is not there.
    check(RUN(0, 0, 0xf3, 0x0f, 0x1e, 0xfa) == NONE, "ENDBR64");
    check(RUN(0, 0, 0xf3, 0x0f, 0x1e, 0xc8) == NONE, "RDSSPD");
    check(RUN((u64)area, 0, 0x0f, 0x0d, 0x0f) == NONE, "PREFETCHW");
    check(RUN((u64)area, 0, 0x0f, 0x1c, 0x07) == NONE, "CLDEMOTE");
    check(RUN((u64)area, 0, 0xf3, 0x0f, 0x09) == NONE, "WBNOINVD");
    check(RUN((u64)area, 0, 0xf3, 0x0f, 0x1b, 0x07) == NONE, "BNDMK");
    check(RUN((u64)area, 0, 0x0f, 0x18, 0x27) == NONE, "hint NOP 0F 18 /4");
    check(RUN((u64)area, 0, 0x0f, 0x1f, 0x3f) == NONE, "NOP /7");
    check(RUN((u64)area, 0, 0x0f, 0x19, 0xc0) == NONE, "hint NOP 0F 19");
    check(RUN((u64)area, 0, 0xf3, 0x90) == NONE, "PAUSE");
    check(RUN((u64)area, 0, 0x0f, 0xae, 0xe8) == NONE, "LFENCE");
}

void test_corners(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"LOCK", locks},
        {"non-canonical operands", noncanonical},
        {"control bits", control_bits},
        {"model-specific registers", model_specific},
        {"features", features},
    };
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        begin(parts[i].name);
        parts[i].run();
        end();
    }
}
