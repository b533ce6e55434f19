"""A stranger's regular expression, in RE2's syntax (what CodeBuild's are): the time to match grows with the text alone.

No pattern can keep a worker busy: RE2 has no backtracking, and what would need much memory is refused. Pure.
"""

from __future__ import annotations

import functools
from typing import Any

import re2

_MAX_MEMORY_BYTES = 4 * 1024 * 1024


def pattern_fault(pattern: str) -> str | None:
    """Why ``pattern`` cannot be used; None when it can."""
    try:
        _compiled(pattern)
    except re2.error as error:
        reason = error.args[0] if error.args else "not a regular expression"
        return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
    return None


def is_found(pattern: str, text: str) -> bool:
    """Whether ``text`` holds a match of ``pattern`` anywhere. Raises re2.error for a pattern that has a fault."""
    return _compiled(pattern).search(text) is not None


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.max_mem = _MAX_MEMORY_BYTES
    options.log_errors = False  # to standard error, otherwise
    return re2.compile(pattern, options)
