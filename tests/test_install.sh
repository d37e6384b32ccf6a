#!/bin/sh
# test_install.sh TANDEM: what is installed works on its own, away from the source tree.
set -eu
build=${TANDEM_BUILD:-$(dirname "$1")}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unset TANDEM_ROOT
cmake --install "$build" --prefix "$scratch/prefix" >"$scratch/log" || { cat "$scratch/log"; exit 1; }
mv "$scratch/prefix" "$scratch/moved"
[ -f "$scratch/moved/share/tandem/scenarios/moe-30b-16gpu.yaml" ]
[ -f "$scratch/moved/share/tandem/rules/kineto.yaml" ]
models=$scratch/moved/share/tandem/scenarios/models
sed 's/^description:.*/description: only here/' "$models/small-moe.yaml" >"$models/only-here.yaml"
cd /
"$scratch/moved/bin/tandem" list models >"$scratch/list"
grep -q 'only here' "$scratch/list" || { cat "$scratch/list"; exit 1; }
"$scratch/moved/bin/tandem" check "$scratch/moved/share/tandem/scenarios/moe-30b-16gpu.yaml"
