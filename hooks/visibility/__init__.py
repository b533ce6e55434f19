"""What went where and why: read from the rows of the registry, of builds, pipelines and deployments; nothing is written."""
