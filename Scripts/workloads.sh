#!/usr/bin/env bash
# Builds the guest's workloads (Guests/Workloads) into the file $1: a static program of Embedded Swift
# and a little assembly, without any library. Nothing is done where it is up to date.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

out=${1:-Guests/.fetched/workload}
source=Guests/Workloads
if [ -e "$out" ] && [ -z "$(find "$source" Scripts/workloads.sh -newer "$out" -print -quit)" ]; then
    exit 0
fi
mkdir -p "$(dirname "$out")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Sections of their own let the linker drop what is not used, the allocator among it.
swiftc -target x86_64-unknown-none-elf -swift-version 6 -parse-as-library -wmo -O \
    -module-name Workloads -enable-experimental-feature Embedded -enable-experimental-feature Extern \
    -strict-memory-safety -warnings-as-errors -no-allocations -Xfrontend -disable-stack-protector \
    -Xfrontend -function-sections -c "$source"/*.swift -o "$work/workloads.o"
# A hash of the compiler's own, into which names of temporary files go: the same sources are to give
# the same bytes.
objcopy --remove-section .swift_modhash "$work/workloads.o"
gcc -c "$source/start.S" -o "$work/start.o"
ld -static --gc-sections --build-id=none -z noexecstack -s \
    "$work/start.o" "$work/workloads.o" -o "$work/workload"
mv "$work/workload" "$out"
echo "setup: built $out"
