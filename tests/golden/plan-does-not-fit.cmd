# exit 3
tandem plan scenarios/small-moe-16gpu.yaml --memory --set memory_limit=1GB
