#!/usr/bin/env bash
# Boots the default guest once, and runs every workload under all six techniques from there. Results
# are in .build/compare: comparison.json, comparison.csv and comparison.sqlite. Interrupted, it goes
# on with the next call. Further arguments are for `penumbra compare`.
set -euo pipefail
cd "$(dirname "$0")/.."

out=.build/compare
mkdir -p "$out"
exec .build/release/penumbra compare -smp 2 --output "$out/runs" \
    --workload "fork 200; exec 50; cow 500; map 500; protect 500; touch 5000; switch 2000" \
    --workload "syscall 20000; random 16; stream 16; read 8; compile 10" \
    --workload "fork 100 all; map 250 all; protect 250 all; touch 2500 all" \
    --json "$out/comparison.json" --csv "$out/comparison.csv" \
    --sqlite "$out/comparison.sqlite" "$@"
