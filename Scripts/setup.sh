#!/usr/bin/env bash
# Prepares a Debian or Ubuntu machine to build, test and run Penumbra. What is there already is left
# alone, so that a second call does nothing and needs no network. Arguments are further packages to
# install.
#
# Environment: KERNEL=FILE uses that kernel (a bzImage) as the default guest, and fetches none.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

fetched=Guests/.fetched
# To build: the instruction decoder, compression, checksums, hashes, a database and a C tool chain; for
# the guest: its user space and archiver.
packages=(
    libzydis-dev libzstd-dev libxxhash-dev libssl-dev libsqlite3-dev gcc libc6-dev binutils git
    busybox-static cpio gzip "$@"
)
# Debian's cloud kernel; where a distribution has none (Ubuntu), its kernel for virtual machines.
kernel_packages=(linux-image-cloud-amd64 linux-image-virtual)

die() {
    echo "setup: $*" >&2
    exit 1
}

# Runs a command as root; its status is 126 where there is no way to become root.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        sudo "$@"
    else
        return 126
    fi
}

log=$(mktemp) || die "there is no directory for temporary files: set TMPDIR to a writable one"
trap 'rm -f "$log"; rm -rf "$fetched/unpacking"' EXIT

# Package lists are refreshed once, and only after something was not found or not to be had.
updated=no
update_lists() {
    [ "$updated" = no ] || return 1
    updated=yes
    as_root apt-get update >"$log" 2>&1 && echo "setup: refreshed the package lists"
}

require_tools() {
    command -v swift >/dev/null || die "Swift 6.3 is missing: install it from https://swift.org/install"
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        die "this machine has no apt-get: install by its own means: ${packages[*]}"
}

install_packages() {
    local package missing=()
    for package in "${packages[@]}"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q ' installed$' ||
            missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    local install=(env DEBIAN_FRONTEND=noninteractive
        apt-get install -y --no-install-recommends "${missing[@]}")
    echo "setup: installing ${missing[*]}"
    local status=0
    as_root "${install[@]}" >"$log" 2>&1 || status=$?
    [ "$status" -ne 126 ] || die "missing packages: ${missing[*]} (neither root nor sudo here);" \
        "as root: apt-get update && apt-get install ${missing[*]}"
    [ "$status" -ne 0 ] || return 0
    update_lists && as_root "${install[@]}" >"$log" 2>&1 ||
        die "cannot install ${missing[*]}: $(grep -m1 '^E:' "$log" || echo "is there a network?")"
}

# Prints the newest kernel package that one of the kernel meta-packages depends on.
newest_kernel() {
    local meta depends
    for meta in "${kernel_packages[@]}"; do
        depends=$(apt-cache depends "$meta" 2>/dev/null) || continue
        depends=$(sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' <<<"$depends" | sort -V)
        [ -z "$depends" ] || { tail -n 1 <<<"$depends"; return; }
    done
}

# Downloads and unpacks (never installs) package $1 into $fetched/unpacking.
download() {
    rm -rf "$fetched/unpacking"
    mkdir "$fetched/unpacking"
    # The download's own user could not write here; the archive's signature is checked either way.
    (cd "$fetched/unpacking" && apt-get -o APT::Sandbox::User=root download "$1") >"$log" 2>&1 &&
        dpkg-deb -x "$fetched"/unpacking/*.deb "$fetched/unpacking/root" >"$log" 2>&1
}

fetch_kernel() {
    if [ -n "${KERNEL:-}" ]; then
        [ -r "$KERNEL" ] || die "KERNEL=$KERNEL cannot be read"
        ln -sfn "$(readlink -f "$KERNEL")" "$fetched/vmlinuz"
        return
    fi
    [ ! -r "$fetched/vmlinuz" ] || return 0
    local package advice="or give a kernel (bzImage) of your own: make run KERNEL=/path/to/vmlinuz"
    package=$(newest_kernel)
    [ -n "$package" ] || { update_lists && package=$(newest_kernel); } || true
    [ -n "$package" ] ||
        die "no package here of: ${kernel_packages[*]}; as root: apt-get update; $advice"
    echo "setup: fetching $package"
    # Lists that have grown old name packages that are no longer there.
    download "$package" || { update_lists && package=$(newest_kernel) && download "$package"; } ||
        die "cannot download $package: is there a network? Then, as root: apt-get update; $advice"
    local kernel
    kernel=$(find "$fetched/unpacking/root/boot" -name 'vmlinuz-*' | sort -V | tail -n 1)
    [ -n "$kernel" ] || die "$package holds no kernel; $advice"
    rm -rf "$fetched/kernel"
    mv "$fetched/unpacking/root" "$fetched/kernel"
    local version="${kernel##*/vmlinuz-}" file
    for file in System.map config vmlinuz; do
        [ ! -e "$fetched/kernel/boot/$file-$version" ] ||
            ln -sfn "kernel/boot/$file-$version" "$fetched/$file"
    done
}

require_tools
install_packages
mkdir -p "$fetched" 2>/dev/null && [ -w "$fetched" ] ||
    die "cannot write to $(pwd)/$fetched: work in a copy of the project that you may write to"
fetch_kernel
Scripts/workloads.sh "$fetched/workload"
Scripts/initramfs.sh "$fetched/initramfs.cpio.gz"
Scripts/testkernel.sh "$fetched/testkernel.elf"
