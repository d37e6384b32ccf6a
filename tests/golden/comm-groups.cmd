# Groups at once: 8 pairs across two nodes, an adapter each; the same where two GPUs share one;
# consecutive groups; lists of unequal groups; beside a measurement.
tandem comm hgx-2x8-h100-roce --collective all-reduce --groups %8 --sizes 1MiB:1GiB:32
tandem comm aws-2x8-p4d --collective all-reduce --groups %8 --sizes 1MiB:1GiB:32
tandem comm hgx-2x8-h100-roce --collective all-gather --groups /8 --sizes 64MiB
tandem comm hgx-2x8-h100-roce --collective all-to-all --groups '0-3,8-11;4,12' --sizes 1MiB:1GiB:32 --format csv
tandem comm hgx-2x8-h100-roce --collective all-reduce --groups '/4' --gpus 8 --sizes 64MiB --format json
printf 'size_bytes,time_us\n1048576,70\n134217728,5000\n' >"$scratch/log.csv"
tandem comm hgx-2x8-h100-roce --collective all-reduce --groups %8 --against "$scratch/log.csv"
