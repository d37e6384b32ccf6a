tandem validate --help
