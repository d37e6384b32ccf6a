#!/bin/sh
# test_mpi.sh TANDEM: runs and sweeps that mpirun starts: the same results as one process, whoever has how many ranks;
# clear ends when processes do not fit, die or hang; what launchers' variables are taken for.
set -u
tandem=$(realpath "$1") || exit 1
bad=0
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
unset TANDEM_ROOT
cd "$scratch" || exit 1
# Open MPI keeps what it allocated until the end, which the address sanitizer takes for leaks.
ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"
OMPI_ALLOW_RUN_AS_ROOT=1
OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# A process that was stopped is not waited for.
OMPI_MCA_odls_base_sigkill_timeout=1
export ASAN_OPTIONS OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM OMPI_MCA_odls_base_sigkill_timeout

fail() {
    printf 'FAILED: %s\n' "$1"
    sed 's/^/    out: /' out
    sed 's/^/    err: /' err
    bad=1
}

says() {
    grep -qF -- "$2" "$1" || fail "$1 lacks: $2"
}

# run EXPECTED_STATUS COMMAND...: its output is in out and err.
run() {
    want=$1
    shift
    timeout 60 "$@" >out 2>err </dev/null
    got=$?
    [ "$got" -eq "$want" ] || fail "$*: exit status $got, not $want"
}

mpi() {
    want=$1
    n=$2
    shift 2
    run "$want" mpirun --oversubscribe -np "$n" "$tandem" "$@"
}

# Losses and norms of a result, to the last digit.
results() {
    sed -n 's/^ *"\(loss\|grad_norm\)": \(.*[0-9]\),*$/\1 \2/p' "$1/figures.json"
}

cat >stages.yaml <<'END'
pass_times: {forward: 10ms, backward_input: 10ms, backward_weight: 5ms, send: 1ms}
parallel: {pipeline_model_parallel_size: 4}
schedule: {name: 1f1b, num_microbatches: 4}
END

# ---- variables of launchers, without one ----
run 2 env RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=node7 "$tandem" run stages.yaml --device paced
says err "run: torchrun (RANK=0, WORLD_SIZE=2, MASTER_ADDR=node7) started several processes"
run 2 env OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=4 "$tandem" run stages.yaml --device paced
says err "OMPI_COMM_WORLD_RANK=5 is not below OMPI_COMM_WORLD_SIZE=4"
run 2 env PMI_RANK=x PMI_SIZE=4 "$tandem" run stages.yaml --device paced
says err "PMI_RANK='x' is not a whole number from 0 on"
run 2 env SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_NTASKS=4 "$tandem" run stages.yaml --device paced --transport threads
says err "run: srun (SLURM_PROCID) started 4 processes, and --transport threads runs in one"
# A batch script of Slurm is no step.
run 0 env SLURM_PROCID=0 SLURM_NTASKS=4 "$tandem" run stages.yaml --device paced --steps 1 --no-files
says out "transport threads"
run 2 "$tandem" run stages.yaml --device paced --timeout 0s
says err "run: --timeout: '0s'"

"$tandem" run stages.yaml --device paced --transport mpi --steps 1 --no-files >out 2>err </dev/null
if grep -q 'the mpi transport' err; then
    says err "use --transport threads"
    printf 'skipped: %s\n' "$(cat err)"
    [ "$bad" -eq 0 ] && exit 77
    exit 1
fi
says out "transport mpi"
says out "(1 process on 1 host)"
if ! command -v mpirun >/dev/null 2>&1; then
    printf 'skipped: no mpirun (apt-get install openmpi-bin)\n'
    [ "$bad" -eq 0 ] && exit 77
    exit 1
fi

# ---- the paced device ----
mpi 0 4 run stages.yaml --device paced --steps 2 --pace 1
says err "run: 4 processes on 1 host, started by mpirun (OMPI_COMM_WORLD_RANK), connected by Open MPI"
says out "Steps on device paced, transport mpi"
says out "(4 processes on 1 host)"
[ "$(grep -c 'Steps on device' out)" -eq 1 ] || fail "not one process alone prints"
for word in '"transport": "mpi"' '"launcher": "mpirun"' '"n_processes": 4' '"clock_uncertainty_s": 0'; do
    says runs/stages/figures.json "$word"
done
# The trace has all ranks, and the planned times: the step takes what the plan says, and more where other work runs beside.
"$tandem" sim stages.yaml --engine analytic --format csv --no-files >planned 2>/dev/null
step() { sed -n 's/^ *"step_time_s": \(.*\),$/\1/p' "$1" | head -n 1; }
awk -v is="$(step runs/stages/figures.json)" -F, '$1 == "step_time_s" { ok = is > 0.95 * $2 && is < 1.5 * $2 }
    END { exit !ok }' planned || fail "the step is $(step runs/stages/figures.json), planned is $(cat planned)"
awk -F, 'NR > 1 && $11 > 0 { n += !seen[$1]++ } END { exit n != 4 }' runs/stages/ops.csv || fail "the trace lacks ranks"

# Process 0 predicts, all carry out.
run 0 mpirun --oversubscribe -np 2 "$tandem" validate stages.yaml --device paced --engine analytic --steps 1 --pace 3 --no-plots --out-dir validated
says err "validate: 2 processes on 1 host, started by mpirun"
says out "stages by engine analytic against device paced"
[ "$(grep -c 'Steps on device' out)" -eq 1 ] || fail "not one process alone prints"
says validated/measured/figures.json '"n_processes": 2'

# ---- another host's clock: a time namespace has one that is 500 s ahead ----
if unshare --time --monotonic 500 --fork true 2>/dev/null; then
    cat >ahead.sh <<'END'
[ "$OMPI_COMM_WORLD_RANK" -ne 1 ] || exec unshare --time --monotonic 500 --fork "$@"
exec "$@"
END
    run 0 mpirun --oversubscribe -np 2 sh ahead.sh "$tandem" run stages.yaml --device paced --steps 2 --pace 1 --out-dir ahead
    says out ", clocks within "
    awk -v is="$(step ahead/figures.json)" -F, '$1 == "step_time_s" { ok = is > 0.95 * $2 && is < 1.5 * $2 }
        END { exit !ok }' planned || fail "with two clocks the step is $(step ahead/figures.json), planned is $(cat planned)"
else
    printf 'not tested: clocks that differ (no time namespaces here)\n'
fi

# ---- what does not fit ----
mpi 2 3 run stages.yaml --device paced
says err "3 processes were started, and the scenario has 4 ranks: each process takes the same number of them (try 2)"
[ "$(grep -c 'processes were started' err)" -eq 1 ] || fail "not one process alone complains"
mpi 2 2 run stages.yaml --device paced --transport threads
says err "run: mpirun (OMPI_COMM_WORLD_RANK) started 2 processes, and --transport threads runs in one"
mpi 2 2 run no-such-scenario --device paced
[ "$(grep -c '^no-such-scenario: ' err)" -eq 1 ] || fail "not one process alone complains"

# ---- a process that cannot read what the others can takes all down, and says so ----
cat >one-cannot.sh <<'END'
[ "$OMPI_COMM_WORLD_RANK" -ne 1 ] || set -- "$1" run other.yaml --device paced
exec "$@"
END
run 2 mpirun --oversubscribe -np 2 sh one-cannot.sh "$tandem" run stages.yaml --device paced --timeout 20s
says err "tandem: process 1 of 2 on "
says err "other.yaml: "
cat >other.yaml <<'END'
pass_times: {forward: 10ms, backward_input: 10ms, backward_weight: 5ms, send: 1ms}
parallel: {pipeline_model_parallel_size: 4}
schedule: {name: zb-h1, num_microbatches: 4}
END
run 2 mpirun --oversubscribe -np 2 sh one-cannot.sh "$tandem" run stages.yaml --device paced --timeout 20s
says err "the processes have different plans"

# ---- a process that dies or hangs ----
# victim SIGNAL ARGUMENT...: four processes, of which one gets the signal after a second.
victim() {
    signal=$1
    shift
    timeout 60 mpirun --oversubscribe -np 4 sh -c 'echo $$ >pid.$OMPI_COMM_WORLD_RANK; exec "$@"' sh \
        "$tandem" run stages.yaml --device paced --engine analytic --pace 1 --steps 300 --no-files "$@" >out 2>err </dev/null &
    job=$!
    tries=0
    while [ ! -s pid.2 ] && [ "$tries" -lt 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    sleep 1
    begin=$(date +%s)
    kill -"$signal" "$(cat pid.2)" || fail "there was nothing to kill"
    wait "$job"
    got=$?
    took=$(($(date +%s) - begin))
    [ "$got" -ne 0 ] && [ "$got" -ne 124 ] || fail "after $signal: exit status $got"
    [ "$took" -le 15 ] || fail "after $signal it took $took s to end"
    rm -f pid.*
}
victim KILL
says err "exited on signal 9"
victim STOP --timeout 1s
grep -q 'rank [0-9]*: \(send\|recv\) [a-z.]* over pp (ranks [0-9, ]*), step [0-9]*, .*: waited 1 s for rank 2 (--timeout)' err ||
    fail "nobody says whom it waited for"

# ---- sweeps: the same files, one writer ----
sweep="sweep small-moe-16gpu --vary pp=1,2,4 --vary schedule.name=1f1b,zb-h1,gpipe --engine analytic -q"
# Word splitting of $sweep is wanted.
# shellcheck disable=SC2086
{
    run 0 "$tandem" $sweep --out-dir sweep-alone
    mpi 0 3 $sweep --out-dir sweep
    for file in sweep.csv sweep.json pareto.csv; do
        cmp -s "sweep-alone/$file" "sweep/$file" || fail "three processes write another $file"
    done
    sort sweep/journal.jsonl >one.txt
    sort sweep-alone/journal.jsonl | cmp -s - one.txt || fail "three processes keep another journal"
    mpi 0 2 ${sweep% -q} --out-dir sweep
    says err "9 of 9 points were known from sweep/journal.jsonl"
    sort sweep/journal.jsonl | cmp -s - one.txt || fail "known points were written again"
}
# Ended early, it goes on from where it was.
timeout 60 mpirun --oversubscribe -np 2 sh -c 'echo $$ >pid.$OMPI_COMM_WORLD_RANK; exec "$@"' sh "$tandem" sweep \
    moe-30b-16gpu --vary schedule.num_microbatches=12,13,14,15,16,17 --engine analytic -j 1 --out-dir sweep-2 >out 2>err </dev/null &
job=$!
tries=0
while [ "$(grep -c . sweep-2/journal.jsonl 2>/dev/null || :)" != 2 ] && [ "$tries" -lt 400 ]; do
    sleep 0.02
    tries=$((tries + 1))
done
kill -TERM "$(cat pid.0)" 2>/dev/null
wait "$job"
got=$?
if [ "$got" -ne 0 ]; then # else it was faster
    [ "$got" -eq 143 ] || fail "an interrupted sweep exits with $got, not 143"
    says err "tandem: sweep: interrupted, "
    says err "the same command goes on from there"
fi
rm -f pid.*
mpi 0 2 sweep moe-30b-16gpu --vary schedule.num_microbatches=12,13,14,15,16,17 --engine analytic --out-dir sweep-2
grep -q '^[1-6] of 6 points were known from sweep-2/journal.jsonl' err || fail "nothing was known"
[ "$(grep -c ',ok,' sweep-2/sweep.csv)" -ge 1 ] || fail "no point of the resumed sweep is ok"

# ---- advice: the same, however many look for it ----
{ cat stages.yaml; echo 'targets: {bubble_fraction: {max: 5%}}'; } >advise.yaml
run 0 "$tandem" advise advise.yaml --engine analytic --confirm 3
cp out advice
mpi 0 3 advise advise.yaml --engine analytic --confirm 3
cmp -s advice out || fail "three processes advise something else"
mpi 2 2 advise stages.yaml
[ "$(grep -c 'has no targets to meet' err)" -eq 1 ] || fail "not one process alone complains"

if "$tandem" list engines | grep -q 'host *missing'; then
    [ "$bad" -eq 0 ]
    exit
fi

# ---- the host device: to the bit what threads compute ----
run 0 "$tandem" run small-16rank-host -q --out-dir threads
mpi 0 4 run small-16rank-host -q --out-dir mpi-4 --check-memory
results mpi-4 >got.txt
results threads | cmp -s - got.txt || fail "four processes compute something else: $(results threads | paste - got.txt)"
[ "$(grep -c loss got.txt)" -eq 3 ] || fail "not three losses"
# Without sequence parallelism, experts and ZeRO: all-reduces of lists.
set -- small-16rank-host -q --set parallel.sp=false --set parallel.use_distributed_optimizer=false
run 0 "$tandem" run "$@" --out-dir threads
mpi 0 2 run "$@" --out-dir mpi
results mpi >got.txt
results threads | cmp -s - got.txt || fail "without ZeRO two processes compute something else"
# Experts split over groups of uneven shares, and padded.
set -- small-16rank-host -q --set parallel.ep=2 --set parallel.etp=4 --steps 2
run 0 "$tandem" run "$@" --out-dir threads
mpi 0 4 run "$@" --out-dir mpi --check-memory
results mpi >got.txt
results threads | cmp -s - got.txt || fail "with split experts four processes compute something else"
set -- "$@" --set routing.pad_to_capacity=true
run 0 "$tandem" run "$@" --out-dir threads
mpi 0 2 run "$@" --out-dir mpi
results mpi >got.txt
results threads | cmp -s - got.txt || fail "with padded experts two processes compute something else"
# A plan from text.
"$tandem" plan small-16rank-host >plan.txt
mpi 0 2 run plan.txt --no-files --steps 1
says out "Steps on device host, transport mpi"
[ "$(grep -c 'Steps on device' out)" -eq 1 ] || fail "not one process alone prints"

[ "$bad" -eq 0 ]
