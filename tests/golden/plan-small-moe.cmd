tandem plan scenarios/small-moe-16gpu.yaml
