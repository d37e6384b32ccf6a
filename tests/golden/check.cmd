# not all scenarios: a new one is one new file and no other edit
tandem check scenarios/small-moe-16gpu.yaml scenarios/moe-30b-16gpu.yaml scenarios/zb-1.5b.yaml
