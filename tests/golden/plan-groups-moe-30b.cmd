tandem plan scenarios/moe-30b-16gpu.yaml --groups
