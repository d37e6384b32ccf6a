tandem plan scenarios/small-moe-16gpu.yaml --set training.recompute_granularity=full | grep recompute=yes
