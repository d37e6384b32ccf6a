# exit 2
tandem plan scenarios/small-moe-16gpu.yaml -o "$scratch/plan.txt"
cd "$scratch" && tandem plan plan.txt --set schedule.name=gpipe
