# Prints the functions of the running kernel with their addresses, as /proc/kallsyms has them.
echo 0 >/proc/sys/kernel/kptr_restrict
grep ' [TtWw] ' /proc/kallsyms
