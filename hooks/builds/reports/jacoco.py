"""JACOCOXML: JaCoCo's XML report. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from hooks.builds.reports.model import Entry, FileCoverage
from hooks.builds.reports.values import count
from hooks.builds.reports.xml_events import walk


def read(stream: IO[bytes]) -> Iterator[Entry]:
    """The source files, by their counters; without counters by their lines."""
    counters: dict[str, tuple[int, int]] = {}
    lines = [0, 0, 0, 0]
    for is_end, node in walk(stream, ("report",)):
        if node.name == "sourcefile" and not is_end:
            counters, lines = {}, [0, 0, 0, 0]
        elif not is_end and node.parent is not None and node.parent.name == "sourcefile":
            if node.name == "counter":
                counters[node.get("type")] = (count(node.get("covered")), count(node.get("missed")))
            elif node.name == "line":
                lines[0 if count(node.get("ci")) else 1] += 1
                lines[2] += count(node.get("cb"))
                lines[3] += count(node.get("mb"))
        elif node.name == "sourcefile":
            package = next((outer.get("name") for outer in node.outer("package")), "")
            path = f"{package}/{node.get('name')}" if package else node.get("name")
            own = (*counters.get("LINE", (0, 0)), *counters.get("BRANCH", (0, 0))) if counters else tuple(lines)
            yield FileCoverage(path, *own)
