"""JUNITXML: what Ant's and Surefire's JUnit reporters began and everybody writes (pytest, Jest, Gradle, GoogleTest). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from hooks.builds.reports.model import Case, CaseStatus, Entry
from hooks.builds.reports.values import lines, seconds_to_ns
from hooks.builds.reports.xml_events import Node, walk

_SUITES = ("testsuite", "testsuites")


def read(stream: IO[bytes]) -> Iterator[Entry]:
    """The cases, in order. A failure beside the cases of a suite is a case called ``(suite)``."""
    for is_end, node in walk(stream, _SUITES, ("testcase", "failure", "error")):
        if not is_end or node.parent is None:
            continue
        if node.name == "testcase" and node.parent.name != "testcase":
            yield _case(node)
        elif node.name in {"failure", "error"} and node.parent.name in _SUITES:
            status = CaseStatus.FAILED if node.name == "failure" else CaseStatus.ERROR
            yield Case("", node.parent.get("name"), "(suite)", status, 0, _message(node))


def _case(node: Node) -> Case:
    around = next((outer.get("name") for outer in node.outer("testsuite")), "")
    suite = node.get("classname") or around
    return Case(
        around if around != suite else "",
        suite,
        node.get("name"),
        _status(node),
        seconds_to_ns(node.get("time")),
        lines(_messages(node)),
    )


def _status(node: Node) -> CaseStatus:
    found = {child.name for child in node.children}
    # GoogleTest and others say it in an attribute.
    said = {node.get("status").lower(), node.get("result").lower()}
    if "error" in found:
        return CaseStatus.ERROR
    if "failure" in found or said & {"failed", "failure"}:
        return CaseStatus.FAILED
    if "error" in said:
        return CaseStatus.ERROR
    if "skipped" in found or said & {"notrun", "skipped", "suppressed", "disabled", "ignored"}:
        return CaseStatus.SKIPPED
    return CaseStatus.SUCCEEDED


def _messages(node: Node) -> Iterator[str]:
    for child in node.all("error", "failure", "rerunFailure", "rerunError", "skipped"):
        yield _message(child)
    # Surefire: it passed when it was run again.
    for child in node.all("flakyFailure", "flakyError"):
        yield f"Passed after it had failed: {_message(child)}"


def _message(node: Node) -> str:
    said, text = node.get("message").strip(), (node.text or node.text_at("stackTrace")).strip("\r\n")
    if said and text.lstrip().startswith(said):
        said = ""
    return lines([said or ("" if text else node.get("type")), text])
