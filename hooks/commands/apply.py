"""``entrepot apply``: what the files of a directory declare, compared with what is there, and made so."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from registry.commands.client import Client, Failed, with_client
from registry.commands.options import example
from registry.commands.output import cell, json_option, print_json, say

ENDINGS = frozenset({".yml", ".yaml", ".json"})
_SIGNS = {"created": "+", "updated": "~", "unchanged": " "}
_COLOURS = {"created": "green", "updated": "yellow", "unchanged": None}
_STDIN = "-"
DRIFT = 3
"""Exit status where something is not as declared: 1 is that it could not be found out."""
MOST_NAMED = 20
"""Of the things that no file declares; ``--json`` has all."""


@example("entrepot apply -f registry/ --plan")
@click.command()
@click.option(
    "-f",
    "--file",
    "places",
    required=True,
    multiple=True,
    metavar="PATH",
    help="A file, a directory with files in it (.yml, .yaml, .json), or - for stdin; repeatable.",
)
@click.option("--plan", "only_plan", is_flag=True, help="Only show what would change.")
@click.option("--check", is_flag=True, help="Like --plan; exit status 3 where something is not as declared.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@with_client
def apply(client: Client, places: Sequence[str], *, only_plan: bool, check: bool, yes: bool, as_json: bool) -> None:
    """Make domains, repositories, policies, applications, build projects and pipelines as files declare them.

    Shows the plan, asks, and does exactly that: all of it or nothing. Nothing is deleted.
    """
    files = [{"name": name, "text": text} for name, text in _files(places)]
    plan = client.send("PUT", "declarations", body={"files": files, "dryRun": True})
    changing = [each for each in plan["items"] if each["change"] != "unchanged"]
    if not as_json:
        _show(plan)
    if only_plan or check or not changing:
        if as_json:
            print_json(plan)
        if check and changing:
            raise click.exceptions.Exit(DRIFT)
        return
    if not yes:
        if as_json or _STDIN in places or not sys.stdin.isatty():
            raise click.UsageError("nobody is here to ask: give --yes, or --plan to look only")
        click.confirm("Do this?", abort=True, err=True)
    done = client.send("PUT", "declarations", body={"files": files, "plan": plan["plan"]})
    if as_json:
        print_json(done)
    else:
        say(f"done: {_count(done['items'])}")


def _show(plan: Mapping[str, Any]) -> None:
    """What changes on stdout, the rest on stderr."""
    for each in plan["items"]:
        if each["change"] == "unchanged":
            continue
        head = f"{_SIGNS[each['change']]} {each['kind']} {each['name']}"
        click.secho(f"{cell(head)}  ({cell(each['file'])})", fg=_COLOURS[each["change"]], bold=True)
        for line in each["diff"].splitlines():
            click.secho(f"    {cell(line)}", fg={"+": "green", "-": "red", "@": "cyan"}.get(line[:1]))
    for each in plan.get("warnings", ()):
        click.secho(
            cell(f"warning: {each['file']}: {each['kind']} {each['name']}: {each['text']}"), fg="yellow", err=True
        )
    if plan["undeclared"]:
        names = [f"{each['kind']} {each['name']}" for each in plan["undeclared"]]
        more = f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        say(f"not declared, and left alone: {cell(names[:MOST_NAMED])}{more}")
    say(_count(plan["items"]))


def _count(items: Sequence[Mapping[str, Any]]) -> str:
    numbers = {word: sum(each["change"] == word for each in items) for word in _SIGNS}
    if numbers["unchanged"] == len(items):
        return f"nothing to change: all {len(items)} are as declared"
    return ", ".join(f"{number} {word}" for word, number in numbers.items())


def _files(places: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(name, text) of all files, those of a directory by name. Raises Failed."""
    found = False
    for place in places:
        if place == _STDIN:
            yield "stdin", click.open_file(_STDIN, encoding="utf-8").read()
            found = True
            continue
        path = Path(place)
        for file in _below(path) if path.is_dir() else [path]:
            found = True
            try:
                yield str(file), file.read_text(encoding="utf-8-sig")
            except (OSError, UnicodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
                raise Failed(f"{file} cannot be read: {reason}") from error
    if not found:
        raise Failed(f"there is no file that ends in {', '.join(sorted(ENDINGS))} in {', '.join(places)}")


def _below(directory: Path) -> list[Path]:
    """The files of a directory and of those in it, without hidden ones: what tools keep there declares nothing."""
    found = (path for path in directory.rglob("*") if path.suffix in ENDINGS and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(directory).parts))
