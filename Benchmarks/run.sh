#!/usr/bin/env bash
# Measures speed and memory, and writes Benchmarks/RESULTS.md. `make bench` builds the program first.
# Nothing else should run on the machine meanwhile. It takes some minutes.
#
# Environment:
#   PENUMBRA=FILE   the program to measure (default: .build/release/penumbra)
#   MECHANISM=FILE  the program that measures exits (default: .build/release/mechanism)
#   RESULTS=FILE    where the results go (default: Benchmarks/RESULTS.md)
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

penumbra=${PENUMBRA:-.build/release/penumbra}
mechanism=${MECHANISM:-.build/release/mechanism}
results=${RESULTS:-Benchmarks/RESULTS.md}
programs=Benchmarks/Programs
kernel=Guests/.fetched/vmlinuz
initrd=Guests/.fetched/initramfs.cpio.gz
append="console=ttyS0 cryptomgr.notests panic=-1 penumbra.script=work"
# The loop has ten instructions: 200 million, and ten times as many.
rounds=20000000
many_rounds=200000000

die() {
    echo "bench: $*" >&2
    exit 1
}

[ -x "$penumbra" ] || die "$penumbra is missing: run make build"
[ -x "$mechanism" ] || die "$mechanism is missing: run swift build -c release --product mechanism"
[ -r "$kernel" ] && [ -r "$initrd" ] || die "the default guest is missing: run make setup"
for tool in swiftc gcc as ld; do
    command -v "$tool" >/dev/null || die "$tool is missing"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# ratio A B [DIGITS]: A / B.
ratio() { awk -v a="$1" -v b="$2" -v d="${3:-2}" 'BEGIN { printf "%.*f", d, a / b }'; }
# millions COUNT SECONDS: millions a second.
millions() { awk -v n="$1" -v s="$2" 'BEGIN { printf "%.0f", n / s / 1e6 }'; }
# count NAME FILE: one count of a ledger, or of a file that count.c wrote.
count() { sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p; s/^$1 \([0-9]*\)$/\1/p" "$2" | head -n 1; }

# measured NAME STATUS COMMAND…: runs it under measure, its output in NAME.out, and sets `seconds`,
# `rss` and `arena` (KiB). Its exit status must be STATUS.
measured() {
    local name=$1 expected=$2 status=0
    shift 2
    rm -f "$work/$name.times"
    "$work/measure" "$work/$name.times" "$@" </dev/null >"$work/$name.out" 2>"$work/$name.err" ||
        status=$?
    [ "$status" -eq "$expected" ] || {
        tail -n 5 "$work/$name.out" "$work/$name.err" >&2
        die "$name ended with status $status, not $expected"
    }
    read -r seconds rss arena _ <"$work/$name.times"
}

say() { echo "bench: $*" >&2; }

say "the mechanism, with 100, 10,000 and 1,000,000 page tables"
mechanism_rows=$("$mechanism" 100 && "$mechanism" 10000 && "$mechanism" 1000000 5)

say "building the benchmarks' programs"
gcc -O2 -o "$work/measure" $programs/measure.c
gcc -O2 -fPIC -shared -Wl,-z,initfirst -o "$work/count.so" $programs/count.c
swiftc -O -o "$work/reference" $programs/reference.swift

# assemble ROUNDS CHECK FILE: the guest that runs the loop ROUNDS times.
assemble() {
    as --64 --defsym ROUNDS="$1" --defsym CHECK="$2" -o "$3.o" "$programs/loop.s"
    ld -m elf_x86_64 -n -Ttext=0x100000 -e start -o "$3" "$3.o"
}

# (a) The interpreter on registers only. The difference of a long and a short run leaves out what
# every run costs once.
say "the loop: the reference"
read -r reference_speed check <<<"$("$work/reference" $rounds)"
read -r reference_speed many_check <<<"$("$work/reference" $many_rounds)"
assemble $rounds "$check" "$work/short"
assemble $many_rounds "$many_check" "$work/long"
run_loop() {
    measured "$1" 3 "$penumbra" run --kernel "$work/$2" --device isa-debug-exit,iobase=0xf4 \
        --engine interpreter --mmu "$3" --clock virtual --ledger "$work/$1.json"
}
say "the loop: Penumbra"
run_loop loop-short short bare; short_seconds=$seconds
run_loop loop-long long bare; long_seconds=$seconds
loop_instructions=$(($(count instructions "$work/loop-long.json") - \
    $(count instructions "$work/loop-short.json")))
loop_seconds=$(awk -v a="$long_seconds" -v b="$short_seconds" 'BEGIN { print a - b }')
loop_speed=$(awk -v n="$loop_instructions" -v s="$loop_seconds" 'BEGIN { printf "%.0f", n / s }')

# (d) What is allocated, retained and checked: the same two runs, and Linux, with the functions counted.
say "allocations"
counted() {
    local name=$1
    shift
    PENUMBRA_COUNTS="$work/$name.counts" LD_PRELOAD="$work/count.so" \
        "$penumbra" run "$@" --mmu traced --clock virtual \
        </dev/null >/dev/null 2>"$work/$name.err" || true
    [ -s "$work/$name.counts" ] || die "$name: nothing was counted: $(cat "$work/$name.err")"
}
counted short --kernel "$work/short" --device isa-debug-exit,iobase=0xf4
counted long --kernel "$work/long" --device isa-debug-exit,iobase=0xf4
counted linux --kernel $kernel --initrd $initrd --append "$append" --memory 512M --no-reboot

# (b), (c) Linux to power-off.
boot() {
    say "Linux under $1"
    measured "$1" 0 "$penumbra" run --kernel $kernel --initrd $initrd --append "$append" \
        --memory 512M --mmu "$1" --clock virtual --no-reboot --ledger "$work/$1.json"
    grep -q '^GUEST-OK' "$work/$1.out" || die "the guest failed under $1"
}
boot bare; bare_seconds=$seconds bare_rss=$rss bare_arena=$arena
boot traced; traced_seconds=$seconds traced_rss=$rss traced_arena=$arena
cmp -s "$work/bare.out" "$work/traced.out" || die "bare and traced printed different things"
instructions=$(count instructions "$work/traced.json")
shadow_kib=$(($(count peak "$work/traced.json") * 4 + 8))
bare_own=$((bare_rss - bare_arena))
traced_own=$((traced_rss - traced_arena + shadow_kib))

# (e) A peer.
qemu_line="QEMU: not measured, qemu-system-x86_64 is not installed"
if command -v qemu-system-x86_64 >/dev/null; then
    say "Linux under QEMU"
    measured qemu 0 qemu-system-x86_64 -accel tcg,thread=single -cpu max -m 512 \
        -kernel $kernel -initrd $initrd -append "$append" -nographic -no-reboot \
        -net none
    grep -q 'GUEST-OK' "$work/qemu.out" || die "the guest failed under QEMU"
    qemu_line="$(qemu-system-x86_64 --version | sed -n '1s/ (.*//p'), \`-accel tcg,thread=single \
-cpu max\`, firmware included: $seconds s; Penumbra under traced takes \
$(ratio "$traced_seconds" "$seconds") times as long"
fi

say "the same work under QEMU, the engines and the techniques"
engines_table="Not measured: qemu-system-x86_64 is not installed."
if command -v qemu-system-x86_64 >/dev/null; then
    engines_table=$(PENUMBRA="$penumbra" Benchmarks/engines.sh)
fi

# per_million COUNT INSTRUCTIONS: calls a million instructions.
per_million() { awk -v d="$1" -v n="$2" 'BEGIN { printf "%.2f", d * 1e6 / n }'; }
many() { count "$1" "$work/long.counts"; }
few() { count "$1" "$work/short.counts"; }

say "writing $results"
{
    cat <<END
# Results

Written by \`make bench\` ([run.sh](run.sh)); every figure is from one run.

- Date: $(date -u +%Y-%m-%d)
- Machine: $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1), \
$(nproc) processors, $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)
- Compiler: $(swiftc --version 2>/dev/null | sed -n 's/.*\(Swift version [0-9.]*\).*/\1/p' | head -n 1)

## Interpreter, registers only

The loop of [loop.s](Programs/loop.s), ten integer instructions in 64-bit mode, technique \`bare\`;
the reference is the same loop as an array of operation structs and a \`switch\`
([reference.swift](Programs/reference.swift)).

| | millions a second |
|---|---:|
| reference: operations | $(millions "$reference_speed" 1) |
| Penumbra: guest instructions | $(millions "$loop_speed" 1) |
| ratio (goal: at least 0.20) | $(ratio "$loop_speed" "$reference_speed") |

## The mechanism

Host nanoseconds for one of each, the fastest round of many of a synthetic guest
([Mechanism](Mechanism/main.swift)): everything between the guest's instruction and its next one,
but a record's are those of its drain alone. A cost that grew with the number of shadow pages would
show from row to row; what the host's caches and TLB cost for more memory does, too.

| shadow pages | hidden fault (goal: 400) | drained record (60) | recorded write | trapped write (300) | INVLPG (200) |
|---:|---:|---:|---:|---:|---:|
$mechanism_rows

## Linux, power-on to power-off

The default guest with its work script, $(awk -v n="$instructions" 'BEGIN { printf "%.2f", n / 1e9 }') \
thousand million instructions, virtual clock.

| | bare | traced | traced / bare |
|---|---:|---:|---:|
| seconds | $bare_seconds | $traced_seconds | $(ratio "$traced_seconds" "$bare_seconds" 3) |
| million instructions a second (goal: at least 50) | $(millions "$instructions" "$bare_seconds") | \
$(millions "$instructions" "$traced_seconds") | |

$qemu_line.

## The same work

By [engines.sh](engines.sh): one boot of the default guest a column, which does one workload after the other.

$engines_table

## Memory

| MiB | bare | traced |
|---|---:|---:|
| maximum resident set | $(ratio "$bare_rss" 1024 0) | $(ratio "$traced_rss" 1024 0) |
| of it guest RAM | $(ratio "$bare_arena" 1024 0) | \
$(ratio $((traced_arena - shadow_kib)) 1024 0) |
| Penumbra's own (goal: at most 200) | $(ratio $bare_own 1024 0) | $(ratio $traced_own 1024 0) |

The maximum is the kernel's (wait4). Guest RAM is the resident part of the mapping that holds the
modelled machine's memory, looked at twice a second during the boot, less the most shadow pages there
were and the write buffer, which lie in the same mapping. What the guest touched after the last look
counts as Penumbra's own.

## Allocation and reference counting

Calls under technique \`traced\`, counted by [count.c](Programs/count.c): of the loop, in a run of \
$(count instructions "$work/loop-long.json") instructions beyond those in one of \
$(count instructions "$work/loop-short.json"); of Linux, in all of a run. What the loop shows comes
from looking at input and timers every 100,000 instructions at the latest. Linux adds what decoding,
misses of the software TLB, exits and device accesses cost.

| function | loop, short run | loop, long run | loop, a million instructions | Linux, a million instructions |
|---|---:|---:|---:|---:|
END
    while read -r name _; do
        echo "| \`$name\` | $(few "$name") | $(many "$name") |" \
            "$(per_million $(($(many "$name") - $(few "$name"))) "$loop_instructions") |" \
            "$(per_million "$(count "$name" "$work/linux.counts")" "$instructions") |"
    done <"$work/long.counts"
} >"$work/results.md"
cp "$work/results.md" "$results"
sed '1,2d' "$results"
