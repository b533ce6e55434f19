"""``entrepot build lint``: read a buildspec as a build would, without a server."""

from __future__ import annotations

import re
import sys
from typing import IO, TYPE_CHECKING, Any

import click

from registry.commands.options import example
from registry.commands.output import json_option, print_json

if TYPE_CHECKING:
    from hooks.builds.spec import BuildSpec

_LINE = re.compile(r"line (\d+): (.*)\Z", re.DOTALL)


@example("entrepot build lint buildspec.yml")
@click.command()
@click.argument("file", type=click.File("rb"))
@json_option
def lint(file: IO[bytes], *, as_json: bool) -> None:
    """Check a buildspec FILE (- for standard input) and print what is wrong with it and what has no effect.

    Exits with 0 when a build can use it, 1 when it cannot. Warnings alone do not count; with "strict: true" in the
    document, names it does not know are faults.
    """
    from hooks.builds.spec import parse_buildspec
    from hooks.document import MAX_DOCUMENT_BYTES
    from registry.errors import InvalidDocument

    name = getattr(file, "name", "-")
    name = "-" if name == "<stdin>" else name
    spec: BuildSpec | None = None
    faults: list[str] = []
    warnings: list[str] = []
    content = file.read(MAX_DOCUMENT_BYTES + 1)
    try:
        # One that is too long may be cut within a character; it is refused for its length.
        spec = parse_buildspec(
            content.decode(errors="replace" if len(content) > MAX_DOCUMENT_BYTES else "strict"), name
        )
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        faults = [f"line {number}: not UTF-8 text"]
    except InvalidDocument as error:
        faults, warnings = list(error.faults), list(error.warnings)
    else:
        warnings = list(spec.warnings)
    if as_json:
        print_json(_record(name, spec, faults, warnings))
    else:
        for kind, texts in (("fault", faults), ("warning", warnings)):
            for finding in map(_finding, texts):
                line = "" if finding["line"] is None else f"{finding['line']}:"
                click.echo(f"{name}:{line} {kind}: {finding['text']}")
    sys.exit(1 if faults else 0)


def _record(name: str, spec: BuildSpec | None, faults: list[str], warnings: list[str]) -> dict[str, Any]:
    phases = {} if spec is None else {name: len(phase.commands) for name, phase in spec.phases.items()}
    return {
        "file": name,
        "valid": not faults,
        "version": spec.version if spec else None,
        "faults": [_finding(text) for text in faults],
        "warnings": [_finding(text) for text in warnings],
        "phases": phases,
    }


def _finding(text: str) -> dict[str, Any]:
    match = _LINE.match(text)
    return {"line": int(match[1]), "text": match[2]} if match else {"line": None, "text": text}
