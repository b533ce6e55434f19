"""How long a build's log and its buildspec may be. Pure: whoever runs builds asks, also where there is no database."""

MAX_LOG_BYTES = 50 * 1024 * 1024
MAX_SPEC_BYTES = 256 * 1024
