"""CUCUMBERJSON: the JSON formatter of the Cucumbers and of what imitates them (behave, godog). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from hooks.builds.reports.json_documents import objects, read_document, texts
from hooks.builds.reports.model import Case, CaseStatus, Entry, Malformed
from hooks.builds.reports.values import lines, nanoseconds

_BROKEN = frozenset({"undefined", "ambiguous"})


def read(stream: IO[bytes]) -> Iterator[Entry]:
    """A case for each scenario. Steps of a background belong to the scenario that follows it."""
    document = read_document(stream)
    if not isinstance(document, list):
        raise Malformed("is not a list of features")
    for feature in objects(document):
        background: list[dict[str, Any]] = []
        for element in objects(feature.get("elements")):
            if element.get("type") == "background":
                background = _steps(element)
                continue
            yield _case(feature, element, [*background, *_steps(element)])
            background = []


def _steps(element: dict[str, Any]) -> list[dict[str, Any]]:
    return [*objects(element.get("before")), *objects(element.get("steps")), *objects(element.get("after"))]


def _case(feature: dict[str, Any], element: dict[str, Any], steps: list[dict[str, Any]]) -> Case:
    results = [(step, step["result"] if isinstance(step.get("result"), dict) else {}) for step in steps]
    states = {texts(result.get("status")).lower() for _, result in results}
    said = (
        f"{texts(step.get('keyword'))}{texts(step.get('name'))}: {texts(result.get('error_message')) or word}"
        for step, result in results
        if (word := texts(result.get("status")).lower()) in {"failed", *_BROKEN}
    )
    return Case(
        "",
        texts(feature.get("name")) or texts(feature.get("uri")),
        texts(element.get("name")) or texts(element.get("id")),
        _status(states),
        sum(nanoseconds(result.get("duration")) for _, result in results),
        lines(said),
    )


def _status(states: set[str]) -> CaseStatus:
    if "failed" in states:
        return CaseStatus.FAILED
    if states & _BROKEN:
        return CaseStatus.ERROR
    if states & {"skipped", "pending"}:
        return CaseStatus.SKIPPED
    return CaseStatus.SUCCEEDED if states == {"passed"} else CaseStatus.UNKNOWN
