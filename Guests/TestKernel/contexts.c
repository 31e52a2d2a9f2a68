// Process-context identifiers and INVPCID (SDM Vol. 3A 4.10.1, 4.10.4.1).
#include "invalidation.h"

static void invalidate_bad(void) { invpcid(0, 1, 0x8000000000000000ull); }

// What CR3 names for a PML4 table: the table, or with 5 levels one above it.
static u64 *root_above(u64 *pml4) {
    if (!(read_cr4() & CR4_LA57)) return pml4;
    u64 *pml5 = new_page();
    pml5[0] = (u64)pml4 | P | W | U;
    return pml5;
}

// Many address spaces: each PCID sees its own; INVPCID of each type; PCIDE off and on.
void process_contexts(void) {
    enum { SPACES = 24 };
    u64 *pml4s[SPACES], *roots[SPACES], *tables[SPACES], home = read_cr3();
    u64 *mine[SPACES];
    for (int i = 0; i < SPACES; i++) {
        pml4s[i] = new_page();
        roots[i] = root_above(pml4s[i]);
        for (int j = 0; j < 64; j++) pml4s[i][j] = kernel_pml4[j];
        struct Chain chain = new_chain(pml4s[i], 65);
        tables[i] = chain.pt;
        mine[i] = new_page();
        mine[i][0] = 0x100 + i;
        chain.pt[0] = (u64)mine[i] | P | W | U;
        chain.pt[1] = (u64)page[0] | P | W | U;
    }
    write_cr4(read_cr4() | CR4_PCIDE);
    for (u64 i = 0; i < SPACES; i++) {
        write_cr3((u64)roots[i] | (i + 1));
        expect_at(c.va, 0x100 + i);
    }
    for (int round = 0; round < 200; round++) {
        u64 i = random64() % SPACES;
        write_cr3((u64)roots[i] | (i + 1) | 1ull << 63);
        expect_at(c.va, 0x100 + i);
        check(read_cr3() == ((u64)roots[i] | (i + 1)), "CR3 reads %x", read_cr3());
    }
    // A change in another space, then a load of CR3 that flushes.
    for (u64 i = 0; i < SPACES; i++) {
        u64 j = (i + 5) % SPACES;
        write_cr3((u64)roots[i] | (i + 1) | 1ull << 63);
        expect_at(c.va, 0x100 + i);
        put(&tables[j][1], LEAF(j & 3));
        write_cr3((u64)roots[j] | (j + 1));
        expect_at(c.va + PAGE, MARK(j & 3));
        write_cr3((u64)roots[i] | (i + 1));
    }
    // INVPCID of another context.
    for (int type = 0; type < 4; type++)
        for (u64 i = 0; i + 1 < SPACES; i++) {
            u64 j = i + 1;
            write_cr3((u64)roots[j] | (j + 1) | 1ull << 63);
            (void)peek(c.va + PAGE);
            write_cr3((u64)roots[i] | (i + 1) | 1ull << 63);
            int n = (type + i) & 3;
            put(&tables[j][1], LEAF(n));
            invpcid(type, type < 2 ? j + 1 : 0, type ? 0 : c.va + PAGE);
            write_cr3((u64)roots[j] | (j + 1) | 1ull << 63);
            expect_at(c.va + PAGE, MARK(n));
        }
    check(guarded(invpcid, 4, 0) && last.vector == GP, "INVPCID type 4");
    check(guarded(invalidate_bad, 0, 0) && last.vector == GP, "INVPCID of a non-canonical address");
    check(guarded(invpcid, 1, 0x1000) && last.vector == GP, "INVPCID with reserved bits");
    run_user(invpcid, 2);
    check(last.vector == GP, "INVPCID in ring 3: %d", last.vector);
    write_cr3(home);
    // Off and on again: nothing of before may be seen.
    for (u64 i = 1; i < SPACES; i++) {
        write_cr3((u64)roots[i] | (i + 1) | 1ull << 63);
        (void)peek(c.va);
        write_cr3(home);
        write_cr4(read_cr4() & ~CR4_PCIDE);
        tables[i][0] = LEAF(i & 3);
        write_cr4(read_cr4() | CR4_PCIDE);
        write_cr3((u64)roots[i] | (i + 1) | 1ull << 63);
        expect_at(c.va, MARK(i & 3));
        write_cr3(home);
    }
    write_cr4(read_cr4() & ~CR4_PCIDE);
    // A root that is reused for another space after its load.
    for (int i = 0; i < SPACES; i++) {
        put(&pml4s[i][65], pml4s[(i + 1) % SPACES][65]);
        write_cr3((u64)roots[i]);
        expect_at(c.va, peek(c.va));
    }
    write_cr3(home);
    // 4.10.4.1 and MOV to CR: PCIDE may be set only with CR3[11:0] = 0.
    write_cr3(home | 0x18);
    check(guarded(write_cr4, read_cr4() | CR4_PCIDE) && last.vector == GP, "PCIDE with CR3[11:0]");
    write_cr3(home);
}
