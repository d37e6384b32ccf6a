tandem topo tests/topo/lstopo.xml --gpu v100-32g --nvlink pairs
