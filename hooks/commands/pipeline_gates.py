"""``entrepot pipeline``: what keeps executions before stages, and the ways past: override, freeze, pass, release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from hooks.commands.pipeline_stages import print_state
from registry.commands.client import Client, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_rows, say

_FREEZES = (
    ("NAME", "name"),
    ("PIPELINE", "pipeline"),
    ("STAGES", "stages"),
    ("WHEN", "when"),
    ("HOLDS UNTIL", "until"),
    ("NEXT", "nextAt"),
    ("REASON", "reason"),
    ("BY", "createdBy"),
)


@example("entrepot pipeline override 17 Prod --reason 'security fix, agreed with ops'")
@click.command()
@click.argument("execution", type=click.IntRange(1))
@click.argument("stage")
@click.option(
    "--condition",
    type=click.Choice(["BEFORE_ENTRY", "ON_SUCCESS"]),
    help="Which one; the one that waits or has failed if not given.",
)
@click.option("--reason", required=True, help="Why; at most 300 characters.")
@json_option
@with_client
def override(client: Client, execution: int, stage: str, *, condition: str | None, reason: str, as_json: bool) -> None:
    """Let a stage's condition count as met, whatever its rules say."""
    if condition is None:
        condition = _open_condition(client.get("executions", execution), stage)
    body = {"stage": stage, "conditionType": condition, "reason": reason}
    detail = client.send("POST", "executions", execution, "override", body=body)
    say(f"condition {condition} of stage {stage} is overridden; execution {execution} is {detail['status']}")
    if as_json:
        print_json(detail)


def _open_condition(detail: Mapping[str, Any], stage: str) -> str:
    found = [
        condition["conditionType"]
        for each in detail["stages"]
        for condition in each["conditions"]
        if each["name"] == stage
        and condition["isCurrent"]
        and condition["conditionType"] != "ON_FAILURE"
        and condition["status"] in {"InProgress", "Failed", "Errored"}
    ]
    if len(found) != 1:
        told = "no condition waits or has failed" if not found else "several conditions are open"
        raise click.UsageError(f"{told} in stage {stage} of execution {detail['id']}; say which with --condition")
    return str(found[0])


@click.group()
def freeze() -> None:
    """Freeze windows: times in which executions wait before stages."""


@example(
    "entrepot pipeline freeze add holidays --until 2027-01-02T08:00:00+01:00 --reason 'nobody is here'\n"
    "entrepot pipeline freeze add weekends --pipeline release --stage Prod --cron '0 0 18 ? * FRI' --minutes 3720"
    " --timezone Europe/Berlin --reason 'no releases on weekends'"
)
@freeze.command()
@click.argument("name")
@click.option("--pipeline", help="Of this pipeline alone; of all of them if not given.")
@click.option("--stage", "stages", multiple=True, help="Before this stage; repeatable. All but the first if not given.")
@click.option(
    "--from", "starts_at", metavar="TIME", help="When it begins, as 2026-12-24T18:00:00+01:00; now if not given."
)
@click.option("--until", "ends_at", metavar="TIME", help="When it ends.")
@click.option("--cron", help="When it begins each time: Quartz's six or seven fields.")
@click.option("--minutes", type=click.IntRange(1), help="With --cron: how long it lasts each time.")
@click.option("--timezone", help="With --cron: Region/City, UTC or UTC+HH:MM; UTC if not given.")
@click.option("--reason", required=True, help="Why; people who wait will read it.")
@json_option
@with_client
def add(
    client: Client,
    name: str,
    *,
    pipeline: str | None,
    stages: tuple[str, ...],
    starts_at: str | None,
    ends_at: str | None,
    cron: str | None,
    minutes: int | None,
    timezone: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Make a freeze window: once, from a time to a time, or again and again."""
    if (cron is None) != (minutes is None) or (cron is None and ends_at is None):
        raise click.UsageError("give it an end with --until, or --cron with --minutes")
    body = {
        "name": name,
        "pipeline": pipeline,
        "stages": list(stages) or None,
        "startsAt": starts_at,
        "endsAt": ends_at,
        "cron": cron,
        "minutes": minutes,
        "timezone": timezone,
        "reason": reason,
    }
    wanted = {key: value for key, value in body.items() if value is not None}
    _print_freezes(client.send("POST", "freezes", body=wanted)["items"], as_json=as_json)


@example("entrepot pipeline freeze list --pipeline release")
@freeze.command("list")
@click.option("--pipeline", help="Those that hold for this pipeline.")
@json_option
@with_client
def list_freezes(client: Client, *, pipeline: str | None, as_json: bool) -> None:
    """List freeze windows, with those that hold now."""
    asked = {} if pipeline is None else {"pipeline": pipeline}
    _print_freezes(client.get("freezes", **asked)["items"], as_json=as_json)


@example("entrepot pipeline freeze delete holidays")
@freeze.command("delete")
@click.argument("name")
@json_option
@with_client
def delete_freeze(client: Client, name: str, *, as_json: bool) -> None:
    """Take a freeze window away; what waits for it goes on."""
    client.send("DELETE", "freezes", name)
    say(f"freeze {name} is deleted")
    if as_json:
        print_json({"name": name})


@example("entrepot pipeline pass 17 --reason 'security fix'")
@click.command("pass")
@click.argument("execution", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why; at most 300 characters.")
@json_option
@with_client
def let_through(client: Client, execution: int, *, reason: str, as_json: bool) -> None:
    """Let an execution through the freeze windows before the stage for which it waits."""
    detail = client.send("POST", "executions", execution, "pass", body={"reason": reason})
    where = f"it still waits before {detail['inboundStage']}" if detail["inboundStage"] else "it goes on"
    say(f"execution {execution} is let through; {where}")
    if as_json:
        print_json(detail)


@example("entrepot pipeline release release Prod --reason 'fixed in 1.4.2'")
@click.command()
@click.argument("name")
@click.argument("stage")
@click.option("--reason", default="", help="Why; at most 300 characters.")
@json_option
@with_client
def release(client: Client, name: str, stage: str, *, reason: str, as_json: bool) -> None:
    """Let what a manual rollback has held before a stage enter it again."""
    state = client.send("POST", "pipelines", name, "release", body={"stage": stage, "reason": reason})
    say(f"stage {stage} of {name} is released")
    print_state(state, as_json=as_json)


def _print_freezes(items: list[dict[str, Any]], *, as_json: bool) -> None:
    print_rows([each if as_json else {**each, **_told(each)} for each in items], _FREEZES, as_json=as_json)


def _told(each: Mapping[str, Any]) -> dict[str, str]:
    when = f"{each['startsAt'] or ''} to {each['endsAt'] or ''}"
    if each["cron"] is not None:
        when = f"{each['cron']} ({each['timezone']}), {each['minutes']} minutes"
    return {"when": when, "stages": ", ".join(each["stages"] or ["all"]), "pipeline": each["pipeline"] or "all"}
