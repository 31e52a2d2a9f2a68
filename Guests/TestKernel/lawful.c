// Random edits, flushes and reads, against a model of everything that a processor may lawfully
// have cached (SDM Vol. 3A 4.10.2 to 4.10.4). Where there are several processors, each does some of
// it: an edit is seen by all, and a flush ends what one of them has cached.
//
// For each processor, PCID and page the model keeps the set of translations (frame, and whether writable):
// those that a walk could have given at some moment since the last operation that covered it, where
// the directory entry may have been cached earlier than the leaf, and the entries above it earlier
// still: by way of another root that was loaded in the PCID since. A read must give a member of the
// set, and may fault only where the present entries do not map. A write must go to the frame of a
// writable member, and may be refused only where there is one that is not writable.
#include "processors.h"

enum { ROOTS = 5, TABLES = 2, VAS = 8, VALUES = 12, PCIDS = 4 };
#define MARK(n) (0x0101010101010101ull * ((n) + 1))

static u64 *roots[ROOTS], *pd[ROOTS], *pt[ROOTS][TABLES], *page[VALUES];
static int me, processors;                  // who does it
static u32 cached_by[MOST][PCIDS][VAS];     // bit 2 n + w: frame n may be seen, writable if w
static u32 global_by[MOST][VAS];            // the same for global translations, in any PCID
static u8 parents_by[MOST][PCIDS][ROOTS];   // bit 2 t + w: the same for pt[root][t]
static bool known_by[MOST][PCIDS][ROOTS];   // the entries above the directory: in use, or cached
static int pcid_of[MOST], root_of[MOST];
#define cached cached_by[me]
#define global global_by[me]
#define parents parents_by[me]
#define known known_by[me]
#define pcid pcid_of[me]
#define root root_of[me]
static u64 base;

static u64 leaf_of(int r, int t, int v) { return *(volatile u64 *)&pt[r][t][v]; }

static int value_of(u64 entry) {
    for (int i = 0; i < VALUES; i++)
        if ((entry & 0xfffffffff000ull) == (u64)page[i]) return i;
    return -1;
}

// The table that the directory of r names now, or -1.
static int table_of(int r) {
    u64 entry = *(volatile u64 *)&pd[r][0];
    if (!(entry & P)) return -1;
    return (entry & 0xfffffffff000ull) == (u64)pt[r][1];
}

// What the processor's walks may fill at this moment, it being in (pcid, root).
static void fill_one(void) {
    known[pcid][root] = true;
    for (int r = 0; r < ROOTS; r++) {
        int now = known[pcid][r] ? table_of(r) : -1;
        if (now >= 0) parents[pcid][r] |= 1 << (2 * now + !!(*(volatile u64 *)&pd[r][0] & W));
    }
    for (int r = 0; r < ROOTS; r++)
        for (int t = 0; t < TABLES; t++) {
            int ways = parents[pcid][r] >> 2 * t & 3;
            if (!ways) continue;
            for (int v = 0; v < VAS; v++) {
                u64 entry = leaf_of(r, t, v);
                if (!(entry & P)) continue;
                // Read-only by the leaf or by a way, or writable by both.
                u32 kinds = entry & W ? ways : 1;
                u32 seen = kinds << 2 * value_of(entry);
                if (entry & G) global[v] |= seen;
                else cached[pcid][v] |= seen;
            }
        }
}

static void fill(void) {
    int who = me;
    for (me = 0; me < processors; me++) fill_one();
    me = who;
}

static void forget(int p, bool leaves) {
    for (int v = 0; v < VAS && leaves; v++) cached[p][v] = 0;
    for (int r = 0; r < ROOTS; r++) parents[p][r] = 0, known[p][r] = false;
}

static void forget_all(bool globals) {
    for (int p = 0; p < PCIDS; p++) forget(p, true);
    for (int v = 0; v < VAS && globals; v++) global[v] = 0;
}

static void load(int p, int r, bool keep) {
    on(me, write_cr3, (u64)roots[r] | p | (keep ? 1ull << 63 : 0), 0);
    pcid = p, root = r;
    if (!keep) forget(p, true);
    fill();
}

static void store_here(u64 *entry, u64 value, u64 way) {
    volatile u32 *half = (volatile u32 *)entry;
    u64 old;
    switch (way) {
    case 0: half[1] = value >> 32; half[0] = value; break;
    case 1:
        __asm__ volatile("xchg %0, %1" : "=r"(old), "+m"(*entry) : "0"(value) : "memory"); break;
    case 2:
        do old = *(volatile u64 *)entry;
        while (!__atomic_compare_exchange_n(entry, &old, value, false, 5, 5));
        break;
    case 3: {
        u64 n = 7; u8 *d = (u8 *)entry + 1; const u8 *s = (const u8 *)&value + 1;
        // Bytes of the old and the new frame must not mix: not present first, and present last.
        half[0] = 0;
        __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
        *(volatile u8 *)entry = value;
        break;
    }
    default: *(volatile u64 *)entry = value;
    }
}

static u64 way, seen;
static void store_way(u64 *entry, u64 value) { store_here(entry, value, way); }
static void store(u64 *entry, u64 value) {
    way = random64() % 6;
    on(me, store_way, (u64)entry, value);
}
static void peek_here(u64 va) { seen = peek(va); }
static void poke_here(u64 va, u64 v) { seen = poke(va, v); }
static void invpcid_here(u64 type, u64 p) { invpcid(type, p, 0); }
static void invpcid_page(u64 p, u64 va) { invpcid(0, p, va); }

static void look(int v) {
    int now = table_of(root);
    u64 entry = now < 0 ? 0 : leaf_of(root, now, v);
    u32 lawful = cached[pcid][v] | global[v];
    on(me, peek_here, base + v * PAGE, 0);
    if (seen == FAULTED) {
        check(!(entry & P) && last.vector == PF && last.error == 0,
              "fault %x at a page that is mapped by %x", last.error, entry);
        cached[pcid][v] = 0;
        forget(pcid, false);
        fill();
        return;
    }
    int value = -1;
    for (int i = 0; i < VALUES; i++)
        if (seen == MARK(i)) value = i;
    check(value >= 0 && lawful >> 2 * value & 3, "page %d of PCID %d: read %x, lawful %x, entry %x",
          (u64)v, (u64)pcid, seen, (u64)lawful, entry);
}

// A write of a number that is not used again; whichever page receives it must be lawful.
static void change(int v) {
    static u64 token;
    int now = table_of(root);
    u64 entry = now < 0 ? 0 : leaf_of(root, now, v);
    u32 lawful = cached[pcid][v] | global[v];
    token++;
    on(me, poke_here, base + v * PAGE + 8, token);
    if (!seen) {
        bool absent = last.error == 2 && !(entry & P);
        bool refused = last.error == 3 && (lawful & 0x55555555);
        check(last.vector == PF && (absent || refused), "fault %x at a write by %x, lawful %x",
              last.error, entry, (u64)lawful);
        cached[pcid][v] = 0;
        forget(pcid, false);
        fill();
        return;
    }
    int value = -1;
    for (int i = 0; i < VALUES; i++)
        if (page[i][1] == token) value = i;
    check(value >= 0 && lawful >> (2 * value + 1) & 1, "page %d of PCID %d: wrote to %d, lawful %x",
          (u64)v, (u64)pcid, (u64)value, (u64)lawful);
}

static void turn(void) {
    int v = random64() % VAS, r = random64() % ROOTS, t = random64() % TABLES;
    int p = random64() % PCIDS;
    me = processors == 1 ? 0 : random64() % processors;
    if (random64() & 1) r = root;
    switch (random64() % 32) {
    case 0 ... 9: {
        u64 value = (u64)page[random64() % VALUES] | P | W | A | D;
        if (random64() % 4 == 0) value &= ~P;
        if (random64() % 8 == 0) value |= G;
        if (random64() % 3 == 0) value &= ~W;
        if (random64() % 4 == 0) value &= ~D;
        if (random64() % 8 == 0) value &= ~A;
        store(&pt[r][t][v], value);
        fill();
        break;
    }
    case 10 ... 11: {
        u64 value = (u64)pt[r][t] | A | (random64() % 4 ? P : 0) | (random64() % 4 ? W : 0);
        store(&pd[r][0], value);
        fill();
        break;
    }
    case 12 ... 17: look(v); break;
    case 18 ... 22: change(v); break;
    case 23 ... 24:
        on(me, invlpg, base + v * PAGE, 0);
        cached[pcid][v] = 0, global[v] = 0;
        forget(pcid, false);
        fill();
        break;
    case 25: load(p, r, false); break;
    case 26 ... 27: load(p, r, true); break;
    case 28:
        on(me, invpcid_page, p, base + v * PAGE);
        cached[p][v] = 0;
        forget(p, false);
        fill();
        break;
    case 29: on(me, invpcid_here, 1, p); forget(p, true); fill(); break;
    case 30: on(me, invpcid_here, 3, 0); forget_all(false); fill(); break;
    case 31:
        if (random64() & 1) on(me, invpcid_here, 2, 0);
        else on(me, flush_all, 0, 0);
        forget_all(true);
        fill();
        break;
    }
}

static void set_pcide(u64 value) {
    write_cr4((read_cr4() & ~CR4_PCIDE) | value);
}

static void lawful(int count) {
    processors = count;
    begin(count == 1 ? "lawful caching" : "lawful caching on several processors");
    u64 home = read_cr3();
    base = SLOT(67);
    for (int i = 0; i < VALUES; i++) {
        page[i] = new_page();
        page[i][0] = MARK(i);
    }
    for (int r = 0; r < ROOTS; r++) {
        roots[r] = new_page();
        for (int j = 0; j < 64; j++) roots[r][j] = kernel_pml4[j];
        struct Chain c = new_chain(roots[r], 67);
        pd[r] = c.pd;
        pt[r][0] = c.pt;
        pt[r][1] = new_page();
        for (int t = 0; t < TABLES; t++)
            for (int v = 0; v < VAS; v++) pt[r][t][v] = (u64)page[random64() % VALUES] | W;
    }
    for (me = 0; me < count; me++) on(me, set_pcide, CR4_PCIDE, 0);
    for (int round = 0; round < 8; round++) {
        for (me = 0; me < count; me++) {
            load(0, 0, false);
            on(me, invpcid_here, 2, 0);
            forget_all(true);
        }
        me = 0;
        fill();
        for (u64 i = 0; i < 40000 / step; i++) turn();
    }
    for (me = 0; me < count; me++) {
        on(me, write_cr3, home, 0);
        on(me, set_pcide, 0, 0);
    }
    end();
}

void test_lawful(void) {
    if (!has_invpcid()) return;
    lawful(1);
    if (processor_count() == 1) return;
    processors_start();
    lawful(processor_count());
    processors_stop();
}
