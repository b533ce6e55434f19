"""Pipelines: what happens to a package version after its publication, stage by stage, as rows in the database."""
