tandem topo dgx-2x8-h100
