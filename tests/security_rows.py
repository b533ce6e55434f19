"""docs/security.md from the rows of attack and the tests that name them: ``python -m tests.security_rows``.

A test is for a row when its name (``test_A1_…``), its docstring or its module's docstring names it.
"""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROWS = ROOT / "tests/security/rows.toml"
PAGE = ROOT / "docs/security.md"
_ID = re.compile(r"(?<![A-Za-z0-9])([A-L][0-9]{1,2})(?![0-9A-Za-z])")
_SPAN = re.compile(r"(?<![A-Za-z0-9])([A-L])([0-9]{1,2}) to \1([0-9]{1,2})(?![0-9A-Za-z])")
_NAMED = re.compile(r"test_((?:[A-L][0-9]{1,2}_)+)")

HEAD = """# What is attacked, and what must come of it

Written by `.venv/bin/python -m tests.security_rows` from `tests/security/rows.toml` and the tests that name its rows; the tests fail when it
is not up to date, or when a row has no test. Most of these tests have a negative control: the attack works when the
defence is switched off.
"""


def sections() -> dict[str, dict[str, str]]:
    """Title of each section and its rows: id → text."""
    found = {}
    for section in tomllib.loads(ROWS.read_text("utf-8")).values():
        title = section.pop("title")
        found[title] = section
    return found


@functools.cache
def named() -> dict[str, list[str]]:
    """Row → the test modules that name it, relative to the repository."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for row in _rows_of(tree):
            found[row].add(str(path.relative_to(ROOT)))
    return {row: sorted(modules) for row, modules in found.items()}


def _ids(text: str) -> set[str]:
    """Rows in a text: each that is named, and those between two of them (``A1 to A6``)."""
    spans = {
        f"{section}{number}"
        for section, first, last in _SPAN.findall(text)
        for number in range(int(first), int(last) + 1)
    }
    return spans | set(_ID.findall(text))


def _rows_of(tree: ast.Module) -> set[str]:
    rows = _ids(ast.get_docstring(tree) or "")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            rows |= _ids(ast.get_docstring(node) or "")
            if match := _NAMED.match(node.name):
                rows |= set(match[1].strip("_").split("_"))
    return rows


def missing() -> list[str]:
    """Rows that no test names."""
    known = named()
    return [row for rows in sections().values() for row in rows if row not in known]


def page() -> str:
    """The text of docs/security.md."""
    known, parts = named(), [HEAD]
    for title, rows in sections().items():
        parts.append(f"\n## {title}\n\n| row | what is tried, and what comes of it | tests |\n|---|---|---|\n")
        for row, text in rows.items():
            modules = ", ".join(f"`{module.removeprefix('tests/')}`" for module in known.get(row, ())) or "**none**"
            parts.append(f"| {row} | {text} | {modules} |\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
