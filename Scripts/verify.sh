#!/usr/bin/env bash
# Runs everything under the lawfulness oracle: the test kernel's lists of paging under each technique,
# and Linux on each machine of configurations.txt, where those that must end alike have to. One line
# a run, and a summary; what a failed run printed is kept in .build/verify/.
#
# Usage: Scripts/verify.sh [PART OF A RUN'S NAME]…   runs only those whose name has one of the parts
set -uo pipefail
cd "$(dirname "$0")/.."

program=.build/release/penumbra
directory=.build/verify
techniques="bare trap unsync traced traced,capacity=4096,threshold=8,coalesce=0 nested agile"
seconds=900
failed=0
runs=0
declare -A digests
rm -rf "$directory"
mkdir -p "$directory"

# Runs of the same $group must end with the same digest.
group=
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
    elif [ -n "$group" ]; then
        local digest
        digest=$(grep -h -o 'digest .*' "$log")
        digests[$group]=${digests[$group]:-$digest}
        [ -n "$digest" ] && [ "$digest" = "${digests[$group]}" ] || verdict="FAILED (digest)"
    fi
    [ "$verdict" = ok ] || failed=$((failed + 1))
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
for technique in $techniques; do
    run "test kernel, other forms, $technique" 1 'FAILED 0' -cpu penumbra-v2,+la57 \
        -kernel Guests/.fetched/testkernel.elf -append "forms pointers levels5" \
        -device isa-debug-exit,iobase=0xf4 --mmu "$technique"
done
while read -r processors technique options; do
    [[ $processors == [0-9]* ]] || continue
    group="$processors ${options#--hardware tlb=keep}"
    # shellcheck disable=SC2086
    run "Linux, $processors processors, $technique $options" 0 '^GUEST-OK' \
        -kernel Guests/.fetched/vmlinuz -initrd Guests/.fetched/initramfs.cpio.gz \
        -append "console=ttyS0 quiet cryptomgr.notests panic=-1 penumbra.script=work" \
        --no-reboot --digest --mmu "$technique" -smp "$processors" $options
done <Scripts/configurations.txt
echo "$runs runs, $failed failed"
[ "$failed" -eq 0 ] && [ "$runs" -gt 0 ]
