# A slow stage, then the small scenario on two nodes.
tandem sim scenarios/zb-1.5b.yaml --sensitivity --set 'perturbation.gpus=[{gpus: 5, speed: 80%}]'
tandem sim scenarios/small-moe-16gpu.yaml --sensitivity=20% -j 1
