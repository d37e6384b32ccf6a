tandem topo tests/topo/bridged.xml --gpu a100-40g --nvlink pairs --format nccl 2>/dev/null
