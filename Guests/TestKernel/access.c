// Every combination of the bits that decide an access, against an oracle written from the SDM:
// Vol. 3A 4.6 (access rights, protection keys), 4.7 (error codes), 4.8 (accessed and dirty flags).
#include "kernel.h"

enum { READ, WRITE, FETCH };
#define VA_BASE SLOT(64)
#define DATA_OFFSET 2048

struct Control { bool wp, smep, smap, nxe, ac, pke; u32 pkru; };
struct Access { int kind; bool user; };
// What an access does: faults with an error code, or not.
struct Outcome { bool fault; u64 error; };

static u8 target[4096] __attribute__((aligned(4096)));
static u64 *pdpt, *pd, *pt;
static u64 reserved_high;                   // the physical-address bits that must be zero
// The two entries that vary, and where the test page is seen.
static u64 *upper, *leaf;
static u64 upper_base, leaf_base, upper_reserved, leaf_reserved;
static u64 va;
static const char *const kinds[] = {"read", "write", "fetch"};

static void set_control(struct Control c) {
    write_cr0(c.wp ? read_cr0() | CR0_WP : read_cr0() & ~CR0_WP);
    u64 cr4 = read_cr4() & ~(CR4_SMEP | CR4_SMAP | CR4_PKE);
    write_cr4(cr4 | (c.smep ? CR4_SMEP : 0) | (c.smap ? CR4_SMAP : 0) | (c.pke ? CR4_PKE : 0));
    if (c.pke) write_pkru(c.pkru);
    u64 efer = read_msr(EFER) & ~EFER_NXE;
    write_msr(EFER, efer | (c.nxe ? EFER_NXE : 0));
}

static u64 *top;                            // the PML5 table, where there is one

// Builds the tables so that the leaf is at level 1, 2 or 3 and the entry above it varies too. With
// 5: the leaf is at level 1, and the PML5 entry varies.
static void set_level(int level) {
    u64 physical = (u64)target;
    bool is_top = level == 5;
    if (is_top) level = 1;
    va = VA_BASE | physical;
    unsigned i3 = physical >> 30 & 511, i2 = physical >> 21 & 511, i1 = physical >> 12 & 511;
    kernel_pml4[64] = (u64)pdpt | P | W | U | A;
    pdpt[i3] = (u64)pd | P | W | U | A;
    pd[i2] = (u64)pt | P | W | U | A;
    u64 ps = level > 1 ? PS : 0;
    u64 size = PAGE << 9 * (level - 1);
    upper = level == 1 ? &pd[i2] : level == 2 ? &pdpt[i3] : &kernel_pml4[64];
    leaf = level == 1 ? &pt[i1] : level == 2 ? &pd[i2] : &pdpt[i3];
    upper_base = (u64)(level == 1 ? pt : level == 2 ? pd : pdpt);
    leaf_base = (physical & ~(size - 1)) | ps;
    // The PS bit of a level-4 entry is reserved; so are a large page's address bits below its size.
    upper_reserved = reserved_high | (level == 3 ? PS : 0);
    leaf_reserved = reserved_high | (level > 1 ? (size - 1) & ~0x1fffull : 0);
    if (is_top) {
        va |= 1ull << 48;
        upper = &top[1];
        upper_base = (u64)kernel_pml4;
        upper_reserved = reserved_high | PS;
    }
    flush_all();
}

static u64 one_of(u64 mask) {
    u64 r = random64();
    for (;;) {
        u64 bit = 1ull << (r++ & 63);
        if (mask & bit) return bit;
    }
}

static struct Outcome oracle(u64 up, u64 low, struct Control c, struct Access a) {
    u64 error = (a.kind == WRITE ? 2 : 0) | (a.user ? 4 : 0)
        | (a.kind == FETCH && (c.smep || c.nxe) ? 16 : 0);
    u64 both[2] = {up, low}, reserved[2] = {upper_reserved, leaf_reserved};
    bool writable = true, user = true, no_execute = false;
    for (int i = 0; i < 2; i++) {
        if (!(both[i] & P)) return (struct Outcome){true, error};
        if (both[i] & (reserved[i] | (c.nxe ? 0 : NX))) return (struct Outcome){true, error | 9};
        writable &= (both[i] & W) != 0;
        user &= (both[i] & U) != 0;
        no_execute |= (both[i] & NX) != 0;
    }
    bool denied;
    if (a.user) {
        denied = !user || (a.kind == WRITE && !writable) || (a.kind == FETCH && no_execute);
    } else if (a.kind == FETCH) {
        denied = no_execute || (user && c.smep);
    } else {
        denied = (user && c.smap && !c.ac) || (a.kind == WRITE && !writable && c.wp);
    }
    // A key denies data accesses to user pages, whatever else does.
    u32 rights = c.pkru >> (low >> 59 & 15) * 2;
    if (c.pke && user && a.kind != FETCH
        && ((rights & 1) || ((rights & 2) && a.kind == WRITE && (a.user || c.wp))))
        return (struct Outcome){true, error | 0x21};
    return (struct Outcome){denied, denied ? error | 1 : 0};
}

static u64 address_of(struct Access a) {
    return va + (a.kind == FETCH ? (a.user ? 16 : 0) : DATA_OFFSET);
}

// Makes the access and says what became of it; anything but #PF is a failure of the test.
static struct Outcome perform(struct Access a, bool ac) {
    u64 where = address_of(a);
    bool trapped;
    if (a.user) {
        user_flags = 2;
        if (a.kind == FETCH) guarded(enter_user, where, 0);
        else guarded(enter_user, AS_USER(a.kind == READ ? user_read : user_write), where);
        trapped = last.vector != USER_EXIT;
    } else {
        u64 flags = read_flags();
        if (ac) write_flags(flags | AC);
        trapped = guarded(a.kind == READ ? touch_read : a.kind == WRITE ? touch_write : touch_fetch,
                          where, 0x55);
        if (ac) write_flags(flags);
    }
    if (!trapped) return (struct Outcome){false, 0};
    if (last.vector != PF) return (struct Outcome){true, 0xbad00 | last.vector};
    if (last_cr2 != where) return (struct Outcome){true, 0xc2000 | last.error};
    return (struct Outcome){true, last.error};
}

static bool same(struct Outcome x, struct Outcome y) {
    return x.fault == y.fault && x.error == y.error;
}

static void describe(u64 up, u64 low, struct Control c, struct Access a) {
    print("%s %s of %x: upper %x leaf %x WP=%d SMEP=%d SMAP=%d NXE=%d AC=%d ",
          a.user ? "user" : "supervisor", kinds[a.kind], address_of(a), up, low, (u64)c.wp,
          (u64)c.smep, (u64)c.smap, (u64)c.nxe, (u64)c.ac);
}

static void one_case(u64 up, u64 low, struct Control c, struct Access a) {
    *upper = up;
    *leaf = low;
    invlpg(va);
    struct Outcome want = oracle(up, low, c, a), got = perform(a, c.ac);
    u64 up_after = *(volatile u64 *)upper, low_after = *(volatile u64 *)leaf;
    checks++;
    bool right = same(want, got);
    if (want.fault) {
        // The entry above may have been used before the fault was found.
        right &= low_after == low && (up_after == up || (up_after == (up | A) && (up & P)));
    } else {
        right &= up_after == (up | A) && low_after == (low | A | (a.kind == WRITE ? D : 0));
    }
    if (!right && failed_check()) {
        describe(up, low, c, a);
        print("want %d/%x got %d/%x, entries then %x %x\n", (u64)want.fault, want.error,
              (u64)got.fault, got.error, up_after, low_after);
    }
}

static u64 spread(unsigned bits, const u64 *meaning, int count) {
    u64 value = 0;
    for (int i = 0; i < count; i++)
        if (bits >> i & 1) value |= meaning[i];
    return value;
}

static void all_bits(int level, struct Control c) {
    set_level(level);
    set_control(c);
    static u64 turn;
    for (unsigned u = 0; u < 64; u++) {
        u64 meaning[] = {P, W, U, A, NX, 0};
        bool passable = (u & 1) && !(u & 32);
        for (unsigned l = 0; l < 128; l++) {
            // Below an entry that cannot be passed the leaf is not looked at: a few will do.
            if (!passable && l % 16 != 7) continue;
            for (int k = 0; k < 6; k++) {
                if (++turn % step) continue;
                u64 leaf_meaning[] = {P, W, U, A, D, NX, one_of(leaf_reserved)};
                meaning[5] = one_of(upper_reserved);
                u64 up = upper_base | spread(u, meaning, 6);
                u64 low = leaf_base | spread(l, leaf_meaning, 7) | (random64() & G);
                struct Access a = {k >> 1, k & 1};
                c.ac = turn & 1;
                one_case(up, low, c, a);
                if (c.smap && !a.user && a.kind != FETCH) {
                    c.ac = !c.ac;
                    one_case(up, low, c, a);
                }
            }
        }
    }
}

// An access, an edit of the leaf without a flush, an access, a flush, an access. The second may
// still see the old rights if they may have been cached: the first access succeeded, or the entry
// was present and accessed, for a processor may walk whenever it likes (4.10.2.3). A second fault
// in a row must tell the truth.
static void edits(struct Control c) {
    static const u64 meaning[] = {P, W, U, NX, A, D};
    static u64 turn;
    set_level(1);
    set_control(c);
    u64 up = upper_base | P | W | U | A;
    for (unsigned before = 0; before < 64; before++)
        for (unsigned after = 0; after < 16; after++)
            for (int k = 0; k < 36; k++) {
                if (++turn % step) continue;
                u64 old = leaf_base | spread(before, meaning, 6);
                u64 new = leaf_base | spread(after, meaning, 4) | A | D;
                struct Access first = {k % 6 >> 1, k & 1}, second = {k / 6 >> 1, k / 6 & 1};
                *upper = up;
                *leaf = old;
                invlpg(va);
                struct Outcome one = perform(first, c.ac);
                *(volatile u64 *)leaf = new;
                struct Outcome fresh = oracle(up, new, c, second);
                struct Outcome stale = oracle(up, old, c, second);
                struct Outcome two = perform(second, c.ac);
                bool right = same(one, oracle(up, old, c, first));
                bool cacheable = !one.fault || (old & (P | A)) == (P | A);
                right &= same(two, fresh) || (cacheable && same(two, stale));
                // A fault drops what was cached for the address.
                if (two.fault) right &= same(perform(second, c.ac), fresh);
                invlpg(va);
                struct Outcome three = perform(second, c.ac);
                right &= same(three, fresh);
                checks++;
                if (!right && failed_check()) {
                    describe(old, new, c, second);
                    print("after %s: got %x %x %x\n", kinds[first.kind], one.error, two.error,
                          three.error);
                }
            }
}

// Every key with every right, over pages of all kinds; and PKRU changed while the entry is cached,
// which must count at once. Key 0, which the kernel's own pages have, denies nothing.
static void all_keys(int level, struct Control c) {
    static u64 turn;
    set_level(level);
    for (u64 key = 0; key < 16; key++)
        for (u32 rights = 0; rights < (key ? 4 : 1); rights++)
            for (unsigned bits = 0; bits < 8; bits++)
                for (int k = 0; k < 6; k++) {
                    if (++turn % step) continue;
                    // The others are random: none of them may count.
                    u32 others = (u32)random64() & ~3u & ~(3u << 2 * key);
                    struct Access a = {k >> 1, k & 1};
                    u64 up = upper_base | P | W | A | (bits & 4 ? U : 0);
                    u64 low = leaf_base | P | A | D | (bits & 1 ? W : 0) | (bits & 2 ? U : 0)
                        | key << 59;
                    c.ac = turn & 1;
                    c.pkru = others | rights << 2 * key;
                    set_control(c);
                    one_case(up, low, c, a);
                    struct Control open = c;
                    open.pkru = others;
                    set_control(open);
                    bool right = same(perform(a, c.ac), oracle(up, low, open, a));
                    set_control(c);
                    right &= same(perform(a, c.ac), oracle(up, low, c, a));
                    check(right, "key %d rights %d bits %x of a cached page: not as PKRU says", key,
                          (u64)rights, (u64)bits);
                }
}

static void prepare(void) {
    pdpt = new_page(), pd = new_page(), pt = new_page();
    target[0] = 0xc3;                       // ret
    target[16] = 0xcd;                      // int $USER_EXIT
    target[17] = USER_EXIT;
    u64 bits = cpuid(0x80000008, 0).a & 0xff;
    reserved_high = ((1ull << 52) - 1) & ~((1ull << bits) - 1);
}

static void leave(void) {
    set_control((struct Control){.wp = true, .nxe = true});
    kernel_pml4[64] = 0;
    flush_all();
    end();
}

void test_access(void) {
    prepare();
    static const char *const names[] = {"access 4 KiB", "access 2 MiB", "access 1 GiB"};
    int levels = cpuid(0x80000001, 0).d >> 26 & 1 ? 3 : 2;
    for (int level = 1; level <= levels; level++) {
        begin(names[level - 1]);
        for (int i = 0; i < 16; i++)
            all_bits(level, (struct Control){i & 1, i >> 1 & 1, i >> 2 & 1, i >> 3 & 1, 0, 0, 0});
        leave();
    }
}

void test_access5(u64 *pml5) {
    prepare();
    top = pml5;
    begin("access below a PML5 entry");
    for (int i = 0; i < 16; i++)
        all_bits(5, (struct Control){i & 1, i >> 1 & 1, i >> 2 & 1, i >> 3 & 1, 0, 0, 0});
    top[1] = 0;
    leave();
}

void test_keys(void) {
    if (!(cpuid(7, 0).c >> 3 & 1)) return;
    prepare();
    for (int level = 1; level <= 3; level++) {
        begin("protection keys");
        for (int i = 0; i < 8; i++)
            all_keys(level, (struct Control){
                .wp = i & 1, .smap = i >> 1 & 1, .nxe = true, .pke = i >> 2 & 1});
        leave();
    }
}

void test_edits(void) {
    prepare();
    begin("access after edits");
    for (int i = 0; i < 8; i++)
        edits((struct Control){i & 1, i >> 1 & 1, i >> 1 & 1, true, i >> 2 & 1, 0, 0});
    leave();
}
