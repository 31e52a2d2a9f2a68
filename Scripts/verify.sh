#!/usr/bin/env bash
# Runs everything under the lawfulness oracle: Linux under each technique with 1 and 2 processors,
# and the test kernel's lists of paging under each technique. One line a run, and a summary; what a
# failed run printed is kept in .build/verify/.
#
# Usage: Scripts/verify.sh [PART OF A RUN'S NAME]…   runs only those whose name has one of the parts
set -uo pipefail
cd "$(dirname "$0")/.."

program=.build/release/penumbra
directory=.build/verify
techniques="bare trap unsync traced traced,capacity=4096,threshold=8,coalesce=0 nested"
seconds=900
failed=0
runs=0
rm -rf "$directory"
mkdir -p "$directory"

# run NAME EXPECTED-STATUS EXPECTED-LINE ARGUMENT…
run() {
    local name=$1 expected=$2 line=$3
    shift 3
    if [ "${#wanted[@]}" -gt 0 ]; then
        local part found=0
        for part in "${wanted[@]}"; do [[ $name == *"$part"* ]] && found=1; done
        [ "$found" = 1 ] || return 0
    fi
    local log="$directory/${name// /-}.txt" status=0 start=$SECONDS
    timeout "$seconds" "$program" run --verify "$@" </dev/null >"$log" 2>&1 || status=$?
    runs=$((runs + 1))
    local verdict=ok
    if [ "$status" -ne "$expected" ] || ! grep -q "$line" "$log"; then
        verdict="FAILED (status $status)"
        failed=$((failed + 1))
    fi
    printf '%-62s %4d s  %s\n' "$name" "$((SECONDS - start))" "$verdict"
    grep -h -E 'verify: judged|unlawful' "$log" | sed 's/^penumbra: --verify:/   /'
    [ "$verdict" != ok ] || rm -f "$log"
}

wanted=("$@")
for technique in $techniques; do
    for list in lawful invalidation edits; do
        run "test kernel, $list, $technique" 1 'FAILED 0' \
            -kernel Guests/.fetched/testkernel.elf -append "$list" \
            -device isa-debug-exit,iobase=0xf4 --mmu "$technique"
    done
done
for processors in 1 2; do
    for technique in $techniques; do
        run "Linux, $processors processors, $technique" 0 '^GUEST-OK' \
            -kernel Guests/.fetched/vmlinuz -initrd Guests/.fetched/initramfs.cpio.gz \
            -append "console=ttyS0 quiet cryptomgr.notests panic=-1 penumbra.script=work" \
            --no-reboot --mmu "$technique" -smp "$processors"
    done
done
for technique in bare trap unsync traced nested; do
    run "Linux, hardware that keeps all it may, $technique" 0 '^GUEST-OK' \
        -kernel Guests/.fetched/vmlinuz -initrd Guests/.fetched/initramfs.cpio.gz \
        -append "console=ttyS0 quiet cryptomgr.notests panic=-1 penumbra.script=work" \
        --no-reboot --mmu "$technique" --hardware tlb=keep
done
echo "$runs runs, $failed failed"
[ "$failed" -eq 0 ] && [ "$runs" -gt 0 ]
