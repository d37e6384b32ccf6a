tandem topo --help
