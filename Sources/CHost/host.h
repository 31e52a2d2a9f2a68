/* The corresponding C function is memfd_create (memfd_create(2)). glibc declares it only under
   _GNU_SOURCE, which Swift's Glibc module is built without. */
extern int memfd_create(const char *name, unsigned int flags);
#define PENUMBRA_MFD_CLOEXEC 1u
