# exit 3
tandem sim --engine analytic scenarios/moe-30b-16gpu.yaml --fold on --no-files
