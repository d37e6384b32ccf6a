# exit 2
tandem check scenarios/small-moe-16gpu.yaml --set parallel.tensor_model_parallel_size=3 --set schedule.nam=gpipe
