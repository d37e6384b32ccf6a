#!/bin/sh
# test_errors.sh TANDEM [--update]: `tandem check` on every tests/errors/NAME.yaml says exactly what NAME.expect holds.
# NAME.args holds further arguments, one per line. Paths in messages are relative to the root of the repository.
# --update rewrites the expectations; read the difference before keeping it.
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

for scenario in tests/errors/*.yaml; do
    name=${scenario%.yaml}
    n=$((n + 1))
    set --
    if [ -f "$name.args" ]; then
        while IFS= read -r argument; do
            set -- "$@" "$argument"
        done <"$name.args"
    fi
    "$tandem" check "$scenario" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
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
for expectation in tests/errors/*.expect tests/errors/*.args; do
    [ -f "${expectation%.*}.yaml" ] || fail "$expectation" "belongs to no scenario"
done
[ "$n" -ge 32 ] || fail tests/errors "only $n cases"

# What is sound passes, with one line on standard output and nothing else.
for scenario in scenarios/*.yaml; do
    "$tandem" check "$scenario" >"$scratch/out" 2>"$scratch/err" </dev/null || fail "$scenario" "not accepted"
    [ ! -s "$scratch/err" ] || fail "$scenario" "$(cat "$scratch/err")"
    [ "$(wc -l <"$scratch/out")" -eq 1 ] || fail "$scenario" "not one line"
    grep -q "^$scenario: ok: " "$scratch/out" || fail "$scenario" "no ok"
done
for model in scenarios/models/*.yaml; do
    base=scenarios/small-moe-16gpu.yaml
    set -- --set parallel.ep=1 --set parallel.tp=1 --set parallel.pp=1 --set parallel.sp=false
    "$tandem" check "$base" "$@" --set model="$(basename "$model" .yaml)" >"$scratch/out" 2>"$scratch/err" ||
        fail "$model" "$(cat "$scratch/err")"
done

# One broken scenario among sound ones: the others are still reported.
"$tandem" check scenarios/zb-1.5b.yaml tests/errors/tab.yaml scenarios/small-moe-16gpu.yaml >"$scratch/out" 2>"$scratch/err"
[ $? -eq 2 ] || fail mixed "exit status not 2"
[ "$(wc -l <"$scratch/out")" -eq 2 ] || fail mixed "not two lines"
cmp -s "$scratch/err" tests/errors/tab.expect || fail mixed "other messages"

# What cannot be opened.
"$tandem" check no/such/file.yaml >"$scratch/out" 2>"$scratch/err"
[ $? -eq 2 ] || fail missing "exit status not 2"
[ "$(cat "$scratch/err")" = "no/such/file.yaml: No such file or directory" ] || fail missing "$(cat "$scratch/err")"
"$tandem" check scenarios >"$scratch/out" 2>"$scratch/err"
[ "$(cat "$scratch/err")" = "scenarios: is a folder, not a file" ] || fail folder "$(cat "$scratch/err")"
head -c 5000000 /dev/zero | tr '\0' '#' >"$scratch/large.yaml"
"$tandem" check "$scratch/large.yaml" >"$scratch/out" 2>"$scratch/err"
[ "$(cat "$scratch/err")" = "$scratch/large.yaml: larger than 4 MiB" ] || fail large "$(cat "$scratch/err")"

[ "$bad" -eq 0 ] && printf '%s broken scenarios\n' "$n"
