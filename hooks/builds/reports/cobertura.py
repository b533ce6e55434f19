"""COBERTURAXML: what Cobertura, coverage.py, gcovr, Coverlet and Istanbul write. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from hooks.builds.reports.model import Entry, FileCoverage
from hooks.builds.reports.values import count
from hooks.builds.reports.xml_events import walk

_CONDITIONS = re.compile(r"\((\d{1,6})/(\d{1,6})\)")


def read(stream: IO[bytes]) -> Iterator[Entry]:
    """The source files. Several classes of one file, and a line that its method repeats, count once."""
    files: dict[str, dict[int, tuple[bool, int, int]]] = {}
    for is_end, node in walk(stream, ("coverage",)):
        if is_end:
            continue
        if node.name == "class":
            files.setdefault(node.get("filename") or node.get("name"), {})
        elif node.name == "line":
            owner = next(node.outer("class"), None)
            if owner is not None:
                lines = files[owner.get("filename") or owner.get("name")]
                number = count(node.get("number"))
                hit, ways, all_ways = lines.get(number, (False, 0, 0))
                found = _CONDITIONS.search(node.get("condition-coverage")[:100])
                if found:
                    ways, all_ways = max(ways, int(found[1])), max(all_ways, int(found[2]))
                # Hits may be beyond what a number of ours holds.
                lines[number] = (hit or node.get("hits").strip("0 ") not in {"", "-1"}, ways, all_ways)
    for path, lines in files.items():
        covered = sum(hit for hit, _, _ in lines.values())
        ways, all_ways = (sum(line[place] for line in lines.values()) for place in (1, 2))
        yield FileCoverage(path, covered, len(lines) - covered, ways, max(0, all_ways - ways))
