tandem advise --help
