"""``entrepot build run --local``: a build on this machine, without a server."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry.commands.client import Failed
from registry.commands.options import DURATION, example
from registry.commands.output import json_option, print_json, say

if TYPE_CHECKING:
    from hooks.builds.executor import Executor, Interrupt
    from hooks.builds.plan import BuildOutcome

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")
_NOT_HERE = (
    "not emulated: the network, the registry, parameters and secrets of a server, and what the log warns of below"
)


def _variables(_context: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    variables = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not _VARIABLE.match(name):
            raise click.BadParameter(f"{text!r}: write NAME=VALUE")
        variables[name] = value
    return variables


# What a build needs is imported when one runs: it brings along what no client command does.
@example("entrepot build run --local . -e STAGE=dev --artifacts out")
@click.command()
@click.option(
    "--local",
    "directory",
    required=True,
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Build a copy of this directory.",
)
@click.option(
    "--buildspec",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Use this document: looked for in DIR, then from here. Otherwise buildspec.yml in DIR.",
)
@click.option(
    "--environment",
    default="process",
    show_default=True,
    type=click.Choice(["process", "dummy"]),
    help="process: in a sandbox on this machine; dummy: go through the phases and run nothing.",
)
@click.option("-e", "variables", multiple=True, metavar="NAME=VALUE", callback=_variables, help="Set a variable.")
@click.option(
    "--artifacts",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write artifacts here, as zip files; otherwise they are not kept.",
)
@click.option("--timeout", default="1h", show_default=True, type=DURATION, help="End the build after so long.")
@json_option
def run(
    directory: Path,
    buildspec: Path | None,
    environment: str,
    variables: dict[str, str],
    artifacts: Path | None,
    timeout: timedelta,
    *,
    as_json: bool,
) -> None:
    """Run a build on this machine, without a server: same phases, same sandbox, same log.

    The log goes to standard output, with --json to standard error, and the build's record to standard output. Exits
    with 0 when the build succeeded, 1 when it did not or could not be run, 2 when the command is not right. CTRL-C
    stops the build.
    """
    from hooks.builds.executor import ExecutorError
    from hooks.builds.local import LocalBuild, LocalReporter, build_locally
    from hooks.builds.phases import BuildStatus
    from registry.clock import system_clock

    wanted = LocalBuild(directory, _document(directory, buildspec), variables, artifacts, timeout)
    log = sys.stderr.buffer if as_json else sys.stdout.buffer

    def write(data: bytes) -> None:
        log.write(data)
        log.flush()

    reporter = LocalReporter(write, artifacts)
    try:
        with _executor(environment, directory, wanted.spec_text) as executor, _stopping() as interrupt:
            outcome = build_locally(wanted, executor, reporter, interrupt, system_clock)
    except (ExecutorError, OSError) as error:
        raise Failed(f"the build could not be run: {error}") from error
    paths = [str(path) for path in reporter.artifacts]
    if as_json:
        print_json(_record(outcome, paths))
    else:
        for path in paths:
            say(f"artifact: {path}")
    sys.exit(0 if outcome.status is BuildStatus.SUCCEEDED else 1)


def _record(outcome: BuildOutcome, artifacts: Sequence[str]) -> dict[str, Any]:
    return {
        "status": outcome.status.value,
        "phases": [record.as_json() for record in outcome.phases],
        "exportedVariables": dict(outcome.exported),
        "artifacts": artifacts,
    }


def _document(directory: Path, buildspec: Path | None) -> str | None:
    from hooks.document import MAX_DOCUMENT_BYTES

    if buildspec is None:
        return None
    path = directory / buildspec
    if not path.is_file():
        path = buildspec
    try:
        with path.open("rb") as file:
            return file.read(MAX_DOCUMENT_BYTES + 1).decode(errors="replace")
    except OSError as error:
        raise click.UsageError(f"--buildspec {buildspec}: {error.strerror}") from error


@contextmanager
def _executor(environment: str, directory: Path, spec_text: str | None) -> Iterator[Executor]:
    """What runs the build, with a work directory of its own that goes with it. Raises Failed."""
    from hooks.builds.executors.dummy import DummyExecutor
    from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
    from hooks.builds.spec import DEFAULT_FILENAME
    from registry.formats import all_formats

    if environment == "dummy":
        path = directory / DEFAULT_FILENAME
        files = {DEFAULT_FILENAME: path.read_bytes()} if spec_text is None and path.is_file() else {}
        say("the dummy executor runs no command; every one counts as succeeded")
        yield DummyExecutor(files=files, pretends=True)
        return
    # Not in a user's home, which a build's own user could not reach when root runs this.
    place = Path(tempfile.mkdtemp(prefix="entrepot-local-", dir="/var/tmp"))
    try:
        place.chmod(0o711)
        paths = tuple(path for known in all_formats().values() for path in known.build_paths())
        executor = ProcessExecutor(ProcessSettings(place / "work", readonly_paths=paths))
        found = executor.available()
        if not found.ok:
            raise Failed(
                f"no build can run here: {found.reason} (the sandbox is bubblewrap's; --environment dummy runs nothing)"
            )
        say(f"sandbox: {found.reason}")
        say(_NOT_HERE)
        yield executor
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _stopping() -> Iterator[Interrupt]:
    """While the context lasts, CTRL-C and TERM stop the build, which then ends in order."""
    from hooks.builds.executor import StopReason

    told = threading.Event()

    def stop(_number: int, _frame: Any) -> None:
        told.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: StopReason.STOPPED if told.is_set() else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
