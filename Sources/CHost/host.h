/* mremap(2), which glibc declares only under _GNU_SOURCE, which Swift's Glibc module is built without;
   and Swift calls no function with a variable number of arguments. */
#include <stddef.h>

extern void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...);

/* Maps the memory of a shared mapping a second time; MAP_FAILED where the host has no room. An old
   size of 0 asks for that; flag 1 is MREMAP_MAYMOVE. */
static inline void *penumbra_map_again(void *mapping, size_t size) {
    return mremap(mapping, 0, size, 1);
}
