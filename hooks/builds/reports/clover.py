"""CLOVERXML: what OpenClover, PHPUnit and Istanbul write. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from hooks.builds.reports.model import Entry, FileCoverage
from hooks.builds.reports.values import count
from hooks.builds.reports.xml_events import Node, walk


@dataclass(slots=True)
class _File:
    lines: dict[int, bool] = field(default_factory=dict)
    branches: list[int] = field(default_factory=lambda: [0, 0])
    metrics: Node | None = None


def read(stream: IO[bytes]) -> Iterator[Entry]:
    """The files of ``<project>``; the tests' own (``<testproject>``) are left out."""
    file = _File()
    for is_end, node in walk(stream, ("coverage",)):
        parent = node.parent
        if node.name == "file" and not is_end:
            file = _File()
        elif parent is not None and parent.name == "file" and not is_end:
            if node.name == "line" and node.get("type") != "method":
                _add(file, node)
            elif node.name == "metrics":
                file.metrics = node
        elif node.name == "file" and next(node.outer("testproject"), None) is None:
            yield _coverage(node, file)


def _add(file: _File, line: Node) -> None:
    number, hits = count(line.get("num")), count(line.get("count"))
    if line.get("type") == "cond":
        ways = [count(line.get(way)) > 0 for way in ("truecount", "falsecount")]
        if not line.get("count"):  # OpenClover's; Istanbul says both, and means something else by the ways
            hits = sum(ways)
        file.branches[0] += sum(ways)
        file.branches[1] += 2 - sum(ways)
    file.lines[number] = file.lines.get(number, False) or hits > 0


def _coverage(node: Node, file: _File) -> FileCoverage:
    covered = sum(file.lines.values())
    missed = len(file.lines) - covered
    branches = file.branches
    if file.metrics is not None:
        if not file.lines:
            covered, missed = _of(file.metrics, "statements")
        if file.metrics.get("conditionals"):
            branches = list(_of(file.metrics, "conditionals"))
    return FileCoverage(_path(node), covered, missed, *branches)


def _of(metrics: Node, what: str) -> tuple[int, int]:
    covered = count(metrics.get(f"covered{what}"))
    return covered, max(0, count(metrics.get(what)) - covered)


def _path(node: Node) -> str:
    if node.get("path") or "/" in node.get("name") or "\\" in node.get("name"):
        return node.get("path") or node.get("name")
    package = next((outer.get("name") for outer in node.outer("package")), "")
    return f"{package.replace('.', '/')}/{node.get('name')}" if package else node.get("name")
