tandem compare --help
