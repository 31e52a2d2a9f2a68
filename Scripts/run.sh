#!/usr/bin/env bash
# Boots the default guest under traced shadow paging, lets it do its work, and checks that the guest
# itself found every result correct. The console is shown as it comes and kept in
# .build/run/console.txt; the ledger is printed as a table and kept in .build/run/ledger.json.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p .build/run
status=0
.build/release/penumbra run \
    --kernel Guests/.fetched/vmlinuz \
    --initrd Guests/.fetched/initramfs.cpio.gz \
    --append "console=ttyS0 cryptomgr.notests panic=-1 penumbra.script=work" \
    --memory 512M --mmu traced --clock virtual --no-reboot \
    --ledger .build/run/ledger.json --show-ledger "$@" </dev/null |
    tee .build/run/console.txt || status=$?
[ "$status" -eq 0 ] || exit "$status"
grep -q '^GUEST-OK' .build/run/console.txt || {
    echo "run: the guest did not print GUEST-OK; its console is in .build/run/console.txt" >&2
    exit 1
}
