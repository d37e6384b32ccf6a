#!/bin/sh
# test_run.sh TANDEM: `tandem run` as users call it: devices, files, steps, and what it refuses.
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
    "$tandem" run "$@" >out 2>err </dev/null
    got=$?
    [ "$got" -eq "$want" ] || fail "tandem run $*: exit status $got, not $want"
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

# The losses of the last run.
losses() {
    sed -n 's/^ *"loss": \(.*\),$/\1/p' runs/*/figures.json
}

# Whether all losses of two files agree to a hundred-thousandth.
agree() {
    paste "$1" "$2" | awk '{ d = $1 - $2; if (!NF || d * d > 1e-10 * $1 * $1) bad = 1 } END { exit bad || NR != 3 }'
}

# ---- the paced device is there in every build ----
cat >stages.yaml <<'END'
pass_times: {forward: 10ms, backward_input: 10ms, backward_weight: 5ms, send: 1ms}
parallel: {pipeline_model_parallel_size: 4}
schedule: {name: 1f1b, num_microbatches: 4}
END
run 0 stages.yaml --device paced --steps 2 --pace 1
says out "stages, carried out on device paced"
says out "Steps on device paced, transport threads"
for file in figures.json trace.json forward-trace.json ops.csv memory.csv plan.txt scenario.yaml; do
    [ -s "runs/stages/$file" ] || fail "no $file"
done
[ ! -e runs/stages/platform.xml ] || fail "a platform, though nothing was simulated"
says runs/stages/figures.json '"engine": "paced"'
says runs/stages/figures.json '"loss": null'
run 0 stages.yaml --device paced --engine analytic --steps 1 --pace 1 --no-files
says out "(times of analytic; 1 real seconds for one shown;"
run 0 stages.yaml --device paced --steps 1 --pace 0.5 --no-files --format csv
says out "step_time_s"
rm -r runs

# ---- what it refuses ----
run 2 stages.yaml --device pacer
says err "run: --device: 'pacer' is not one of host, paced"
run 2 stages.yaml --device paced --transport shared
says err "run: --transport: 'shared' is not one of auto, threads, mpi"
for steps in 0 -1 2x 99999 ''; do
    run 2 stages.yaml --device paced --steps "$steps"
    says err "run: --steps: '$steps' is not a whole number from 1 to 10000"
done
for pace in 0 x nan 1e9; do
    run 2 stages.yaml --device paced --pace "$pace"
    says err "run: --pace: '$pace' is not a number from 0.001 to 1000000"
done
run 2 stages.yaml --device paced --check-memory
says err "run: --check-memory is for --device host: the paced device has no memory"
run 2 no-such-scenario --device paced
says err "no-such-scenario"
[ ! -e runs ] || fail "files of a run that was refused"

if "$tandem" list engines | grep -q 'host *missing'; then
    run 2 small-16rank-host
    says err "run: the host device needs OpenBLAS"
    [ "$bad" -eq 0 ]
    exit
fi

# ---- the host device ----
run 2 stages.yaml
says err "pass_times: there is no model to compute (run with --device paced)"
run 2 small-moe-16gpu
says err "training.dtype: bf16: the host device computes in fp32 (try --set training.dtype=fp32)"
run 2 small-16rank-host --set topology=dgx-2x8-h100 --set training.dtype=bf16 --set training.grad_dtype=bf16
says err "training.grad_dtype: bf16: the host device computes in fp32 (try --set training.grad_dtype=fp32)"
run 2 small-16rank-host --engine analytic
says err "run: --engine is for --device paced"
run 2 small-16rank-host --pace 2
says err "run: --pace is for --device paced"
run 3 llama-16gpu-tp4-pp2-dp2 --set training.dtype=fp32 --set training.grad_dtype=fp32 \
    --set model=llama-3.1-405b --set parallel.tp=8 --set parallel.pp=2 --set parallel.dp=1
says err "(run a smaller model, or --device paced)"
[ ! -e runs ] || fail "files of a run that was refused"

run 0 small-16rank-host --check-memory
says out "(memory as planned, to the byte)"
says runs/small-16rank-host/figures.json '"memory_checked": true'
losses >sixteen
run 0 small-16rank-host --out-dir runs/alone --set parallel.tp=1 --set parallel.ep=1 --set parallel.pp=1 \
    --set parallel.dp=1 --set parallel.sp=false --set schedule.num_microbatches=16 --set schedule.name=1f1b -q
rm -r runs/small-16rank-host
losses >one
agree sixteen one || fail "16 ranks and 1 rank differ: $(paste sixteen one)"

# ---- a plan from text ----
"$tandem" plan small-16rank-host >plan.txt
run 0 plan.txt --check-memory
says out "Steps on device host, transport threads"
awk '/^ *[123] / { print $(NF - 1) }' out >text
agree sixteen text || fail "scenario and plan text differ: $(paste sixteen text)"
for file in plan.txt trace.json ops.csv; do
    [ -s "runs/small-16rank-host/$file" ] || fail "no $file"
done
cmp -s plan.txt runs/small-16rank-host/plan.txt || fail "another plan than was read"
run 2 plan.txt --set parallel.tp=1
says err "run: plan.txt is a plan already: --set needs a scenario"
run 2 plan.txt --device paced
says err "run: plan.txt is a plan without a machine, which --device paced takes its times from: give a scenario"
run 2 plan.txt --format json
says err "run: plan.txt is a plan: its steps are printed as text or md on standard output"
sed "s/ memory activation / memory activatoin /" plan.txt >typo.txt
run 2 typo.txt
says err "the host device has no kernel for memory 'activatoin' of moe-layer"

[ "$bad" -eq 0 ]
