"""Reading test and coverage reports: one module per format, ``formats.py`` is the table of them. Pure.

The files are a stranger's: every reader bounds what it takes and raises ``Malformed`` for the rest.
"""
