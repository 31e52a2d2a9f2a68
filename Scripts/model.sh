#!/usr/bin/env bash
# Checks the model of the coherence protocol (Docs/Model) with Spin: that it holds in every state
# that it can reach, and that it fails without any one of its rules. Prints one line a check.
# Takes a few minutes and less than 4 GB of memory. `make model` installs what it needs first.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

model=$PWD/Docs/Model
# The longest path of a depth-first search; a search that would go deeper is not taken for complete.
depth=6000000
# MiB.
memory=4000

die() {
    echo "model: $*" >&2
    exit 1
}

for tool in spin gcc; do
    command -v "$tool" >/dev/null || die "$tool is missing: run make model"
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
failed=0

# search FLAG…: runs Spin with these flags. Sets `outcome`: holds (all states were searched), fails
# (with `why`), or incomplete.
search() {
    rm -f pan* ./*.trail
    spin "$@" -a "$model/coherence.pml" >spin.log 2>&1 || die "spin: $(cat spin.log)"
    gcc -O2 -w -DSAFETY -DCOLLAPSE -DVECTORSZ=256 -DMEMLIM="$memory" -o pan pan.c
    ./pan -m"$depth" -w26 -n >pan.log 2>&1 || true
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.log)
    why=$(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' pan.log)
    if [ -n "$why" ] && grep -q 'errors: 1' pan.log; then
        outcome=fails
    elif grep -q 'errors: 0' pan.log && ! grep -Eq 'max search depth|not completed|memory' \
        <(grep -v 'memory usage\|Stats on memory\|memory used' pan.log); then
        outcome=holds
    else
        outcome=incomplete
    fi
}

# check EXPECTED NAME FLAG…
check() {
    local expected=$1 name=$2
    shift 2
    search "$@"
    local verdict=ok
    [ "$outcome" = "$expected" ] || { verdict=WRONG; failed=$((failed + 1)); }
    case "$outcome" in
    holds) outcome="holds in all of $states states" ;;
    fails) outcome="fails: $why" ;;
    *) outcome="the search is incomplete: $(grep -m1 -E 'error|memory|pan:' pan.log)" ;;
    esac
    printf '%-5s %-62s %s\n' "$verdict" "$name" "$outcome"
}

rules=($(sed -n 's/^#define \([A-Z_]*\) 1$/\1/p' "$model/rules.h"))
# Rules that order what today's program does in one turn: on one host thread they hold by themselves.
threads_only=(1 2 8 9 10 11 13 14 16 20)
without_them=()
for number in "${threads_only[@]}"; do without_them+=("-DWITHOUT_RULE_$number"); done

# flags_to_break NUMBER: the smallest machine in which the rule's removal shows.
flags_to_break() {
    case "$1" in
    11) echo -DN=3 -DWRITERS=2 -DUSERS=1 ;;
    20) echo -DN=2 -DCAPACITY=2 ;;
    *) echo -DN=2 ;;
    esac
}

echo "The protocol"
check holds "2 processors at the same time" -DN=2
check holds "2 processors at the same time, buffers of 2 records" -DN=2 -DCAPACITY=2
check holds "3 processors at the same time: 2 of them write, 2 use" -DN=3 -DWRITERS=2 -DUSERS=2
check holds "2 processors in turns, without the rules for threads" \
    -DN=2 -DTURNS "${without_them[@]}"
check holds "3 processors in turns, 2 and 2, without the rules for threads" \
    -DN=3 -DWRITERS=2 -DUSERS=2 -DTURNS "${without_them[@]}"
echo "At the same time, without one rule"
for number in $(seq "${#rules[@]}"); do
    check fails "$number ${rules[number - 1]}" -DONLY_USES "-DWITHOUT_RULE_$number" \
        $(flags_to_break "$number")
done
echo "In turns, without one more rule"
for number in $(seq "${#rules[@]}"); do
    case " ${threads_only[*]} " in *" $number "*) continue ;; esac
    check fails "$number ${rules[number - 1]}" -DONLY_USES -DN=2 -DTURNS "${without_them[@]}" \
        "-DWITHOUT_RULE_$number"
done

[ "$failed" -eq 0 ] || die "$failed checks are not as they should be"
echo "model: every check is as it should be"
