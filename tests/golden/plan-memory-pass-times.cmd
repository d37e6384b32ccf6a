# exit 2
tandem plan scenarios/zb-1.5b.yaml --memory
