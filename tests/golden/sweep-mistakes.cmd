# exit 2
tandem sweep scenarios/small-moe-16gpu.yaml --vary pipeline=1,2 --vary tp=4..1 --zip ep=1,2 --zip dp=1..x \
    --points no.csv --sort tokens --out-dir "$scratch"
