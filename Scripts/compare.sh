#!/usr/bin/env bash
# Boots the default guest once, and runs every workload under all six techniques from there. Results
# are in .build/compare: report.html, comparison.json, comparison.csv and comparison.sqlite.
# Interrupted, it goes on with the next call. Further arguments are for `penumbra compare`.
set -euo pipefail
cd "$(dirname "$0")/.."

out=.build/compare
mkdir -p "$out"
# The kernel's functions, from the running kernel: Debian's System.map has no addresses.
if [ ! -s "$out/symbols" ]; then
    .build/release/penumbra run --mmu bare --no-reboot \
        --append "console=ttyS0 quiet cryptomgr.notests panic=-1 penumbra.script=symbols" </dev/null |
        grep -a ' [TtWw] ' >"$out/symbols.part"
    mv "$out/symbols.part" "$out/symbols"
fi
exec .build/release/penumbra compare -smp 2 --symbols "$out/symbols" --output "$out/runs" \
    --workload "fork 200; exec 50; cow 500; map 500; protect 500; touch 5000; switch 2000" \
    --workload "syscall 20000; random 16; stream 16; read 8; compile 10" \
    --workload "fork 100 all; map 250 all; protect 250 all; touch 2500 all" \
    --json "$out/comparison.json" --csv "$out/comparison.csv" \
    --sqlite "$out/comparison.sqlite" --report "$out/report.html" "$@"
