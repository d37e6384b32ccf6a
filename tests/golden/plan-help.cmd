tandem plan --help
