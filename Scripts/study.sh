#!/usr/bin/env bash
# Runs a study of Docs/Studies anew: all its points, and everything they counted, in
# .build/studies/NAME.csv, .json and .sqlite. Interrupted, it goes on with the next call. The first
# argument is the study's name; further ones are for `penumbra sweep`.
set -euo pipefail
cd "$(dirname "$0")/.."

name=${1:-buffer}
out=.build/studies
mkdir -p "$out"
exec .build/release/penumbra sweep "Docs/Studies/$name.yaml" --output "$out/$name" \
    --json "$out/$name.json" --csv "$out/$name.csv" --sqlite "$out/$name.sqlite" "${@:2}"
