/* fork(2), which Swift's Glibc hides, and ptrace(2), whose C declaration takes any number of
   arguments, which Swift cannot call. Both are glibc's own functions under another name. */
extern int penumbra_fork(void) __asm__("fork");
extern long penumbra_ptrace(long request, long process, void *address, void *data) __asm__("ptrace");
