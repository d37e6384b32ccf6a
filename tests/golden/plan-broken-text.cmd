# exit 2
tandem plan scenarios/small-moe-16gpu.yaml | sed "s/wait=compute/wait=komputer/" >"$scratch/plan.txt"
cd "$scratch" && tandem plan plan.txt
