tandem topo tests/topo/bridged.xml --gpu a100-40g --nvlink pairs --format simgrid 2>/dev/null
