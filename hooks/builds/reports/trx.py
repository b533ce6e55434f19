"""VISUALSTUDIOTRX: what ``dotnet test --logger trx`` and MSTest write. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from hooks.builds.reports.model import Case, CaseStatus, Entry
from hooks.builds.reports.values import clock_to_ns, lines, split_method
from hooks.builds.reports.xml_events import Node, walk

_RESULTS = ("UnitTestResult", "TestResult", "GenericTestResult", "ManualTestResult", "WebTestResult")
_STATUSES = {
    "passed": CaseStatus.SUCCEEDED,
    "passedbutrunaborted": CaseStatus.SUCCEEDED,
    "warning": CaseStatus.SUCCEEDED,
    "completed": CaseStatus.SUCCEEDED,
    "failed": CaseStatus.FAILED,
    "error": CaseStatus.ERROR,
    "timeout": CaseStatus.ERROR,
    "aborted": CaseStatus.ERROR,
    "notexecuted": CaseStatus.SKIPPED,
    "notrunnable": CaseStatus.SKIPPED,
    "disconnected": CaseStatus.ERROR,
}


def read(stream: IO[bytes]) -> Iterator[Entry]:
    """The results. The classes are named behind them in the file, so that it is read twice."""
    classes = dict(_classes(stream))
    stream.seek(0)
    for is_end, node in walk(stream, ("TestRun",), _RESULTS):
        if is_end and node.name in _RESULTS and next(node.outer(*_RESULTS), None) is None:
            yield from _cases(node, classes, node.get("testId"))


def _classes(stream: IO[bytes]) -> Iterator[tuple[str, str]]:
    for is_end, node in walk(stream, ("TestRun",), ("UnitTest",)):
        if is_end and node.name == "UnitTest":
            method = node.first("TestMethod")
            if method is not None and method.get("className"):
                # Old releases add the assembly: "Space.Class, Assembly, Version=1.0.0.0, …"
                yield node.get("id"), method.get("className").partition(",")[0]


def _cases(node: Node, classes: dict[str, str], test_id: str) -> Iterator[Case]:
    """The rows of a test with data, else the test itself."""
    inner = node.first("InnerResults")
    rows = list(inner.all(*_RESULTS)) if inner is not None else []
    if rows:
        for row in rows:
            yield from _cases(row, classes, row.get("testId") or test_id)
        return
    owner, method = split_method(node.get("testName"))
    known = classes.get(test_id) or classes.get(node.get("testId"), "")
    is_qualified = bool(owner) and (not known or owner == known)
    yield Case(
        "",
        known or owner,
        method if is_qualified else node.get("testName"),
        _STATUSES.get(node.get("outcome").lower(), CaseStatus.UNKNOWN),
        clock_to_ns(node.get("duration")),
        lines(
            [
                node.text_at("Output", "ErrorInfo", "Message"),
                node.text_at("Output", "ErrorInfo", "StackTrace"),
            ]
        ),
    )
