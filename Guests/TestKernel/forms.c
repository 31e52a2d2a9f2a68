// Page tables of the other forms: 2-level and PAE by way of forms32.c, 5-level here.
#include "kernel.h"
#include "forms.h"

extern u64 return_cr3, return_cr4;
extern u32 tss32[];
extern u64 idt32[];
extern char vectors32[];
void run32(u32 fn);
void nothing32(void), test_forms32(void), test_pointers32(void), test_legacy32(void);
u64 high_ram;                               // of main

static bool feature(u32 leaf, int word, int bit) {
    struct CPUID r = cpuid(leaf, 0);
    u32 words[] = {r.a, r.b, r.c, r.d};
    return words[word] >> bit & 1;
}

// Other tests use the scratch descriptors too.
static void set_task32(void) {
    u64 base = (u64)tss32;
    gdt[SCRATCH / 8 + 2] = 0x0000890000000067 | (base & 0xffffff) << 16 | base >> 24 << 56;
}

static void prepare32(bool pae, u32 count) {
    u32 *words = (u32 *)&form_tests;
    for (unsigned i = 0; i < sizeof form_tests / 4; i++) words[i] = 0;
    form_tests.pae = pae;
    form_tests.seed = 0x1234567;
    form_tests.count = count / step;
    form_tests.physical_bits = cpuid(0x80000008, 0).a & 0xff;
    form_tests.has_pse36 = feature(1, 3, 17);
    form_tests.has_pge = feature(1, 3, 13);
    form_tests.has_nx = feature(0x80000001, 3, 20);
    form_tests.has_smep = feature(7, 1, 7);
    form_tests.has_smap = feature(7, 1, 20);
    form_tests.high_ram = high_ram >> 22;
    pages_reset();
    for (int i = 0; i < FORM_PAGES; i++) form_tests.pages[i] = (u64)new_page();
    for (int i = 0; i <= USER_EXIT; i++) {
        u64 handler = (u64)vectors32 + 16 * i, type = i == USER_EXIT ? 0xee : 0x8e;
        idt32[i] = (handler & 0xffff) | CODE32 << 16 | type << 40 | handler >> 16 << 48;
    }
    set_task32();
    return_cr3 = read_cr3();
    return_cr4 = read_cr4();
}

static void run_tests32(const char *name, bool pae, u32 count, void (*tests)(void)) {
    begin(name);
    prepare32(pae, count);
    run32((u64)tests);
    for (u32 i = 0; i < form_tests.failures && i < 8; i++) {
        u32 *a = form_tests.first[i].arguments;
        print("FAIL %s: ", name);
        print((const char *)(u64)form_tests.first[i].text, (u64)a[0], (u64)a[1], (u64)a[2],
              (u64)a[3], (u64)a[4], (u64)a[5]);
        print("\n");
    }
    checks = form_tests.checks;
    failures = form_tests.failures;
    end();
}

// Writes its number to the start of each megabyte of 16 above 4 GiB, for the 32-bit code to find.
static void mark_high_ram(void) {
    if (!high_ram) return;
    struct Chain c = new_chain(kernel_pml4, 72);
    for (u64 n = 0; n < 16; n++) {
        c.pd[1] = (high_ram + (n / 2 << 21)) | P | W | PS;
        invlpg(c.va + 0x200000);
        *(volatile u32 *)(c.va + 0x200000 + n % 2 * 0x100000) = 0x48000000 + n;
    }
    kernel_pml4[72] = 0;
    flush_all();
}

void test_forms(void) {
    mark_high_ram();
    run_tests32("2-level paging", false, 4000, test_forms32);
    run_tests32("PAE paging", true, 4000, test_forms32);
}

// QEMU's own translator reads the pointers at every walk, so this list fails there.
void test_pointers(void) { run_tests32("PAE pointers", true, 800, test_pointers32); }

// Segments, tasks and virtual-8086 mode.
void test_legacy(void) {
    run_tests32("segments, tasks and virtual-8086 mode", false, 0, test_legacy32);
}

// ---- 5 levels
static u64 *pml5;

// Goes out of long mode and comes back with 4 or 5 levels.
static void set_levels(int levels) {
    return_cr4 = levels == 5 ? read_cr4() | CR4_LA57 : read_cr4() & ~CR4_LA57;
    return_cr3 = levels == 5 ? (u64)pml5 : (u64)kernel_pml4;
    set_task32();
    run32((u64)nothing32);
}

static void load_cr4(u64 v) { write_cr4(v); }
static void load_base(u64 v) { write_msr(0xc0000102, v); }

// 57-bit addresses, and those that are none.
static void addresses57(void) {
    begin("57-bit addresses");
    struct Chain c = new_chain(new_page(), 0);
    u64 *pml4 = (u64 *)((u64)c.pml4e & ~0xfffull), *page = new_page();
    c.pt[3] = (u64)page | P | W;
    page[1] = 0x5757;
    check((read_cr4() & CR4_LA57) != 0, "CR4.LA57 is clear");
    check(guarded(load_cr4, read_cr4() ^ CR4_LA57, 0) && last.vector == GP,
          "LA57 changed in IA-32e mode");
    for (u64 i = 1; i < 512; i++) {
        u64 top = i >> 8 ? 0xfeull << 56 : 0, va = top | i << 48 | 3 * PAGE | 8;
        check(peek(va) == FAULTED && last.vector == PF && last_cr2 == va, "%x before", va);
        pml5[i] = (u64)pml4 | P | W;
        check(peek(va) == 0x5757, "%x is %x", va, peek(va));
        check(pml5[i] & A, "A of PML5 entry %d", i);
        // PS is reserved at this level.
        pml5[i] |= PS;
        invlpg(va);
        check(peek(va) == FAULTED && last.error == 9, "PS in PML5 entry %d: error %x", i,
              last.error);
        pml5[i] = 0;
        invlpg(va);
        check(peek(va) == FAULTED && last.error == 0, "%x after", va);
        check(peek(va ^ 1ull << 57) == FAULTED && last.vector == GP, "%x is not canonical",
              va ^ 1ull << 57);
        check(!guarded(load_base, va, 0), "WRMSR of %x", va);
        check(guarded(load_base, va ^ 1ull << 60, 0) && last.vector == GP, "WRMSR of %x",
              va ^ 1ull << 60);
        invlpg(va ^ 1ull << 60);            // no operation
    }
    write_msr(0xc0000102, 0);
    end();
}

void test_levels5(void) {
    if (!feature(7, 2, 16)) return;
    pages_reset();
    static u64 top[512] __attribute__((aligned(4096)));
    pml5 = top;
    pml5[0] = (u64)kernel_pml4 | P | W | U;
    u64 kept = step;
    prepare32(false, 0);
    set_levels(5);
    pages_reset();
    addresses57();
    // What holds of 4 levels holds below a fifth.
    step = kept * 37;
    pages_reset();
    test_access();
    test_access5(pml5);
    step = kept;
    pages_reset();
    test_invalidation();
    set_levels(4);
    check((read_cr4() & CR4_LA57) == 0, "CR4.LA57 is set");
}
