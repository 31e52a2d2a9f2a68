/* What glibc declares only under _GNU_SOURCE, which Swift's Glibc module is built without. */
#include <stddef.h>

/* memfd_create(2). */
extern int memfd_create(const char *name, unsigned int flags);
#define PENUMBRA_MFD_CLOEXEC 1u

/* mremap(2). */
extern void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...);

/* Maps the memory of a shared mapping a second time; MAP_FAILED where the host has no room. An old
   size of 0 asks for that; flag 1 is MREMAP_MAYMOVE. Swift calls no function with a variable number
   of arguments. */
static inline void *penumbra_map_again(void *mapping, size_t size) {
    return mremap(mapping, 0, size, 1);
}
