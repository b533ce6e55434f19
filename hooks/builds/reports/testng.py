"""TESTNGXML: ``testng-results.xml``. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from hooks.builds.reports.model import FAILURES, Case, CaseStatus, Entry
from hooks.builds.reports.values import lines, milliseconds_to_ns
from hooks.builds.reports.xml_events import Node, walk

_STATUSES = {"PASS": CaseStatus.SUCCEEDED, "FAIL": CaseStatus.FAILED, "SKIP": CaseStatus.SKIPPED}


def read(stream: IO[bytes]) -> Iterator[Entry]:
    """The test methods; configuration methods (``@BeforeClass``) only when they failed, as errors."""
    for is_end, node in walk(stream, ("testng-results",), ("test-method",)):
        if is_end and node.name == "test-method":
            case = _case(node)
            if node.get("is-config") != "true":
                yield case
            elif case.status in FAILURES:
                yield Case(case.prefix, case.suite, case.name, CaseStatus.ERROR, case.duration_ns, case.message)


def _case(node: Node) -> Case:
    around = [outer.get("name") for outer in node.outer("test", "suite") if outer.get("name")]
    error = node.first("exception")
    said = lines([error.text_at("message") or error.get("class"), error.text_at("full-stacktrace")]) if error else ""
    return Case(
        " / ".join(dict.fromkeys(reversed(around))),
        next((outer.get("name") for outer in node.outer("class")), ""),
        node.get("name") + _parameters(node),
        _STATUSES.get(node.get("status"), CaseStatus.UNKNOWN),
        milliseconds_to_ns(node.get("duration-ms")),
        said,
    )


def _parameters(node: Node) -> str:
    around = node.first("params")
    if around is None:
        return ""
    values = [
        "null" if (value := parameter.first("value")) is None or value.get("is-null") == "true" else value.text.strip()
        for parameter in around.all("param")
    ]
    return f"({', '.join(values)})" if values else ""
