tandem topo tests/topo/topo-m.txt --gpu a100-80g
