#!/bin/sh
# test_validate.sh TANDEM: `tandem validate`: both sides, their comparison and pictures, and the exit code.
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

cat >stages.yaml <<'END'
pass_times: {forward: 10ms, backward_input: 10ms, backward_weight: 5ms, send: 1ms}
parallel: {pipeline_model_parallel_size: 4}
schedule: {name: 1f1b, num_microbatches: 4}
END
engine=sim
"$tandem" list engines | grep -q 'sim *missing' && engine=analytic

# ---- both sides and their comparison, without gnuplot ----
mkdir -p bin runs/stages-validate/plots
echo old >runs/stages-validate/plots/scatter.png
PATH=$scratch/bin "$tandem" validate stages.yaml --engine "$engine" --device paced --steps 3 --pace 3 >out 2>err
[ $? -eq 0 ] || fail "not within 15 % on the paced device"
says out "stages by engine $engine against device paced"
says out "engine paced, 4 ranks, 3 steps"
says out "% confidence: "
says out "Steps on device paced, transport threads  (times of $engine; 3 real seconds for one shown;"
says out "  within   step_time_s"
says err "no pictures: gnuplot is not installed (Debian: gnuplot-nox; --no-plots does without)"
[ ! -e runs/stages-validate/plots/scatter.png ] || fail "a picture of an earlier run is left"
for file in predicted/figures.json predicted/ops.csv measured/figures.json measured/ops.csv comparison.json; do
    [ -s "runs/stages-validate/$file" ] || fail "no $file"
done
says runs/stages-validate/predicted/figures.json "\"engine\": \"$engine\""
says runs/stages-validate/measured/figures.json '"engine": "paced"'
cp runs/stages-validate/comparison.json kept
run 0 compare runs/stages-validate/predicted runs/stages-validate/measured --tolerance 15% --format json
cmp -s out kept || fail "comparison.json is not what tandem compare says"

# ---- what is asked for ----
run 4 validate stages.yaml --engine analytic --device paced --steps 1 --pace 1 --no-plots --tolerance 0% \
    --figures step_time_s,bubble_fraction --out-dir elsewhere --set schedule.num_microbatches=3
says out "  OUTSIDE  step_time_s"
says out "  OUTSIDE  bubble_fraction"
says elsewhere/measured/scenario.yaml "num_microbatches: 3"
says elsewhere/measured/figures.json '"times_of": "analytic"'
run 4 validate stages.yaml --engine analytic --device paced --steps 1 --pace 0.5 --no-plots --tolerance 0 \
    --out-dir elsewhere --format json -o elsewhere.json
[ ! -s out ] || fail "printed on standard output"
cmp -s elsewhere.json elsewhere/comparison.json || fail "--format json is not comparison.json"
run 4 validate stages.yaml --engine analytic --device paced --steps 1 --pace 0.5 --no-plots --tolerance 0 \
    --out-dir elsewhere --format csv -q -o elsewhere.csv
[ ! -s err ] || fail "-q says something"
says elsewhere.csv "figures,,step_time_s,"

# ---- what it refuses, before anything is written ----
rm -r runs
run 2 validate no-such-scenario --engine analytic --device paced
run 2 validate stages.yaml --engine analytic --device paced --tolerance 15
says err "validate: --tolerance: '15' is no share (write 5% or 0.05)"
run 2 validate stages.yaml --engine analytic --device paced --figures step_time
says err "validate: --figures: no figure 'step_time' (did you mean step_time_s?)"
run 2 validate stages.yaml --engine analytic --device paced --plot-format png --no-plots
says err "validate: --plot-format: --no-plots draws no pictures"
run 2 validate stages.yaml --engine analytic --device paced --steps 0
says err "validate: --steps: '0' is not a whole number from 1 to 10000"
"$tandem" plan stages.yaml >plan.txt
run 2 validate plan.txt --engine analytic --device paced
says err "validate: plan.txt is a plan without a machine to predict it on: give a scenario"
[ ! -e runs ] || fail "files of what was refused"

# ---- numerics of the host device; pictures ----
if ! "$tandem" list engines | grep -q 'host *missing'; then
    run 4 validate small-16rank-host --engine analytic --steps 2 --check-memory --no-plots
    says out "(memory as planned, to the byte)"
    says out "gradient norm"
    run 2 validate small-moe-16gpu --engine analytic
    says err "training.dtype: bf16: the host device computes in fp32"
fi
if command -v gnuplot >/dev/null 2>&1; then
    run 0 validate stages.yaml --engine analytic --device paced --steps 1 --pace 1 --plot-format svg -q --tolerance 50%
    for name in classes error-waterfall scatter step timeline; do
        grep -q '</svg>' "runs/stages-validate/plots/$name.svg" || fail "no picture $name.svg"
    done
    [ ! -e runs/stages-validate/plots/step.png ] || fail "a PNG though SVG was asked for"
fi

[ "$bad" -eq 0 ]
