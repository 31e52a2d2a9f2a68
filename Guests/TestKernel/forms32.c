// 2-level and PAE paging, from 32-bit protected mode; compiled for it. An oracle written from the
// SDM: Vol. 3A 4.3 (32-bit paging), 4.4 (PAE paging), 4.6 to 4.10.
#include "forms.h"

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

#define P 1u
#define W 2u
#define U 4u
#define A 0x20u
#define D 0x40u
#define PS 0x80u
#define G 0x100u
#define NX (1ull << 63)
#define PAGE 4096u
enum { PSE = 1u << 4, PAE = 1u << 5, PGE = 1u << 7, SMEP = 1u << 20, SMAP = 1u << 21 };
enum { WP = 1u << 16, CD = 1u << 30, PG = 1u << 31 };
enum { GP = 13, PF = 14 };

struct FormTests form_tests;
static struct FormTests *const t = &form_tests;
extern u32 trap32_vector, trap32_error, trap32_cr2, touched32;
bool guarded32();
void read32(), write32(), fetch32(), enter32(), user_read32(), user_write32();

#define CONTROL(name)                                                                              \
    static inline u32 read_##name(void) {                                                          \
        u32 v;                                                                                     \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(v));                                         \
        return v;                                                                                  \
    }                                                                                              \
    static inline void write_##name(u32 v) {                                                       \
        __asm__ volatile("mov %0, %%" #name : : "r"(v) : "memory");                                \
    }
CONTROL(cr0)
CONTROL(cr3)
CONTROL(cr4)
static void invlpg(u32 va) { __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory"); }
static void set_nxe(bool on) {
    u32 a, d;
    __asm__ volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(0xc0000080));
    a = on ? a | 1u << 11 : a & ~(1u << 11);
    __asm__ volatile("wrmsr" : : "c"(0xc0000080), "a"(a), "d"(d) : "memory");
}

static void fail(const char *text, u32 a, u32 b, u32 c, u32 d, u32 e, u32 f) {
    if (t->failures++ >= 8) return;
    u32 n = t->failures - 1, values[] = {a, b, c, d, e, f};
    t->first[n].text = (u32)text;
    for (int i = 0; i < 6; i++) t->first[n].arguments[i] = values[i];
}
static void check(bool right, const char *text, u32 a, u32 b) {
    t->checks++;
    if (!right) fail(text, a, b, 0, 0, 0, 0);
}

static u32 random32(void) {
    t->seed ^= t->seed << 13;
    t->seed ^= t->seed >> 17;
    return t->seed ^= t->seed << 5;
}
static u32 spread(u32 bits, const u32 *meaning, int count) {
    u32 value = 0;
    for (int i = 0; i < count; i++)
        if (bits >> i & 1) value |= meaning[i];
    return value;
}

// ---- Tables of either form. Linear addresses: 0 to 16 MiB is the kernel's, 1:1; USER + that the
// same with user rights; TEST and what follows is for tests.
#define USER 0x60000000u
#define TEST 0x40000000u
#define AS_USER(p) ((u32)(p) + USER)
static u32 root;                            // the directory, or the four pointers
static u32 directories[4], used;
static u32 target, other;                   // pages with code and data to look at

static u32 page(void) { return t->pages[used++]; }
static u32 directory_bits(void) { return t->pae ? 21 : 22; }
// How an address goes through a directory and a table.
static u32 table_index(u32 va) { return va >> 12 & (t->pae ? 511 : 1023); }
static u32 directory_index(u32 va) { return t->pae ? va >> 21 & 511 : va >> 22; }
static u32 directory(u32 va) { return t->pae ? directories[va >> 30] : root; }
static u64 get(u32 table, u32 index) {
    return t->pae ? ((volatile u64 *)table)[index] : ((volatile u32 *)table)[index];
}
static void set(u32 table, u32 index, u64 entry) {
    // The halves of an 8-byte entry are two stores, the present one last.
    if (t->pae) {
        ((volatile u32 *)table)[index * 2] = 0;
        ((volatile u32 *)table)[index * 2 + 1] = entry >> 32;
        ((volatile u32 *)table)[index * 2] = entry;
    } else {
        ((volatile u32 *)table)[index] = entry;
    }
}
static void set_directory(u32 va, u64 e) { set(directory(va), directory_index(va), e); }

static void map_kernel(u32 at, u32 rights) {
    for (u32 base = 0; base < 1u << 24; base += 1u << directory_bits()) {
        u32 table = page();
        for (u32 i = 0; i < (t->pae ? 512 : 1024); i++) set(table, i, base + i * PAGE + rights);
        set_directory(at + base, table | P | W | U);
    }
}

static void build(void) {
    used = 0;
    root = page();
    if (t->pae) {
        for (int i = 0; i < 4; i++) {
            directories[i] = page();
            ((volatile u64 *)root)[i] = directories[i] | P;
        }
    }
    map_kernel(0, P | W | A | D);
    map_kernel(USER, P | W | U | A | D);
    target = page();
    other = page();
    for (int i = 0; i < 2; i++) {
        u8 *code = (u8 *)(i ? other : target);
        code[0] = 0xc3;                     // ret
        code[16] = 0xcd;                    // int $USER_EXIT
        code[17] = USER_EXIT;
        *(u32 *)(code + 2048) = i ? 0x07e207e2 : 0x7a67e700;
    }
}

// ---- Every combination of bits, a sample of them
struct Access {
    int kind;                               // read, write, fetch
    bool user;
};
#define NO_FAULT 0xffffffffu
struct Control {
    bool wp, smep, smap, nxe, pse, ac;
};

static void set_control(struct Control c) {
    write_cr0((read_cr0() & ~WP) | (c.wp ? WP : 0));
    u32 cr4 = read_cr4() & ~(SMEP | SMAP | PSE);
    write_cr4(cr4 | (c.smep ? SMEP : 0) | (c.smap ? SMAP : 0) | (c.pse ? PSE : 0));
    if (t->has_nx) set_nxe(c.nxe);
}

static u64 reserved(int level, u64 entry, struct Control c) {
    u64 beyond = ~((1ull << t->physical_bits) - 1);
    if (t->pae) {
        u64 bits = (beyond | 0x7ffull << 52) & ~NX;
        if (!c.nxe) bits |= NX;
        if (level == 2 && (entry & PS)) bits |= 0x1fe000;
        return entry & bits;
    }
    if (level != 2 || !(entry & PS) || !c.pse) return 0;
    u64 high = t->has_pse36 ? beyond >> 19 & 0x1fe000 : 0x1fe000;
    return entry & (1u << 21 | high);
}

// The error code of the page fault that an access must get, or NO_FAULT.
static u32 oracle(u64 up, u64 low, int level, struct Control c, struct Access a) {
    u32 error = (a.kind == 1 ? 2 : 0) | (a.user ? 4 : 0)
        | (a.kind == 2 && (c.smep || (t->pae && c.nxe)) ? 16 : 0);
    bool writable = true, user = true, no_execute = false;
    u64 both[2] = {up, low};
    // The directory entry above a table, then the leaf.
    for (int i = level == 1 ? 0 : 1; i < 2; i++) {
        if (!(both[i] & P)) return error;
        if (reserved(i ? level : 2, both[i], c)) return error | 9;
        writable &= (both[i] & W) != 0;
        user &= (both[i] & U) != 0;
        no_execute |= (both[i] & NX) != 0;
    }
    bool denied;
    if (a.user) denied = !user || (a.kind == 1 && !writable) || (a.kind == 2 && no_execute);
    else if (a.kind == 2) denied = no_execute || (user && c.smep);
    else denied = (user && c.smap && !c.ac) || (a.kind == 1 && !writable && c.wp);
    return denied ? error | 1 : NO_FAULT;
}

// Makes the access; the error code, NO_FAULT, or something with high bits that is never right.
static u32 perform(u32 va, struct Access a, bool ac) {
    u32 where = va + (a.kind == 2 ? (a.user ? 16 : 0) : 2048);
    bool trapped;
    if (a.user) {
        u32 code = a.kind == 2 ? where : AS_USER(a.kind ? (u32)user_write32 : (u32)user_read32);
        guarded32(enter32, code, where);
        trapped = trap32_vector != USER_EXIT;
    } else {
        u32 flags;
        __asm__ volatile("pushf; pop %0" : "=r"(flags));
        if (ac) __asm__ volatile("push %0; popf" : : "r"(flags | 1u << 18) : "cc", "memory");
        trapped = guarded32(a.kind == 0 ? read32 : a.kind == 1 ? write32 : fetch32, where, 0x55);
        if (ac) __asm__ volatile("push %0; popf" : : "r"(flags) : "cc", "memory");
    }
    if (!trapped) return NO_FAULT;
    if (trap32_vector != PF) return 0xbad00000 | trap32_vector;
    return trap32_cr2 == where ? trap32_error : 0xc2000000 | trap32_error;
}

static u64 high_bits(u32 r, struct Control c, int level) {
    // NX often; each of the reserved bits now and then.
    (void)c;
    (void)level;
    u64 high = r & 1 ? NX : 0;
    if ((r & 0x1e) == 0x1e) high |= 1ull << (40 + (r >> 5) % 23);
    return high;
}

static void matrix(int level) {
    static const u32 meaning[] = {W, U, A, D, G};
    // The frame that is looked at lies in a large page together with the kernel.
    u32 size = level == 1 ? PAGE : 1u << directory_bits();
    u32 va = TEST | (target & ((1u << directory_bits()) - 1)), table = page();
    u32 slot = level == 1 ? table_index(va) : directory_index(va);
    u32 holder = level == 1 ? table : directory(va);
    for (u32 n = 0; n < t->count; n++) {
        u32 r = random32(), s = random32();
        struct Control c = {.wp = r & 1, .smep = r >> 1 & t->has_smep, .smap = r >> 2 & t->has_smap,
                            .nxe = r >> 3 & t->has_nx, .pse = level == 2 || (r >> 4 & 1),
                            .ac = r >> 5 & 1};
        struct Access a = {(r >> 6) % 3, r >> 8 & 1};
        u64 up = table | ((r >> 9 & 15) ? P : 0) | spread(r >> 13, meaning, 3);
        u64 low = (target & ~(size - 1)) | ((s & 15) ? P : 0) | spread(s >> 4, meaning, 5);
        if (level == 2) {
            low |= PS;
            if (!(s >> 9 & 7)) low |= 1u << (13 + (s >> 12) % (t->pae ? 8 : 9));
            // Address bits above 4 GiB that exist lead where there is no memory to look at.
            if (!t->pae && (low & 0x1fe000) && !reserved(2, low, c)) low &= ~0x1fe000ull;
        }
        if (t->pae) low |= high_bits(random32(), c, level), up |= high_bits(random32() & ~1, c, 2);
        if (!t->pae && level == 1 && !c.pse && (r >> 17 & 1)) up |= PS;
        set_control(c);
        if (level == 1) set_directory(va, up);
        set(holder, slot, low);
        invlpg(va);
        u32 want = oracle(up, low, level, c, a), got = perform(va, a, c.ac);
        u64 up_after = get(directory(va), directory_index(va)), low_after = get(holder, slot);
        t->checks++;
        bool right = want == got;
        if (want == NO_FAULT) {
            right &= low_after == (low | A | (a.kind == 1 ? D : 0));
            right &= level == 2 || up_after == (up | A);
        } else {
            right &= low_after == low;
            right &= level == 2 || up_after == up || up_after == (up | A);
        }
        if (!right) {
            u32 controls = c.wp | c.smep << 1 | c.smap << 2 | c.nxe << 3 | c.pse << 4 | c.ac << 5;
            fail("entries %x %x controls %x access %x: error %x, want %x", up, low, controls,
                 a.kind | a.user << 4, got, want);
            fail("  (high halves %x %x, then %x %x, %x)", up >> 32, low >> 32, up_after, low_after,
                 level, 0);
        }
    }
    set_control((struct Control){.wp = true, .nxe = t->has_nx, .pse = true});
    set_directory(va, 0);
    invlpg(va);
}

// ---- Invalidation: what must be seen at once, and what may be seen
static u32 value(u32 va) { return guarded32(read32, va + 2048, 0) ? NO_FAULT : touched32; }

static void operation(u32 which, u32 va) {
    u32 cr4 = read_cr4();
    switch (which) {
    case 0: invlpg(va); break;
    case 1: write_cr3(read_cr3()); break;
    case 2: write_cr4(cr4 ^ PGE), write_cr4(cr4); break;
    default: write_cr0(read_cr0() & ~PG), write_cr0(read_cr0() | PG); break;
    }
}

static void invalidation(void) {
    u32 old = *(u32 *)(target + 2048), new = *(u32 *)(other + 2048);
    u32 va = TEST + 0x5000, first = page(), second = page();
    for (u32 n = 0; n < t->count / 4; n++) {
        u32 r = random32(), which = r % (t->has_pge ? 4 : 2);
        // A global page outlives a load of CR3.
        u32 global = t->has_pge && which != 1 && (r >> 8 & 1) ? G : 0, rights = P | W | A | D;
        write_cr4(t->has_pge ? read_cr4() | PGE : read_cr4());
        set(first, table_index(va), target | rights | global);
        set(second, table_index(va), other | rights | global);
        set_directory(va, first | P | W | U | A);
        operation(2, va), operation(1, va);
        check(value(va) == old, "fresh mapping: %x", value(va), 0);
        // The leaf, or the directory entry above it.
        bool is_upper = r >> 9 & 1;
        if (is_upper) set_directory(va, second | P | W | U | A);
        else set(first, table_index(va), other | rights | global);
        u32 seen = value(va);
        check(seen == old || seen == new, "%x before operation %d", seen, which);
        operation(which, va);
        check(value(va) == new, "%x after operation %d", value(va), which);
        set(is_upper ? second : first, table_index(va), 0);
        seen = value(va);
        check(seen == new || seen == NO_FAULT, "%x before operation %d of a removal", seen, which);
        operation(which, va);
        check(value(va) == NO_FAULT, "%x after operation %d of a removal", value(va), which);
        // What was not present needs no operation.
        set(is_upper ? second : first, table_index(va), target | rights);
        check(value(va) == old, "%x where nothing was", value(va), 0);
    }
    set_directory(va, 0);
    invlpg(va);
}

// Large pages: every part of one goes with an INVLPG anywhere in it.
static void large_pages(void) {
    u32 size = 1u << directory_bits(), offset = target & (size - 1);
    u32 base = target & ~(size - 1), old = *(u32 *)(target + 2048);
    u32 table = page();
    for (u32 i = 0; i < (t->pae ? 512 : 1024); i++) set(table, i, other | P | W | A | D);
    u32 new = *(u32 *)(other + 2048);
    for (u32 n = 0; n < t->count / 8; n++) {
        u32 inside = random32() & (size - 1), global = t->has_pge && random32() & 1 ? G : 0;
        u32 rights = P | W | A | D;
        set_directory(TEST, base | rights | PS | global);
        invlpg(TEST + inside);
        check(value(TEST + offset) == old, "large page: %x", value(TEST + offset), 0);
        // Both halves of 4 MiB are in use; the image reaches from 2 MiB on.
        u32 half = t->pae ? 0 : 1u << 21;
        (void)value(TEST + (offset ^ half));
        set_directory(TEST, table | P | W | A);
        u32 seen = value(TEST + offset);
        check(seen == old || seen == new, "large page to table: %x", seen, 0);
        invlpg(TEST + inside);
        check(value(TEST + offset) == new, "large page after INVLPG of %x: %x", inside,
              value(TEST + offset));
        check(value(TEST + (offset ^ half)) == new, "its other half after INVLPG of %x: %x", inside,
              value(TEST + (offset ^ half)));
        set_directory(TEST, base | rights | PS | global);
        // The translations of the table's pages are of 4 KiB, and end with theirs.
        invlpg(TEST + offset);
        check(value(TEST + offset) == old, "table to large page: %x", value(TEST + offset), 0);
    }
    set_directory(TEST, 0);
    // The last page may be global, and the table's pages are elsewhere.
    invlpg(TEST);
    operation(1, 0);
}

// Frames above 4 GiB, by PSE-36 or by the wide entries of PAE.
static void high_frames(void) {
    if (!t->high_ram || (!t->pae && !t->has_pse36)) return;
    // The 64-bit code wrote the number of each megabyte to its start.
    for (u32 n = 0; n < 16; n++) {
        u64 base = (u64)(t->high_ram + n / 4) << 22;
        if (t->pae) set_directory(TEST, (base + (n % 4 / 2 << 21)) | P | W | PS);
        else set_directory(TEST, (u32)base | base >> 32 << 13 | P | W | PS);
        invlpg(TEST);
        u32 at = TEST + (t->pae ? n % 2 : n % 4) * 0x100000;
        u32 got = guarded32(read32, at, 0) ? NO_FAULT : touched32;
        check(got == 0x48000000 + n, "%x in megabyte %d above 4 GiB", got, n);
        check(!guarded32(write32, at + 4, n + 1), "a write above 4 GiB: %x", trap32_error, n);
    }
    set_directory(TEST, 0);
    invlpg(TEST);
}

// Without CR4.PSE a directory entry's PS means nothing.
static void no_large_pages(void) {
    u32 table = page(), va = TEST + 0x7000;
    set(table, table_index(va), target | P | W);
    set_directory(va, table | P | W | PS);
    write_cr4(read_cr4() & ~PSE);
    operation(1, 0);
    invlpg(va);                             // a global page of an earlier test may be cached
    check(value(va) == *(u32 *)(target + 2048), "PS without CR4.PSE: %x", value(va), 0);
    set_directory(va, 0);
    write_cr4(read_cr4() | PSE);
    operation(1, 0);
}

static void start(void) {
    build();
    if (t->pae) write_cr4(read_cr4() | PAE);
    write_cr4(read_cr4() | PSE);
    if (t->has_nx) set_nxe(true);
    write_cr3(root);
    write_cr0(read_cr0() | PG | WP);
}

static void stop(void) {
    write_cr0(read_cr0() & ~PG);
    if (t->has_nx) set_nxe(true);
}

void test_forms32(void) {
    start();
    matrix(1);
    matrix(2);
    invalidation();
    large_pages();
    high_frames();
    if (!t->pae) no_large_pages();
    stop();
}

// ---- The four pointers of PAE: registers, loaded by some operations and by no walk (4.4.1). Of
// these some keep cached translations, so an INVLPG follows.
static void reload(u32 which, u32 va) {
    u32 cr0 = read_cr0(), cr4 = read_cr4();
    switch (which) {
    case 0: write_cr3(read_cr3()); break;
    case 1: write_cr0(cr0 ^ CD), write_cr0(cr0); break;
    case 2: write_cr4(cr4 ^ PGE), write_cr4(cr4); break;
    case 3: write_cr4(cr4 ^ PSE), write_cr4(cr4); break;
    case 4: write_cr0(cr0 & ~PG), write_cr0(cr0); break;
    default: write_cr4(cr4 ^ SMEP), write_cr4(cr4); break;
    }
    invlpg(va);
}
static void load_cr3(u32 v) { write_cr3(v); }
static void load_cr4(u32 v) { write_cr4(v); }

void test_pointers32(void) {
    start();
    volatile u64 *pointers = (volatile u64 *)root;
    u32 va = TEST + 0x5000, old = *(u32 *)(target + 2048), new = *(u32 *)(other + 2048);
    u32 table = page(), spare = page(), spare_table = page();
    set(table, table_index(va), target | P | W);
    set_directory(va, table | P | W);
    set(spare_table, table_index(va), other | P | W);
    set(spare, directory_index(va), spare_table | P | W);
    for (u32 n = 0; n < t->count / 8; n++) {
        u32 which = n % (t->has_smep ? 6 : 5);
        if (!t->has_pge && which == 2) which = 0;
        check(value(va) == old, "before: %x", value(va), 0);
        // An edit of the pointer has no effect, whatever is invalidated.
        pointers[1] = spare | P;
        invlpg(va);
        check(value(va) == old, "an edit of a pointer took effect: %x", value(va), 0);
        reload(which, va);
        check(value(va) == new, "%x after reload %d", value(va), which);
        pointers[1] = 0;
        invlpg(va);
        check(value(va) == new, "a removal took effect: %x", value(va), 0);
        reload(which, va);
        check(value(va) == NO_FAULT && trap32_error == 0, "%x of a missing pointer, error %x",
              value(va), trap32_error);
        pointers[1] = directories[1] | P;
        check(value(va) == NO_FAULT, "a pointer came without a reload: %x", value(va), 0);
        // Reserved bits: #GP, and everything stays.
        u64 bad = 1ull << (n % 2 ? 1 + n / 2 % 2 : n / 2 % 12 + 52);
        if (n % 5 == 0) bad = 1ull << (5 + n / 5 % 4);
        pointers[1] = directories[1] | P | bad;
        check(guarded32(load_cr3, root, 0) && trap32_vector == GP && !trap32_error,
              "MOV CR3 with bit %x %x of a pointer", bad, bad >> 32);
        u32 cr4 = read_cr4();
        check(guarded32(load_cr4, cr4 ^ PSE, 0) && trap32_vector == GP && read_cr4() == cr4,
              "MOV CR4 with bit %x %x of a pointer", bad, bad >> 32);
        check(value(va) == NO_FAULT, "pointers were loaded: %x", value(va), 0);
        // Of a pointer that is not present no bit is reserved.
        pointers[1] = bad;
        check(!guarded32(load_cr3, root, 0), "MOV CR3 with an absent pointer %x %x", bad, bad >> 32);
        check(value(va) == NO_FAULT, "%x by an absent pointer", value(va), 0);
        pointers[1] = directories[1] | P;
        reload(0, va);
    }
    stop();
}
