# What NCCL would choose on 8 of the 16 GPUs, and on all; and against a log.
tandem comm dgx-2x8-h100 --collective all-reduce --gpus 8 --sizes 64KiB:64MiB
tandem comm dgx-2x8-h100 --collective all-to-all --sizes 1MiB:1GiB:8 --launch 20us
printf '# Collective test starting: all_reduce_perf\nsize_bytes,time_us\n65536,19.09\n1048576,28.56\n134217728,592.8\n' >"$scratch/log.csv"
tandem comm dgx-2x8-h100 --gpus 8 --against "$scratch/log.csv" --launch fit --tolerance 15%
