#!/bin/sh
# test_advise.sh TANDEM: the search for the least change: what it finds, that it finds it again, and what it refuses.
# Plans are confirmed by the analytic engine here: it is fast, and everywhere.
set -u
program=$1
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
unset TANDEM_ROOT
bad=0
reference=$root/scenarios/moe-30b-16gpu.yaml
small=$root/scenarios/small-moe-16gpu.yaml

fail() {
    printf 'FAILED: %s\n' "$1"
    sed 's/^/    /' "$scratch/out" "$scratch/err"
    bad=1
}

# advise STATUS ARGUMENTS...: runs it, output in $scratch/out and err.
advise() {
    want=$1
    shift
    "$program" advise "$@" >"$scratch/out" 2>"$scratch/err"
    got=$?
    [ "$got" -eq "$want" ] || fail "advise $*: exit status $got, not $want"
}

says() {
    grep -q -e "$1" "$scratch/out" "$scratch/err" || fail "does not say: $1"
}

# The reference, with 22 % of exposed communication allowed: a plan with a bubble below 5 % that meets all else, written
# as a scenario that holds what it promises.
advise 0 "$reference" --engine analytic --confirm 2 --keep etp --keep pp --enforce-targets --set targets.bubble_fraction.max=5% \
    --set targets.comm_exposed_fraction.max=22% -o "$scratch/met.yaml"
says 'Rank 1 meets all 8 targets, by analytic'
cp "$scratch/out" "$scratch/first"
"$program" sim "$scratch/met.yaml" --engine analytic --no-files --enforce-targets >"$scratch/out" 2>&1 ||
    fail 'the scenario that was written misses a target'
advise 0 "$scratch/met.yaml" --engine analytic --enforce-targets
says 'meets every target already (analytic); nothing to change'
advise 0 "$reference" --engine analytic --confirm 2 --keep etp --keep pp --set targets.bubble_fraction.max=5% \
    --set targets.comm_exposed_fraction.max=22%
cmp -s "$scratch/first" "$scratch/out" || fail 'a second run prints something else'

# As the guide has it nothing meets all 8; the nearest plan is in the tree, and misses one.
"$program" sim "$root/scenarios/moe-30b-16gpu-nearest.yaml" --engine analytic --no-files >"$scratch/out" 2>&1
says 'Checklist: 7 of 8 pass'
says 'FAIL  exposed communication below 20 % .* 20.[0-9] %'

# The command that a file names is one that a shell takes.
advise 0 "$small" --confirm 0 --set targets.bubble_fraction.max=9% --set "targets.bubble_fraction.label=it's below" \
    -o "$scratch/label.yaml"
grep -qF -e "--set 'targets.bubble_fraction.label=it'\\''s below'" "$scratch/label.yaml" || fail 'the command is not quoted'

# Nothing reaches a microsecond; with the micro-batch kept nothing reaches 50 ms either, which is said without asking.
advise 0 "$reference" --confirm 0 --keep etp
says 'The hardware forbids none of the 8'
says 'With micro-batch 32 kept it forbids forward_latency_s (best 86'
advise 3 "$reference" --confirm 0 --keep etp --keep pp --enforce-targets --set targets.forward_latency_s.max=1us
says 'FORBIDDEN'
says 'The hardware forbids 1 of the 8'
advise 0 "$reference" --confirm 0 --keep etp --keep batch.micro_batch_size --format json
says '"forbidden": true'
says '"forbidden_with_micro_batch_kept": true'
grep -q 'batch.micro_batch_size' "$scratch/out" && fail '--keep does not keep'

# Values that a key may have.
advise 0 "$reference" --confirm 0 --vary tp=2,4 --vary schedule.name=zb-h1
says 'tensor_model_parallel_size: 8 -> [24]:'
says 'schedule.name: 1f1b -> zb-h1:'
advise 0 "$reference" --confirm 0 --keep tp --keep pp --vary etp=2,4,8
says 'expert_tensor_parallel_size: 1 -> [248]:'

# Stages of given times: only the schedule can change.
advise 0 "$root/scenarios/zb-1.5b.yaml" --engine analytic --confirm 1 --set targets.bubble_fraction.max=15%
says 'schedule zb-h1 -> '

# What is refused.
advise 2 "$small"
says 'has no targets to meet'
advise 2 "$reference" --keep nonsense
says 'unknown key'
advise 2 "$reference" --keep batch.seq_length
says 'never changes in a search'
advise 2 "$reference" --vary tp=x
says "'x' is no value of it"
advise 2 "$reference" --vary tp=3 --confirm 0
says 'leave no plan that is legal'
advise 2 "$reference" --confirm many
says 'is no number from 0 to 100'
advise 2 "$root/no-such-scenario.yaml"
advise 2 "$reference" --format xml

# The benchmark says what it is for.
advise 0 "$reference" --benchmark --keep tp
says 'plans a second'

# A perturbation counts where plans are confirmed.
slow='perturbation.gpus=[{gpus: 0, speed: 50%}]'
advise 0 "$root/scenarios/zb-1.5b.yaml" --engine analytic --confirm 1 --set targets.step_time_s.max=2s --set "$slow"
says 'plans are searched without the perturbation'
advise 0 "$root/scenarios/zb-1.5b.yaml" --confirm 0 --set targets.step_time_s.max=2s --set "$slow"
says 'the search leaves the perturbation out'

# Skewed routing is not weighed: said, not guessed.
advise 2 "$root/scenarios/moe-30b-16gpu-zipf.yaml" --engine analytic
says 'advise knows uniform and balanced routing without capacity only'
advise 2 "$root/scenarios/moe-30b-16gpu.yaml" --set 'pipeline_model_parallel_layout=Et*110|L' --engine analytic
says 'advise knows stages with layers only'

[ "$bad" -eq 0 ] && echo 'advise finds what it should'
exit "$bad"
