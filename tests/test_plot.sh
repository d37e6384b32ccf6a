#!/bin/sh
# test_plot.sh TANDEM: every picture is drawn, in both formats and with something in it; what cannot be drawn is said.
set -u
tandem=$1
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
bad=0
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
unset TANDEM_ROOT
cd "$scratch" || exit 1

fail() {
    printf 'FAILED: %s\n' "$1"
    bad=1
}

# run EXPECTED_STATUS ARGUMENT...: runs tandem; its output is in out and err.
run() {
    want=$1
    shift
    "$tandem" "$@" >out 2>err </dev/null
    got=$?
    [ "$got" -eq "$want" ] || { fail "tandem $*: exit status $got, not $want"; cat out err; }
}

says() {
    grep -qF -- "$2" "$1" || { fail "$1 lacks: $2"; cat "$1"; }
}

run 0 sim small-moe-16gpu -q --engine analytic --out-dir a
run 0 sim small-moe-16gpu -q --engine analytic --set num_microbatches=6 --out-dir b
sed 's/^kernel_floor: {value: [0-9.]*us/kernel_floor: {value: 5us/' "$root/topologies/devices/a100-80g.yaml" >slow.yaml
run 0 sim small-moe-16gpu -q --engine analytic --set device=./slow.yaml --out-dir c
run 0 sweep "$root/scenarios/small-moe-16gpu.yaml" --vary schedule.name=1f1b,gpipe --vary num_microbatches=4,8 --vary tp=1,2 --out-dir sweep
printf 'size_bytes,predicted_us,measured_us\n1024,10,11\n1048576,20,19\n' >comm.csv
printf 'size_bytes,measured_us\n1024,11\n' >short.csv
printf 'size_bytes,predicted_us,measured_us\n0,0,0\n' >zero.csv
printf 'size_bytes,predicted_us,measured_us\n1,2\n' >ragged.csv

# What needs no gnuplot.
run 0 plot --list
for name in bubble classes comm error-waterfall memory pareto scatter step sweep-heatmap timeline; do
    says out "$name"
done
run 2 plot
says err "plot: too few operands"
run 2 plot a --only timline
says err "no picture 'timline' (did you mean timeline?)"
run 2 plot a --only scatter
says err "plot: scatter cannot be drawn of this"
run 2 plot nowhere
says err "nowhere: No such file or directory"
run 2 plot sweep a
says err "sweep: only two results are drawn together"
run 2 plot short.csv
says err "short.csv:1: no column predicted_us"
run 2 plot zero.csv --only comm
says err "plot: comm: no row with a size and both times above 0"
printf 'size_bytes,time_us\n65536,19.09\n1048576,28.56\n134217728,592.8\n' >log.csv
run 0 comm dgx-2x8-h100 --gpus 8 --collective all-reduce --against log.csv --format csv
mv out beside.csv
run 2 comm dgx-2x8-h100 --collective all-reduce --plot drawn
says err "comm: --plot needs measurements: --against FILE"
[ ! -e drawn ] || fail "comm --plot without measurements made a folder"
run 2 plot ragged.csv
says err "ragged.csv:2: 2 cells, not 3 as in the first line"
mkdir bin
PATH=$scratch/bin "$tandem" plot a >out 2>err
[ $? -eq 1 ] || fail "no gnuplot: not exit status 1"
says err "plot: gnuplot is not installed (Debian: gnuplot-nox)"
[ -z "$(find a -name '*.png' -o -name '*.svg')" ] || fail "pictures without gnuplot"
# A script that fails is named, with what gnuplot said.
printf '#!/bin/sh\necho "undefined variable: x" >&2\nexit 1\n' >bin/gnuplot
chmod +x bin/gnuplot
PATH=$scratch/bin:$PATH "$tandem" plot a --only step >out 2>err
[ $? -eq 1 ] || fail "gnuplot failed: not exit status 1"
says err "plots/step.gp: gnuplot failed: undefined variable: x"

if ! command -v gnuplot >/dev/null 2>&1; then
    [ "$bad" -eq 0 ] || exit 1
    echo "skipped: gnuplot is not installed"
    exit 77
fi

# drawn FOLDER NAME...: just these pictures, whole and not empty.
drawn() {
    folder=$1
    shift
    for name in "$@"; do
        [ "$(wc -c <"$folder/$name.png")" -gt 4000 ] || fail "$folder/$name.png is missing or empty"
        [ "$(head -c 8 "$folder/$name.png" | od -An -c | tr -d ' \n')" = '211PNG\r\n032\n' ] || fail "$name.png is no PNG"
        grep -q '</svg>' "$folder/$name.svg" || fail "$folder/$name.svg is cut off"
        [ "$(grep -c '<path\|<polygon' "$folder/$name.svg")" -gt 10 ] || fail "$folder/$name.svg shows nothing"
    done
    [ "$(find "$folder" -maxdepth 1 -name '*.png' | wc -l)" -eq $# ] || fail "$folder: other pictures: $(ls "$folder")"
    [ -z "$(find "$folder" -name '.*.*' -o -name '*.log')" ] || fail "$folder: files left behind"
}

run 0 plot a
says out "3 pictures in a/plots"
drawn a/plots memory step timeline
run 0 plot a c -o both
drawn both classes error-waterfall memory scatter step timeline
run 0 sim zb-1.5b -q --engine analytic --out-dir stages
run 0 plot stages --format svg
says err "left out memory: memory is not known of this result"
run 0 plot a b -o plans --format svg
says err "left out scatter: ops are compared only between two results of one plan"
[ ! -e plans/scatter.svg ] || fail "a scatter plot of different plans"
run 0 plot a c --only classes --only scatter --format svg -o some
[ "$(ls some)" = "classes.svg
data
scatter.svg" ] || fail "some: $(ls some)"
run 0 plot sweep
drawn sweep/plots bubble pareto sweep-heatmap
run 0 plot comm.csv -o comm
drawn comm comm
# tandem comm draws its table, and its CSV draws the same.
run 0 comm dgx-2x8-h100 --gpus 8 --collective all-reduce --against log.csv --plot straight
says out "median absolute error by size"
drawn straight comm
run 0 plot beside.csv -o beside
drawn beside comm
[ "$(cut -f 1 straight/data/comm.dat)" = "$(cut -f 1 beside/data/comm.dat)" ] || fail "other rows by way of CSV"
grep -q 'AllReduce of dgx-2x8-h100, 8 ranks; log.csv' straight/data/comm.var || fail "no title of comm"
# The data of a picture are those of the comparison.
[ "$(cut -f 1 both/data/difference.dat | tail -n 1)" = 7 ] || fail "difference.dat has other rows"
awk -F '\t' 'NR > 2 && $1 < 7 { sum += $5 } NR == 2 { from = $5 } $1 == 7 { to = $5 }
    END { d = to - from - sum; exit !(d < 1e-5 && d > -1e-5) }' both/data/difference.dat || fail "the waterfall does not add up"

[ "$bad" -eq 0 ]
