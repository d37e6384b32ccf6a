#!/bin/sh
# test_golden.sh TANDEM [FOLDER]: runs each transcript NAME.cmd of tests/golden and compares what it prints with NAME.out.
# A .cmd is shell, run in the root of the source tree; `tandem` is the program, $scratch a folder of its own. Its line
# `# exit N` tells the exit status (0 without one). NAME.out holds standard output, then, behind a line
# [standard error], what went there. TANDEM_GOLDEN_UPDATE=1 rewrites the .out files, but never from a command
# whose status is not the one expected.
set -u
program=$1
here=$(cd "$(dirname "$0")" && pwd) || exit 1
root=$(dirname "$here")
folder=${2:-$here/golden}
bad=0
base=$(mktemp -d) || exit 1
trap 'rm -rf "$base"' EXIT
unset TANDEM_ROOT
scratch=$base/scratch
export program scratch

fail() {
    printf 'FAILED: %s\n' "$1"
    bad=1
}

# Runs transcript $1 into $base/out; false when its exit status is not the expected one.
transcript() {
    want=$(sed -n 's/^# exit \([0-9]*\)$/\1/p' "$1")
    rm -rf "$scratch"
    mkdir "$scratch"
    (cd "$root" && sh -u -c 'tandem() { "$program" "$@"; }
. "$1"' sh "$1") >"$base/out" 2>"$base/err" </dev/null
    got=$?
    if [ -s "$base/err" ]; then
        printf '[standard error]\n' >>"$base/out"
        cat "$base/err" >>"$base/out"
    fi
    [ "$got" -eq "${want:-0}" ] && return 0
    fail "$1: exit status $got, not ${want:-0}"
    sed 's/^/    /' "$base/out"
    return 1
}

compare() {
    if transcript "$1"; then
        if [ "${TANDEM_GOLDEN_UPDATE:-0}" = 1 ]; then
            cmp -s "$base/out" "${1%.cmd}.out" || cp "$base/out" "${1%.cmd}.out" || bad=1
        else
            diff -u "${1%.cmd}.out" "$base/out" || fail "$1: prints something else (TANDEM_GOLDEN_UPDATE=1 accepts it)"
        fi
    fi
}

n=0
for cmd in "$folder"/*.cmd; do
    [ -e "$cmd" ] || continue
    compare "$cmd"
    n=$((n + 1))
done
[ "$n" -gt 0 ] || fail "$folder has no transcripts"
for out in "$folder"/*.out; do
    [ ! -e "$out" ] || [ -e "${out%.out}.cmd" ] || fail "$out has no .cmd"
done

# The test of the test: another output, another status and a crash are found, and an update keeps its hands off
# what a failed command printed.
if [ $# -eq 1 ] && [ "${TANDEM_GOLDEN_UPDATE:-0}" != 1 ]; then
    planted=$base/planted
    mkdir "$planted"
    echo 'tandem list' >"$planted/a.cmd"
    echo 'as it was' >"$planted/a.out"
    for fake in 'echo other' 'echo as it was; exit 2' 'kill -SEGV $$'; do
        printf '#!/bin/sh\n%s\n' "$fake" >"$base/fake"
        chmod +x "$base/fake"
        sh "$0" "$base/fake" "$planted" >/dev/null 2>&1 && fail "not found: $fake"
        [ "$fake" = 'echo other' ] && continue
        TANDEM_GOLDEN_UPDATE=1 sh "$0" "$base/fake" "$planted" >/dev/null 2>&1
        [ "$(cat "$planted/a.out")" = 'as it was' ] || fail "an update took the output of: $fake"
    done
fi
[ "$bad" -eq 0 ] && echo "$n transcripts"
exit "$bad"
