"""``entrepot pipeline graph``: stages and actions drawn, with the states of an execution or of the pipeline itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import click

from registry.commands.client import Client, with_client
from registry.commands.options import example
from registry.commands.output import cell, json_option, print_json

_MARKS = {
    "Succeeded": ("✓", "green"),
    "Failed": ("✗", "red"),
    "InProgress": ("…", "cyan"),
    "Waiting": ("?", "yellow"),
    "Stopped": ("■", "red"),
    "Stopping": ("■", "yellow"),
    "Abandoned": ("■", "red"),
    "Cancelled": ("■", "red"),
}
_LONGEST_SUMMARY = 60
_LEAST_WIDTH = 24


@example("entrepot pipeline graph release\nentrepot pipeline graph 17")
@click.command("graph")
@click.argument("what", metavar="EXECUTION|PIPELINE")
@json_option
@with_client
def graph(client: Client, what: str, *, as_json: bool) -> None:
    """Draw a pipeline's stages, their actions by runOrder, and how each stands: in an execution, or now in the pipeline.

    Marks: ✓ succeeded, ✗ failed, … in progress, ? waits for somebody, ■ stopped, · not started.
    """
    head, stages = _of_execution(client, what) if what.isdecimal() else _of_pipeline(client, what)
    if as_json:
        print_json({"title": head, "stages": stages})
        return
    click.echo(cell(head))
    for line in drawn(stages):
        click.echo(line)


def _of_execution(client: Client, number: str) -> tuple[str, list[dict[str, Any]]]:
    found = client.get("executions", number)
    head = f"{found['pipeline']} #{found['id']}: {found['status']}, {found['name']} {found['version']}"
    stages = [
        {
            "name": stage["name"],
            "status": stage["status"],
            "before": "it waits here" if found["inboundStage"] == stage["name"] else "",
            "actions": [_action(each, each) for each in stage["actions"]],
        }
        for stage in found["stages"]
    ]
    return head, stages


def _of_pipeline(client: Client, name: str) -> tuple[str, list[dict[str, Any]]]:
    found, state = client.get("pipelines", name), client.get("pipelines", name, "state")
    now = {stage["stageName"]: stage for stage in state["stageStates"]}
    stages = []
    for stage in found["definition"]["stages"]:
        there = now.get(stage["name"], {})
        latest = there.get("latestExecution") or {}
        states = {each["actionName"]: each["latestExecution"] or {} for each in there.get("actionStates", ())}
        number = latest.get("pipelineExecutionId")
        stages.append(
            {
                "name": f"{stage['name']} (#{number})" if number else stage["name"],
                "status": latest.get("status"),
                "before": _before(there),
                "actions": [
                    _action({**each, "provider": each["type"]["provider"]}, states.get(each["name"], {}))
                    for each in stage["actions"]
                ],
            }
        )
    return f"{name}, version {found['version']}, {state['executionMode']}", stages


def _before(stage: Mapping[str, Any]) -> str:
    """What stands in the way into a stage, and what waits there."""
    way = stage.get("inboundTransitionState") or {"enabled": True}
    told = [] if way["enabled"] else [f"closed by {way['lastChangedBy']}: {way['disabledReason']}"]
    waiting = [f"#{each['pipelineExecutionId']}" for each in stage.get("inboundExecutions", ())]
    return "; ".join([*told, f"{', '.join(waiting)} waits"] if waiting else told)


def _action(definition: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": definition["name"],
        "provider": definition["provider"],
        "runOrder": definition["runOrder"],
        "status": state.get("status"),
        "summary": state.get("summary") or "",
    }


def drawn(stages: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """The lines of the drawing: a box for each stage, a line for each runOrder, its actions beside each other."""
    blocks = [(stage, list(_lines(stage["actions"]))) for stage in stages]
    width = max([_LEAST_WIDTH, *(len(line) for _, lines in blocks for line, _ in lines)])
    width = max([width, *(len(cell(stage["name"])) + 4 for stage, _ in blocks)])
    for number, (stage, lines) in enumerate(blocks):
        if number:
            yield "    │" + (f"  {cell(stage['before'])}" if stage["before"] else "")
            yield "    ▼"
        mark, colour = _MARKS.get(stage["status"] or "", ("·", None))
        title = f"{mark} {cell(stage['name'])} "
        yield "┌─" + click.style(title, fg=colour, bold=True) + "─" * (width + 1 - len(title)) + "┐"
        for line, colour in lines:
            yield "│ " + click.style(line.ljust(width), fg=colour) + " │"
        yield "└" + "─" * (width + 2) + "┘"


def _lines(actions: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str | None]]:
    """(text, colour) of each runOrder; what an action says of itself stands below it while it has not succeeded."""
    ordered = sorted(actions, key=lambda each: int(each["runOrder"]))
    for order, members in groupby(ordered, key=lambda each: each["runOrder"]):
        together = list(members)
        shown = "   ".join(
            f"{_MARKS.get(each['status'] or '', ('·', None))[0]} {cell(each['name'])} ({cell(each['provider'])})"
            for each in together
        )
        worst = next((each["status"] for each in together if each["status"] != "Succeeded"), "Succeeded")
        yield f"{order:>3}  {shown}", _MARKS.get(worst or "", ("", None))[1]
        for each in together:
            summary = cell(each["summary"])
            if summary and each["status"] != "Succeeded":
                short = summary if len(summary) <= _LONGEST_SUMMARY else f"{summary[: _LONGEST_SUMMARY - 1]}…"
                yield f"       {short}", None
