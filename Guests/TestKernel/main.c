// The command line's words choose the tests; "step=N" has the long ones test every N-th case.
#include "kernel.h"

u64 step = 1;

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    {"access", test_access},
    {"keys", test_keys},
    {"edits", test_edits},
    {"invalidation", test_invalidation},
    {"lawful", test_lawful},
    {"memory", test_memory},
    {"exceptions", test_exceptions},
    {"corners", test_corners},
    {"state", test_state},
    {"debug", test_debug},
    {"stepping", test_stepping},
    {"privilege", test_privilege},
    {"segments", test_segments},
    {"interrupts", test_interrupts},
    {"timers", test_timers},
    {"modes", test_modes},
    {"processors", test_processors},
    {"forms", test_forms},
    {"pointers", test_pointers},
    {"legacy", test_legacy},
    {"levels5", test_levels5},
};

static bool starts(const char *s, const char *word, u64 *length) {
    u64 n = 0;
    while (word[n] && s[n] == word[n]) n++;
    *length = n;
    return !word[n];
}

static bool has(const char *line, const char *word, const char **rest) {
    for (const char *s = line; *s; s++) {
        u64 n;
        if ((s == line || s[-1] == ' ') && starts(s, word, &n)) {
            *rest = s + n;
            return true;
        }
    }
    return false;
}

// Looks for RAM above 4 GiB in the loader's map: entries of size, base, length, type.
static void find_high_ram(const u32 *info) {
    if (!(info[0] & 64)) return;
    const u8 *map = (const u8 *)(u64)info[12], *map_end = map + info[11];
    for (; map < map_end; map += *(const u32 *)map + 4) {
        u64 base = *(const u64 *)(map + 4), length = *(const u64 *)(map + 12);
        u64 start = base < 1ull << 32 ? 1ull << 32 : (base + 0x3fffff) & ~0x3fffffull;
        if (*(const u32 *)(map + 20) == 1 && start + (16 << 20) <= base + length) high_ram = start;
    }
}

void main(u32 *info) {
    // Copied, for tests use low memory.
    static char line[512];
    if (info[0] & 4)
        for (int i = 0; i < 511 && ((char *)(u64)info[4])[i]; i++)
            line[i] = ((char *)(u64)info[4])[i];
    find_high_ram(info);
    traps_start();
    const char *rest;
    if (has(line, "step=", &rest)) {
        step = 0;
        for (; *rest >= '0' && *rest <= '9'; rest++) step = step * 10 + (*rest - '0');
        if (!step) step = 1;
    }
    bool all = has(line, "all", &rest);
    for (unsigned i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (!all && !(has(line, tests[i].name, &rest) && (!*rest || *rest == ' '))) continue;
        pages_reset();
        tests[i].run();
    }
    finish();
}
