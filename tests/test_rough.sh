#!/bin/sh
# test_rough.sh TANDEM: rough handling: odd names, pipes, closed streams, signals, limits. A run leaves whole
# files or none, no process and nothing in the temporary folder.
set -u
tandem=$(realpath "$1") || exit 1
cd "$(dirname "$0")/.." || exit 1
root=$PWD
small=$root/scenarios/small-moe-16gpu.yaml
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
TANDEM_ROOT=$root
TMPDIR=$scratch/nowhere
export TANDEM_ROOT TMPDIR
bad=0

fail() {
    printf 'FAILED: %s\n' "$*"
    bad=1
}

# A scenario by the name that `tandem list scenarios` prints; a file of that name comes first.
"$tandem" sim small-moe-16gpu --engine analytic -q || fail "no scenario by its name"
[ -f runs/small-moe-16gpu/figures.json ] || fail "a scenario by its name wrote no files"
"$tandem" check zb-1.5b >out || fail "check knows no names"
"$tandem" plan small-moe-16gpu --groups >out || fail "plan knows no names"
"$tandem" check no-such-scenario 2>err && fail "a name of nothing was accepted"
[ "$(cat err)" = "no-such-scenario: No such file or directory" ] || fail "$(cat err)"
cp "$root/scenarios/zb-1.5b.yaml" small-moe-16gpu
"$tandem" check small-moe-16gpu | grep -q '^small-moe-16gpu: ok: pass times' || fail "the file did not come first"

# A name of dots only stays below runs/.
mkdir dots && cd dots || exit 1
cp "$small" ...yaml
"$tandem" sim ...yaml --engine analytic -q || fail "...yaml"
[ "$(ls)" = runs ] || fail "...yaml wrote outside its folder"
cd .. || exit 1

# A pipe is read once.
cat "$small" | "$tandem" plan /dev/stdin --groups >out 2>err || fail "plan of a pipe: $(cat err)"
cat "$small" | "$tandem" check /dev/stdin >out 2>err || fail "check of a pipe: $(cat err)"

# Closed streams: reports get lost or are an error, and never end up in another file.
"$tandem" sim "$small" --engine analytic -q --out-dir whole
"$tandem" sim "$small" --engine analytic --out-dir closed >&- 2>&- <&-
[ $? -eq 1 ] || fail "closed standard output went unnoticed"
diff -r -x command.txt whole closed || fail "closed streams spoil files"
"$tandem" sim "$small" --engine analytic --no-files --format json -o quiet.json -q >out || fail "-q -o"
[ -s quiet.json ] && [ ! -s out ] || fail "-q -o FILE wrote no file"

# Limits and full disks: a message and nothing half-written.
# shellcheck disable=SC3045
(ulimit -f 16 && exec "$tandem" sim "$small" --engine analytic -q --out-dir limited) 2>err
[ $? -eq 1 ] || fail "a file size limit went unnoticed"
grep -q 'File too large' err || fail "file size limit: $(cat err)"
[ -z "$(ls -A limited)" ] || fail "a file size limit left $(ls -A limited)"

# Signals: nothing is left behind. The larger the plan, the likelier each moment is hit.
children() {
    for process in /proc/[0-9]*; do
        tr '\0' ' ' 2>/dev/null <"$process/cmdline" | grep -q "out-dir $scratch/signal" && echo "$process"
    done
    return 0
}
engine=analytic
"$tandem" list engines | grep -q 'sim *ready' && engine=sim
for delay in 0.02 0.1 0.2 0.3 0.4; do
    for signal in TERM HUP KILL; do
        "$tandem" sim "$root/scenarios/moe-30b-16gpu.yaml" --engine "$engine" -q --out-dir "$scratch/signal" &
        run=$!
        sleep "$delay"
        kill -s "$signal" "$run" 2>/dev/null
        wait "$run" 2>/dev/null
        [ "$signal" = KILL ] && rm -rf signal && continue
        if [ -d signal ] && ls -A signal | grep -q tmp; then
            fail "$signal after $delay s left $(ls -A signal)"
        fi
        rm -rf signal
    done
done
sleep 0.2
[ -z "$(children)" ] || fail "processes are left: $(children)"

[ "$bad" -eq 0 ]
