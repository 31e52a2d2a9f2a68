// What must be seen after each operation that ends staleness, and at once where nothing may be
// cached (SDM Vol. 3A 4.10.4). Each test states only what every processor owes.
#include "invalidation.h"

struct Chain c;
u64 *page[4];

static void fresh(void) {
    pages_reset();
    for (int i = 0; i < 4; i++) {
        page[i] = new_page();
        page[i][0] = page[i][1] = MARK(i);
    }
    c = new_chain(kernel_pml4, 65);
    flush_all();
}

// P 0→1 is seen without any flush, at each level: nothing that is not present is ever cached.
void present_at_once(void) {
    u64 *levels[] = {&c.pt[0], &c.pd[0], &c.pdpt[0], c.pml4e};
    put(&c.pt[0], LEAF(0));
    for (int i = 0; i < 4; i++)
        for (int round = 0; round < 3; round++) {
            u64 entry = *levels[i];
            put(levels[i], entry & ~P);
            invlpg(c.va);
            expect_fault(c.va, 0);
            expect_fault(c.va, 0);
            put(levels[i], entry);
            expect_at(c.va, MARK(0));
        }
    // A reserved bit, too, keeps an entry from being cached.
    put(&c.pt[0], LEAF(0) | 1ull << 51);
    invlpg(c.va);
    expect_fault(c.va, 9);
    put(&c.pt[0], LEAF(0));
    expect_at(c.va, MARK(0));
}

void invalidate_page(void) {
    for (int i = 0; i < 64; i++) {
        put(&c.pt[0], LEAF(i & 3));
        invlpg(c.va + i * 8);               // any address in the page
        expect_at(c.va, MARK(i & 3));
    }
    put(&c.pt[0], 0);
    invlpg(c.va);
    expect_fault(c.va, 0);
    put(&c.pt[0], LEAF(1) & ~W);
    check(!poke(c.va + 64, 1) && last.error == 3, "write to a read-only page: %x", last.error);
    put(&c.pt[0], LEAF(1));
    // A stale refusal is lawful once; the fault itself ends it.
    if (!poke(c.va + 64, 1)) check(last.error == 3, "spurious fault %x", last.error);
    check(poke(c.va + 64, 2) && page[1][8] == 2, "write after the page became writable");
    put(&c.pt[0], LEAF(1) & ~W);
    invlpg(c.va);
    check(!poke(c.va + 64, 3) && page[1][8] == 2, "write after the page became read-only");
    put(&c.pt[0], LEAF(1));
    invlpg(c.va);
    run_user(user_read, c.va);
    check(last.vector == USER_EXIT && last.rax == MARK(1), "user read %x", last.rax);
    put(&c.pt[0], LEAF(1) & ~U);
    invlpg(c.va);
    run_user(user_read, c.va);
    check(last.vector == PF && last.error == 5, "user read after U 1→0: %d", last.vector);
    put(&c.pt[0], LEAF(1) | NX);
    invlpg(c.va);
    check(guarded(touch_fetch, c.va, 0) && last.error == 17, "fetch after NX 0→1: %x", last.error);
    // An address that is not canonical is no operation.
    check(!guarded(invlpg, 0x8000000000000000ull, 0), "INVLPG of a non-canonical address");
    // In user mode it is privileged.
    run_user(invlpg, c.va);
    check(last.vector == GP && last.error == 0, "INVLPG in ring 3: %d", last.vector);
}

// INVLPG ends the staleness of every upper-level entry, whatever its address (4.10.4.1).
void upper_levels(void) {
    u64 *other = new_page(), *other_pd = new_page();
    for (int i = 0; i < 8; i++) {
        put(&c.pt[i], LEAF(0));
        put(&other[i], LEAF(1));
    }
    other_pd[0] = (u64)other | P | W | U;
    for (int round = 0; round < 8; round++) {
        bool second = !(round & 1);
        expect_at(c.va, MARK(!second));
        put(&c.pd[0], (u64)(second ? other : c.pt) | P | W | U);
        invlpg(c.va);
        expect_at(c.va, MARK(second));
    }
    for (int round = 0; round < 8; round++) {
        bool second = !(round & 1);
        put(&c.pdpt[0], (u64)(second ? other_pd : c.pd) | P | W | U);
        invlpg(c.va + 3 * PAGE);
        expect_at(c.va + 3 * PAGE, MARK(second));
        write_cr3(read_cr3());
        for (int i = 0; i < 8; i++) expect_at(c.va + i * PAGE, MARK(second));
    }
    // Rights of an upper level.
    u64 entry = c.pd[0];
    put(&c.pd[0], entry & ~W);
    invlpg(c.va);
    check(!poke(c.va + 64, 1) && last.error == 3, "write below a read-only directory entry");
    put(&c.pd[0], entry | NX);
    invlpg(c.va);
    check(guarded(touch_fetch, c.va, 0) && last.error == 17, "fetch below an NX directory entry");
    put(&c.pd[0], entry & ~P);
    write_cr3(read_cr3());
    for (int i = 0; i < 8; i++) expect_fault(c.va + i * PAGE, 0);
    put(&c.pd[0], entry);
    for (int i = 0; i < 8; i++) expect_at(c.va + i * PAGE, MARK(0));
    // Two entries for one table with different rights.
    put(&c.pd[1], (u64)c.pt | P | U);
    for (int i = 0; i < 4; i++) {
        check(poke(c.va + i * PAGE + 64, i), "write by the writable way");
        check(!poke(c.va + HUGE + i * PAGE + 64, i), "write by the read-only way");
    }
}

// Large pages: INVLPG of any address in one ends it all; sizes change both ways.
void large_pages(void) {
    static u64 big[2][HUGE / 8] __attribute__((aligned(HUGE)));
    for (int b = 0; b < 2; b++)
        for (u64 i = 0; i < 512; i++) big[b][i * 512] = MARK(b);
    u64 way = HUGE;
    for (int round = 0; round < 12; round++) {
        u64 g = round & 4 ? G : 0;
        put(&c.pd[1], (u64)big[round & 1] | P | W | U | PS | g);
        invlpg(c.va + way + (random64() & (HUGE - 1)));
        for (u64 i = 0; i < 512; i += 37) expect_at(c.va + way + i * PAGE, MARK(round & 1));
    }
    // 2 MiB → 4 KiB → 2 MiB, with every page seen before each change.
    for (int round = 0; round < 6; round++) {
        u64 *table = new_page();
        for (int i = 0; i < 512; i++) table[i] = LEAF(2);
        put(&c.pd[1], (u64)table | P | W | U);
        if (round & 1) write_cr3(read_cr3());
        for (u64 i = 0; i < 512; i += 31) {
            if (!(round & 1)) invlpg(c.va + way + i * PAGE);
            expect_at(c.va + way + i * PAGE, MARK(2));
        }
        put(&c.pd[1], (u64)big[1] | P | W | U | PS);
        if (round & 1) write_cr3(read_cr3());
        for (u64 i = 0; i < 512; i += 31) {
            if (!(round & 1)) invlpg(c.va + way + i * PAGE);
            expect_at(c.va + way + i * PAGE, MARK(1));
        }
    }
    // Rights of a large page; a 4 KiB page elsewhere in the same frame keeps its own.
    put(&c.pd[1], (u64)big[0] | P | U | PS);
    put(&c.pt[5], (u64)big[0] | P | W | U);
    invlpg(c.va + way);
    check(!poke(c.va + way + 64, 1) && last.error == 3, "write to a read-only large page");
    check(poke(c.va + 5 * PAGE + 64, 7) && big[0][8] == 7, "write by a small page");
    // Tables inside a large page, edited through it.
    u64 *inside = big[0] + 512 * 9;
    for (int i = 0; i < 512; i++) inside[i] = LEAF(0);
    put(&c.pd[1], (u64)big[0] | P | W | U | PS);
    put(&c.pd[2], (u64)inside | P | W | U);
    write_cr3(read_cr3());
    for (int i = 0; i < 16; i++) {
        expect_at(c.va + 2 * HUGE + i * PAGE, MARK(0));
        *(volatile u64 *)(c.va + way + 9 * PAGE + 8 * i) = LEAF(3);
        invlpg(c.va + 2 * HUGE + i * PAGE);
        expect_at(c.va + 2 * HUGE + i * PAGE, MARK(3));
    }
    for (int i = 0; i < 512; i++) inside[i] = 0;
}

// Keeps the compiler from branching on what may lawfully differ between two processors: the count
// of instructions is to be the same.
static inline u64 fixed_time(u64 v) {
    __asm__ volatile("" : "+r"(v));
    return v;
}

void global_pages(void) {
    for (int round = 0; round < 8; round++) {
        put(&c.pt[0], LEAF(0) | G);
        put(&c.pt[1], LEAF(1));
        flush_all();
        expect_at(c.va, MARK(0));
        expect_at(c.va + PAGE, MARK(1));
        put(&c.pt[0], LEAF(2) | G);
        put(&c.pt[1], LEAF(3));
        write_cr3(read_cr3());
        u64 seen = peek(c.va);              // either, after a reload
        check(fixed_time(seen == MARK(0)) | fixed_time(seen == MARK(2)),
              "global page after a reload: %x", seen);
        expect_at(c.va + PAGE, MARK(3));
        switch (round & 3) {
        case 0: invlpg(c.va); break;
        case 1: flush_all(); break;
        case 2:
            if (has_invpcid()) invpcid(2, 0, 0);
            else flush_all();
            break;
        case 3:
            write_cr4(read_cr4() & ~CR4_PGE);
            expect_at(c.va, MARK(2));
            write_cr4(read_cr4() | CR4_PGE);
            break;
        }
        expect_at(c.va, MARK(2));
    }
}

// A and D: set when used, in every level; set again after they are cleared and flushed.
void accessed_dirty(void) {
    u64 *levels[] = {&c.pt[0], &c.pd[0], &c.pdpt[0], c.pml4e};
    for (int round = 0; round < 16; round++) {
        put(&c.pt[0], LEAF(0) & ~(A | D));
        for (int i = 1; i < 4; i++) put(levels[i], *levels[i] & ~A);
        flush_all();
        check(!(c.pt[0] & (A | D)), "A and D without use");
        expect_at(c.va, MARK(0));
        for (int i = 0; i < 4; i++)
            check((*(volatile u64 *)levels[i] & (A | D)) == A, "level %d after a read: %x",
                  (u64)i + 1, *levels[i]);
        check(poke(c.va + 64, 1), "write");
        check((*(volatile u64 *)&c.pt[0] & (A | D)) == (A | D), "leaf after a write: %x", c.pt[0]);
        check(!(c.pd[0] & D), "D in a directory entry");
        put(&c.pt[0], c.pt[0] & ~D);
        invlpg(c.va);
        expect_at(c.va, MARK(0));
        check(!(*(volatile u64 *)&c.pt[0] & D), "D after a read");
        check(poke(c.va + 64, 2) && (*(volatile u64 *)&c.pt[0] & D), "D after it was cleared");
        put(&c.pt[0], c.pt[0] & ~A);
        invlpg(c.va);
        check(!(*(volatile u64 *)&c.pt[0] & A), "A before use");
        expect_at(c.va, MARK(0));
        check(*(volatile u64 *)&c.pt[0] & A, "A after it was cleared");
    }
    // The way to a table is accessed by its walk, whoever else has used the table.
    put(&c.pd[3], (u64)c.pt | P | W | U);
    expect_at(c.va + 3 * HUGE, MARK(0));
    check(*(volatile u64 *)&c.pd[3] & A, "A of a second way to a table");
}

// A page that was a table becomes data, is written at length, and becomes a table again.
void tables_as_data(void) {
    u64 *table = new_page();
    for (int round = 0; round < 24; round++) {
        for (int i = 0; i < 512; i++) table[i] = LEAF((i + round) & 3);
        put(&c.pd[4], (u64)table | P | W | U);
        invlpg(c.va);
        for (int i = 0; i < 512; i += 19)
            expect_at(c.va + 4 * HUGE + i * PAGE, MARK((i + round) & 3));
        put(&c.pd[4], 0);
        write_cr3(read_cr3());
        expect_fault(c.va + 4 * HUGE, 0);
        // As data, mapped by another table, from ring 3 too.
        put(&c.pt[7], (u64)table | P | W | U);
        invlpg(c.va + 7 * PAGE);
        for (int i = 0; i < 512; i++) ((volatile u64 *)(c.va + 7 * PAGE))[i] = random64() | P;
        volatile u8 *bytes = (volatile u8 *)(c.va + 7 * PAGE);
        for (int i = 0; i < 4000; i += 3) *(volatile u32 *)(bytes + i) = i;
        for (int i = 0; i < 3996; i += 3)
            check(*(volatile u8 *)(bytes + i) == (u8)i, "byte %d of a former table", (u64)i);
        run_user(user_write, c.va + 7 * PAGE);
        check(last.vector == USER_EXIT && table[0] == 0x55, "user write to a former table");
        put(&c.pt[7], 0);
        invlpg(c.va + 7 * PAGE);
        // As a directory.
        for (int i = 0; i < 512; i++) table[i] = (u64)c.pt | P | W | U;
        put(&c.pt[0], LEAF(round & 3));
        put(&c.pdpt[1], (u64)table | P | W | U);
        write_cr3(read_cr3());
        expect_at(c.va + (1ull << 30) + (u64)(round * 17) * HUGE, MARK(round & 3));
        put(&c.pdpt[1], 0);
        write_cr3(read_cr3());
    }
}

void test_invalidation(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"present at once", present_at_once},
        {"INVLPG", invalidate_page},
        {"upper levels", upper_levels},
        {"large pages", large_pages},
        {"global pages", global_pages},
        {"accessed and dirty", accessed_dirty},
        {"kinds of stores", kinds_of_stores},
        {"tables as data", tables_as_data},
        {"self-maps", self_maps},
        {"outside memory", outside_memory},
        {"process contexts", process_contexts},
    };
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i].run == process_contexts && !has_invpcid()) continue;
        begin(parts[i].name);
        fresh();
        parts[i].run();
        kernel_pml4[65] = 0;
        flush_all();
        end();
    }
}
