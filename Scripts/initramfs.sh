#!/usr/bin/env bash
# Builds the default guest's initramfs: Debian's static busybox, Guests/Linux/init and the scripts
# beside it, and the workloads that Scripts/workloads.sh has built beside the output. The same inputs give the same bytes on every machine: names sorted, times and owners
# zero, inodes renumbered. Nothing is done where the archive is newer than its inputs.
#
# Usage: Scripts/initramfs.sh OUTPUT
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

output=$1
busybox=$(command -v busybox) || { echo "initramfs: busybox-static is missing" >&2; exit 1; }
workload=$(dirname "$output")/workload
[ -r "$workload" ] || { echo "initramfs: $workload is missing" >&2; exit 1; }
inputs=("$busybox" "$workload" Guests/Linux/init Guests/Linux/*.sh Scripts/initramfs.sh)

newest=$output
for input in "${inputs[@]}"; do
    [ "$input" -nt "$newest" ] && newest=$input
done
[ "$newest" != "$output" ] || exit 0

tree=$(mktemp -d)
trap 'rm -rf "$tree" "$output.part"' EXIT
install -d -m 755 "$tree"/{bin,scripts,proc,sys,dev,root}
install -m 755 "$busybox" "$tree/bin/busybox"
install -m 755 "$workload" "$tree/bin/workload"
ln -s workload "$tree/bin/mark"
install -m 755 Guests/Linux/init "$tree/init"
install -d -m 1777 "$tree/tmp"
install -m 644 Guests/Linux/*.sh "$tree/scripts/"
chmod 755 "$tree"
find "$tree" -exec touch -h -d @0 {} +
(cd "$tree" && find . | sort | cpio --quiet --reproducible -o -H newc -R 0:0) |
    gzip -9 -n >"$output.part"
mv "$output.part" "$output"
echo "setup: built $output"
