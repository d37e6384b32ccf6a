# exit 2
for argument in "--collective foo" "--collective all-reduse" "--sizes 3:2" "--algo nvsl" "--algo ring;tree" "--algo foo:ring" \
    "--algo ^tree,ring,nvls,nvlstree,collnetdirect,collnetchain,pat" "--algo tree --collective all-gather" \
    "--algo collnetdirect" "--proto collnet" "--set NCCL_FOO=1" "--set NCCL_MAX_CHANNELS=1" "--set NCCL_NTHREADS=100" \
    "--set NCCL_MIN_CTAS=65" "--set NCCL_NET_OVERHEAD=x" "--set NCCL_ALGO" "--gpus 17" "--gpus 1" "--launch 3" "--launch fit" \
    "--tolerance 5%" "--sizes 1:9000000000000000+1"; do
    tandem comm dgx-2x8-h100 --collective all-reduce $argument && echo "accepted: $argument"
done
tandem comm dgx-2x8-h100
tandem comm dgx-3 --collective all-reduce
printf 'size_bytes,time_us\n8,1\n' >"$scratch/log.csv"
tandem comm dgx-2x8-h100 --against "$scratch/log.csv"
tandem comm dgx-2x8-h100 --collective all-reduce --against "$scratch/log.csv" --sizes 8
tandem comm dgx-2x8-h100 --collective all-reduce --against "$scratch/log.csv" --tolerance much
sed 's/^compute_capability.*//' topologies/devices/h100-80g.yaml >"$scratch/old.yaml"
sed 's/^device:.*/device: old/' tests/errors/parts/topology-no-device.yaml >"$scratch/two.yaml"
tandem comm "$scratch/two.yaml" --collective all-reduce 2>&1 | sed "s#$scratch#SCRATCH#" >&2
tandem comm dgx-2x8-h100 --collective all-reduce --against "$scratch/log.csv" --tolerance 1% --format csv
test $? -eq 4 && exit 2
