"""What commands print: data on stdout (a table for people, TSV or JSON for programs), everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

Columns = Sequence[tuple[str, str]]
"""(heading, field) pairs; a field is a dotted path into the record."""

# C0 and C1 control characters: what a package's author wrote must not move somebody's cursor.
_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), " ")

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON."
)


def print_json(value: Any) -> None:
    """JSON on stdout, as the server's interface writes it."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_line(value: Any) -> None:
    """JSON on one line of stdout, for what comes bit by bit (https://jsonlines.org)."""
    click.echo(json.dumps(value, ensure_ascii=False))


def print_rows(records: Iterable[Mapping[str, Any]], columns: Columns, *, as_json: bool) -> None:
    """A list: JSON array, a table on a terminal, else tab-separated lines without a heading."""
    found = list(records)
    if as_json:
        print_json(found)
        return
    rows = [[cell(_field(record, path)) for _, path in columns] for record in found]
    if sys.stdout.isatty():
        _draw([heading for heading, _ in columns], rows)
        return
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


def _draw(headings: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=headings is not None, pad_edge=False, header_style="bold")
    for heading in headings or ("", ""):
        table.add_column(heading, overflow="fold")
    for row in rows:
        # Text, not str: rich would read [brackets] in a cell as markup.
        table.add_row(*(Text(entry) for entry in row))
    Console(file=sys.stdout).print(table)
