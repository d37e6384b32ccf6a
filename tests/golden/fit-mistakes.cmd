# Logs that cannot be fitted.
# exit 2
cd "$scratch"
printf '# Collective test starting: all_gather_perf\n#  Rank  0 Group  0 Pid 1 on a device  0\n#  Rank  1 Group  0 Pid 1 on a device  1\n1024 256 float none -1 9.0 0.1 0.1 0\n2048 512 float none -1 9.0 0.1 0.1 0\n4096 1024 float none -1 9.0 0.1 0.1 0\n8192 2048 float none -1 9.0 0.1 0.1 0\n' >gather.log
printf 'size_bytes,time_us\n1024,9\n2048,9\n1024,9\n4096,10\n' >few.csv
tandem fit few.csv --topology dgx-2x8-h100
tandem fit few.csv --topology dgx-2x8-h100 --collective all-reduce
tandem fit gather.log --topology dgx-2x8-h100 --collective all-reduce
tandem fit gather.log few.csv --topology dgx-2x8-h100 --gpus 8
tandem fit gather.log --topology dgx-2x8-h100 --gpus 2 --set NCCL_ALOG=ring
tandem fit gather.log --topology dgx-2x8-h101
tandem fit gather.log --topology gather.log --output x.yaml
tandem fit gather.log
{ cat "$OLDPWD/topologies/dgx-2x8-h100.yaml"; printf '"site": {source: a, grade: guess, launch: 1us}\n'; } >quoted.yaml
printf 'size_bytes,time_us\n1024,9\n2048,9\n4096,10\n8192,10\n' >four.csv
tandem fit four.csv --collective all-reduce --topology ./quoted.yaml --gpus 8 --output quoted-fitted.yaml >report
ls
tandem fit --topology dgx-2x8-h100
tandem fit missing.log --topology dgx-2x8-h100
