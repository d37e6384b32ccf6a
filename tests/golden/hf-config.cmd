# a model as config.json describes it: what is ignored and what is not modelled is said
export TANDEM_ROOT=. # paths in messages
tandem check scenarios/small-moe-16gpu.yaml --set model=../tests/hf/gpt-oss-20b.json --set seq_length=4096
tandem check scenarios/small-moe-16gpu.yaml --set model='{hf: ../tests/hf/tiny-mixtral, num_hidden_layers: 4}'
tandem sim scenarios/small-moe-16gpu.yaml --set model=gpt-oss-20b --set num_layers=2 --set seq_length=256 \
    --engine analytic --no-files -o "$scratch/report"
