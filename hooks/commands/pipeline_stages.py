"""``entrepot pipeline``: the stages themselves: their state, closing and opening them, rolling them back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from registry.commands.client import Client, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_rows, say

_STAGES = (
    ("STAGE", "stageName"),
    ("EXECUTION", "latestExecution.pipelineExecutionId"),
    ("STATUS", "latestExecution.status"),
    ("WAITING", "waiting"),
    ("TRANSITION", "transition"),
)


def print_state(state: Mapping[str, Any], *, as_json: bool) -> None:
    """A pipeline's state: as the server told it, or a line for each stage."""
    if as_json:
        print_json(state)
        return
    say(f"pipeline {state['pipelineName']}, version {state['pipelineVersion']}, {state['executionMode']}")
    print_rows([{**stage, **_told(stage)} for stage in state["stageStates"]], _STAGES, as_json=False)


def _told(stage: Mapping[str, Any]) -> dict[str, str]:
    way = stage["inboundTransitionState"]
    waiting = ", ".join(str(each["pipelineExecutionId"]) for each in stage["inboundExecutions"])
    kept = [] if way["enabled"] else [f"closed by {way['lastChangedBy']}: {way['disabledReason']}"]
    if stage["freeze"] is not None:
        freeze = stage["freeze"]
        kept.append(f"frozen until {freeze['until']} by {freeze['name']}: {freeze['reason']}")
    kept += [f"{held['package']} is held: rolled back by {held['heldBy']}" for held in stage["holds"]]
    return {"waiting": waiting, "transition": "; ".join(kept) or "open"}


def approved(detail: Mapping[str, Any], action: Mapping[str, Any]) -> str:
    """How many have approved of how many that have to: ``1 of 2``; empty for what is no approval, or was not started."""
    if action["requiredApprovals"] is None:
        return ""
    waiting = {each["token"]: each["given"] for each in detail["approvals"]}
    given = sum(result["verdict"] == "Approved" for result in action["results"])
    return f"{waiting.get(action['token'], given)} of {action['requiredApprovals']}"


def print_approval(asked: Mapping[str, Any]) -> None:
    """What an approval that waits lets through, who is asked, and whether the caller may answer."""
    through = ", ".join(asked["letsThrough"]) or "nothing further"
    asks = ", ".join(asked["approvers"]) or f"whoever may approve on {', '.join(asked['approveOn'])}"
    place = f"{asked['stage']}/{asked['action']}"
    say(f"{place} waits: {asked['given']} of {asked['required']} have approved; it asks {asks}")
    say(f"{place} lets through: {through}")
    if asked["refusal"]:
        say(f"{place}: {asked['refusal']}")


@example("entrepot pipeline transition release Prod --disable --reason 'freeze until Monday'")
@click.command()
@click.argument("name")
@click.argument("stage")
@click.option("--enable/--disable", "enabled", default=None, help="Open the way into the stage, or close it.")
@click.option("--reason", default="", help="Why it is closed; at most 300 characters.")
@json_option
@with_client
def transition(client: Client, name: str, stage: str, *, enabled: bool | None, reason: str, as_json: bool) -> None:
    """Close the way into a stage, so that executions wait before it, or open it again."""
    if enabled is None:
        raise click.UsageError("say --enable or --disable")
    if not enabled and not reason:
        raise click.UsageError("--disable needs a --reason: people who wait will read it")
    body = {"stage": stage, "enabled": enabled, "reason": reason}
    print_state(client.send("POST", "pipelines", name, "transition", body=body), as_json=as_json)


@example("entrepot pipeline rollback 17 Prod")
@click.command()
@click.argument("execution", type=click.IntRange(1))
@click.argument("stage")
@json_option
@with_client
def rollback(client: Client, execution: int, stage: str, *, as_json: bool) -> None:
    """Roll a stage back to an execution that succeeded in it; prints the number of the rollback."""
    detail = client.send("POST", "executions", execution, "rollback", body={"stage": stage})
    if as_json:
        print_json(detail)
        return
    click.echo(detail["id"])
    say(f"execution {detail['id']} rolls {stage} back to {execution}: {detail['name']} {detail['version']}")
