"""Repositories at work: the chain of upstreams, publishing, reading, keeping, promoting."""
