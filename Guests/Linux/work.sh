# The default guest's work: it exercises what a hypervisor's memory virtualization must get right,
# and checks every result. It prints GUEST-OK only where all of them are correct.

fail() {
    echo "GUEST-FAILED: $1"
    exit 1
}

grep -q '^proc /proc ' /proc/mounts || fail "proc is not mounted"
grep -q '^sysfs /sys ' /proc/mounts || fail "sysfs is not mounted"
cd /tmp || fail "no /tmp"

# Processes: 256 forks without an exec, then 64 with one, each of which must hand back its result.
echo "work: forking"
sum=0
i=0
while [ "$i" -lt 256 ]; do
    (exit $((i & 127)))
    sum=$((sum + $?))
    i=$((i + 1))
done
[ "$sum" -eq 16256 ] || fail "256 forked processes gave $sum, not 16256"
i=0
while [ "$i" -lt 64 ]; do
    /bin/busybox test "$i" -lt 64 || fail "process $i"
    i=$((i + 1))
done

# Sixteen at once: each keeps its own pages while the others run.
i=0
while [ "$i" -lt 16 ]; do
    (seq "$i" 16 4000 | sort -rn | sort -n >"part.$i") &
    i=$((i + 1))
done
wait
sort -n part.* >all
seq 0 4000 | cmp -s - all || fail "sixteen processes sorted wrongly"

# Memory: a shell variable of 1 MiB grows by doubling and is dropped, ten times over, and pages of
# the page cache are made and released.
echo "work: mapping memory"
i=0
while [ "$i" -lt 10 ]; do
    text=0123456789abcdef
    while [ "${#text}" -lt 1048576 ]; do text="$text$text"; done
    [ "${#text}" -eq 1048576 ] || fail "a variable has ${#text} bytes"
    text=
    i=$((i + 1))
done
dd if=/dev/zero of=zeros bs=1M count=32 2>/dev/null || fail "dd of 32 MiB"
[ "$(wc -c <zeros)" -eq 33554432 ] || fail "32 MiB have the wrong length"
rm zeros

# A hash with a known answer (FIPS 180-4's "abc"), then one of a file, twice, and of its copy.
echo "work: hashing"
answer=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
[ "$(printf abc | sha256sum | cut -d' ' -f1)" = "$answer" ] || fail "SHA-256 of abc"
dd if=/bin/busybox of=file bs=64k 2>/dev/null || fail "copying busybox"
first=$(sha256sum <file)
second=$(sha256sum <file)
original=$(sha256sum </bin/busybox)
[ "${#first}" -ge 64 ] || fail "no hash"
[ "$first" = "$second" ] || fail "the same file hashed differently"
[ "$first" = "$original" ] || fail "a copy hashed differently"

# Compression, checked byte for byte and by gzip's own check.
echo "work: compressing"
gzip -c file >file.gz || fail "gzip"
[ "$(wc -c <file.gz)" -lt "$(wc -c <file)" ] || fail "gzip did not compress"
gzip -t file.gz || fail "gzip's check"
gunzip -c file.gz | cmp -s - file || fail "gunzip gave another file"

echo GUEST-OK
