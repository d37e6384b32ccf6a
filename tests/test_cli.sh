#!/bin/sh
# test_cli.sh TANDEM: the verbs' common ground: help, version, unknown verbs and options, list, data folder.
set -u
tandem=$1
version=${TANDEM_VERSION:?the expected version}
bad=0
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
unset TANDEM_ROOT

# run EXPECTED_STATUS ARGUMENT...: runs tandem; its output is in $scratch/out and $scratch/err.
run() {
    want=$1
    shift
    "$tandem" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
    got=$?
    [ "$got" -eq "$want" ] || fail "tandem $*: exit status $got, not $want"
}

fail() {
    printf 'FAILED: %s\n' "$1"
    sed 's/^/    out: /' "$scratch/out"
    sed 's/^/    err: /' "$scratch/err"
    bad=1
}

# says out|err TEXT: the last run printed a line with TEXT there.
says() {
    grep -qF -- "$2" "$scratch/$1" || fail "standard $1 lacks: $2"
}

silent() {
    [ ! -s "$scratch/$1" ] || fail "standard $1 is not empty"
}

run 0
says out "Usage: tandem VERB"
run 0 help
silent err
for verb in check list plan report run sim sweep validate; do
    says out "  $verb "
done
run 0 --version
says out "tandem $version"
run 0 help list
says out "Usage: tandem list"
for verb in check list plan report run sim sweep validate; do
    run 0 "$verb" --help
    says out "Usage: tandem $verb"
    silent err
done

run 2 lsit
says err "unknown verb 'lsit' (did you mean 'list'?)"
silent out
run 2 frobnicate
says err "unknown verb 'frobnicate' (tandem help lists them)"
run 2 help frobnicate
says err "unknown verb 'frobnicate'"
run 2 list --fromat json
says err "list: unknown option --fromat (did you mean --format?)"
run 2 list --format
says err "list: --format needs a value (FORMAT)"
run 2 list --format=xml
says err "list: --format: 'xml' is not one of text, json"
run 2 list schedules collectives
says err "one operand too many: 'collectives'"
run 2 list nonsense
says err "list: there are no nonsense (tandem list prints all there is)"
run 2 list modles
says err "list: there are no modles (did you mean models?)"
silent out
for verb in check plan sim sweep; do
    run 2 "$verb"
    silent out
    run 2 "$verb" --no-such-option
    silent out
done

# A scenario of the data folder goes by its name, with every verb that takes one.
cd "$scratch" || exit 1
run 0 check small-moe-16gpu
run 0 plan small-moe-16gpu --groups
run 0 sim small-moe-16gpu --engine analytic --no-files
run 0 sweep small-moe-16gpu --vary schedule.name=1f1b -q
run 0 advise small-moe-16gpu --set targets.bubble_fraction.max=90% --confirm 0
says out "small-moe-16gpu"
cd - >/dev/null || exit 1

run 0 list
silent err
for section in schedules collectives fabrics topologies devices models scenarios engines; do
    says out "$section"
done
! grep -q ' broken ' "$scratch/out" || fail "something in the tree is broken"
run 0 list schedules
says out "1f1b"
! grep -q '^engines' "$scratch/out" || fail "one section asked for, more printed"
run 0 list engines --format json
says out '"schema_version": 1'
says out '"name": "sim"'
run 0 list scenarios
says out "moe-30b-16gpu"

# Standard output that cannot be written is an error, not a success.
if [ -w /dev/full ]; then
    "$tandem" list >/dev/full 2>"$scratch/err"
    [ $? -eq 1 ] || fail "a full disk goes unnoticed"
fi

# The data folder: an override that holds nothing is refused; one that does is used.
TANDEM_ROOT=$scratch
export TANDEM_ROOT
run 2 list models
says err "set TANDEM_ROOT"
mkdir -p "$scratch/scenarios/models" "$scratch/topologies"
models=$(dirname "$0")/../scenarios/models
sed 's/^description:.*/description: my own model/' "$models/small-moe.yaml" >"$scratch/scenarios/models/mine.yaml"
printf 'description: [\n' >"$scratch/scenarios/models/spoilt.yaml"
run 0 list models
says out "my own model"
says out "broken"
unset TANDEM_ROOT

[ "$bad" -eq 0 ]
