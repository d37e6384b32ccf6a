tandem sweep --help
