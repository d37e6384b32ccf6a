tandem topo tests/topo/hgx.xml --matrix 2>/dev/null
