tandem topo tests/topo/hgx.xml
