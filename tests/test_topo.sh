#!/bin/sh
# test_topo.sh TANDEM [--update]: `tandem topo` refuses every tests/topo/bad/NAME.in with exactly what NAME.expect holds.
# NAME.args holds further arguments, one per line. --update rewrites the expectations; read the difference before
# keeping it. Then: what comes out goes back in.
set -u
tandem=$(realpath "$1") || exit 1
update=${2:-}
cd "$(dirname "$0")/.." || exit 1
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
TANDEM_ROOT=.
export TANDEM_ROOT
bad=0
n=0

fail() {
    printf 'FAILED: %s: %s\n' "$1" "$2"
    bad=1
}

for input in tests/topo/bad/*.in; do
    name=${input%.in}
    n=$((n + 1))
    set --
    if [ -f "$name.args" ]; then
        while IFS= read -r argument; do
            set -- "$@" "$argument"
        done <"$name.args"
    fi
    "$tandem" topo "$input" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
    status=$?
    [ "$status" -eq 2 ] || fail "$name" "exit status $status, not 2"
    [ ! -s "$scratch/out" ] || fail "$name" "printed on standard output"
    [ -s "$scratch/err" ] || fail "$name" "said nothing"
    if [ "$update" = --update ] && [ "$status" -eq 2 ] && [ -s "$scratch/err" ]; then
        cp "$scratch/err" "$name.expect"
    elif ! diff -u "$name.expect" "$scratch/err"; then
        fail "$name" "other messages than expected"
    fi
done
for expectation in tests/topo/bad/*.expect tests/topo/bad/*.args; do
    [ -f "${expectation%.*}.in" ] || fail "$expectation" "belongs to no input"
done
[ "$n" -ge 40 ] || fail tests/topo/bad "only $n cases"

# Every topology that is shipped and every sample: the NCCL XML and the table that come out of it read back, and the
# table comes out again the same.
same_again() {
    "$tandem" topo "$@" --matrix -o "$scratch/a" 2>/dev/null || fail "$1" "no table"
    "$tandem" topo "$scratch/a" --gpu sm90 --nvlinks 18 --matrix -o "$scratch/b" 2>/dev/null ||
        fail "$1" "its table does not read back"
    cmp "$scratch/a" "$scratch/b" || fail "$1" "another table"
    "$tandem" topo "$@" --format nccl -o "$scratch/c" 2>/dev/null || fail "$1" "no XML"
    "$tandem" topo "$scratch/c" --format nccl -o "$scratch/d" 2>/dev/null || fail "$1" "its XML does not read back"
    cmp "$scratch/c" "$scratch/d" || fail "$1" "other XML"
}
for topology in topologies/*.yaml; do
    # what is between nodes is in neither format, nor are ranks that share cores
    grep -Eq '^nodes: [2-9]|^fabric: cores' "$topology" || same_again "$topology"
done
same_again tests/topo/hgx.xml
same_again tests/topo/bridged.xml --gpu a100-40g --nvlink pairs
same_again tests/topo/lstopo.xml --gpu v100-32g --nvlink none
same_again tests/topo/topo-m.txt --gpu a100-80g

# What cannot be opened.
"$tandem" topo no/such.xml >"$scratch/out" 2>"$scratch/err"
[ $? -eq 2 ] || fail missing "exit status not 2"
[ "$(cat "$scratch/err")" = "no/such.xml: No such file or directory" ] || fail missing "$(cat "$scratch/err")"
"$tandem" topo tests >"$scratch/out" 2>"$scratch/err"
[ "$(cat "$scratch/err")" = "tests: is a folder, not a file" ] || fail folder "$(cat "$scratch/err")"
"$tandem" topo dgx2 >"$scratch/out" 2>"$scratch/err"
[ "$(cat "$scratch/err")" = "topology: dgx2: no such topology (did you mean dgx-2?)" ] || fail name "$(cat "$scratch/err")"
"$tandem" topo dgx-2 --gpu h100-80g --pcie 4 >"$scratch/out" 2>"$scratch/err"
[ "$(wc -l <"$scratch/err")" -eq 2 ] || fail options "$(cat "$scratch/err")"

# A text that comes through a pipe.
"$tandem" topo - --gpu a100-80g --path 0,1 <tests/topo/topo-m.txt >"$scratch/out" 2>/dev/null || fail pipe "not read"
grep -q '^GPU 0 to GPU 1: NVL' "$scratch/out" || fail pipe "$(cat "$scratch/out")"

[ "$bad" -eq 0 ] && printf '%s broken inputs\n' "$n"
