"""Sources that are no package version: git repositories and kept objects, and what starts a pipeline because of them."""
