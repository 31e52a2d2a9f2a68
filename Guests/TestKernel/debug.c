// #DB: single steps, breakpoints, and what holds them back (SDM Vol. 3B chapter 18).
#include "kernel.h"

enum { MOST = 64 };
static volatile struct {
    u64 rip, dr6, flags;
} seen[MOST];
static volatile unsigned count;

static bool note(struct Frame *f) {
    if (f->vector != DB) return false;
    if (count < MOST) {
        seen[count].rip = f->rip;
        seen[count].dr6 = read_db6();
        seen[count].flags = f->rflags;
    }
    count++;
    write_db6(0xffff0ff0);
    f->rflags |= RF;
    return true;
}

static void start(void) {
    write_db6(0xffff0ff0);
    count = 0;
    hook = note;
}

#define STEP_ON "pushfq; orq $0x100, (%%rsp); popfq\n"
#define STEP_OFF "pushfq; andq $~0x100, (%%rsp); popfq\n"
// Steps from the instruction after the first POPF to the second one, which is stepped over too.

static void steps(void) {
    u64 a, b, c2;
    start();
    __asm__ volatile(STEP_ON "nop; 1: nop; 2: nop; 3:" STEP_OFF
                             "lea 1b(%%rip), %0; lea 2b(%%rip), %1; lea 3b(%%rip), %2"
                     : "=r"(a), "=r"(b), "=r"(c2)
                     :
                     : "memory", "cc");
    // nop, nop, nop, pushfq, and; POPF clears TF, but it was set when POPF began.
    check(count == 6, "%d steps over six instructions", (u64)count);
    check(seen[0].rip == a && seen[1].rip == b && seen[2].rip == c2, "step at %x", seen[0].rip);
    check(seen[0].dr6 == 0xffff4ff0, "DR6 %x", seen[0].dr6);
    check((seen[0].flags & TF) && !(seen[0].flags & RF), "flags %x", seen[0].flags);
    // REP: a trap after each iteration, at the instruction, then one past it.
    static u8 area[16];
    u64 n = 5, d = (u64)area;
    start();
    __asm__ volatile(STEP_ON "3: rep stosb; 4:" STEP_OFF "lea 3b(%%rip), %2; lea 4b(%%rip), %3"
                     : "+c"(n), "+D"(d), "=r"(a), "=r"(b)
                     : "a"(1)
                     : "memory", "cc");
    check(count == 8, "%d steps over REP STOSB of five and three more", (u64)count);
    for (int i = 0; i < 4; i++)
        check(seen[i].rip == a && (seen[i].flags & RF), "step %d of REP, flags %x", (u64)i,
              seen[i].flags);
    check(seen[4].rip == b && !(seen[4].flags & RF), "the last step of REP, flags %x",
          seen[4].flags);
    // MOV SS holds the step back by one instruction.
    start();
    __asm__ volatile("mov %%ss, %%eax;" STEP_ON "mov %%eax, %%ss; nop; 1:" STEP_OFF
                     "lea 1b(%%rip), %0"
                     : "=r"(a)
                     :
                     : "rax", "memory", "cc");
    check(count == 4 && seen[0].rip == a, "%d steps with MOV SS", (u64)count);
    hook = 0;
}

static bool note_any(struct Frame *f) {
    if (f->vector == BP) return true;
    return note(f);
}

static void through_handlers(void) {
    u64 a;
    start();
    hook = note_any;
    __asm__ volatile(STEP_ON "int3; 1: nop; 2:" STEP_OFF "lea 2b(%%rip), %0"
                     : "=r"(a)
                     :
                     : "memory", "cc");
    // The handler runs unstepped; its IRETQ sets TF, so that the NOP is the next step.
    check(count == 4 && seen[0].rip == a, "%d steps across INT3, first %x, want %x", (u64)count,
          seen[0].rip, a);
    hook = 0;
}

static volatile u64 watched[4] __attribute__((aligned(64)));

#define SET_WATCH(address, kind, length)                                                           \
    do {                                                                                           \
        write_db0((u64)(address));                                                                 \
        write_db7(0x400 | 1 | (u64)((length) << 2 | (kind)) << 16);                                \
    } while (0)

static void data(void) {
    static const u64 sizes[] = {0, 1, 3, 2};                    // LEN for 1, 2, 4, 8 bytes
    for (int size = 0; size < 4; size++) {
        u64 bytes = 1ull << size;
        for (u64 at = 0; at < 24; at++) {
            // Writes, watched for writes; reads are not; then reads, watched for both.
            u64 base = (u64)watched + 8;
            SET_WATCH(base, 1, sizes[size]);
            volatile u16 *p = (volatile u16 *)((u64)watched + at);
            bool hit = (u64)p < base + bytes && (u64)p + 2 > base;
            u64 after;
            start();
            __asm__ volatile("movw $1, (%1); 1: lea 1b(%%rip), %0"
                             : "=r"(after)
                             : "r"(p)
                             : "memory");
            check(count == hit, "write of 2 at %d, watching %d: %d traps", at, bytes, (u64)count);
            if (hit)
                check(seen[0].rip == after && seen[0].dr6 == 0xffff0ff1, "DR6 %x RIP %x",
                      seen[0].dr6, seen[0].rip);
            start();
            (void)*p;
            check(count == 0, "a read of %d watched for writes", at);
            SET_WATCH(base, 3, sizes[size]);
            start();
            (void)*p;
            check(count == hit, "a read of %d, watching %d: %d traps", at, bytes, (u64)count);
        }
    }
    write_db7(0x400);
    start();
    watched[1] = 1;
    check(count == 0, "a breakpoint that is off");
    // In a REP, after the iteration that hits.
    SET_WATCH(&watched[1], 1, 0);
    u64 n = 24, d = (u64)watched;
    start();
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(0) : "memory");
    check(count == 1, "%d traps in REP STOSB", (u64)count);
    // A hit by MOV SS waits for the next instruction.
    write_db7(0x400);
    watched[1] = KERNEL_DATA;
    SET_WATCH(&watched[1], 3, 1);
    u64 after;
    start();
    __asm__ volatile("mov (%1), %%ss; nop; 1: lea 1b(%%rip), %0"
                     : "=r"(after)
                     : "r"(&watched[1])
                     : "memory");
    check(count == 1 && seen[0].rip == after, "%d traps at MOV SS", (u64)count);
    write_db7(0x400);
    hook = 0;
}

static void code(void) {
    u64 at;
    __asm__ volatile("lea 1f(%%rip), %0; jmp 2f; 1: mov $7, %%eax; ret; 2:" : "=r"(at));
    SET_WATCH(at, 0, 0);
    for (int i = 0; i < 3; i++) {
        start();
        u64 result;
        __asm__ volatile("call *%1" : "=a"(result) : "r"(at));
        check(count == 1 && seen[0].rip == at && seen[0].dr6 == 0xffff0ff1, "%d hits", (u64)count);
        check(!(seen[0].flags & RF), "RF at an instruction breakpoint: %x", seen[0].flags);
        check(result == 7, "the instruction is done after IRETQ with RF");
    }
    // By guarded, the handler does not go on.
    hook = 0;
    check(guarded((void *)at, 0, 0) && last.vector == DB && last.rip == at,
          "an instruction breakpoint");
    write_db7(0x400);
    // General detect: MOV to a debug register.
    write_db7(0x2400);
    check(guarded(write_db0, 0, 0) && last.vector == DB && (read_db6() & 1 << 13), "DR7.GD: %x",
          read_db6());
    check(last.rflags & RF, "RF at a general-detect fault");
    check(!(read_db7() & 0x2000), "GD is cleared for the handler");
    write_db7(0x400);
    write_db6(0xffff0ff0);
    // INT1, alone in being a trap without bits.
    check(guarded((void *)({
                      static u8 icebp[] = {0xf1, 0xc3};
                      icebp;
                  }),
                  0, 0)
              && last.vector == DB,
          "INT1");
    // Fixed bits.
    write_db6(0);
    check(read_db6() == 0xffff0ff0, "DR6 %x", read_db6());
    write_db7(0);
    check(read_db7() == 0x400, "DR7 %x", read_db7());
}

void test_debug(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"single steps", steps},
        {"steps and handlers", through_handlers},
        {"data breakpoints", data},
        {"code breakpoints", code},
    };
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        begin(parts[i].name);
        parts[i].run();
        end();
    }
}
