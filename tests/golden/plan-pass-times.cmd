tandem plan scenarios/zb-1.5b.yaml --set schedule.num_microbatches=8
