# a run of two ranks as PyTorch's profiler saw it, against one rank of it alone
tandem compare tests/kineto/two-ranks tests/kineto/two-ranks/a.pt.trace.json
