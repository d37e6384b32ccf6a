#!/bin/sh
# test_calibrate.sh TANDEM: `tandem calibrate` as users call it: what it measures and writes, that a prediction can use it,
# and what it refuses. Whether predictions are near is for a machine at rest: tests/bench/host.sh.
set -u
tandem=$(realpath "$1") || exit 1
bad=0
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
unset TANDEM_ROOT
cd "$scratch" || exit 1

# run EXPECTED_STATUS ARGUMENT...: its output is in out and err.
run() {
    want=$1
    shift
    "$tandem" "$@" >out 2>err </dev/null
    got=$?
    [ "$got" -eq "$want" ] || fail "tandem $*: exit status $got, not $want"
}

fail() {
    printf 'FAILED: %s\n' "$1"
    sed 's/^/    out: /' out
    sed 's/^/    err: /' err
    bad=1
}

says() {
    grep -qF -- "$2" "$1" || fail "$1 lacks: $2"
}

run 2 calibrate --device tpu
says err "calibrate: --device: 'tpu' is not one of host"
for ranks in 0 -1 x 2000 ''; do
    run 2 calibrate --ranks "$ranks"
    says err "calibrate: --ranks: '$ranks' is not a whole number from 1 to 1024"
done
run 2 calibrate --name a/b
says err "calibrate: --name: 'a/b' is no name for a file (--out-dir says where it goes)"
run 2 calibrate --set tp=2
says err "calibrate: --set needs a scenario"
run 2 calibrate no-such-scenario
run 2 advise small-16rank-host --set 'targets.bubble_fraction.max=5%'
says err "share processor cores, which advise does not know"

if ! "$tandem" list engines | grep -q '^ *host .*ready'; then
    [ "$bad" -eq 0 ] || exit 1
    echo "skipped: no host device in this build"
    exit 77
fi

touch occupied
run 1 calibrate --quick -q --out-dir occupied
says err "occupied"

run 0 calibrate --quick --out-dir machine --name mine
says out "Wrote machine/mine.yaml and machine/devices/mine.yaml."
says out "fitted: 16 ranks' step of"
says machine/mine.yaml "fabric: cores"
says machine/mine.yaml "device: devices/mine.yaml"
says machine/devices/mine.yaml "grade: measured"
for kernel in gelu gelu.bwd swiglu layer-norm rms-norm.bwd attention attention.bwd softmax rope permute unsort topk \
    loss adam; do
    says machine/devices/mine.yaml "{name: $kernel,"
done
for way in forward dgrad wgrad; do
    says machine/devices/mine.yaml "{way: $way, m: "
    says machine/devices/mine.yaml "{way: $way, grouped: true, m: "
done
[ "$(find machine -type f | wc -l)" -eq 2 ] || fail "other files than two in machine"

run 0 sim small-16rank-host --engine analytic --set topology=machine/mine.yaml --out-dir predicted
says out "16 x mine on mine"
says out "evidence  worst grade of the numbers used: measured"
[ ! -e predicted/platform.xml ] || fail "a platform of links, where there are none"
run 2 sim small-16rank-host --engine analytic --no-files --set topology=machine/mine.yaml --set dp=8
says err "do not divide the 16 GPUs of topology mine"

exit "$bad"
