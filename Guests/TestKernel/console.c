// Serial output, counting of checks, and the end of the run.
#include <stdarg.h>
#include "kernel.h"

u64 checks, failures;
static u64 total_checks, total_failures;
static const char *current;

static void put(char c) {
    while (!(in8(0x3fd) & 0x20)) {}
    out8(0x3f8, c);
}

static void put_number(u64 v, int base) {
    char digits[24];
    int n = 0;
    do { digits[n++] = "0123456789abcdef"[v % base]; v /= base; } while (v);
    while (n) put(digits[--n]);
}

void print(const char *format, ...) {
    va_list list;
    va_start(list, format);
    for (; *format; format++) {
        if (*format != '%') { put(*format); continue; }
        switch (*++format) {
        case 's': for (const char *s = va_arg(list, const char *); *s; s++) put(*s); break;
        case 'd': put_number(va_arg(list, u64), 10); break;
        case 'x': put_number(va_arg(list, u64), 16); break;
        default: put(*format);
        }
    }
    va_end(list);
}

void begin(const char *name) {
    current = name;
    checks = failures = 0;
}

bool failed_check(void) {
    if (++failures > 8) return false;
    print("FAIL %s: case %d: ", current, checks);
    return true;
}

void end(void) {
    // A test that checked nothing has not passed.
    if (!checks) { failures++; print("FAIL %s: no cases\n", current); }
    if (failures) print("FAIL %s: %d of %d cases\n", current, failures, checks);
    else print("PASS %s: %d cases\n", current, checks);
    total_checks += checks;
    total_failures += failures;
}

_Noreturn void finish(void) {
    print("CASES %d FAILED %d\n", total_checks, total_failures);
    out32(0xf4, total_failures || !total_checks ? 1 : 0);
    for (;;) __asm__ volatile("cli; hlt");
}
