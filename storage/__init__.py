"""Bytes: blob stores, intake, envelope encryption, key providers, sweep. Knows no package, no HTTP, no SQL."""
