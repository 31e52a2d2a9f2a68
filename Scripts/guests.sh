#!/usr/bin/env bash
# Boots other systems than the default guest: fetches Debian's packages of them (downloaded and
# unpacked, never installed), runs each under bare, traced and nested, compares what they did, and
# prints a table. What a run printed is kept in .build/guests/. Docs/Guests.md tells how to run each
# by hand.
#
# Usage: Scripts/guests.sh fetch            fetches what is missing
#        Scripts/guests.sh [PART OF A NAME]…   fetches, and runs the guests whose name has a part
set -uo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

program=.build/release/penumbra
fetched=Guests/.fetched/others
logs=.build/guests
seconds=900
failed=0

die() {
    echo "guests: $*" >&2
    exit 1
}

log=$(mktemp) || die "there is no directory for temporary files: set TMPDIR to a writable one"
trap 'rm -f "$log"; rm -rf "$fetched/unpacking"' EXIT

# Lists of Debian's packages for the 32-bit architecture, of our own: the machine's are left alone.
lists=$PWD/$fetched/lists
i386=(-o APT::Architecture=i386 -o APT::Architectures=i386 -o Dir::State::lists="$lists"
    -o Dir::Cache="$lists/cache" -o APT::Sandbox::User=root)
amd64=(-o APT::Sandbox::User=root)

# The newest package that meta-package $1 depends on; more arguments are options of apt.
newest() {
    local meta=$1
    shift
    apt-cache "$@" depends "$meta" 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | sort -V | tail -n 1
}

# fetch NAME PACKAGE OPTION… : unpacks a package into $fetched/NAME, without modules.
fetch() {
    local name=$1 package=$2
    shift 2
    [ ! -e "$fetched/$name/version" ] || return 0
    [ -n "$package" ] || die "no package for $name; as root: apt-get update"
    echo "guests: fetching $package"
    rm -rf "$fetched/unpacking" "$fetched/$name"
    mkdir -p "$fetched/unpacking" "$fetched/$name"
    (cd "$fetched/unpacking" && apt-get "$@" download "$package") >"$log" 2>&1 ||
        die "cannot download $package: $(grep -m1 '^E:' "$log" || echo "is there a network?")"
    dpkg-deb --fsys-tarfile "$fetched"/unpacking/*.deb |
        tar -x -C "$fetched/$name" --exclude='./lib/modules*' --exclude='./usr/share/doc*' ||
        die "cannot unpack $package"
    dpkg-deb -f "$fetched"/unpacking/*.deb Version >"$fetched/$name/version"
}

# The 32-bit initramfs: the default guest's, with a 32-bit busybox and without workloads.
small_initramfs() {
    local output=$1 tree=$fetched/unpacking
    [ ! -e "$output" ] || return 0
    rm -rf "$tree"
    install -d -m 755 "$tree"/{bin,scripts,proc,sys,dev,root}
    install -d -m 1777 "$tree/tmp"
    install -m 755 "$fetched/busybox-i386/bin/busybox" "$tree/bin/busybox"
    install -m 755 Guests/Linux/init "$tree/init"
    install -m 644 Guests/Linux/*.sh "$tree/scripts/"
    find "$tree" -exec touch -h -d @0 {} +
    (cd "$tree" && find . | sort | cpio --quiet --reproducible -o -H newc -R 0:0) |
        gzip -9 -n >"$output"
}

fetch_all() {
    command -v dpkg-deb >/dev/null || die "this machine has no dpkg-deb and apt-get"
    mkdir -p "$fetched"
    fetch linux-amd64 "$(newest linux-image-amd64)" "${amd64[@]}"
    fetch linux-rt "$(newest linux-image-rt-amd64)" "${amd64[@]}"
    fetch memtest memtest86+ "${amd64[@]}"
    fetch seabios seabios "${amd64[@]}"
    fetch xen "$(apt-cache search --names-only '^xen-hypervisor-[0-9.]*-amd64$' |
        cut -d' ' -f1 | sort -V | tail -n 1)" "${amd64[@]}"
    [ -e "$fetched/xen.elf" ] || gzip -dc "$fetched"/xen/boot/xen-*.gz >"$fetched/xen.elf" ||
        die "the package of Xen holds no hypervisor"
    if [ ! -e "$fetched/initramfs-i386.gz" ] || [ ! -e "$fetched/linux-686/version" ]; then
        mkdir -p "$lists/partial" "$lists/cache/archives/partial"
        # Indexes that cannot be had are reported below, where a package is missing.
        apt-get "${i386[@]}" update >"$log" 2>&1 || true
        fetch linux-686-pae "$(newest linux-image-686-pae "${i386[@]}")" "${i386[@]}"
        fetch linux-686 "$(newest linux-image-686 "${i386[@]}")" "${i386[@]}"
        fetch busybox-i386 busybox-static "${i386[@]}"
        small_initramfs "$fetched/initramfs-i386.gz" || die "cannot build the 32-bit initramfs"
    fi
}

# The techniques under which a guest must do the same, in groups.
alike=("bare traced nested")

# boot NAME LINE ARGUMENT… : runs a guest under each technique. A run is good where it ends by itself,
# its output has the line, and it did the same as the first of its group.
boot() {
    local name=$1 line=$2 version technique group
    shift 2
    wanted "$name" || return 0
    version=$(cat "$fetched/$name/version")
    for group in "${alike[@]}"; do
        local first=""
        for technique in $group; do
            local out=$logs/$name-$technique.txt status=0 start=$SECONDS verdict digest
            timeout "$seconds" "$program" run --digest --mmu "$technique" "$@" \
                </dev/null >"$out" 2>&1 || status=$?
            digest=$(grep -a -o 'digest console .*' "$out" | tail -n 1)
            first=${first:-$digest}
            verdict="as ${group%% *}"
            [ "$technique" != "${group%% *}" ] || verdict=passed
            [ "$digest" = "$first" ] || verdict="FAILED: not as ${group%% *}"
            grep -a -q -e "$line" "$out" || verdict="FAILED: it did not print '$line'"
            [ "$status" -eq 0 ] || verdict="FAILED: status $status"
            [[ $verdict != FAILED* ]] || failed=$((failed + 1))
            printf '| %-13s | %-33s | %-6s | %15s | %4d s | %s |\n' "$name" "$version" \
                "$technique" "$(sed 's/.* retired \([0-9]*\) .*/\1/' <<<"$digest")" \
                "$((SECONDS - start))" "$verdict"
        done
    done
}

wanted() {
    [ "${#parts[@]}" -gt 0 ] || return 0
    local part
    for part in "${parts[@]}"; do [[ $1 != *"$part"* ]] || return 0; done
    return 1
}

fetch_all
[ "${1:-}" != fetch ] || exit 0
[ -x "$program" ] || die "build the program first: make build"
parts=("$@")
mkdir -p "$logs"

work="console=ttyS0 quiet cryptomgr.notests penumbra.script=work panic=-1"
initramfs=Guests/.fetched/initramfs.cpio.gz
kernel() { echo "$fetched/$1"/boot/vmlinuz-*; }
printf '| %-13s | %-33s | %-6s | %15s | %6s | %s |\n' guest version under retired time result
printf '|---|---|---|---|---|---|\n'
boot linux-amd64 GUEST-OK -kernel "$(kernel linux-amd64)" -initrd "$initramfs" -append "$work"
boot linux-rt GUEST-OK -kernel "$(kernel linux-rt)" -initrd "$initramfs" -append "$work"
boot linux-686-pae GUEST-OK -kernel "$(kernel linux-686-pae)" \
    -initrd "$fetched/initramfs-i386.gz" -append "$work"
boot linux-686 GUEST-OK -kernel "$(kernel linux-686)" \
    -initrd "$fetched/initramfs-i386.gz" -append "$work"
boot seabios 'Press ESC for boot menu' -m 64 --bios "$fetched/seabios/usr/share/seabios/bios-256k.bin" \
    -device isa-debugcon,iobase=0x402 --until 'Press ESC for boot menu'
# Its Linux changes mappings without a flush and reads through them: what caches may give then is free.
alike=("bare nested" "traced trap")
boot xen GUEST-OK -m 1024 -kernel "$fetched/xen.elf" \
    -initrd "$(kernel linux-amd64) console=hvc0 ${work#* },$initramfs" \
    -append "console=com1 com1=115200,8n1 noreboot"
alike=("bare traced nested")
boot memtest 'Pass:  1        Errors: 0 ' -m 64 -kernel "$fetched/memtest/boot/memtest86+x64.bin" \
    -append "console=ttyS0,115200 nosmp" --until 'Pass:  1        Errors: 0 '
[ "$failed" -eq 0 ] || { echo "guests: $failed runs failed; see $logs"; exit 1; }
