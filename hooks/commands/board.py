"""``entrepot board``: which version of what is in which environment, what comes next, and what keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from registry.commands.client import Client, with_client
from registry.commands.options import example
from registry.commands.output import cell, json_option, print_json, print_rows, say

_MOST_AT_ONCE = 100


@example("entrepot board\nentrepot board --pipeline release")
@click.command()
@click.option("--pipeline", default="", metavar="NAME", help="Of this pipeline alone.")
@click.option("--search", default="", metavar="TEXT", help="A part of the package's name.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="At most so many packages.")
@json_option
@with_client
def board(client: Client, *, pipeline: str, search: str, limit: int, as_json: bool) -> None:
    """Show which version is in which environment, one line for a package; what keeps the next ones follows."""
    found = _pages(client, {"pipeline": pipeline or None, "search": search or None}, limit)
    if as_json:
        print_json(found)
        return
    columns, rows = found["columns"], found["rows"]
    table = [_line(row, columns) for row in rows]
    print_rows(
        table, (("PACKAGE", "package"), *((_head(each), str(at)) for at, each in enumerate(columns))), as_json=False
    )
    for row in rows:
        for line in _told(row):
            say(line)


def _pages(client: Client, query: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """All pages as one; the columns of a later page are put behind those that are known."""
    columns: list[Any] = []
    rows: list[Any] = []
    before = None
    while len(rows) < limit:
        page = client.get("board", **query, before=before, limit=min(_MOST_AT_ONCE, limit - len(rows)))
        columns += [each for each in page["columns"] if each not in columns]
        places = [columns.index(each) for each in page["columns"]]
        rows += [
            {**row, "cells": [{**each, "column": places[each["column"]]} for each in row["cells"]]}
            for row in page["rows"]
        ]
        before = page["next"]
        if before is None:
            break
    return {"columns": columns, "rows": rows, "next": before}


def _head(column: Mapping[str, Any]) -> str:
    return str(column["name"]) if column["kind"] == "repository" else f"{column['name']} (group)"


def _line(row: Mapping[str, Any], columns: Sequence[Any]) -> dict[str, str]:
    name = f"{row['namespace']}/{row['name']}" if row["namespace"] else row["name"]
    told: dict[str, str] = {str(at): "" for at in range(len(columns))}
    for each in row["cells"]:
        at = str(each["column"])
        told[at] = f"{told[at]}; {_said(each)}" if told[at] else _said(each)
    return {"package": f"{name} ({row['pipeline']})", **told}


def _said(each: Mapping[str, Any]) -> str:
    text = each["version"] or each["other"] or "-"
    if each["nextVersion"] and each["nextVersion"] != each["version"]:
        text += f" <- {each['nextVersion']}"
    if each["unhealthy"]:
        text += f", {each['unhealthy']} unhealthy"
    if each["drifted"]:
        text += f", {each['drifted']} drifted"
    return text


def _told(row: Mapping[str, Any]) -> list[str]:
    lines = []
    for each in row["cells"]:
        for why in each["blocking"]:
            number = each["nextExecutionId"]
            lines.append(cell(f"{row['name']} {each['nextVersion']} -> {each['place']}: {why['text']} (#{number})"))
        if each["failedDeploymentId"]:
            failed = f"{each['failedVersion'] or 'another revision'} by {each['failedDeploymentId']}"
            lines.append(cell(f"{row['name']}: {each['place']} last failed to get {failed}"))
    return lines
