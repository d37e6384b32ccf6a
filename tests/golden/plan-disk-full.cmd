# exit 1
tandem plan scenarios/small-moe-16gpu.yaml -o /dev/full
