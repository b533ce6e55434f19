"""NUNITXML: NUnit 2's ``TestResult.xml``. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PureWindowsPath
from typing import IO

from hooks.builds.reports.model import Case, CaseStatus, Entry
from hooks.builds.reports.values import lines, seconds_to_ns, split_method
from hooks.builds.reports.xml_events import Node, walk

_STATUSES = {
    "success": CaseStatus.SUCCEEDED,
    "failure": CaseStatus.FAILED,
    "error": CaseStatus.ERROR,
    "cancelled": CaseStatus.ERROR,
    "notrunnable": CaseStatus.ERROR,
    "invalid": CaseStatus.ERROR,
    "ignored": CaseStatus.SKIPPED,
    "skipped": CaseStatus.SKIPPED,
}


def read(stream: IO[bytes]) -> Iterator[Entry]:
    """The test cases; the prefix is the assembly's file name."""
    for is_end, node in walk(stream, ("test-results",), ("test-case",)):
        if is_end and node.name == "test-case":
            root = next(node.outer("test-results"), node)
            owner, method = split_method(node.get("name"))
            fixture = next((outer.get("name") for outer in node.outer("test-suite")), "")
            yield Case(
                PureWindowsPath(root.get("name")).name,
                owner or fixture,
                method,
                _status(node),
                seconds_to_ns(node.get("time")),
                lines(
                    [
                        node.text_at("failure", "message"),
                        node.text_at("failure", "stack-trace"),
                        node.text_at("reason", "message"),
                    ]
                ),
            )


def _status(node: Node) -> CaseStatus:
    # The first releases of NUnit 2 had no word for it.
    if not node.get("result"):
        if node.get("executed").lower() == "false":
            return CaseStatus.SKIPPED
        return {"true": CaseStatus.SUCCEEDED, "false": CaseStatus.FAILED}.get(
            node.get("success").lower(), CaseStatus.UNKNOWN
        )
    return _STATUSES.get(node.get("result").lower(), CaseStatus.UNKNOWN)
