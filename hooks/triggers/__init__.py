"""Triggers: which pipelines a publish starts, and that it starts each of them once."""
