"""Builds: a buildspec carried out on the files of a package version, in a sandbox that holds nothing else."""
