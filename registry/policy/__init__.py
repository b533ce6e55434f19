"""Policies: documents in IAM's shape, and the one function that decides by them. Pure: no SQL, no Flask."""
