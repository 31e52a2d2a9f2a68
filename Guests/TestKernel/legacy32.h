// What the tests of 32-bit code share (legacy32.c, vme32.c).
#pragma once
#include "forms.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

enum { DB = 1, BP = 3, OF, BR, UD, TS = 10, NP, SS, GP };
#define NT 0x4000u
#define RF 0x10000u
#define VM 0x20000u
#define AC 0x40000u
#define IOPL3 0x3000u

// The descriptors, beside FLAT_DATA and CODE32 of start.S.
enum {
    TASK0 = 0x18, TASK1 = 0x20, LOCAL = 0x28, SMALL = 0x30, DOWN = 0x38, DOWN16 = 0x40,
    READ_ONLY = 0x48, EXECUTE_ONLY = 0x50, ABSENT = 0x58, DATA3 = 0x68, CODE3 = 0x70,
    TASK_GATE = 0x78, SHORT_TASK = 0x80, ABSENT_TASK = 0x88, CODE_16 = 0x90, GATE = 0x98,
    ABSENT_GATE = 0xa0, NOTHING = 0x1000,
};

struct TaskState32 {
    u32 link, esp0, ss0, inner[4], cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    u32 es, cs, ss, ds, fs, gs, ldt;
    u16 trap, map;
    u8 bits[8193];
} __attribute__((packed));
// What an exception left: DS, EBX, then as it is pushed; the last four from virtual-8086 mode.
extern struct {
    u32 ds, ebx, vector, error, eip, cs, eflags, esp, ss, es86, ds86, fs86, gs86, unused;
} legacy_frame;
extern volatile u32 legacy_hits, legacy_flags, legacy_stack, legacy_error;
extern char legacy_vectors[];
bool legacy_guarded();
void legacy_enter86(), legacy_task(), legacy_fault_task();
extern struct TaskState32 legacy_tss, other;

void legacy_check(bool right, u32 line);
void call_far(u32 selector);
void prepare_task(void (*entry)());
// Virtual-8086 mode: runs code at 800:0 and says by which exception it ended.
u32 run86(u32 flags, const u8 *code, int count);
void virtual_interrupts32(void);

#define CHECK(condition) legacy_check(condition, __LINE__)
#define EXPECT(fn, argument, vec, err)                                                             \
    CHECK(legacy_guarded(fn, argument) && legacy_frame.vector == (vec)                             \
          && legacy_frame.error == (err))
#define EXPECT_NONE(fn, argument) CHECK(!legacy_guarded(fn, argument))
#define EXPECT86(flags, vec, err, at, ...)                                                         \
    do {                                                                                           \
        static const u8 code[] = {__VA_ARGS__};                                                    \
        u32 vector = run86(flags, code, sizeof code);                                              \
        CHECK(vector == (vec) && legacy_frame.error == (err) && legacy_frame.eip == (at)           \
              && legacy_frame.cs == 0x800 && (legacy_frame.eflags & VM));                          \
    } while (0)
