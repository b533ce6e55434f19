"""How long a build's log may be. Pure: whoever runs builds asks, also where there is no database."""

MAX_LOG_BYTES = 50 * 1024 * 1024
