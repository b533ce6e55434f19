"""What commands print: data on stdout (a table for people, TSV or JSON for programs), everything else on stderr."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

Columns = Sequence[tuple[str, str]]
"""(heading, field) pairs; a field is a dotted path into the record."""

# C0 and C1 control characters: what a package's author wrote must not move somebody's cursor.
_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), " ")

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
_BREAKS_AT = 24  # how wide a column stays that has to be broken into lines
_LONGEST_WORD = 40  # names, identifiers and digests are for copying; longer ones (addresses) are broken
_GAP = 2
_FEWEST = 2

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON."
)


def print_json(value: Any) -> None:
    """JSON on stdout, as the server's interface writes it."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_line(value: Any) -> None:
    """JSON on one line of stdout, for what comes bit by bit (https://jsonlines.org)."""
    click.echo(json.dumps(value, ensure_ascii=False))


def print_rows(
    records: Iterable[Mapping[str, Any]], columns: Columns, *, as_json: bool, on_terminal: Sequence[str] = ()
) -> None:
    """A list: JSON array, a table on a terminal, else tab-separated lines without a heading.

    A table has the first columns that fit; ``on_terminal`` are the headings in the order of what matters there.
    """
    found = list(records)
    if as_json:
        print_json(found)
        return
    if sys.stdout.isatty():
        paths = dict(columns)
        headings = on_terminal or tuple(paths)
        _draw(headings, [[_short(cell(_field(record, paths[name]))) for name in headings] for record in found])
        return
    rows = [[cell(_field(record, path)) for _, path in columns] for record in found]
    for row in rows:
        click.echo("\t".join(row))


def print_record(record: Mapping[str, Any], columns: Columns, *, as_json: bool) -> None:
    """One thing: a JSON object, else one ``heading<TAB>value`` line for each column."""
    if as_json:
        print_json(record)
        return
    rows = [[heading, cell(_field(record, path))] for heading, path in columns]
    if sys.stdout.isatty():
        _draw(None, rows)
        return
    for row in rows:
        click.echo("\t".join(row))


def say(message: str) -> None:
    """Something to know that is not data: to stderr."""
    click.echo(message, err=True)


def cell(value: Any) -> str:
    """A value as one line of text: lists joined by commas, control characters as blanks."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return cell([f"{key}={entry}" for key, entry in value.items()])
    if isinstance(value, list):
        return ", ".join(cell(entry) for entry in value)
    return str(value).translate(_CONTROLS)


def _field(record: Mapping[str, Any], path: str) -> Any:
    value: Any = record
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _short(text: str) -> str:
    """A cell of a table: moments (the server's are in UTC) to the minute."""
    return f"{text[:10]} {text[11:16]}" if _MOMENT.fullmatch(text) else text


def fitting(needs: Sequence[int], room: int) -> int:
    """How many of the columns, which need so many characters, stand beside each other in ``room``; two always do."""
    used, count = 0, 0
    for need in needs:
        used += need + (_GAP if count else 0)
        if used > room and count >= _FEWEST:
            break
        count += 1
    return count


def _need(cells: Sequence[str], cell_len: Callable[[str], int]) -> int:
    """How wide a column has to be: a short text stays on a line, a long one is broken between its words."""
    longest_word = max((cell_len(word) for text in cells for word in text.split()), default=0)
    return max(min(max(map(cell_len, cells)), _BREAKS_AT), min(longest_word, _LONGEST_WORD))


def _draw(headings: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout)
    named = headings or ("", "")
    needs = [_need([name, *(row[at] for row in rows)], cell_len) for at, name in enumerate(named)]
    count = fitting(needs, console.width) if headings else len(named)
    is_enough = sum(needs[:count]) + _GAP * (count - 1) <= console.width
    table = Table(box=None, show_header=headings is not None, pad_edge=False, header_style="bold")
    for name, need in zip(named[:count], needs, strict=False):
        table.add_column(name, overflow="fold", min_width=need if headings and is_enough else None)
    for row in rows:
        # Text, not str: rich would read [brackets] in a cell as markup.
        table.add_row(*(Text(entry) for entry in row[:count]))
    console.print(table)
    if count < len(named):
        left_out = f"not shown here: {', '.join(named[count:])} (a wider terminal or --json shows it)"
        say(textwrap.fill(left_out, console.width))
