"""``entrepot deploy run`` and ``lint``: deployments on this machine, without a server."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from registry.commands.client import Failed
from registry.commands.options import example
from registry.commands.output import cell, json_option, print_json, print_rows, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from hooks.deployments.host.deployment import Deployment
    from hooks.deployments.host.local import Preview
    from hooks.deployments.host.state import GroupState
    from hooks.deployments.outcomes import EventResult

DEFAULT_GROUP = "default-local-deployment-group"
_LINE = re.compile(r"line (\d+): (.*)\Z", re.DOTALL)
_COURSES = (
    "local",
    "in-place",
    "in-place-with-load-balancer",
    "blue-green-original",
    "blue-green-replacement",
    "blue-green-rollback-original",
    "blue-green-rollback-replacement",
)
_COLUMNS = (
    ("Event", "lifecycleEventName"),
    ("Status", "status"),
    ("Seconds", "durationInSeconds"),
    ("Error", "error"),
    ("Message", "diagnostics.message"),
)


@click.group()
def deploy() -> None:
    """Deployments: of applications to groups of machines by the server, or on this machine (run, lint).

    Example: entrepot deploy create shop prod --bundle . --watch
    """


@example("entrepot deploy lint appspec.yml")
@deploy.command()
@click.argument("file", type=click.File("rb"))
@json_option
def lint(file: IO[bytes], *, as_json: bool) -> None:
    """Check an appspec FILE (- for standard input) and print what is wrong with it and what has no effect.

    Where FILE lies at the top of a bundle, its scripts and sources are looked for there, too. Exits with 0 when a
    deployment can use it, 1 when it cannot; warnings alone do not count.
    """
    from hooks.deployments.host.linting import lint_appspec
    from hooks.document import MAX_DOCUMENT_BYTES

    name = getattr(file, "name", "-")
    name = "-" if name == "<stdin>" else name
    content = file.read(MAX_DOCUMENT_BYTES + 1)
    bundle = None if name == "-" else Path(name).resolve().parent
    faults, warnings, hooks = lint_appspec(content, name, bundle)
    if as_json:
        print_json(
            {
                "file": name,
                "valid": not faults,
                "faults": [_finding(text) for text in faults],
                "warnings": [_finding(text) for text in warnings],
                "hooks": hooks,
            }
        )
    else:
        for kind, texts in (("fault", faults), ("warning", warnings)):
            for finding in map(_finding, texts):
                line = "" if finding["line"] is None else f"{finding['line']}:"
                click.echo(f"{name}:{line} {kind}: {cell(finding['text'])}")
    sys.exit(1 if faults else 0)


def _finding(text: str) -> dict[str, Any]:
    match = _LINE.match(text)
    return {"line": int(match[1]), "text": match[2]} if match else {"line": None, "text": text}


def _split(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, ...]:
    events = tuple(event.strip() for event in (text or "").split(",") if event.strip())
    for event in events:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,63}", event):
            raise click.BadParameter(f"{event!r} is not the name of a lifecycle event")
    return events


def _link(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str:
    if not text:
        return ""
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if not text.startswith("/") or ".." in parts or len(parts) < 2:
        raise click.BadParameter("write an absolute path to the link, in a directory of its own: /opt/app/current")
    return "/" + "/".join(parts)


@example("""entrepot deploy run --local . --dry-run
entrepot deploy run --local release.tar.gz --atomic /opt/app/current --allow-runas app""")
@deploy.command()
@click.option(
    "--local",
    "source",
    metavar="DIR|ARCHIVE",
    type=click.Path(exists=True, path_type=Path),
    help="The bundle: a directory, or a tar, tgz or zip file.",
)
@click.option(
    "--root",
    envvar="ENTREPOT_AGENT_ROOT",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where this machine keeps its deployments: /var/lib/entrepot-agent for root, else below ~/.local/state.",
)
@click.option("--group", default=DEFAULT_GROUP, show_default=True, help="The deployment group's id.")
@click.option("--group-name", help="The deployment group's name, for scripts; otherwise its id.")
@click.option("--application-name", help="The application's name, for scripts; otherwise the bundle's.")
@click.option("--appspec-filename", default="appspec.yml", show_default=True, help="The document in the bundle.")
@click.option("--events", callback=_split, metavar="EVENT,…", help="These lifecycle events, in this order.")
@click.option(
    "--course", default="local", show_default=True, type=click.Choice(_COURSES), help="Which events there are."
)
@click.option(
    "--file-exists-behavior",
    "behavior",
    default="DISALLOW",
    show_default=True,
    type=click.Choice(["DISALLOW", "OVERWRITE", "RETAIN"]),
    help="What becomes of files that are there already, where the appspec does not say.",
)
@click.option(
    "--atomic", "link", callback=_link, metavar="LINK", help="Lay out a release beside LINK, then switch LINK."
)
@click.option("--allow-runas", "allowed", multiple=True, metavar="USER", help="Let scripts run as USER; repeatable.")
@click.option(
    "--ignore-application-stop-failures", "ignores_stop", is_flag=True, help="Go on when ApplicationStop fails."
)
@click.option("--skip", "skipped", multiple=True, metavar="EVENT", help="Leave out a lifecycle event; repeatable.")
@click.option("--resume", metavar="DEPLOYMENT", help="Go on with a deployment that was interrupted.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and what stands against it; change nothing.")
@json_option
def run(source: Path | None, root: Path | None, *, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Deploy a bundle on this machine, without a server: same events, same rules, same scripts.

    The log goes to standard error, a line for each lifecycle event to standard output. Exits with 0 when the deployment
    succeeded, 1 when it did not or cannot be made, 2 when the command is not right. CTRL-C stops it.
    """
    from hooks.deployments.host.bundle import BundleError
    from hooks.deployments.host.state import StateError
    from registry.errors import InvalidDocument

    try:
        if dry_run:
            _preview(source, _state(root, options["group"]), options, as_json=as_json)
        else:
            _deploy(source, _state(root, options["group"]), options, as_json=as_json)
    except (BundleError, StateError, InvalidDocument, UnicodeDecodeError, OSError) as error:
        raise Failed(f"nothing could be deployed: {error}") from error


def _state(root: Path | None, group: str) -> GroupState:
    import os

    from hooks.deployments.host.state import GroupState

    if root is None:
        home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
        root = Path("/var/lib/entrepot-agent") if os.geteuid() == 0 else home / "entrepot-agent"
    return GroupState(root.absolute(), group)


def _wanted(source: Path, options: dict[str, Any]) -> Deployment:
    import secrets
    import string

    from hooks.deployments.appspec_model import FileExistsBehavior
    from hooks.deployments.host.deployment import Deployment
    from hooks.deployments.lifecycle import Course, chosen

    course = Course(options["course"])
    try:
        events = chosen(options["events"]) if options["events"] else course.events
    except ValueError as error:
        raise click.UsageError(f"--events: {error}") from error
    letters = string.ascii_uppercase + string.digits
    return Deployment(
        deployment_id="d-" + "".join(secrets.choice(letters) for _ in range(9)) + "-local",
        group_id=options["group"],
        group_name=options["group_name"] or options["group"],
        application_name=options["application_name"] or source.resolve().name,
        events=events,
        course=course,
        appspec_name=options["appspec_filename"],
        file_exists_behavior=FileExistsBehavior(options["behavior"]),
        link=options["link"],
    )


def _needed(source: Path | None) -> Path:
    if source is None:
        raise click.UsageError("Missing option '--local'.")
    return source.resolve()


def _deploy(source: Path | None, state: GroupState, options: dict[str, Any], *, as_json: bool) -> None:
    from hooks.deployments.host.deployment import HostDeployment, load_deployment
    from hooks.deployments.host.local import deploy as deploy_locally
    from hooks.deployments.host.local import has_succeeded
    from hooks.deployments.host.scripts import ScriptSettings
    from hooks.deployments.host.state import replace_file
    from registry.clock import system_clock

    resumed = options["resume"]
    wanted = load_deployment(state, resumed) if resumed else _wanted(_needed(source), options)
    for event in options["skipped"]:
        if event not in wanted.events:
            raise click.UsageError(f"--skip {event}: the deployment has no such event, only {', '.join(wanted.events)}")
    state.prepare()
    with state.locked(), _stopping() as is_stopped:
        _tell_unfinished(state, resumed)
        scripts = ScriptSettings(frozenset(options["allowed"]), is_stopped=is_stopped)
        noted = state.deployment(wanted.deployment_id) / "source"
        host = HostDeployment(wanted, state, lambda _into: _noted_source(noted), scripts, system_clock, say)
        host.begin()
        if source is not None:
            replace_file(noted, json.dumps(str(source.resolve())))  # for a deployment that is gone on with
        ignores = options["ignores_stop"]
        say(f"deployment {wanted.deployment_id}")
        results = deploy_locally(host, _show, skipped=options["skipped"], ignores_stop=ignores)
    succeeded = has_succeeded(host, results, ignores_stop=ignores)
    records = [{**result.as_json(), "error": _error(result)} for result in results]
    if as_json:
        status = "Succeeded" if succeeded else "Failed"
        for record in records:
            del record["error"]
        print_json({"deploymentId": wanted.deployment_id, "status": status, "lifecycleEvents": records})
    else:
        print_rows(records, _COLUMNS, as_json=False)
    sys.exit(0 if succeeded else 1)


def _error(result: EventResult) -> str:
    return "" if result.code.number == 0 else result.code.aws_name


def _noted_source(noted: Path) -> Path:
    """Where the bundle is, as it was noted at the start; as JSON, because names of files are bytes."""
    from hooks.deployments.host.bundle import BundleError

    try:
        return Path(json.loads(noted.read_bytes()))
    except (FileNotFoundError, ValueError):
        raise BundleError("where it is was not noted before the interruption; say it with --local") from None


def _tell_unfinished(state: GroupState, resumed: str | None) -> None:
    for deployment_id in state.unfinished():
        if deployment_id != resumed:
            say(f"the deployment {deployment_id} was interrupted, and is given up; --resume would have gone on with it")
            (state.ongoing / deployment_id).unlink(missing_ok=True)


def _show(result: EventResult) -> None:
    say(f"{result.event}: {result.status.value}" + (f" ({cell(result.message)})" if result.message else ""))


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """While the context lasts, INT and TERM are noted and do no more."""
    stopped: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, _frame: stopped.append(number))
    try:
        yield lambda: bool(stopped)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _preview(source: Path | None, state: GroupState, options: dict[str, Any], *, as_json: bool) -> None:
    from hooks.deployments.host.local import preview_deployment

    found = preview_deployment(_needed(source), _wanted(_needed(source), options), state)
    if as_json:
        print_json(json.loads(json.dumps(found.as_json(), ensure_ascii=False).encode(errors="replace")))
    else:
        _print_preview(found)
    sys.exit(1 if found.plan.conflicts else 0)


def _print_preview(found: Preview) -> None:
    plan = found.plan
    for warning in (*found.spec.warnings, *plan.notes):
        say(f"warning: {cell(warning)}")
    lines: Sequence[tuple[str, Sequence[str]]] = (
        ("remove", [cell(place.path) for place in found.removed]),
        ("create", [cell(path) for path in plan.created]),
        ("overwrite", [cell(path) for path in plan.overwritten]),
        ("retain", [cell(path) for path in plan.retained]),
        ("conflict", [f"{cell(each.path)}\t{cell(each.reason)}" for each in plan.conflicts]),
    )
    for word, paths in lines:
        for path in paths:
            click.echo(f"{word}\t{path}".encode(errors="replace"))
    link, current = found.switches
    if link and not plan.conflicts:
        click.echo(f"switch\t{link}" + (f"\tfrom the release {current}" if current else ""))
