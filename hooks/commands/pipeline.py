"""``entrepot pipeline``: apply, start, watch, answer."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import IO, Any

import click

from hooks.commands.pipeline_stages import approved, print_approval, print_state
from registry.commands.client import Client, Failed, Unreachable, with_client
from registry.commands.lookup import package_at
from registry.commands.options import DURATION, REPOSITORY, Place, example
from registry.commands.output import cell, json_option, print_json, print_rows, say

WATCH_SECONDS = 2.0
UNREACHABLE_SECONDS = 300.0
_FINAL = frozenset({"Stopped", "Succeeded", "Failed", "Superseded", "Cancelled"})

_PIPELINES = (
    ("NAME", "name"),
    ("VERSION", "version"),
    ("LAST EXECUTION", "lastExecution.id"),
    ("STATUS", "lastExecution.status"),
    ("UPDATED", "updatedAt"),
)
_EXECUTIONS = (
    ("ID", "id"),
    ("STATUS", "status"),
    ("PACKAGE", "name"),
    ("VERSION", "version"),
    ("REPOSITORY", "repository"),
    ("BY", "triggeredBy"),
    ("STARTED", "startedAt"),
    ("ENDED", "endedAt"),
)
_ACTIONS = (
    ("STAGE", "stage"),
    ("ACTION", "name"),
    ("STATUS", "status"),
    ("APPROVED", "approved"),
    ("SUMMARY", "summary"),
    ("BUILD", "buildId"),
    ("BY", "decidedBy"),
)
_CONDITIONS = (
    ("STAGE", "stage"),
    ("CONDITION", "conditionType"),
    ("STATUS", "status"),
    ("RESULT", "result"),
    ("SUMMARY", "told"),
    ("BY", "decidedBy"),
)


@click.group()
def pipeline() -> None:
    """Pipelines: apply, start, watch and steer them, and what keeps executions before their stages."""


@example("entrepot pipeline apply -f pipeline.yml")
@pipeline.command()
@click.option("-f", "--file", "document", required=True, type=click.File(encoding="utf-8"), help="- for stdin.")
@json_option
@with_client
def apply(client: Client, document: IO[str], *, as_json: bool) -> None:
    """Create or update the pipelines and build projects of a document."""
    results = client.send("PUT", "pipelines", body={"document": document.read()})["items"]
    for result in results:
        for warning in result["warnings"]:
            say(f"warning: {result['name']}: {warning}")
    print_rows(
        results, (("KIND", "kind"), ("NAME", "name"), ("CHANGE", "change"), ("VERSION", "version")), as_json=as_json
    )


@example("entrepot pipeline lint pipeline.yml deploy/*.yml")
@pipeline.command()
@click.argument("files", nargs=-1, required=True, type=click.File(encoding="utf-8"))
@json_option
@with_client
def lint(client: Client, files: tuple[IO[str], ...], *, as_json: bool) -> None:
    """Name every fault of documents, with its line; exit 1 if there is any. Nothing is changed.

    The server is asked, because it knows which types of actions there are. Any account may.
    """
    told: list[dict[str, Any]] = []
    for file in files:
        try:
            found = client.send("POST", "pipelines/lint", body={"document": file.read()})["items"]
        except Unreachable:
            raise
        except Failed as failed:
            told.append({"file": file.name, "declares": [], "fault": str(failed)})
        else:
            told.append({"file": file.name, "declares": found, "fault": None})
    if as_json:
        print_json(told)
    else:
        for each in told:
            _say_linted(each)
    if any(each["fault"] for each in told):
        raise SystemExit(1)


def _say_linted(told: Mapping[str, Any]) -> None:
    if told["fault"]:
        say(f"{told['file']}: {told['fault']}")
        return
    for each in told["declares"]:
        for warning in each["warnings"]:
            say(f"{told['file']}: warning: {each['name']}: {warning}")
    declared = ", ".join(f"{each['kind']} {each['name']}" for each in told["declares"])
    click.echo(f"{told['file']}: {declared}: no faults")


@example("entrepot pipeline list")
@pipeline.command("list")
@json_option
@with_client
def list_pipelines(client: Client, *, as_json: bool) -> None:
    """List pipelines with their last execution."""
    print_rows(client.items("pipelines", limit=100), _PIPELINES, as_json=as_json)


@example(
    "entrepot pipeline start release acme-client 1.4.0 --repository dev\n"
    "entrepot pipeline start site --revision App=0a1b2c… --variable STAGE=beta"
)
@pipeline.command()
@click.argument("name")
@click.argument("package", required=False)
@click.argument("version", required=False)
@click.option("--repository", type=REPOSITORY, help="Where the version is.")
@click.option(
    "--revision",
    "revisions",
    multiple=True,
    metavar="SOURCE=REVISION",
    help="What a source brings, instead of what is newest: a commit, or an object's version or key; repeatable.",
)
@click.option("--token", "request_token", metavar="TEXT", help="The same text never starts a second execution.")
@click.option("--format", "format_name", metavar="FORMAT", help="The package's format, if several have the name.")
@click.option("--variable", "variables", multiple=True, metavar="NAME=VALUE", help="A pipeline variable; repeatable.")
@json_option
@with_client
def start(
    client: Client,
    name: str,
    package: str | None,
    version: str | None,
    *,
    repository: Place | None,
    revisions: tuple[str, ...],
    request_token: str | None,
    format_name: str | None,
    variables: tuple[str, ...],
    as_json: bool,
) -> None:
    """Start an execution for a package version, or for revisions of other sources; prints its number."""
    body: dict[str, Any] = {"variables": _pairs("--variable", variables), "clientRequestToken": request_token}
    body["sourceRevisions"] = [
        {"actionName": source, "revisionType": _kind_of(value), "revisionValue": value}
        for source, value in _pairs("--revision", revisions).items()
    ]
    if package is not None:
        if version is None or repository is None:
            raise click.UsageError("a package needs its VERSION, and --repository says where that is")
        (*_, known_format, known_name), namespace = package_at(client, repository, package, format_name)
        body |= {
            "domain": repository.domain,
            "repository": repository.repository,
            "format": known_format,
            "namespace": namespace or "",
            "name": known_name,
            "version": version,
        }
    execution = client.send("POST", "pipelines", name, "executions", body=body)
    if as_json:
        print_json(execution)
        return
    click.echo(execution["id"])
    say(f"execution {execution['id']} of {name} is {execution['status']}")


def _kind_of(revision: str) -> str:
    """A commit in full has 40 or 64 digits, an object's version 32; anything else is a key."""
    if re.fullmatch(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", revision):
        return "COMMIT_ID"
    return "S3_OBJECT_VERSION_ID" if re.fullmatch(r"[0-9a-f]{32}", revision) else "S3_OBJECT_KEY"


def _pairs(option: str, words: tuple[str, ...]) -> dict[str, str]:
    for word in words:
        if "=" not in word:
            raise click.UsageError(f"{option} {word!r}: write NAME=VALUE")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


@example(
    "entrepot pipeline status 17 --watch --exit-status\n"
    "entrepot pipeline status release --version 1.4.0 --watch\n"
    "entrepot pipeline status release --stages"
)
@pipeline.command()
@click.argument("execution", metavar="EXECUTION|PIPELINE")
@click.option("--watch", is_flag=True, help="Follow the execution until it ends; of a pipeline wait for one first.")
@click.option("--package", metavar="NAME", help="Of a pipeline: executions for this package.")
@click.option("--version", metavar="VERSION", help="Of a pipeline: executions for this version.")
@click.option(
    "--within",
    default="60s",
    show_default=True,
    type=DURATION,
    help="How long --watch waits for an execution to begin.",
)
@click.option("--exit-status", is_flag=True, help="Exit 1 unless the execution has succeeded.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Executions of a pipeline.")
@click.option("--stages", is_flag=True, help="Of a pipeline: what is in its stages, and what waits before them.")
@json_option
@with_client
def status(
    client: Client,
    execution: str,
    *,
    watch: bool,
    package: str | None,
    version: str | None,
    within: timedelta,
    exit_status: bool,
    limit: int,
    stages: bool,
    as_json: bool,
) -> None:
    """Show an execution by its number, or the latest executions of a pipeline, or its stages, by its name.

    With --watch and a pipeline's name it follows the newest execution that goes on, or that --package and --version name;
    where there is none yet (right after an upload) it waits for it to begin.
    """
    if stages:
        print_state(client.get("pipelines", execution, "state"), as_json=as_json)
        return
    if not execution.isdecimal():
        wanted = {name: value for name, value in (("name", package), ("version", version)) if value is not None}
        if exit_status and not watch:
            raise click.UsageError("--exit-status needs the number of an execution, or --watch")
        if not watch:
            found = client.items("pipelines", execution, "executions", limit=min(limit, 100), most=limit)
            shown = [each for each in found if wanted.items() <= each.items()]
            print_rows(shown, _EXECUTIONS, as_json=as_json)
            return
        execution = str(_begun(client, execution, wanted, within.total_seconds()))
    elif package is not None or version is not None:
        raise click.UsageError("--package and --version go with the name of a pipeline")
    detail = client.get("executions", execution)
    if watch:
        detail = _watch(client, detail)
    _print_execution(detail, as_json=as_json)
    if exit_status and detail["status"] != "Succeeded":
        raise Failed(f"execution {execution} is {detail['status']}")


def _begun(client: Client, pipeline: str, wanted: Mapping[str, str], patience: float) -> int:
    """The number of the newest execution that is meant; without ``wanted`` of one that goes on. Raises Failed in the end.

    An upload is settled for some seconds before its execution begins.
    """
    is_told = False
    while True:
        newest = client.items("pipelines", pipeline, "executions", limit=50, most=50)
        for each in newest:
            if wanted.items() <= each.items() and (wanted or each["status"] not in _FINAL):
                return int(each["id"])
        if patience <= 0:
            raise Failed(
                f"no execution of {pipeline} has begun" + (f" for {' '.join(wanted.values())}" if wanted else "")
            )
        if not is_told:
            say(f"no such execution of {pipeline} yet: waiting for one to begin")
            is_told = True
        time.sleep(min(WATCH_SECONDS, patience))
        patience -= WATCH_SECONDS


def _watch(client: Client, detail: Mapping[str, Any]) -> Mapping[str, Any]:
    told: dict[str, str] = {}
    patience = UNREACHABLE_SECONDS
    while True:
        for place, action in _actions(detail):
            news = f"{action['status']}: {action['summary']}" if action["summary"] else str(action["status"])
            news += f" ({action['approved']})" if action["approved"] else ""
            if action["status"] is not None and told.get(place) != news:
                told[place] = news
                say(f"{place} {cell(news)}")
        if detail["status"] in _FINAL:
            say(f"execution {detail['id']} is {detail['status']}")
            return detail
        time.sleep(WATCH_SECONDS)
        try:
            detail = client.get("executions", detail["id"])
            patience = UNREACHABLE_SECONDS
        except Unreachable as error:
            patience -= WATCH_SECONDS
            if patience <= 0:
                raise
            say(f"{error.message}; trying again")


def _actions(detail: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for stage in detail["stages"]:
        for action in stage["actions"]:
            told = {"stage": stage["name"], "approved": approved(detail, action)}
            yield f"{stage['name']}/{action['name']}", {**action, **told}


def _print_execution(detail: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(detail)
        return
    say(
        f"execution {detail['id']} of {detail['pipeline']}: {detail['status']}, "
        f"{detail['name']} {detail['version']} from {detail['domain']}/{detail['repository']}"
    )
    if detail["inboundStage"]:
        say(f"it waits before stage {detail['inboundStage']}")
    for asked in detail["approvals"]:
        print_approval(asked)
    print_rows([action for _, action in _actions(detail)], _ACTIONS, as_json=False)
    for place, action in _actions(detail):
        for file in action["published"]:
            say(f"{place}: {file['url']} sha256:{file['sha256']}{' (was there)' if file['wasThere'] else ''}")
    judged = [
        {**condition, "stage": stage["name"], "told": _told_of(condition)}
        for stage in detail["stages"]
        for condition in stage["conditions"]
        if condition["isCurrent"]
    ]
    if judged:
        print_rows(judged, _CONDITIONS, as_json=False)


def _told_of(condition: Mapping[str, Any]) -> str:
    waiting = [f"{rule['name']}: {rule['summary']}" for rule in condition["rules"] if rule["status"] == "InProgress"]
    return str(condition["summary"] or "; ".join(waiting))


@example("entrepot pipeline approve 17 --comment 'tested on the cluster'")
@pipeline.command()
@click.argument("execution", type=click.IntRange(1))
@click.option("--stage", help="Where several approvals wait.")
@click.option("--action", help="Where several approvals wait.")
@click.option("--comment", default="", help="Why; at most 512 characters.")
@json_option
@with_client
def approve(
    client: Client, execution: int, stage: str | None, action: str | None, comment: str, *, as_json: bool
) -> None:
    """Approve what an execution waits for."""
    _answer(client, execution, (stage, action), "Approved", comment, as_json=as_json)


@example("entrepot pipeline reject 17 --comment 'fails on Windows'")
@pipeline.command()
@click.argument("execution", type=click.IntRange(1))
@click.option("--stage", help="Where several approvals wait.")
@click.option("--action", help="Where several approvals wait.")
@click.option("--comment", default="", help="Why; at most 512 characters.")
@json_option
@with_client
def reject(
    client: Client, execution: int, stage: str | None, action: str | None, comment: str, *, as_json: bool
) -> None:
    """Reject what an execution waits for; the stage fails and can be retried."""
    _answer(client, execution, (stage, action), "Rejected", comment, as_json=as_json)


def _answer(
    client: Client,
    execution: int,
    wanted: tuple[str | None, str | None],
    verdict: str,
    comment: str,
    *,
    as_json: bool,
) -> None:
    stage, action = wanted
    waiting = [
        found
        for _, found in _actions(client.get("executions", execution))
        if found["status"] == "Waiting" and stage in {None, found["stage"]} and action in {None, found["name"]}
    ]
    if not waiting:
        raise Failed(f"no such approval waits in execution {execution}")
    if len(waiting) > 1:
        places = ", ".join(f"{found['stage']}/{found['name']}" for found in waiting)
        raise click.UsageError(f"several approvals wait: {places}; say which with --stage and --action")
    # The token binds the answer to what was looked at: bytes, definition and attempt.
    body = {
        "stage": waiting[0]["stage"],
        "action": waiting[0]["name"],
        "verdict": verdict,
        "comment": comment,
        "token": waiting[0]["token"],
    }
    detail = client.send("POST", "executions", execution, "approval", body=body)
    place = f"{body['stage']}/{body['action']} of execution {execution}"
    still = [each for each in detail["approvals"] if each["token"] == body["token"]]
    if still:
        say(f"{place}: {still[0]['given']} of {still[0]['required']} have approved; it waits for the others")
    else:
        say(f"{place} is {verdict.lower()}")
    if as_json:
        print_json(detail)


@example("entrepot pipeline stop 17 --reason 'wrong version' --abandon")
@pipeline.command()
@click.argument("execution", type=click.IntRange(1))
@click.option("--reason", default="", help="Why; at most 200 characters.")
@click.option("--abandon", is_flag=True, help="Stop running builds too, instead of letting them end.")
@json_option
@with_client
def stop(client: Client, execution: int, reason: str, *, abandon: bool, as_json: bool) -> None:
    """Stop an execution: nothing further starts."""
    detail = client.send("POST", "executions", execution, "stop", body={"reason": reason, "abandon": abandon})
    say(f"execution {execution} is {detail['status']}")
    if as_json:
        print_json(detail)


@example("entrepot pipeline retry 17")
@pipeline.command()
@click.argument("execution", type=click.IntRange(1))
@click.option("--stage", help="The stage; the one that failed if not given.")
@click.option("--all-actions", is_flag=True, help="Start the whole stage anew, not only what failed.")
@json_option
@with_client
def retry(client: Client, execution: int, stage: str | None, *, all_actions: bool, as_json: bool) -> None:
    """Try a failed or stopped stage again, in the same execution."""
    if stage is None:
        stage = _ended_badly(client.get("executions", execution))
    body = {"stage": stage, "mode": "ALL_ACTIONS" if all_actions else "FAILED_ACTIONS"}
    detail = client.send("POST", "executions", execution, "retry", body=body)
    say(f"execution {execution} is {detail['status']}, stage {stage} is tried again")
    if as_json:
        print_json(detail)


def _ended_badly(detail: Mapping[str, Any]) -> str:
    for stage in detail["stages"]:
        if stage["status"] in {"Failed", "Stopped"} or any(
            action["status"] in {"Failed", "Abandoned"} for action in stage["actions"]
        ):
            return str(stage["name"])
    raise Failed(f"no stage of execution {detail['id']} failed or was stopped")
