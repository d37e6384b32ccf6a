#!/bin/sh
# test_topologies.sh TANDEM [--update]: topology files. `tandem topo` refuses every tests/topologies/bad/NAME.yaml with
# exactly what NAME.expect holds (--update rewrites them; read the difference before keeping it), takes those of
# tests/topologies/good, and topo, comm and list take every one that is shipped.
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

for input in tests/topologies/bad/*.yaml; do
    name=${input%.yaml}
    n=$((n + 1))
    "$tandem" topo "$input" >"$scratch/out" 2>"$scratch/err" </dev/null
    status=$?
    [ "$status" -eq 2 ] || fail "$name" "exit status $status, not 2"
    [ ! -s "$scratch/out" ] || fail "$name" "printed on standard output"
    [ -s "$scratch/err" ] || fail "$name" "said nothing"
    # Every message is at a line of a file.
    grep -qv '^[^:]*\.yaml:[0-9]*:[0-9]*: ' "$scratch/err" && fail "$name" "a message without a place"
    if [ "$update" = --update ] && [ "$status" -eq 2 ] && [ -s "$scratch/err" ]; then
        cp "$scratch/err" "$name.expect"
    elif ! diff -u "$name.expect" "$scratch/err"; then
        fail "$name" "other messages than expected"
    fi
done
for expectation in tests/topologies/bad/*.expect; do
    [ -f "${expectation%.*}.yaml" ] || fail "$expectation" "belongs to no input"
done
[ "$n" -ge 25 ] || fail tests/topologies/bad "only $n cases"

for topology in topologies/*.yaml tests/topologies/good/*.yaml; do
    "$tandem" topo "$topology" >"$scratch/out" 2>"$scratch/err" || fail "$topology" "$(cat "$scratch/err")"
    grep -q '^Bisection: .*/s one way' "$scratch/out" || fail "$topology" "no bisection"
    grep -q '^fabric: cores' "$topology" && continue # NCCL does not run there
    "$tandem" comm "$topology" --collective all-reduce --sizes 1MiB:1GiB:32 >"$scratch/out" 2>"$scratch/err" ||
        fail "$topology" "$(cat "$scratch/err")"
    grep -q '^# channels: ring [1-9]' "$scratch/out" || fail "$topology" "no rings"
done

# The site's own launch floor, not the default of the generation.
"$tandem" comm tests/topologies/good/measured-2.yaml --collective all-reduce --sizes 1GiB >"$scratch/out" 2>/dev/null
grep -q 'launch 5.0 us' "$scratch/out" || fail site "$(sed -n 2p "$scratch/out")"

# What passes a switch or a socket is limited in every node of a composed machine.
"$tandem" topo tests/topologies/good/capacity-2.yaml >"$scratch/out" 2>/dev/null
[ "$(grep -c 'pcie-switch-[0-9].* passes 60.* in all' "$scratch/out")" -eq 8 ] || fail capacity "$(grep switch "$scratch/out")"
[ "$(grep -c 'socket-[0-9].* passes 50.* in all' "$scratch/out")" -eq 4 ] || fail capacity "$(grep socket "$scratch/out")"
"$tandem" topo tests/topologies/good/capacity-2.yaml --format json >"$scratch/out" 2>/dev/null
[ "$(grep -c '"through_bytes_per_s": [56]0000000000' "$scratch/out")" -eq 12 ] || fail capacity "$(grep through "$scratch/out")"

# The list has them all, ready, under a heading, with their GPUs.
"$tandem" list topologies >"$scratch/out" 2>"$scratch/err" || fail list "$(cat "$scratch/err")"
for topology in topologies/*.yaml; do
    name=$(basename "$topology" .yaml)
    grep -Eq "^    $name +ready +[0-9]+ x [a-z0-9-]+ +[0-9]+ nodes? " "$scratch/out" || fail "$name" "not in the list"
done
grep -q '^  NVIDIA$' "$scratch/out" || fail list "no headings"
"$tandem" list topologies --format json >"$scratch/json" 2>/dev/null || fail list "no JSON"
grep -q '"network": "rail, 8 x 400 Gbit/s"' "$scratch/json" || fail list "no network"

# Engines ride them too: composed, meshed, on PCIe.
for name in dgx-2x8-h200 gb200-nvl72-4x4 aws-2x8-p5 hgx-2x8-b200-roce; do
    "$tandem" sim scenarios/small-moe-16gpu.yaml --set topology=$name --engine analytic --no-files -q >"$scratch/out" 2>"$scratch/err" ||
        fail "$name" "$(cat "$scratch/err")"
done
for name in dgx-1v pcie-8-l40s; do
    "$tandem" sim scenarios/small-moe-16gpu.yaml --set topology=$name --set pp=1 --set training.dtype=fp16 --engine analytic \
        --no-files -q >"$scratch/out" 2>"$scratch/err" || fail "$name" "$(cat "$scratch/err")"
done

[ "$bad" -eq 0 ] && printf '%s broken topologies\n' "$n"
