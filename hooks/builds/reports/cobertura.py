"""COBERTURAXML: what Cobertura, coverage.py, gcovr, Coverlet and Istanbul write. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from hooks.builds.reports.model import Entry, FileCoverage
from hooks.builds.reports.values import count
from hooks.builds.reports.xml_events import walk

_CONDITIONS = re.compile(r"\((\d{1,6})/(\d{1,6})\)")


_Lines = dict[int, tuple[bool, int, int]]
"""By number: whether it was run, ways taken, all ways."""


def read(stream: IO[bytes]) -> Iterator[Entry]:
    """The source files. Several classes of one file count as one; lines of methods, where the class has none of its own."""
    files: dict[str, _Lines] = {}
    own: _Lines = {}
    of_methods: _Lines = {}
    for is_end, node in walk(stream, ("coverage",)):
        if node.name == "class" and not is_end:
            own, of_methods = {}, {}
        elif node.name == "class":
            known = files.setdefault(node.get("filename") or node.get("name"), {})
            for number, line in (own or of_methods).items():
                _add(known, number, *line)
        elif node.name == "line" and not is_end:
            around = node.parent.parent if node.parent is not None else None
            found = _CONDITIONS.search(node.get("condition-coverage")[:100])
            ways, all_ways = (int(found[1]), int(found[2])) if found else (0, 0)
            # Hits may be beyond what a number of ours holds.
            is_hit = node.get("hits").strip("0 ") not in {"", "-1"}
            lines = own if around is not None and around.name == "class" else of_methods
            _add(lines, count(node.get("number")), is_hit, ways, all_ways)
    for path, lines in files.items():
        covered = sum(is_hit for is_hit, _, _ in lines.values())
        ways, all_ways = (sum(line[place] for line in lines.values()) for place in (1, 2))
        yield FileCoverage(path, covered, len(lines) - covered, ways, max(0, all_ways - ways))


def _add(lines: _Lines, number: int, is_hit: bool, ways: int, all_ways: int) -> None:
    known = lines.get(number, (False, 0, 0))
    lines[number] = (known[0] or is_hit, max(known[1], ways), max(known[2], all_ways))
