// The timers of the local APIC and the 8254 (SDM Vol. 3A 10.5.4; data sheet of the 8254).
#include "interrupts.h"

static void one_shot(void) {
    apic_on(true);
    forget();
    acknowledge = apic_done;
    apic_write(0x3e0, 0xb);                 // divide by 1
    for (u32 count = 100; count < 100000; count *= 5) {
        arrived[0x55] = 0;
        apic_write(0x320, 0x55);
        apic_write(0x380, count);
        u32 left = apic_read(0x390);
        check(left <= count, "the count grew: %d", (u64)left);
        while (!arrived[0x55]) wait();
        check(arrived[0x55] == 1 && apic_read(0x390) == 0, "one shot of %d", (u64)count);
    }
    arrived[0x55] = 0;
    apic_write(0x380, 50000);
    apic_write(0x380, 0);                   // 0 stops it
    enable();
    settle();
    disable();
    check(!arrived[0x55], "a stopped timer");
    apic_write(0x320, 1 << 16 | 0x55);
    apic_write(0x380, 100);
    enable();
    settle();
    disable();
    check(!arrived[0x55], "a masked timer");
}

static void periodic(void) {
    apic_on(true);
    forget();
    acknowledge = apic_done;
    for (u32 divide = 0; divide < 4; divide++) {
        apic_write(0x3e0, divide);
        apic_write(0x320, 1 << 17 | 0x56);
        arrived[0x56] = 0;
        apic_write(0x380, 5000);
        u64 start = read_tsc();
        while (arrived[0x56] < 10) wait();
        check(read_tsc() > start, "time went on");
        apic_write(0x380, 0);
        u64 n = arrived[0x56];
        enable();
        settle();
        disable();
        check(arrived[0x56] <= n + 1, "a periodic timer that was stopped");
    }
    // The current count starts anew from the initial one.
    apic_write(0x320, 1 << 16 | 1 << 17);
    apic_write(0x3e0, 0xb);
    apic_write(0x380, 1000000);
    u32 a = apic_read(0x390), b = apic_read(0x390);
    check(a <= 1000000 && b <= a, "the count goes down: %d, %d", (u64)a, (u64)b);
    apic_write(0x380, 0);
}

static void deadline(void) {
    if (!(cpuid(1, 0).c >> 24 & 1)) {
        check(true, "");
        return;
    }
    apic_on(true);
    forget();
    acknowledge = apic_done;
    apic_write(0x320, 2 << 17 | 0x57);
    for (u64 ahead = 1000; ahead < 1000000; ahead *= 10) {
        arrived[0x57] = 0;
        u64 when = read_tsc() + ahead;
        write_msr(0x6e0, when);
        u64 armed = read_msr(0x6e0);
        check(armed == when || (armed == 0 && read_tsc() >= when), "the deadline reads back: %x",
              armed);
        while (!arrived[0x57]) wait();
        check(read_tsc() >= when, "too early by %d", when - read_tsc());
        check(read_msr(0x6e0) == 0 && arrived[0x57] == 1, "disarmed once it came");
    }
    arrived[0x57] = 0;
    write_msr(0x6e0, 1);                    // the past: at once
    enable();
    pause_for(5);
    disable();
    check(arrived[0x57] == 1, "a deadline in the past");
    write_msr(0x6e0, read_tsc() + 5000);
    write_msr(0x6e0, 0);
    enable();
    settle();
    disable();
    check(arrived[0x57] == 1, "a disarmed deadline");
    // In the other modes the register is not writable to effect.
    apic_write(0x320, 0x57);
    write_msr(0x6e0, read_tsc() + 1);
    check(read_msr(0x6e0) == 0, "a deadline outside its mode");
    apic_write(0x320, 1 << 16);
}

// The counter as the guest moves it, and deadlines of it.
static void moved(void) {
    bool has_adjust = cpuid(7, 0).b >> 1 & 1;
    apic_on(true);
    forget();
    acknowledge = apic_done;
    apic_write(0x320, 2 << 17 | 0x58);
    static const u64 places[] = {1ull << 40, 5, 1ull << 60, 100000};
    for (int i = 0; i < 8; i++) {
        u64 place = places[i / 2], adjust = has_adjust ? read_msr(0x3b) : 0;
        if (has_adjust && (i & 1)) {
            u64 before = read_tsc();
            write_msr(0x3b, adjust + place);
            check(read_tsc() - before >= place, "TSC_ADJUST moves the counter by %x", place);
        } else {
            u64 before = read_tsc();
            write_msr(0x10, place);
            u64 now = read_tsc();
            check(now >= place && now - place < 1000000, "the counter is %x, not %x", now, place);
            // What it was moved by, but for the time in between.
            u64 change = place - before;
            if (has_adjust)
                check(change - (read_msr(0x3b) - adjust) < 1000000, "TSC_ADJUST is %x",
                      read_msr(0x3b));
        }
        if (!(cpuid(1, 0).c >> 24 & 1)) continue;
        arrived[0x58] = 0;
        u64 when = read_tsc() + 5000;
        write_msr(0x6e0, when);
        enable();
        while (!arrived[0x58] && read_tsc() < when + 1000000) {}
        disable();
        check(arrived[0x58] == 1, "a deadline of the moved counter");
        // Moved past it, the counter meets its deadline.
        write_msr(0x6e0, read_tsc() + (1ull << 36));
        enable();
        pause_for(20);
        check(arrived[0x58] == 1, "far too early");
        write_msr(0x10, read_tsc() + (1ull << 37));
        pause_for(20);
        disable();
        check(arrived[0x58] == 2 && !read_msr(0x6e0), "the counter moved past its deadline: %d",
              arrived[0x58]);
    }
    apic_write(0x320, 1 << 16);
    if (has_adjust) write_msr(0x3b, 0);
}

static void counters(void) {
    u64 last_tsc = read_tsc();
    for (int i = 0; i < 1000; i++) {
        u64 now = read_tsc();
        check(now > last_tsc, "the TSC went from %d to %d", last_tsc, now);
        last_tsc = now;
    }
    // Counter 2 of the 8254, through port 0x61, as delay loops use it.
    out8(0x61, (in8(0x61) & ~2) | 1);
    out8(0x43, 0xb0);
    out8(0x42, 0xff), out8(0x42, 0x0f);
    u64 polls = 0;
    while (!(in8(0x61) & 0x20) && polls < 100000000) polls++;
    check(in8(0x61) & 0x20, "the output of counter 2");
    // A latched count goes down.
    out8(0x43, 0x34);
    out8(0x40, 0xff), out8(0x40, 0xff);
    u16 before = 0xffff;
    for (int i = 0; i < 5; i++) {
        pause_for(2000);
        out8(0x43, 0);
        u16 now = in8(0x40);
        now |= in8(0x40) << 8;
        check(now < before, "counter 0 went from %d to %d", (u64)before, (u64)now);
        before = now;
    }
}

void test_timers(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"one shot", one_shot},
        {"periodic", periodic},
        {"TSC deadline", deadline},
        {"a counter that is moved", moved},
        {"counters", counters},
    };
    pic_start(0x50, 0xff);
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        begin(parts[i].name);
        parts[i].run();
        disable();
        hook = 0;
        end();
    }
}
