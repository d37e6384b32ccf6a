# The least change of the small scenario for a pipeline bubble below 10 %, by the folded evaluation alone.
tandem advise scenarios/small-moe-16gpu.yaml --confirm 0 --set targets.bubble_fraction.max=10% --keep pp
