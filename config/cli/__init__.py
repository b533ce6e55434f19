"""The command line: each command is imported when it is used, so that client commands start quickly."""
