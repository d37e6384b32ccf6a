#!/bin/sh
# scale.sh TANDEM [ENGINE]: what a prediction costs as GPUs are added, each with the same work (a dense 7B model, TP 4 x
# PP 2, more replicas on more nodes of 8). Unfolded up to 1,024 GPUs, then folded. "linear" is the CPU time over that of
# 16 GPUs, over the growth in GPUs: 1 is linear growth. Needs GNU time.
set -u
tandem=$1
engine=${2:-sim}
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
base=
printf '%6s  %-8s  %-8s  %8s  %8s  %8s  %7s\n' GPUs folded engine 'wall s' 'CPU s' MB linear
for row in 16:off 64:off 256:off 1024:off 1024:on 4096:on 16384:on; do
    gpus=${row%:*}
    fold=${row#*:}
    nodes=$((gpus / 8))
    /usr/bin/time -f '%e %U %S %M' -o "$out" "$tandem" sim llama-16gpu-tp4-pp2-dp2 --engine "$engine" --fold "$fold" \
        --set nodes=$nodes --set data_parallel_size=$nodes --no-files -q || exit 1
    read -r wall user system kilobytes <"$out"
    base=${base:-$(echo "$user $system" | awk '{print $1 + $2}')}
    echo "$gpus $fold $engine $wall $user $system $kilobytes $base" | awk '{
        cpu = $5 + $6
        printf "%6d  %-8s  %-8s  %8.2f  %8.2f  %8.0f  ", $1, $2 == "on" ? "yes" : "no", $3, $4, cpu, $7 / 1000
        printf $2 == "on" ? "%7s\n" : "%7.2f\n", $2 == "on" ? "-" : cpu / $8 / ($1 / 16)
    }'
done
