# the text is a plan like any other
tandem plan scenarios/moe-30b-16gpu.yaml -o "$scratch/plan.txt"
tandem plan "$scratch/plan.txt" | cmp - "$scratch/plan.txt" && echo the same
tandem plan "$scratch/plan.txt" --groups --schedule
