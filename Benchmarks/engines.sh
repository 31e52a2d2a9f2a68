#!/usr/bin/env bash
# Times the same work in the same guest under QEMU's translator, under Penumbra's two engines and its
# techniques, and natively, and prints a table of it (Markdown). run.sh puts it into RESULTS.md.
#
# One boot a column: the guest runs one workload after the other, and the moments at which their lines
# appear on the console are what is measured.
#
# Environment: PENUMBRA=FILE as in run.sh; REPEAT=N (default 3): the fastest of so many.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

penumbra=${PENUMBRA:-.build/release/penumbra}
repeat=${REPEAT:-3}
kernel=Guests/.fetched/vmlinuz
initrd=Guests/.fetched/initramfs.cpio.gz
workload=Guests/.fetched/workload

# The first one's line says that user space is there.
rows=("syscall 1" "integer 5000" "vector 50000" "x87 10000" "copy 1000" "random 512" "stream 256"
    "fork 1000" "exec 500" "cow 500" "map 10000" "protect 10000" "touch 50000" "switch 10000"
    "syscall 1000000" "compile 10")
# What the work is called, and how many times as fast as QEMU it is to be under traced.
names=("boot to user space" "hashing and sorting" "SSE2 arithmetic" "x87" "string instructions"
    "random reads over 512 MiB" "stream over 256 MiB" "fork and exit" "fork and exec" "copy-on-write"
    "map, write, unmap" "mprotect" "first touch" "context switches" "system calls" "shell script")
goals=(2 3 15 15 15 4 - 2 2 2 2 2 2 3 3 -)

die() {
    echo "engines: $*" >&2
    exit 1
}
say() { echo "engines: $*" >&2; }

command -v qemu-system-x86_64 >/dev/null || die "qemu-system-x86_64 is not installed"
list=$(printf '%s; ' "${rows[@]}")
append="console=ttyS0 quiet cryptomgr.notests panic=-1 penumbra.workload=\"${list%; }\""

# moments COMMAND…: the seconds between the lines that rows end with, one a line.
moments() {
    local last=$EPOCHREALTIME line now
    while IFS= read -r line; do
        case "$line" in
            *"workload "*)
                now=$EPOCHREALTIME
                awk -v a="$last" -v b="$now" 'BEGIN { printf "%.3f\n", b - a }'
                last=$now
                ;;
            GUEST-FAILED*) echo "engines: $line" >&2 ;;
        esac
    done < <("$@" </dev/null 2>&1)
}

native() {
    local row
    for row in "${rows[@]}"; do
        case "$row" in
            "syscall 1" | compile*) echo - ;;
            *)
                local start=$EPOCHREALTIME
                # shellcheck disable=SC2086 # a row is a command's words
                "$workload" $row >/dev/null
                awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f\n", b - a }'
                ;;
        esac
    done
}

run() { # run ENGINE TECHNIQUE
    moments "$penumbra" run --kernel $kernel --initrd $initrd --append "$append" --memory 1G \
        --engine "$1" --mmu "$2" --clock virtual --no-reboot
}

qemu() {
    moments qemu-system-x86_64 -accel tcg,thread=single -cpu max -m 1G -kernel $kernel \
        -initrd $initrd -append "$append" -nographic -no-reboot -net none
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# column NAME COMMAND…: the fastest of several, row by row, in NAME.
column() {
    local name=$1 turn
    shift
    for ((turn = 0; turn < repeat; turn++)); do
        say "$name, $((turn + 1)) of $repeat"
        "$@" >"$work/turn"
        [ "$(wc -l <"$work/turn")" -eq ${#rows[@]} ] || die "$name: not all workloads ended"
        if [ -e "$work/$name" ]; then
            paste "$work/$name" "$work/turn" |
                awk '{ print $1 == "-" || $1 + 0 < $2 + 0 ? $1 : $2 }' >"$work/best"
            mv "$work/best" "$work/$name"
        else
            mv "$work/turn" "$work/$name"
        fi
    done
}

column native native
column qemu qemu
for technique in bare traced trap unsync nested agile; do
    column $technique run translator $technique
done
repeat=1
column interpreter run interpreter traced

cat <<END
Seconds, the fastest of ${REPEAT:-3} (the interpreter's: of one); $(qemu-system-x86_64 --version |
    sed -n '1s/ (.*//p'), \`-accel tcg,thread=single -cpu max\`, its firmware's start included in the
boot. Native is the same program on the host's own kernel.

| work | native | QEMU | bare | traced | trap | unsync | nested | agile | interpreter, traced | QEMU / traced (goal) | traced / native |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
END
paste "$work"/{native,qemu,bare,traced,trap,unsync,nested,agile,interpreter} | {
    index=0
    while IFS=$'\t' read -r -a seconds; do
        printf '| %s (`%s`) |' "${names[index]}" "${rows[index]}"
        printf ' %s |' "${seconds[@]}"
        awk -v n="${seconds[0]}" -v q="${seconds[1]}" -v t="${seconds[3]}" -v g="${goals[index]}" \
            'BEGIN { printf " %.1f (%s) | %s |\n", q / t, g, (n + 0 > 0 ? sprintf("%.1f", t / n) : "-") }'
        index=$((index + 1))
    done
}
