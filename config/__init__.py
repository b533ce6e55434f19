"""The composition root: it decides and assembles; it never does."""
