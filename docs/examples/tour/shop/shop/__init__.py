"""A shop that says what it is."""

__version__ = "1.0"
