"""``entrepot pipeline``: apply, start, watch, answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import IO, Any

import click

from hooks.commands.pipeline_stages import approved, print_approval, print_state
from registry.commands.client import Client, Failed, Unreachable, with_client
from registry.commands.lookup import package_at
from registry.commands.options import REPOSITORY, Place, example
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


@click.group()
def pipeline() -> None:
    """Pipelines: apply, list, start, status, approve, reject, stop, retry, rollback, transition."""


@example("entrepot pipeline apply -f pipeline.yml")
@pipeline.command()
@click.option("-f", "--file", "document", required=True, type=click.File(encoding="utf-8"), help="- for stdin.")
@json_option
@with_client
def apply(client: Client, document: IO[str], *, as_json: bool) -> None:
    """Create or update the pipelines and build projects of a document."""
    results = client.send("PUT", "pipelines", body={"document": document.read()})["items"]
    print_rows(
        results, (("KIND", "kind"), ("NAME", "name"), ("CHANGE", "change"), ("VERSION", "version")), as_json=as_json
    )


@example("entrepot pipeline list")
@pipeline.command("list")
@json_option
@with_client
def list_pipelines(client: Client, *, as_json: bool) -> None:
    """List pipelines with their last execution."""
    print_rows(client.items("pipelines", limit=100), _PIPELINES, as_json=as_json)


@example("entrepot pipeline start release acme-client 1.4.0 --repository dev")
@pipeline.command()
@click.argument("name")
@click.argument("package")
@click.argument("version")
@click.option("--repository", type=REPOSITORY, required=True, help="Where the version is.")
@click.option("--format", "format_name", metavar="FORMAT", help="The package's format, if several have the name.")
@click.option("--variable", "variables", multiple=True, metavar="NAME=VALUE", help="A pipeline variable; repeatable.")
@json_option
@with_client
def start(
    client: Client,
    name: str,
    package: str,
    version: str,
    *,
    repository: Place,
    format_name: str | None,
    variables: tuple[str, ...],
    as_json: bool,
) -> None:
    """Start an execution for a package version; prints its number."""
    (*_, known_format, known_name), namespace = package_at(client, repository, package, format_name)
    body = {
        "domain": repository.domain,
        "repository": repository.repository,
        "format": known_format,
        "namespace": namespace or "",
        "name": known_name,
        "version": version,
        "variables": _variables(variables),
    }
    execution = client.send("POST", "pipelines", name, "executions", body=body)
    if as_json:
        print_json(execution)
        return
    click.echo(execution["id"])
    say(f"execution {execution['id']} of {name} is {execution['status']}")


def _variables(words: tuple[str, ...]) -> dict[str, str]:
    for word in words:
        if "=" not in word:
            raise click.UsageError(f"--variable {word!r}: write NAME=VALUE")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


@example("entrepot pipeline status 17 --watch --exit-status\nentrepot pipeline status release --stages")
@pipeline.command()
@click.argument("execution", metavar="EXECUTION|PIPELINE")
@click.option("--watch", is_flag=True, help="Follow the execution until it ends.")
@click.option("--exit-status", is_flag=True, help="Exit 1 unless the execution has succeeded.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Executions of a pipeline.")
@click.option("--stages", is_flag=True, help="Of a pipeline: what is in its stages, and what waits before them.")
@json_option
@with_client
def status(
    client: Client, execution: str, *, watch: bool, exit_status: bool, limit: int, stages: bool, as_json: bool
) -> None:
    """Show an execution by its number, or the latest executions of a pipeline, or its stages, by its name."""
    if stages:
        print_state(client.get("pipelines", execution, "state"), as_json=as_json)
        return
    if not execution.isdecimal():
        if watch or exit_status:
            raise click.UsageError("--watch and --exit-status need the number of an execution")
        found = client.items("pipelines", execution, "executions", limit=min(limit, 100), most=limit)
        print_rows(found, _EXECUTIONS, as_json=as_json)
        return
    detail = client.get("executions", execution)
    if watch:
        detail = _watch(client, detail)
    _print_execution(detail, as_json=as_json)
    if exit_status and detail["status"] != "Succeeded":
        raise Failed(f"execution {execution} is {detail['status']}")


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
