// The test kernel's common ground: types, processor access, checks, traps and page tables.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "selectors.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

// ---- console.c
void print(const char *format, ...);        // %s %d %x (64-bit) %%
_Noreturn void finish(void);                // ends the run: success if nothing failed
// ---- Checks: begin("name") … check(…) … end() prints PASS or FAIL and counts.
void begin(const char *name);
void end(void);
extern u64 checks, failures;
bool failed_check(void);                    // counts; true while details are still wanted
#define check(condition, ...)                                                                      \
    do {                                                                                           \
        checks++;                                                                                  \
        if (!(condition) && failed_check()) {                                                      \
            print(__VA_ARGS__);                                                                    \
            print("\n");                                                                           \
        }                                                                                          \
    } while (0)

// ---- The processor
#define CR0_MP (1ull << 1)
#define CR0_EM (1ull << 2)
#define CR0_TS (1ull << 3)
#define CR0_WP (1ull << 16)
#define CR0_AM (1ull << 18)
#define CR4_TSD (1ull << 2)
#define CR4_DE (1ull << 3)
#define CR4_PGE (1ull << 7)
#define CR4_OSFXSR (1ull << 9)
#define CR4_OSXMMEXCPT (1ull << 10)
#define CR4_UMIP (1ull << 11)
#define CR4_LA57 (1ull << 12)
#define CR4_FSGSBASE (1ull << 16)
#define CR4_PCIDE (1ull << 17)
#define CR4_SMEP (1ull << 20)
#define CR4_SMAP (1ull << 21)
#define CR4_PKE (1ull << 22)
#define EFER 0xc0000080
#define EFER_NXE (1ull << 11)
#define CF (1ull << 0)
#define ZF (1ull << 6)
#define TF (1ull << 8)
#define IF (1ull << 9)
#define DF (1ull << 10)
#define NT (1ull << 14)
#define RF (1ull << 16)
#define AC (1ull << 18)
enum { DE, DB, NMI, BP, OF, BR, UD, NM, DOUBLE, TS = 10, NP, SS, GP, PF, MF = 16, ALIGN, XM = 19 };

#define CONTROL(name)                                                                              \
    static inline u64 read_##name(void) {                                                          \
        u64 v;                                                                                     \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(v));                                         \
        return v;                                                                                  \
    }                                                                                              \
    static inline void write_##name(u64 v) {                                                       \
        __asm__ volatile("mov %0, %%" #name : : "r"(v) : "memory");                                \
    }
CONTROL(cr0)
CONTROL(cr2)
CONTROL(cr3)
CONTROL(cr4)
CONTROL(cr8)
CONTROL(db0)
CONTROL(db1)
CONTROL(db6)
CONTROL(db7)
#undef CONTROL
static inline u64 read_msr(u32 r) {
    u32 a, d;
    __asm__ volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(r));
    return (u64)d << 32 | a;
}
static inline void write_msr(u32 r, u64 v) {
    __asm__ volatile("wrmsr" : : "c"(r), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}
static inline void write_pkru(u32 v) {
    __asm__ volatile("wrpkru" : : "a"(v), "c"(0), "d"(0) : "memory");
}
static inline u8 in8(u16 p) {
    u8 v;
    __asm__ volatile("in %1, %0" : "=a"(v) : "Nd"(p));
    return v;
}
static inline void out8(u16 p, u8 v) { __asm__ volatile("out %0, %1" : : "a"(v), "Nd"(p)); }
static inline void out32(u16 p, u32 v) { __asm__ volatile("out %0, %1" : : "a"(v), "Nd"(p)); }
static inline u64 read_flags(void) {
    u64 v;
    __asm__ volatile("pushfq; pop %0" : "=r"(v));
    return v;
}
static inline void write_flags(u64 v) {
    __asm__ volatile("push %0; popfq" : : "r"(v) : "cc", "memory");
}
static inline u64 read_tsc(void) {
    u32 a, d;
    __asm__ volatile("rdtsc" : "=a"(a), "=d"(d));
    return (u64)d << 32 | a;
}
static inline void invlpg(u64 va) { __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory"); }
static inline void invpcid(u64 type, u64 pcid, u64 va) {
    u64 d[2] = {pcid, va};
    __asm__ volatile("invpcid %0, %1" : : "m"(d), "r"(type) : "memory");
}
static inline void flush_all(void) {
    u64 cr4 = read_cr4();
    write_cr4(cr4 ^ CR4_PGE);
    write_cr4(cr4);
}
struct CPUID {
    u32 a, b, c, d;
};
static inline struct CPUID cpuid(u32 leaf, u32 sub) {
    struct CPUID r;
    __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(sub));
    return r;
}
static inline bool has_invpcid(void) { return cpuid(7, 0).b >> 10 & 1; }

// ---- traps.c
struct Frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    u64 vector, error, rip, cs, rflags, rsp, ss;
};
struct Gate {
    u16 low, selector, type, middle;
    u32 high, zero;
};
struct __attribute__((packed)) TaskState {
    u32 r0;
    u64 rsp[3], r1, ist[7], r2;
    u16 r3, map;
    u8 bits[8193];
};
extern struct Frame last;                   // the trap that ended the last guarded call
extern u64 last_cr2, trap_count;
extern bool (*hook)(struct Frame *);        // sees a trap first; true: go on with the frame
extern char vectors[];                      // the entry of vector n is at 16 n
extern struct Gate idt[256];
extern struct TaskState task;
extern u64 gdt[];
extern u64 user_stack, user_flags, touched, guard_stack;
void set_gate(int vector, u64 handler, int ist, int type);
void traps_start(void);
bool guarded();                             // (fn, a, b): true if a trap ended fn(a, b)
_Noreturn void guard_return(void);
void enter_user();                          // (rip, argument), to be called by guarded
void enter_user_at();                       // (rip, argument, cs)
void touch_read(), touch_write(), touch_fetch(), user_read(), user_write();
#define USER_ALIAS 0x100000000000ull        // all of the first GiB again, for ring 3
#define AS_USER(p) ((u64)(p) + USER_ALIAS)
// Runs fn(argument) in ring 3 until it traps; USER_EXIT is how it ends well.
static inline void run_user(const void *fn, u64 argument) {
    guarded(enter_user, AS_USER(fn), argument);
}
// The value that a supervisor reads, or FAULTED.
#define FAULTED 0xfa17fa17fa17fa17ull
static inline u64 peek(u64 va) { return guarded(touch_read, va, 0) ? FAULTED : touched; }
static inline bool poke(u64 va, u64 v) { return !guarded(touch_write, va, v); }

// ---- paging.c
#define P 1ull
#define W 2ull
#define U 4ull
#define A 0x20ull
#define D 0x40ull
#define PS 0x80ull
#define G 0x100ull
#define NX (1ull << 63)
#define PAGE 4096ull
#define SLOT(n) ((u64)(n) << 39)            // the address that entry n of the PML4 maps
extern u64 kernel_pml4[512];
u64 *new_page(void);                        // a zeroed page; physical = virtual
void pages_reset(void);                     // frees them all
u64 random64(void);
// The tables from kernel_pml4[slot] down to a page table, all rights above the leaves.
struct Chain {
    u64 va, *pml4e, *pdpt, *pd, *pt;
};
struct Chain new_chain(u64 *pml4, int slot);

extern u64 step;                            // test every step-th case only
void test_access(void), test_keys(void), test_edits(void), test_invalidation(void),
    test_lawful(void), test_memory(void);
void test_forms(void), test_pointers(void), test_legacy(void), test_levels5(void);
void test_access5(u64 *pml5);
extern u64 high_ram;                        // 16 MiB of RAM above 4 GiB, 4 MiB aligned; 0: none
void test_state(void), test_corners(void), test_stepping(void), test_exceptions(void), test_debug(void);
void test_privilege(void), test_segments(void);
void test_interrupts(void), test_timers(void), test_modes(void), test_processors(void);
