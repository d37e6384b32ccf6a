# what torch.distributed.pipelining loads: F, B in one or as I and W
tandem plan scenarios/small-moe-16gpu.yaml --schedule-csv
tandem plan scenarios/zb-1.5b.yaml --schedule-csv --set schedule.num_microbatches=8
