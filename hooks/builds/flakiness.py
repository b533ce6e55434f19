"""When a test case is flaky. Pure.

A case is flaky when, among the newest ``WINDOW`` reports of its group,

1. it both succeeded and failed for the same source, or
2. its result changed at least ``CHANGES`` times between succeeded and failed: once is a fault that came or was mended,
   twice one that came and was mended.

FAILED and ERROR are failures; SKIPPED and UNKNOWN are no results, as if the case had not been there.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hooks.builds.reports.model import FAILURES, CaseStatus

WINDOW = 20
CHANGES = 3

_RESULTS = {CaseStatus.SUCCEEDED.value: False, **{status.value: True for status in FAILURES}}


def is_flaky(history: Iterable[tuple[str, str]]) -> bool:
    """Whether a case with this history, (source, status) in order of time, either way round, is flaky."""
    results = [(source, _RESULTS[status]) for source, status in history if status in _RESULTS]
    by_source: dict[str, set[bool]] = {}
    for source, has_failed in results:
        by_source.setdefault(source, set()).add(has_failed)
    if any(len(found) == 2 for found in by_source.values()):
        return True
    return sum(earlier != later for (_, earlier), (_, later) in pairwise(results)) >= CHANGES
