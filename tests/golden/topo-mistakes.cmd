# exit 2
tandem topo dgx-1v --matrix --format dot || tandem topo dgx-1v --matrix --path 0,1 || tandem topo dgx-1v --format png ||
    tandem topo topologies/dgx-2.yaml --gpu h100-80g --nic 1GB/s || tandem topo --nvlink ring dgx-2 || tandem topo
