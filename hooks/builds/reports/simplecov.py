"""SIMPLECOV: SimpleCov's ``.resultset.json``, and the ``coverage.json`` of its own JSON formatter. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from hooks.builds.reports.json_documents import objects, read_document
from hooks.builds.reports.model import Entry, FileCoverage, Malformed


def read(stream: IO[bytes]) -> Iterator[Entry]:
    """The source files. What several commands (RSpec, Cucumber) ran counts once, covered when one of them ran it."""
    document = read_document(stream)
    runs = _runs(document)
    if not runs:
        raise Malformed("has no 'coverage' in it; a .resultset.json of SimpleCov is expected")
    lines: dict[str, dict[int, bool]] = {}
    branches: dict[str, dict[str, bool]] = {}
    for run in runs:
        for path, told in run.items():
            hits = told.get("lines") if isinstance(told, dict) else told
            own = lines.setdefault(path, {})
            for number, hit in enumerate(hits if isinstance(hits, list) else ()):
                if isinstance(hit, int):  # null and "ignored" stand for lines without code
                    own[number] = own.get(number, False) or hit > 0
            ways = branches.setdefault(path, {})
            for way, hit in _ways(told.get("branches") if isinstance(told, dict) else None):
                ways[way] = ways.get(way, False) or hit
    for path, own in lines.items():
        covered, taken = sum(own.values()), sum(branches[path].values())
        yield FileCoverage(path, covered, len(own) - covered, taken, len(branches[path]) - taken)


def _runs(document: Any) -> list[dict[str, Any]]:
    if not isinstance(document, dict):
        return []
    if isinstance(document.get("coverage"), dict):
        return [document["coverage"]]
    return [
        run["coverage"] for run in document.values() if isinstance(run, dict) and isinstance(run.get("coverage"), dict)
    ]


def _ways(branches: Any) -> Iterator[tuple[str, bool]]:
    if isinstance(branches, dict):  # condition → {way: hits}
        for condition, ways in branches.items():
            for way, hits in ways.items() if isinstance(ways, dict) else ():
                yield f"{condition} {way}", isinstance(hits, int) and hits > 0
    for number, way in enumerate(objects(branches)):
        hits = way.get("coverage")
        yield str(number), isinstance(hits, int) and hits > 0
