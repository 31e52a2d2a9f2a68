#!/usr/bin/env bash
# Builds the test kernel (Guests/TestKernel) into the file $1. Nothing is done where it is up to date.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

out=${1:-Guests/.fetched/testkernel.elf}
source=Guests/TestKernel
if [ -e "$out" ] && [ -z "$(find "$source" Scripts/testkernel.sh -newer "$out" -print -quit)" ]; then
    exit 0
fi
mkdir -p "$(dirname "$out")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

flags=(-std=gnu11 -O2 -m64 -ffreestanding -nostdlib -nostdinc -isystem "$(gcc -print-file-name=include)"
    -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -fno-strict-aliasing
    -fpie -fvisibility=hidden -mno-red-zone -mgeneral-regs-only -fno-tree-loop-distribute-patterns
    -Wall -Wextra -Werror -Wno-strict-prototypes -Wno-main -Wno-address-of-packed-member)
objects=()
for file in "$source"/*.[cS]; do
    object=$work/$(basename "$file").o
    case $file in
    *32.c)
        # Code for 32-bit mode, in the same image: compiled for it, and assembled for a 64-bit file.
        gcc "${flags[@]}" -m32 -fno-pie -mno-sse -S "$file" -o "$work/32.s"
        sed -i '1i .code32' "$work/32.s"
        gcc -m64 -c "$work/32.s" -o "$object"
        ;;
    *) gcc "${flags[@]}" -c "$file" -o "$object" ;;
    esac
    objects+=("$object")
done
gcc -m64 -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack \
    -Wl,--no-warn-rwx-segments -T "$source/link.ld" "${objects[@]}" -o "$work/kernel"
# Loaders of Multiboot files want a 32-bit container, whatever the code is.
objcopy -O elf32-i386 "$work/kernel" "$work/testkernel.elf"
mv "$work/testkernel.elf" "$out"
echo "setup: built $out"
