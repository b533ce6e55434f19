"""NUNIT3XML: NUnit 3's result format. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from hooks.builds.reports.model import Case, CaseStatus, Entry
from hooks.builds.reports.values import lines, seconds_to_ns, split_method
from hooks.builds.reports.xml_events import Node, walk

_STATUSES = {
    "passed": CaseStatus.SUCCEEDED,
    "warning": CaseStatus.SUCCEEDED,
    "failed": CaseStatus.FAILED,
    "skipped": CaseStatus.SKIPPED,
}


def read(stream: IO[bytes]) -> Iterator[Entry]:
    """The test cases; the prefix is the assembly."""
    for is_end, node in walk(stream, ("test-run", "test-suite"), ("test-case",)):
        if is_end and node.name == "test-case":
            yield _case(node)


def _case(node: Node) -> Case:
    owner, method = split_method(node.get("fullname"))
    assemblies = [outer.get("name") for outer in node.outer("test-suite") if outer.get("type") == "Assembly"]
    fixture = next((outer.get("fullname") or outer.get("name") for outer in node.outer("test-suite")), "")
    return Case(
        assemblies[0] if assemblies else "",
        node.get("classname") or owner or fixture,
        node.get("name") or method,
        _status(node),
        seconds_to_ns(node.get("duration") or node.get("time")),
        lines(
            [
                node.text_at("failure", "message"),
                node.text_at("failure", "stack-trace"),
                node.text_at("reason", "message"),
            ]
        ),
    )


def _status(node: Node) -> CaseStatus:
    status = _STATUSES.get(node.get("result").lower(), CaseStatus.UNKNOWN)
    broke = node.get("label").lower() in {"error", "invalid", "cancelled"}
    return CaseStatus.ERROR if status is CaseStatus.FAILED and broke else status
