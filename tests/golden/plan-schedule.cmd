# 1F1B, GPipe and ZB-H1 of four stages
for name in 1f1b gpipe zb-h1; do
    tandem plan scenarios/small-moe-16gpu.yaml --schedule --set schedule.name=$name --set schedule.num_microbatches=6 \
        --set parallel.pipeline_model_parallel_size=4 --set parallel.expert_model_parallel_size=2
done
