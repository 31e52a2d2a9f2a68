// Accesses that cross pages, and instructions that fault half-way: what is done, what is not, and
// what the registers say then (SDM Vol. 3A 6.5, 6.15 #PF; Vol. 2 REP).
#include "kernel.h"

static struct Chain c;
static u64 *page[3];
static u64 edge;                            // the last address of page 0, plus one

static void map(int n, u64 rights) {
    *(volatile u64 *)&c.pt[n] = (u64)page[n] | A | D | rights;
    invlpg(c.va + n * PAGE);
}

static void fill(void) {
    for (int n = 0; n < 3; n++)
        for (u64 i = 0; i < PAGE; i++) ((u8 *)page[n])[i] = (u8)(i + n * 7);
}

static void load16(u64 a) { __asm__ volatile("mov (%0), %%ax" : : "r"(a) : "rax"); }
static void load32(u64 a) { __asm__ volatile("mov (%0), %%eax" : : "r"(a) : "rax"); }
static void load64(u64 a) { __asm__ volatile("mov (%0), %%rax" : : "r"(a) : "rax"); }
static void store16(u64 a) { *(volatile u16 *)a = 0xaaaa; }
static void store32(u64 a) { *(volatile u32 *)a = 0xaaaaaaaa; }
static void store64(u64 a) { *(volatile u64 *)a = ~0ull; }
static void add64(u64 a) { __asm__ volatile("lock addq $-1, (%0)" : : "r"(a) : "memory", "cc"); }
static void compare(u64 a) {
    u64 wrong = 1;
    __asm__ volatile("lock cmpxchg %2, (%1)" : "+a"(wrong) : "r"(a), "r"(0ull) : "memory", "cc");
}

// Every way to straddle two pages, with either one missing or read-only.
static void crossing(void) {
    static const struct {
        void (*run)(u64);
        u64 size;
        bool writes;
    } kinds[] = {
        {load16, 2, 0},  {load32, 4, 0},  {load64, 8, 0}, {store16, 2, 1},
        {store32, 4, 1}, {store64, 8, 1}, {add64, 8, 1},  {compare, 8, 1},
    };
    for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (u64 before = 1; before < kinds[k].size; before++)
            for (int state = 0; state < 9; state++) {
                static const u64 rights[] = {P | W, P, 0};
                u64 first = rights[state % 3], second = rights[state / 3], at = edge - before;
                fill();
                map(0, first);
                map(1, second);
                u64 old = *(u64 *)((u8 *)page[0] + PAGE - 8), next = page[1][0];
                bool bad1 = !(first & P) || (kinds[k].writes && !(first & W));
                bool bad2 = !(second & P) || (kinds[k].writes && !(second & W));
                bool faulted = guarded(kinds[k].run, at, 0);
                check(faulted == (bad1 || bad2), "kind %d before %d state %d", (u64)k, before,
                      (u64)state);
                if (!faulted) {
                    check((old != *(u64 *)((u8 *)page[0] + PAGE - 8)) | (next != page[1][0])
                              | !kinds[k].writes | (kinds[k].run == compare),
                          "nothing was written");
                    continue;
                }
                bool is_first = bad1;
                // Either bad page may be reported where both are; CR2 tells which.
                if (bad1 && bad2) is_first = last_cr2 == at;
                u64 r = is_first ? first : second;
                check(last.vector == PF && last_cr2 == (is_first ? at : edge)
                          && (last.error & 1) == (r & P)
                          && (last.error & ~1ull) == (kinds[k].writes ? 2 : 0),
                      "kind %d before %d state %d: error %x CR2 %x", (u64)k, before, (u64)state,
                      last.error, last_cr2);
                check(old == *(u64 *)((u8 *)page[0] + PAGE - 8) && next == page[1][0],
                      "kind %d before %d state %d: half of it was written", (u64)k, before,
                      (u64)state);
            }
}

static void rep_movs(u64 to, u64 from) {
    u64 n = 64;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}
static void rep_movsb(u64 to, u64 from) {
    u64 n = 512;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}
static void rep_movs_down(u64 to, u64 from) {
    u64 n = 64;
    __asm__ volatile("std; rep movsq; cld" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}
static void rep_stos(u64 to) {
    u64 n = 64;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(5ull) : "memory");
}
static void rep_scas(u64 at) {
    u64 n = 512;
    __asm__ volatile("repne scasb" : "+D"(at), "+c"(n) : "a"(0x3ff) : "cc");
}
static void rep_cmps(u64 a, u64 b) {
    u64 n = 512;
    __asm__ volatile("repe cmpsb" : "+D"(a), "+S"(b), "+c"(n) : : "cc", "memory");
}

// A string instruction stops at the iteration that faults, and its registers say which.
static void strings(void) {
    for (int round = 0; round < 32; round++) {
        u64 short_of = 8 * (round + 1);
        fill();
        map(0, P | W);
        map(1, 0);
        check(guarded(rep_movs, edge - short_of, (u64)page[2]), "REP MOVSQ went on");
        check(last.vector == PF && last.error == 2 && last_cr2 == edge && last.rdi == edge
                  && last.rsi == (u64)page[2] + short_of && last.rcx == 64 - short_of / 8,
              "REP MOVSQ: CR2 %x RDI %x RCX %d", last_cr2, last.rdi, last.rcx);
        check(!(last.rflags & DF) && (last.rflags & RF), "flags %x", last.rflags);
        u64 *end = (u64 *)((u8 *)page[0] + PAGE - short_of);
        for (u64 i = 0; i < short_of / 8; i++) check(end[i] == page[2][i], "word %d", i);
        check(guarded(rep_movs, (u64)page[2], edge - short_of) && last.error == 0
                  && last.rsi == edge && last_cr2 == edge && last.rcx == 64 - short_of / 8,
              "REP MOVSQ from a missing page: RSI %x", last.rsi);
        check(guarded(rep_movsb, edge - short_of, (u64)page[2] + 1) && last.rdi == edge
                  && last.rcx == 512 - short_of && last_cr2 == edge,
              "REP MOVSB: %x", last.rdi);
        check(guarded(rep_stos, edge - short_of, 0) && last.rdi == edge && last.error == 2
                  && last.rcx == 64 - short_of / 8,
              "REP STOSQ: RDI %x", last.rdi);
        for (u64 i = 0; i < short_of / 8; i++) check(end[i] == 5, "word %d", i);
        // An unaligned element straddles the edge: it is not written at all.
        fill();
        check(guarded(rep_stos, edge - short_of - 4, 0) && last.rdi == edge - 4 && last_cr2 == edge,
              "REP STOSQ across the edge: %x", last.rdi);
        check(((u8 *)page[0])[PAGE - 1] == (u8)(PAGE - 1), "half an element was written");
        for (u64 i = 0; i < PAGE; i++) ((u8 *)page[0])[i] = 1;
        check(guarded(rep_scas, edge - short_of, 0) && last.rdi == edge && last.error == 0
                  && last.rcx == 512 - short_of,
              "REPNE SCASB: %x", last.rdi);
        for (u64 i = 0; i < PAGE; i++) ((u8 *)page[2])[i] = 1;
        check(guarded(rep_cmps, edge - short_of, (u64)page[2]) && last.rdi == edge
                  && last.rcx == 512 - short_of,
              "REPE CMPSB: %x", last.rdi);
        // Downwards, out of the bottom of page 1.
        map(0, 0);
        map(1, P | W);
        check(guarded(rep_movs_down, edge + short_of - 8, (u64)page[2] + 2048)
                  && last.rdi == edge - 8 && last_cr2 == edge - 8 && (last.rflags & DF)
                  && last.rcx == 64 - short_of / 8,
              "REP MOVSQ downwards: %x", last.rdi);
    }
}

static void push_at(u64 sp) {
    __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; push %%rax; mov %%rbx, %%rsp"
                     :
                     : "r"(sp)
                     : "rbx", "memory");
}
static void call_at(u64 sp) {
    __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; call 1f; 1: mov %%rbx, %%rsp"
                     :
                     : "r"(sp)
                     : "rbx", "memory");
}
static void pop_at(u64 sp) {
    __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; pop %%rax; mov %%rbx, %%rsp"
                     :
                     : "r"(sp)
                     : "rax", "rbx", "memory");
}
static void enter_at(u64 sp) {
    __asm__ volatile(
        "mov %%rsp, %%rbx; mov %%rbp, %%rcx; mov %0, %%rsp; enter $32, $0; mov %%rcx, %%rbp;"
        "mov %%rbx, %%rsp"
        :
        : "r"(sp)
        : "rbx", "rcx", "memory");
}
static void pop_to(u64 sp, u64 to) {
    __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; popq (%1); mov %%rbx, %%rsp"
                     :
                     : "r"(sp), "r"(to)
                     : "rbx", "memory");
}

// An instruction that faults on its stack leaves RSP as it was. The fault's own frame needs a good
// stack: #PF goes to one of its own here.
static void stacks(void) {
    static u8 spare[4096] __attribute__((aligned(16)));
    task.ist[1] = (u64)spare + sizeof spare;
    idt[PF].type = (idt[PF].type & ~7) | 2;
    fill();
    map(0, 0);
    map(1, P | W);
    static void (*const pushes[])(u64) = {push_at, call_at, enter_at};
    for (int i = 0; i < 3; i++) {
        check(guarded(pushes[i], edge, 0) && last.vector == PF && last.rsp == edge
                  && last_cr2 == edge - 8 && last.error == 2,
              "push %d: RSP %x CR2 %x", (u64)i, last.rsp, last_cr2);
    }
    map(0, P | W);
    map(1, 0);
    check(guarded(pop_at, edge, 0) && last.rsp == edge && last_cr2 == edge && last.error == 0,
          "POP: RSP %x", last.rsp);
    check(guarded(pop_to, edge - 8, edge) && last.rsp == edge - 8 && last_cr2 == edge
              && last.error == 2,
          "POP to a missing page: RSP %x", last.rsp);
    check(!guarded(pop_to, edge - 16, edge - 8), "POP to memory");
    check(((u64 *)((u8 *)page[0] + PAGE - 16))[0] == ((u64 *)((u8 *)page[0] + PAGE - 16))[1],
          "POP");
    idt[PF].type &= ~7;
}

// An instruction that straddles two pages: the fault is a fetch, of the second page.
static void code(void) {
    fill();
    // mov $0x1122334455667788, %rax; ret
    static const u8 bytes[] = {0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xc3};
    for (u64 before = 1; before < 11; before++) {
        for (u64 i = 0; i < 11; i++)
            ((u8 *)page[i >= before])[i < before ? PAGE - before + i : i - before] = bytes[i];
        map(0, P);
        map(1, P);
        check(!guarded(touch_fetch, edge - before, 0), "code across the edge");
        map(1, 0);
        check(guarded(touch_fetch, edge - before, 0) && last.error == 16 && last_cr2 == edge
                  && last.rip == (before == 10 ? edge : edge - before),
              "missing: CR2 %x RIP %x", last_cr2, last.rip);
        map(1, P | NX);
        check(guarded(touch_fetch, edge - before, 0) && last.error == 17 && last_cr2 == edge,
              "not executable: error %x CR2 %x", last.error, last_cr2);
        // The second half changes frames under the same first half.
        for (u64 i = before; i < 11; i++) ((u8 *)page[2])[i - before] = bytes[i];
        if (before < 10) ((u8 *)page[2])[9 - before] = 0x99;
        *(volatile u64 *)&c.pt[1] = (u64)page[2] | P | A;
        invlpg(edge);
        check(!guarded(touch_fetch, edge - before, 0), "code across the edge, another page");
    }
    // Code that is written is seen, through any alias, without a serializing instruction of ours:
    // the jump back is enough on one processor (8.1.3).
    map(0, P | W);
    *(volatile u64 *)&c.pt[2] = (u64)page[0] | P | W | A | D;
    invlpg(c.va + 2 * PAGE);
    for (u32 i = 0; i < 64; i++) {
        volatile u8 *alias = (volatile u8 *)(c.va + (i & 1 ? 2 : 0) * PAGE);
        alias[0] = 0xb8; // mov $i, %eax; ret
        *(volatile u32 *)(alias + 1) = i;
        alias[5] = 0xc3;
        u32 got = ((u32(*)(void))c.va)();
        check(got == i, "code written by an alias: %d", (u64)got);
    }
}

void test_memory(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"page crossing", crossing},
        {"strings", strings},
        {"stacks", stacks},
        {"code", code},
    };
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        begin(parts[i].name);
        pages_reset();
        for (int n = 0; n < 3; n++) page[n] = new_page();
        c = new_chain(kernel_pml4, 68);
        edge = c.va + PAGE;
        flush_all();
        parts[i].run();
        kernel_pml4[68] = 0;
        flush_all();
        end();
    }
}
