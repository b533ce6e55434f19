"""``entrepot deploy stop`` and its like: what people do to deployments that go on, and to those that have ended."""

from __future__ import annotations

from typing import Any

import click

from hooks.commands.deploy_watch import ended, label, result, tell, waiting_options
from registry.commands.client import Client, Failed, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, say


@example("entrepot deploy stop d-8XQ2L6T1P --rollback")
@click.command("stop")
@click.argument("deployment_id", metavar="DEPLOYMENT")
@click.option(
    "--rollback/--no-rollback", default=None, help="Whether to bring back what was there; else as configured."
)
@click.option("--wait", is_flag=True, help="Wait until it has ended.")
@json_option
@with_client
def stop(client: Client, deployment_id: str, *, rollback: bool | None, wait: bool, as_json: bool) -> None:
    """Stop a deployment: nothing more begins, and what runs comes to its end."""
    found = client.send("POST", "deployments", deployment_id, "stop", body={"autoRollbackEnabled": rollback})
    say(f"deployment {deployment_id} is told to stop")
    if wait:
        found = ended(client, found, watch=False)
        say(result(found))
    if as_json:
        print_json(found)


@example("entrepot deploy continue d-8XQ2L6T1P")
@click.command("continue")
@click.argument("deployment_id", metavar="DEPLOYMENT")
@click.option("--termination", is_flag=True, help="Let the original machines go now, instead of rerouting traffic now.")
@json_option
@with_client
def go_on(client: Client, deployment_id: str, *, termination: bool, as_json: bool) -> None:
    """End the wait of a blue/green deployment: send traffic to the new machines now."""
    wait = "TERMINATION_WAIT" if termination else "READY_WAIT"
    found = client.send("POST", "deployments", deployment_id, "continue", body={"deploymentWaitType": wait})
    _said(found, f"deployment {deployment_id} goes on", as_json=as_json)


@example("entrepot deploy pause d-8XQ2L6T1P")
@click.command("pause")
@click.argument("deployment_id", metavar="DEPLOYMENT")
@json_option
@with_client
def pause(client: Client, deployment_id: str, *, as_json: bool) -> None:
    """Let nothing more of a deployment begin until it is resumed."""
    found = client.send("POST", "deployments", deployment_id, "pause")
    _said(found, f"deployment {deployment_id} is paused", as_json=as_json)


@example("entrepot deploy resume d-8XQ2L6T1P")
@click.command("resume")
@click.argument("deployment_id", metavar="DEPLOYMENT")
@json_option
@with_client
def resume(client: Client, deployment_id: str, *, as_json: bool) -> None:
    """Go on with a paused deployment."""
    found = client.send("POST", "deployments", deployment_id, "resume")
    _said(found, f"deployment {deployment_id} goes on", as_json=as_json)


def _said(found: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        say(text)


@example("entrepot deploy retry d-8XQ2L6T1P --skip ApplicationStop --watch")
@click.command("retry")
@click.argument("deployment_id", metavar="DEPLOYMENT")
@click.option("--skip", "skipped", multiple=True, metavar="EVENT", help="Pass over a script of the old release there.")
@waiting_options
@json_option
@with_client
def retry(
    client: Client, deployment_id: str, *, skipped: tuple[str, ...], wait: bool, watch: bool, as_json: bool
) -> None:
    """Deploy the same again to the targets alone that did not succeed: a new deployment, whose id is printed."""
    found = client.send("POST", "deployments", deployment_id, "retry", body={"skipEvents": skipped})
    tell(client, found, wait=wait, watch=watch, as_json=as_json)


@example("entrepot deploy rollback d-8XQ2L6T1P --wait")
@click.command("rollback")
@click.argument("deployment_id", metavar="DEPLOYMENT")
@waiting_options
@json_option
@with_client
def rollback(client: Client, deployment_id: str, *, wait: bool, watch: bool, as_json: bool) -> None:
    """Bring back what was there before a deployment: by a new one, whose id is printed.

    One that goes on is stopped first; what brings the old release back then follows by itself.
    """
    found = client.send("POST", "deployments", deployment_id, "rollback")
    if found["deploymentId"] == deployment_id and (wait or watch):
        stopped = ended(client, found, watch=watch)
        say(result(stopped))
        following = (stopped["rollbackInfo"] or {}).get("rollbackDeploymentId")
        if following is None:
            raise Failed(f"deployment {deployment_id} was stopped, and there was nothing to bring back")
        found = client.get("deployments", following)
    tell(client, found, wait=wait, watch=watch, as_json=as_json)


@example("entrepot deploy skip d-8XQ2L6T1P web-1 ApplicationStop")
@click.command("skip")
@click.argument("deployment_id", metavar="DEPLOYMENT")
@click.argument("target")
@click.argument("event")
@json_option
@with_client
def skip(client: Client, deployment_id: str, target: str, event: str, *, as_json: bool) -> None:
    """Pass over a stuck script of the old release (ApplicationStop) on one target."""
    place = ("deployments", deployment_id, "targets", _target_id(client, deployment_id, target), "skip")
    found = client.send("POST", *place, body={"lifecycleEventName": event})
    _said(found, f"{target}: {event} is skipped", as_json=as_json)


@example("entrepot deploy answer d-8XQ2L6T1P web-1 retry")
@click.command("answer")
@click.argument("deployment_id", metavar="DEPLOYMENT")
@click.argument("target")
@click.argument("what", metavar="retry|ignore|fail", type=click.Choice(["retry", "ignore", "fail"]))
@json_option
@with_client
def answer(client: Client, deployment_id: str, target: str, what: str, *, as_json: bool) -> None:
    """Say what becomes of a target that failed in a deployment with guided failure."""
    place = ("deployments", deployment_id, "targets", _target_id(client, deployment_id, target), "answer")
    found = client.send("POST", *place, body={"answer": what})
    _said(found, f"{target}: {what}", as_json=as_json)


def _target_id(client: Client, deployment_id: str, name: str) -> int:
    for target in client.items("deployments", deployment_id, "targets", limit=1000):
        if name in {target["name"], label(target)}:
            return int(target["targetId"])
    raise Failed(f"deployment {deployment_id} has no target {name}")


STEERING = (stop, go_on, pause, resume, retry, rollback, skip, answer)
"""What goes into ``entrepot deploy``."""
