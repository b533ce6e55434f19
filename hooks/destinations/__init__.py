"""Registries elsewhere: kept by name with their credentials, and published to."""
