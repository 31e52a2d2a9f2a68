// A single step over every class of instruction, and #AC for every kind of operand.
#include "kernel.h"

static u8 buffer[128] __attribute__((aligned(4096)));
static u8 area[1024] __attribute__((aligned(64)));
static struct {
    u64 rip, dr6, flags;
} seen[8];
static unsigned count;

static bool note(struct Frame *f) {
    if (f->vector == 0x55) return true;
    if (f->vector != DB) return false;
    if (count < 8) {
        seen[count].rip = f->rip;
        seen[count].dr6 = read_db6();
        seen[count].flags = f->rflags;
    }
    count++;
    write_db6(0xffff0ff0);
    return true;
}

// RDI is the area, RAX and RCX are zero, RDX is a port, RBX and RBP are saved.
__attribute__((naked)) static void call_buffer() {
    __asm__ volatile("push %%rbx; push %%rbp; xor %%eax, %%eax; xor %%ecx, %%ecx; mov $0x61, %%edx\n"
                     "mov %%rdi, %%rsi; call *code_at(%%rip); pop %%rbp; pop %%rbx; ret"
                     :
                     : "i"(0));
}
__attribute__((used)) static void *code_at = buffer;

static const u8 on[] = {0x9c, 0x80, 0x4c, 0x24, 1, 1, 0x9d};           // pushfq; or; popfq
static const u8 off[] = {0x9c, 0x80, 0x64, 0x24, 1, 0xfe, 0x9d, 0xc3}; // pushfq; and; popfq; ret

// How many traps there are from the instruction on, three of which are those of `off`.
static u64 step_over(const u8 *code, int length) {
    int n = 0;
    for (unsigned i = 0; i < sizeof on; i++) buffer[n++] = on[i];
    for (int i = 0; i < length; i++) buffer[n++] = code[i];
    for (unsigned i = 0; i < sizeof off; i++) buffer[n++] = off[i];
    write_db6(0xffff0ff0);
    count = 0;
    hook = note;
    bool trapped = guarded(call_buffer, area, 0);
    hook = 0;
    return trapped ? 1000 + last.vector : count;
}

static void steps(void) {
    static const struct {
        u8 length, traps, code[10];         // the traps beside the three of `off`
    } list[] = {
        {1, 1, {0x90}}, {2, 1, {0xff, 0xc0}}, {3, 1, {0x48, 0x8b, 0x07}}, {2, 1, {0x89, 0x07}},
        {2, 1, {0x0f, 0xa2}},               // cpuid
        {2, 1, {0x0f, 0x31}},               // rdtsc
        {1, 1, {0xec}},                     // in al, dx
        {3, 1, {0x0f, 0x20, 0xc0}},         // mov from cr0
        {3, 1, {0x0f, 0x20, 0xd8}},         // mov from cr3
        {6, 2, {0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8}}, // and back: a flush
        {6, 2, {0x0f, 0x20, 0xe0, 0x0f, 0x22, 0xe0}}, // cr4
        {6, 2, {0x0f, 0x20, 0xc0, 0x0f, 0x22, 0xc0}}, // cr0
        {3, 1, {0x0f, 0x21, 0xf8}},         // mov from dr7
        {3, 1, {0x0f, 0x01, 0x3f}},         // invlpg
        {3, 1, {0x0f, 0x01, 0x07}},         // sgdt
        {6, 2, {0x0f, 0x01, 0x07, 0x0f, 0x01, 0x17}}, // and lgdt
        {3, 1, {0x0f, 0x01, 0xe0}},  // smsw eax
        {2, 1, {0x0f, 0x06}},               // clts
        {2, 1, {0x0f, 0x09}},               // wbinvd
        {7, 2, {0xb9, 0x77, 2, 0, 0, 0x0f, 0x32}}, // mov ecx; rdmsr
        {9, 3, {0xb9, 0x77, 2, 0, 0, 0x0f, 0x32, 0x0f, 0x30}}, // and wrmsr
        {1, 1, {0xfa}}, {1, 1, {0xfc}}, {1, 1, {0x9c}},
        {2, 1, {0xeb, 0}},                  // jmp
        {2, 1, {0x75, 0}}, {2, 1, {0x74, 0}}, {2, 1, {0xe3, 0}},
        {6, 2, {0xe8, 0, 0, 0, 0, 0x58}},   // call; pop rax
        {2, 2, {0x6a, 0}}, {2, 2, {0x50, 0x58}}, {2, 2, {0x0f, 0xa0}},
        {2, 1, {0xf3, 0xa4}},               // rep movsb of nothing
        {1, 1, {0xa4}}, {1, 1, {0xae}}, {1, 1, {0xd7}},
        {3, 1, {0x0f, 0xb1, 0x17}},         // cmpxchg
        {3, 1, {0x0f, 0xc7, 0x0f}},         // cmpxchg8b
        {2, 1, {0xd9, 0xe8}}, {2, 1, {0xdb, 0xe3}}, {1, 1, {0x9b}}, {2, 1, {0xd9, 0x3f}},
        {3, 1, {0x0f, 0x57, 0xc0}}, {3, 1, {0x0f, 0x10, 0x07}}, {3, 1, {0x0f, 0xae, 0x07}},
        {3, 1, {0x0f, 0xae, 0xf0}}, {2, 1, {0xf3, 0x90}}, {3, 1, {0x0f, 0x00, 0xc8}},
        {3, 1, {0x0f, 0x02, 0xc0}}, {3, 1, {0x0f, 0x00, 0xe0}},
        {2, 1, {0xcd, 0x55}},               // int: its handler is not stepped, what follows is
        {2, 1, {0x8c, 0xd0}},               // mov eax, ss
        {4, 1, {0x8c, 0xd0, 0x8e, 0xd0}},   // and back: one trap less
    };
    u64 cr4 = read_cr4();
    write_cr4(cr4 | CR4_OSFXSR);
    for (unsigned i = 0; i < sizeof list / sizeof *list; i++) {
        // PUSH without POP leaves something on the stack that OFF must not meet.
        u8 code[12];
        int length = list[i].length, expected = list[i].traps;
        for (int k = 0; k < length; k++) code[k] = list[i].code[k];
        if ((code[0] == 0x6a || code[0] == 0x9c) || (code[0] == 0x0f && code[1] == 0xa0)) {
            code[length++] = 0x58;          // pop rax
            if (code[0] == 0x9c) expected++;
        }
        // INT is not followed by a trap of its own; nor is MOV SS.
        bool isInterrupt = code[0] == 0xcd, isStack = length == 4 && code[2] == 0x8e;
        u64 traps = step_over(code, length);
        u64 want = (u64)expected + 3 - (isInterrupt ? 1 : 0);
        check(traps == want, "%d traps of %x %x, want %d", traps, (u64)code[0], (u64)code[1], want);
        u64 first = (u64)buffer + sizeof on;
        bool inside = seen[0].rip > first && seen[0].rip <= first + length + 1;
        check((inside || isStack) && seen[0].dr6 == 0xffff4ff0 && (seen[0].flags & TF)
                  && !(seen[0].flags & RF),
              "step over %x %x: at +%x, DR6 %x flags %x", (u64)code[0], (u64)code[1],
              seen[0].rip - first, seen[0].dr6, seen[0].flags);
    }
    // An exception inside is no step; RF is in its frame.
    static const u8 ud[] = {0x0f, 0x0b};
    check(step_over(ud, 2) == 1000 + UD && (last.rflags & RF) && (last.rflags & TF), "UD2 stepped");
    write_cr4(cr4);
}

// ---- #AC: ring 3 with AM and AC.
static u8 user_code[32] __attribute__((aligned(64)));
static u64 run_checked(const u8 *bytes, int length, u64 argument) {
    for (int i = 0; i < length; i++) user_code[i] = bytes[i];
    user_code[length] = 0xcd;
    user_code[length + 1] = USER_EXIT;
    run_user(user_code, argument);
    return last.vector;
}

static void alignment(void) {
    // Instructions with an operand at [rdi], and what it must be aligned to; 1: never checked.
    static const struct {
        u8 length, aligned, code[6];
    } list[] = {
        {2, 1, {0x8a, 0x07}}, {3, 2, {0x66, 0x8b, 0x07}}, {2, 4, {0x8b, 0x07}},
        {3, 8, {0x48, 0x8b, 0x07}}, {3, 8, {0x48, 0x89, 0x07}}, {3, 8, {0x48, 0x01, 0x07}},
        {3, 8, {0x48, 0x87, 0x07}}, {3, 8, {0x0f, 0xc7, 0x0f}}, {2, 4, {0xd9, 0x07}},
        {2, 8, {0xdd, 0x07}}, {2, 2, {0xdf, 0x07}}, {2, 8, {0xdb, 0x2f}}, {2, 2, {0xd9, 0x2f}},
        {4, 4, {0xf3, 0x0f, 0x10, 0x07}}, {4, 8, {0xf2, 0x0f, 0x10, 0x07}},
        {4, 8, {0xf2, 0x0f, 0x58, 0x07}}, {4, 4, {0x66, 0x0f, 0x6e, 0x07}},
        {3, 8, {0x0f, 0x6f, 0x07}}, {3, 8, {0x0f, 0x12, 0x07}}, {3, 8, {0x0f, 0x13, 0x07}},
        {3, 4, {0x0f, 0xae, 0x1f}}, {2, 8, {0xff, 0x37}},
    };
    u64 cr0 = read_cr0(), cr4 = read_cr4();
    write_cr4(cr4 | CR4_OSFXSR);
    write_cr0(cr0 | CR0_AM);
    for (unsigned i = 0; i < sizeof list / sizeof *list; i++)
        for (u64 at = 0; at < 16; at++)
            for (int ac = 0; ac < 2; ac++) {
                __asm__ volatile("fninit");
                user_flags = ac ? 2 | AC : 2;
                u64 how = run_checked(list[i].code, list[i].length, AS_USER(area) + 64 + at);
                bool faults = ac && at % list[i].aligned;
                check(how == (faults ? ALIGN : USER_EXIT) && (!faults || last.error == 0),
                      "%x %x at +%d with AC %d: %d", (u64)list[i].code[0], (u64)list[i].code[1],
                      at, (u64)ac, how);
            }
    user_flags = 2;
    write_cr0(cr0);
    write_cr4(cr4);
}

void test_stepping(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"a step over each instruction", steps},
        {"alignment of each operand", alignment},
    };
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        begin(parts[i].name);
        parts[i].run();
        end();
    }
}
