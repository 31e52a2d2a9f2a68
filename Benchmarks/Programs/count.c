/* A library to be preloaded: counts what a Swift program allocates, retains, releases and checks for
 * exclusive access, and writes the counts to the file that PENUMBRA_COUNTS names, one a line.
 *
 * Each counted function is replaced by a few instructions that count and jump to the real one. They
 * change no register but the flags, since the compiler may assume of some of these functions that
 * they keep registers which others may change.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#define FUNCTIONS(DO) \
    DO(malloc) \
    DO(calloc) \
    DO(realloc) \
    DO(posix_memalign) \
    DO(aligned_alloc) \
    DO(swift_allocObject) \
    DO(swift_retain) \
    DO(swift_retain_n) \
    DO(swift_release) \
    DO(swift_release_n) \
    DO(swift_bridgeObjectRetain) \
    DO(swift_bridgeObjectRelease) \
    DO(swift_unownedRetainStrong) \
    DO(swift_beginAccess)

/* Hidden, so that the instructions can name them without the global offset table. */
#define COUNT(NAME) \
    __attribute__((visibility("hidden"))) unsigned long count_##NAME; \
    __attribute__((visibility("hidden"))) void *real_##NAME; \
    __asm__(".text\n.globl " #NAME "\n.type " #NAME ", @function\n" #NAME ":\n" \
            "lock incq count_" #NAME "(%rip)\n" \
            "jmp *real_" #NAME "(%rip)\n");
FUNCTIONS(COUNT)

/* Linked with -z initfirst: before any other library can call one of these. */
__attribute__((constructor)) static void find(void) {
#define FIND(NAME) real_##NAME = dlsym(RTLD_NEXT, #NAME);
    FUNCTIONS(FIND)
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("PENUMBRA_COUNTS");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
#define REPORT(NAME) fprintf(file, "%s %lu\n", #NAME, count_##NAME);
    FUNCTIONS(REPORT)
    fclose(file);
}
