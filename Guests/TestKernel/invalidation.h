// What the tests of invalidation share: tables below slot 65, and pages that say which they are.
#pragma once
#include "kernel.h"

extern struct Chain c;
extern u64 *page[4];
#define LEAF(n) ((u64)page[n] | P | W | U | A | D)
#define MARK(n) (0x1111111111111111ull * ((n) + 1))
#define HUGE 0x200000ull

static inline void put(u64 *entry, u64 value) { *(volatile u64 *)entry = value; }

#define expect_at(address, value)                                                                  \
    do { u64 seen = peek(address), want = (value);                                                 \
        check(seen == want, "line %d: read %x, want %x", (u64)__LINE__, seen, want); } while (0)
#define expect_fault(address, code)                                                                \
    do { u64 seen = peek(address);                                                                 \
        check(seen == FAULTED && last.vector == PF && last.error == (code),                        \
              "line %d: read %x error %x", (u64)__LINE__, seen, last.error); } while (0)

void present_at_once(void), invalidate_page(void), upper_levels(void), large_pages(void);
void global_pages(void), accessed_dirty(void), tables_as_data(void);
void kinds_of_stores(void), self_maps(void), outside_memory(void), process_contexts(void);
