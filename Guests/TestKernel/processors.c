// Several processors at once: start-up and INIT (SDM Vol. 3A 8.4), writes to the same tables from
// all of them, and shootdowns by interrupt (4.10.5).
#include "interrupts.h"
#include "processors.h"

#define TRAMPOLINE 0x8000
#define SHOOTDOWN 0x51

struct Work {
    void (*volatile fn)();
    volatile u64 a, b, asked, done;
} __attribute__((aligned(64)));

extern char trampoline[], trampoline_end[];
u64 application_stack;
static volatile u64 arrivals;
static struct Work work[MOST];
static u8 stacks[MOST][0x2000] __attribute__((aligned(16)));
static volatile u64 wrong[MOST];            // what each of them found wrong

int processor_count(void) {
    int n = cpuid(1, 0).b >> 16 & 255;
    return n < 1 ? 1 : n > MOST ? MOST : n;
}

static volatile u32 *apic(u32 r) { return (volatile u32 *)(0xfee00000ull + r); }
static int myself(void) { return *apic(0x20) >> 24; }

void send(int n, u32 command) {
    *apic(0x310) = (u32)n << 24;
    *apic(0x300) = command;
}

_Noreturn void application_main(void) {
    struct __attribute__((packed)) {
        u16 limit;
        u64 base;
    } pointer = {256 * sizeof *idt - 1, (u64)idt};
    __asm__ volatile("lidt %0" : : "m"(pointer));
    struct Work *mine = &work[myself()];
    *apic(0xf0) = 0x1ff;
    u64 seen = mine->asked;
    __atomic_fetch_add(&arrivals, 1, 5);
    for (;;) {
        while (mine->asked == seen) __asm__ volatile("pause");
        seen = mine->asked;
        mine->fn(mine->a, mine->b);
        mine->done = seen;
    }
}

static void start(int n) {
    application_stack = (u64)(stacks[n] + sizeof stacks[n]);
    u64 before = arrivals;
    send(n, 0x4500);
    send(n, 0x4600 | TRAMPOLINE >> 12);
    send(n, 0x4600 | TRAMPOLINE >> 12);     // as everyone does; it is ignored
    while (arrivals == before) __asm__ volatile("pause");
}

void processors_start(void) {
    hook = 0;
    apic_on(false);
    for (char *s = trampoline, *d = (char *)TRAMPOLINE; s < trampoline_end;) *d++ = *s++;
    for (int n = 1; n < processor_count(); n++) start(n);
}

void processors_stop(void) {
    for (int n = 1; n < processor_count(); n++) send(n, 0x4500);
}

static void ask(int n, void *fn, u64 a, u64 b) {
    work[n].fn = fn, work[n].a = a, work[n].b = b;
    work[n].asked++;
}

static void await(int n) { while (work[n].done != work[n].asked) __asm__ volatile("pause"); }

void on(int n, void *fn, u64 a, u64 b) {
    if (!n) { ((void (*)())fn)(a, b); return; }
    ask(n, fn, a, b);
    await(n);
}

void on_all(void (*fn)(u64, u64), u64 argument) {
    int count = processor_count();
    for (int n = 1; n < count; n++) ask(n, fn, n, argument);
    fn(0, argument);
    for (int n = 1; n < count; n++) await(n);
}

static void report(const char *what) {
    for (int n = 0; n < processor_count(); n++) {
        check(!wrong[n], "%s: processor %d: %d times", what, (u64)n, wrong[n]);
        wrong[n] = 0;
    }
}

// ---- Storms of writes to the tables that the processors run on
static struct Chain chain;
static u64 *frames[MOST][4];
#define MARK(n, i) (0x1000ull * (n) + (i) + 1)

// Each has an entry of its own in each table, and throws what nobody reads into the rest.
static void storm(u64 n, u64 rounds) {
    u64 dice = 0x9e3779b97f4a7c15 * (n + 1);
    u64 *leaf = &chain.pt[n], va = chain.va + n * PAGE;
    u64 *upper = &chain.pd[1 + n], *table = frames[n][3];
    u64 high = chain.va + (1 + n) * 512 * PAGE;
    for (u64 i = 0; i < rounds; i++) {
        dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
        int f = dice % 3;
        volatile u64 *noise = dice & 8 ? &chain.pt[64 + dice % 448] : &chain.pd[64 + dice % 448];
        *noise = dice >> 16 & (dice & 16 ? ~0ull : ~P);
        if (dice & 32) {
            *(volatile u64 *)leaf = (u64)frames[n][f] | P | W;
            invlpg(va);
            if (*(volatile u64 *)va != MARK(n, f)) wrong[n]++;
        } else {
            // The table is taken away, changed meanwhile, and put back.
            *(volatile u64 *)upper = 0;
            *(volatile u64 *)table = (u64)frames[n][f] | P | W;
            *(volatile u64 *)upper = (u64)table | P | W;
            invlpg(high);
            if (*(volatile u64 *)high != MARK(n, f)) wrong[n]++;
        }
        *noise = 0;
    }
}

// All write the same bytes with locked instructions: each increment of an entry's free bits counts.
static void increments(u64 n, u64 rounds) {
    (void)n;
    for (u64 i = 0; i < rounds; i++)
        __atomic_fetch_add((volatile u64 *)&chain.pt[63], 1ull << 52 & ~NX, 5);
}

static void storms(void) {
    begin("storms of writes");
    chain = new_chain(kernel_pml4, 70);
    for (int n = 0; n < processor_count(); n++) {
        for (int i = 0; i < 4; i++) {
            frames[n][i] = new_page();
            frames[n][i][0] = MARK(n, i);
        }
        chain.pt[n] = (u64)frames[n][0] | P | W;
    }
    on_all(storm, 3000 / step);
    report("storm");
    chain.pt[63] = (u64)frames[0][0] | P | W | A | D;
    invlpg(chain.va + 63 * PAGE);
    check(*(volatile u64 *)(chain.va + 63 * PAGE) == MARK(0, 0), "before increments");
    on_all(increments, 60);
    u64 sum = chain.pt[63] >> 52;
    check(sum == 60ull * processor_count() % 2048 || sum == 60ull * processor_count(),
          "increments: %d", sum);
    chain.pt[63] = 0;
    invlpg(chain.va + 63 * PAGE);
    end();
}

// ---- A processor is told by interrupt to drop a page, and the frame is used for something else
#define POISON 0xdeadull
static volatile u64 answers, stop_reading;

static bool shot(struct Frame *f) {
    if (f->vector != SHOOTDOWN) return false;
    invlpg(chain.va);
    __atomic_fetch_add(&answers, 1, 5);
    *apic(0xb0) = 0;
    return true;
}

static void reader(u64 n, u64 b) {
    (void)b;
    __asm__ volatile("sti");
    while (!stop_reading)
        if (*(volatile u64 *)chain.va == POISON) wrong[n]++;
    __asm__ volatile("cli");
}

static void shootdowns(void) {
    begin("shootdowns");
    int others = processor_count() - 1;
    u64 *copy = new_page();
    hook = shot;
    stop_reading = 0;
    chain.pt[0] = (u64)frames[0][0] | P | W;
    invlpg(chain.va);
    for (int n = 1; n <= others; n++) ask(n, reader, n, 0);
    for (u64 i = 0; i < 300 / step + 3; i++) {
        u64 *old = frames[0][i % 3], *new = frames[0][(i + 1) % 3];
        new[0] = MARK(0, 0);
        answers = 0;
        if (i & 1) *(volatile u64 *)&chain.pt[0] = (u64)new | P | W;
        else {
            // Another table, which maps the page elsewhere.
            copy[0] = (u64)new | P | W;
            *(volatile u64 *)&chain.pd[0] = (u64)copy | P | W;
            chain.pt[0] = (u64)new | P | W;
        }
        invlpg(chain.va);
        send(0, 3 << 18 | SHOOTDOWN | 0x4000);      // all but this one
        while (answers != (u64)others) __asm__ volatile("pause");
        *(volatile u64 *)old = POISON;
        check(*(volatile u64 *)chain.va == MARK(0, 0), "the new frame");
        if (!(i & 1)) {
            chain.pd[0] = (u64)chain.pt | P | W | U;
            answers = 0;
            invlpg(chain.va);
            send(0, 3 << 18 | SHOOTDOWN | 0x4000);
            while (answers != (u64)others) __asm__ volatile("pause");
        }
    }
    stop_reading = 1;
    for (int n = 1; n <= others; n++) await(n);
    report("the old frame");
    for (int i = 0; i < 3; i++) frames[0][i][0] = MARK(0, i);
    hook = 0;
    end();
}

// ---- INIT, wherever it comes
static void restarts(void) {
    begin("INIT of a running processor");
    for (int round = 0; round < 12; round++)
        for (int n = 1; n < processor_count(); n++) {
            // In the middle of a storm, of reading, of nothing, or of waiting for a SIPI.
            stop_reading = 0;
            if (round % 4 == 0) ask(n, storm, n, 1ull << 40);
            if (round % 4 == 1) ask(n, reader, n, 0);
            for (volatile int i = 0; i < round * 300; i++) {}
            send(n, 0x4500);
            if (round % 4 == 3) send(n, 0x4500);
            work[n].done = work[n].asked;
            wrong[n] = 0;
            start(n);
            // A SIPI to a running processor does nothing.
            send(n, 0x4600 | 0xff);
            on(n, storm, n, 5);
            check(!wrong[n], "after INIT %d processor %d is wrong %d times", (u64)round, (u64)n,
                  wrong[n]);
        }
    on_all(storm, 50);
    report("storm");
    end();
}

void test_processors(void) {
    if (processor_count() == 1) return;
    processors_start();
    storms();
    shootdowns();
    restarts();
    processors_stop();
    kernel_pml4[70] = 0;
    write_cr3(read_cr3());
}
