"""Solvers of the suite.  They use only public names of `rmdp_bench`, as anybody's solver would."""
