tandem topo pcie-16-a100-40g --path 0,15
tandem topo dgx-1v --path 0,5
tandem topo dgx-2x8-h100 --path 7,8
tandem topo dgx-2 --path 3,3
