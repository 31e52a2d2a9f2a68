// Page tables written in every way, mapped by themselves, and outside memory.
#include "invalidation.h"

// Every way to store into an entry, each followed by the INVLPG that makes it count.
void kinds_of_stores(void) {
    volatile u64 *e = &c.pt[0];
    volatile u32 *half = (volatile u32 *)e;
    u64 next = LEAF(0), before;
    bool done;
    for (int round = 0; round < 120; round++) {
        int n = round & 3, kind = round / 4 % 15;
        before = next;
        next = LEAF(n);
        switch (kind) {
        case 0: *e = next; break;
        case 1:
            half[0] = next;
            half[1] = next >> 32;
            break;
        case 2:
            half[1] = next >> 32;
            half[0] = next;
            break;
        case 3:
            for (int i = 7; i >= 0; i--) ((volatile u8 *)e)[i] = next >> 8 * i;
            break;
        case 4:
            before = next;
            __asm__ volatile("xchg %0, %1" : "+r"(before), "+m"(*e));
            break;
        case 5:
            before = *e;
            __asm__ volatile("lock cmpxchg %3, %1; sete %0"
                             : "=q"(done), "+m"(*e), "+a"(before)
                             : "r"(next)
                             : "cc");
            check(done, "CMPXCHG of an entry that nobody else writes");
            break;
        case 6:
            __asm__ volatile("btrq $0, %0" : "+m"(*e) : : "cc");
            invlpg(c.va);
            expect_fault(c.va, 0);
            *e = next & ~P;
            __asm__ volatile("lock btsq $0, %0" : "+m"(*e) : : "cc");
            break;
        case 7: {
            u64 n2 = 2, v = next;
            void *d = (void *)e;
            __asm__ volatile("rep stosq" : "+D"(d), "+c"(n2) : "a"(v) : "memory");
            break;
        }
        case 8: {
            u64 n2 = 8;
            const void *s = &next;
            void *d = (void *)e;
            __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n2) : : "memory");
            break;
        }
        case 9:
            __asm__ volatile("lock xadd %0, %1" : "+r"(before), "+m"(*e) : : "cc");
            before = *e;
            *e = next;
            break;
        case 10: __asm__ volatile("addq %1, %0" : "+m"(*e) : "r"(next - *e) : "cc"); break;
        case 11: __asm__ volatile("push %1; pop %0" : "=m"(*e) : "r"(next)); break;
        case 12: {
            u64 c0 = e[0], c1 = e[1];
            __asm__ volatile("lock cmpxchg16b %1; sete %0"
                             : "=q"(done), "+m"(*(u64(*)[2])e), "+a"(c0), "+d"(c1)
                             : "b"(next), "c"(next)
                             : "cc");
            check(done, "CMPXCHG16B of entries that nobody else writes");
            break;
        }
        case 13:                            // misaligned, across two entries
            *(volatile u64 *)((u64)e + 4) = e[1] << 32 | next >> 32;
            half[0] = next;
            break;
        case 14:
            *(volatile u16 *)e = next;
            *(volatile u16 *)((u64)e + 2) = next >> 16;
            *(volatile u32 *)((u64)e + 4) = next >> 32;
            break;
        }
        invlpg(c.va);
        expect_at(c.va, MARK(n));
    }
    // One store over halves of two entries.
    for (int round = 0; round < 8; round++) {
        put(&c.pt[2], LEAF(0));
        put(&c.pt[3], LEAF(1));
        write_cr3(read_cr3());
        expect_at(c.va + 2 * PAGE, MARK(0));
        expect_at(c.va + 3 * PAGE, MARK(1));
        u64 wanted = LEAF(round & 3);
        *(volatile u64 *)((u64)&c.pt[2] + 4) = LEAF(0) >> 32 | wanted << 32;
        invlpg(c.va + 2 * PAGE);
        invlpg(c.va + 3 * PAGE);
        expect_at(c.va + 2 * PAGE, MARK(0));
        expect_at(c.va + 3 * PAGE, MARK(round & 3));
    }
    // Whole tables at once, forwards and backwards.
    u64 *source = new_page();
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 512; i++) source[i] = LEAF((i + round) & 3);
        u64 n = 512, *d = c.pt, *s = source;
        if (round & 1) {
            d += 511, s += 511;
            __asm__ volatile("std; rep movsq; cld" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
        } else {
            __asm__ volatile("rep movsq" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
        }
        write_cr3(read_cr3());
        for (int i = 0; i < 512; i += 7) expect_at(c.va + i * PAGE, MARK((i + round) & 3));
    }
    u64 n = 512, *d = c.pt;
    __asm__ volatile("rep stosq" : "+D"(d), "+c"(n) : "a"(0ull) : "memory");
    write_cr3(read_cr3());
    for (int i = 0; i < 512; i += 7) expect_fault(c.va + i * PAGE, 0);
}

// Tables that map themselves, at each level, and are edited through themselves.
void self_maps(void) {
    // The root in its own slot 66.
    kernel_pml4[66] = (u64)kernel_pml4 | P | W;
    flush_all();
    u64 s = 66, slot = 65;
    volatile u64 *pt = (volatile u64 *)(s << 39 | slot << 30);
    volatile u64 *pd = (volatile u64 *)(s << 39 | s << 30 | slot << 21);
    volatile u64 *root = (volatile u64 *)(s << 39 | s << 30 | s << 21 | s << 12);
    for (int i = 0; i < 32; i++) {
        pt[i & 7] = LEAF(i & 3);
        invlpg(c.va + (i & 7) * PAGE);
        expect_at(c.va + (i & 7) * PAGE, MARK(i & 3));
        check(pt[i & 7] == LEAF(i & 3), "an entry read through the self-map");
    }
    pt[0] = LEAF(1);
    invlpg(c.va);
    u64 *other = new_page();
    other[0] = LEAF(2);
    pd[0] = (u64)other | P | W | U;
    write_cr3(read_cr3());
    expect_at(c.va, MARK(2));
    check(pt[0] == LEAF(2), "the self-map after a directory changed: %x", pt[0]);
    pt[1] = LEAF(3);
    expect_at(c.va + PAGE, MARK(3));
    check(other[1] == LEAF(3), "a write through the self-map went to the new table");
    u64 entry = root[slot];
    root[slot] = 0;
    invlpg(c.va);
    expect_fault(c.va, 0);
    root[slot] = entry;
    expect_at(c.va, MARK(2));
    root[s] = 0;
    write_cr3(read_cr3());
    check(guarded(touch_read, (u64)root, 0) && last.error == 0, "the self-map after its removal");
    put(&c.pd[0], (u64)c.pt | P | W | U);
    // A page that is directory, table and data at once.
    u64 *both = new_page();
    put(&both[0], (u64)both | P | W | U);
    put(&both[1], LEAF(0));
    put(&c.pdpt[2], (u64)both | P | W | U);
    write_cr3(read_cr3());
    volatile u64 *through = (volatile u64 *)(c.va + (2ull << 30));
    for (int i = 0; i < 16; i++) {
        through[1] = LEAF(i & 3);
        invlpg((u64)through + PAGE);
        expect_at((u64)through + PAGE, MARK(i & 3));
    }
    check((both[0] & A) && (both[0] & D), "A and D of an entry that maps its own page");
    put(&c.pdpt[2], 0);
    // A leaf that maps its own table.
    put(&c.pt[9], (u64)c.pt | P | W | U);
    write_cr3(read_cr3());
    through = (volatile u64 *)(c.va + 9 * PAGE);
    for (int i = 0; i < 16; i++) {
        through[10] = LEAF(i & 3);
        invlpg(c.va + 10 * PAGE);
        expect_at(c.va + 10 * PAGE, MARK(i & 3));
    }
    // It unmaps itself.
    through[9] = 0;
    invlpg(c.va + 9 * PAGE);
    expect_fault(c.va + 9 * PAGE, 0);
}

// Entries that name frames where there is no memory: no crash, and what follows is right.
void outside_memory(void) {
    u64 away = 1ull << 38;
    put(&c.pt[0], LEAF(0));
    u64 *levels[] = {&c.pd[0], &c.pdpt[0], c.pml4e};
    for (int i = 0; i < 3; i++) {
        u64 entry = *levels[i];
        put(levels[i], away | P | W | U);
        flush_all();
        u64 seen = peek(c.va);
        // All ones there: reserved bits; zeroes: not present.
        check(seen == FAULTED && (last.error == 9 || last.error == 0), "a table outside memory: %x",
              last.error);
        put(levels[i], entry);
        flush_all();
        expect_at(c.va, MARK(0));
    }
    put(&c.pt[1], away | P | W | U);
    check(peek(c.va + PAGE) != FAULTED, "a page outside memory");
    check(poke(c.va + PAGE, 1), "a write to a page outside memory");
    check((*(volatile u64 *)&c.pt[1] & (A | D)) == (A | D), "A and D of a page outside memory");
    put(&c.pt[1], LEAF(1));
    invlpg(c.va + PAGE);
    expect_at(c.va + PAGE, MARK(1));
}
