tandem run --help
