# Noise and a straggler on stages of given times; a second run with other numbers of children prints the same.
for jobs in 1 3; do
    tandem sim scenarios/zb-1.5b.yaml --engine analytic --repeat 20 -j $jobs --no-files \
        --set perturbation.jitter.compute=3% --set perturbation.jitter.seed=7 \
        --set 'perturbation.stragglers={probability: 5%, slowdown: 1.5, seed: 3}' >"$scratch/$jobs"
done
cmp "$scratch/1" "$scratch/3" && cat "$scratch/1"
# Nothing is random: one is run.
tandem sim scenarios/zb-1.5b.yaml --engine analytic --repeat 20 --no-files | sed -n 1,5p
