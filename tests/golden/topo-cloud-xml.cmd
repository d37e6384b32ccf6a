tandem topo tests/topo/bridged.xml --gpu a100-40g --nvlink pairs --nic 200Gbit/s
