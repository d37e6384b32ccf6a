tandem topo dgx-1v
