# exit 4
# the same plan on two devices: the second one's kernels and launches take longer
sed 's/^kernel_floor: {value: [0-9.]*us/kernel_floor: {value: 5us/; s/^launch: {value: 3us/launch: {value: 6us/' \
    topologies/devices/a100-80g.yaml >"$scratch/slow.yaml"
tandem sim small-moe-16gpu -q --engine analytic --out-dir "$scratch/predicted"
tandem sim small-moe-16gpu -q --engine analytic --out-dir "$scratch/measured" --set device="$scratch/slow.yaml"
cd "$scratch"
tandem compare predicted measured --tolerance 5% --figures step_time_s,tokens_per_s,peak_memory_bytes
