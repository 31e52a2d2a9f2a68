// Pages for tests to build tables in, and pseudo-random numbers.
#include "kernel.h"

#define PAGES 1024
static u64 pool[PAGES][512] __attribute__((aligned(4096)));
static unsigned used;

u64 *new_page(void) {
    if (used == PAGES) { print("FAIL pool: no pages left\n"); finish(); }
    u64 *page = pool[used++];
    for (int i = 0; i < 512; i++) page[i] = 0;
    return page;
}

void pages_reset(void) { used = 0; }

static u64 seed = 0x9e3779b97f4a7c15;
u64 random64(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

struct Chain new_chain(u64 *pml4, int slot) {
    struct Chain c = {SLOT(slot), &pml4[slot], new_page(), new_page(), new_page()};
    *c.pml4e = (u64)c.pdpt | P | W | U;
    c.pdpt[0] = (u64)c.pd | P | W | U;
    c.pd[0] = (u64)c.pt | P | W | U;
    return c;
}
