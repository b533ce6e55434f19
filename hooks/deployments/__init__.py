"""Deployments: ``appspec.yml``, and what a machine does with one, lifecycle event by lifecycle event."""
