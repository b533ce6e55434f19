"""``entrepot deploy create`` and its like: deployments by the server."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import IO, Any

import click

from hooks.commands.deploy_revision import push_bundle, revision_of, revision_options
from hooks.commands.deploy_watch import check_succeeded, ended, label, tell, waiting_options, waits
from registry.commands.client import Client, Failed, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_record, print_rows, say

_COLUMNS = (
    ("ID", "deploymentId"),
    ("APPLICATION", "applicationName"),
    ("GROUP", "deploymentGroupName"),
    ("VERSION", "version"),
    ("STATUS", "status"),
    ("TARGETS", "deploymentOverview"),
    ("BY", "initiator"),
    ("CREATED", "createTime"),
    ("ENDED", "completeTime"),
    ("ROLLBACK", "rollback"),
)
_ON_TERMINAL = ("ID", "APPLICATION", "GROUP", "VERSION", "STATUS", "ROLLBACK", "BY", "CREATED", "TARGETS", "ENDED")
_FIELDS = (
    ("id", "deploymentId"),
    ("application", "applicationName"),
    ("group", "deploymentGroupName"),
    ("status", "status"),
    ("paused", "isPaused"),
    ("revision", "revisionLabel"),
    ("configuration", "deploymentConfigName"),
    ("targets", "deploymentOverview"),
    ("error", "errorInformation"),
    ("messages", "deploymentStatusMessages"),
    ("rollback", "rollbackInfo"),
    ("by", "initiator"),
    ("created", "createTime"),
    ("goes on", "waitUntil"),
    ("ended", "completeTime"),
)
_TARGETS = (
    ("ID", "targetId"),
    ("TARGET", "label"),
    ("STATUS", "status"),
    ("EVENT", "event"),
    ("ERROR", "error"),
    ("MESSAGE", "message"),
)
_INSTALLED = (
    ("TARGET", "name"),
    ("VERSION", "version"),
    ("CURRENT", "isCurrent"),
    ("HEALTHY", "isHealthy"),
    ("DRIFT", "drift"),
    ("CHANGED FILES", "changedFiles"),
    ("MEMBER", "isMember"),
    ("DEPLOYMENT", "deploymentId"),
    ("INSTALLED", "installedAt"),
    ("SEEN", "foundAt"),
)
_PLANNED = (
    ("TARGET", "name"),
    ("VERSION", "version"),
    ("BECOMES", "becomes"),
    ("HEALTHY", "isHealthy"),
    ("CHANGED", "isChanged"),
    ("SKIPPED", "isSkipped"),
)


_OPTIONS = (
    "deploymentConfigName",
    "description",
    "targets",
    "maxConcurrent",
    "guidedFailure",
    "ignoreApplicationStopFailures",
    "updateOutdatedInstancesOnly",
    "fileExistsBehavior",
    "skipEvents",
    "bakeTimeInMinutes",
)


def _start_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """CodeDeploy's options of a start, and ours; the command gets them as ``options``, ready to be sent."""

    @click.option("--config", "deploymentConfigName", help="Another deployment configuration than the group's.")
    @click.option("--description", help="Why, for people.")
    @click.option("--target", "targets", multiple=True, metavar="NAME", help="Only this target; repeatable.")
    @click.option(
        "--replacement-tag",
        "tags",
        multiple=True,
        metavar="KEY[=VALUE]",
        help="Blue/green: machines with this tag take over, instead of the group's; repeatable, any of them.",
    )
    @click.option("--replacement", "machines", multiple=True, metavar="NAME",
                  help="Blue/green: this machine takes over; repeatable.")  # fmt: skip
    @click.option("--max-concurrent", "maxConcurrent", type=click.IntRange(1, 1000), help="So many targets at a time.")
    @click.option("--guided-failure/--no-guided-failure", "guidedFailure", default=None,
                  help="Pause when a target fails, and ask what becomes of it.")  # fmt: skip
    @click.option("--ignore-application-stop-failures", "ignoreApplicationStopFailures", is_flag=True, default=None,
                  help="Go on when a script of the old release fails.")  # fmt: skip
    @click.option("--update-outdated-instances-only", "updateOutdatedInstancesOnly", is_flag=True, default=None,
                  help="Leave alone the targets that have the revision already.")  # fmt: skip
    @click.option("--file-exists-behavior", "fileExistsBehavior", type=click.Choice(["DISALLOW", "OVERWRITE", "RETAIN"]),
                  help="What becomes of files that are there already, where the appspec does not say.")  # fmt: skip
    @click.option("--skip", "skipEvents", multiple=True, metavar="EVENT", help="Leave out a script event; repeatable.")
    @click.option("--bake", "bakeTimeInMinutes", metavar="MINUTES", type=click.IntRange(0, 2880),
                  help="Watch alarms for so long after the last target.")  # fmt: skip
    @wraps(function)
    def command(*arguments: Any, **given: Any) -> Any:
        chosen = _instances(given.pop("tags"), given.pop("machines"))
        options = {name: value for name in _OPTIONS if (value := given.pop(name)) not in {None, ()}}
        return function(*arguments, options=options | chosen, **given)

    return command


def _instances(tags: tuple[str, ...], machines: tuple[str, ...]) -> dict[str, Any]:
    """CodeDeploy's ``targetInstances``; nothing where none are chosen."""
    filters = []
    for tag in tags:
        key, has_value, value = tag.partition("=")
        if not key:
            raise click.UsageError("--replacement-tag is a KEY, or KEY=VALUE")
        filters.append(
            {"Key": key, "Value": value, "Type": "KEY_AND_VALUE"} if has_value else {"Key": key, "Type": "KEY_ONLY"}
        )
    chosen = ({"tagFilters": filters} if filters else {}) | ({"targets": list(machines)} if machines else {})
    return {"targetInstances": chosen} if chosen else {}


@example("""entrepot deploy create shop prod --package shop@1.4.0 --repository prod --asset shop-1.4.0.tar.gz --watch
entrepot deploy create shop prod --build 6f1c0f8e-0d3b-4c0e-9b57-3d1f0a2b4c5d --artifact bundle --wait
entrepot deploy create shop prod --bundle . --target web-1 --watch""")
@click.command("create")
@click.argument("application", required=False)
@click.argument("group", required=False)
@revision_options
@_start_options
@click.option(
    "--document", type=click.File(encoding="utf-8"), help="CodeDeploy's CreateDeployment instead; - for stdin."
)
@click.option("--token", "request_token", metavar="TEXT", help="The same token within a day is the same deployment.")
@waiting_options
@json_option
@with_client
def create(
    client: Client,
    application: str | None,
    group: str | None,
    *,
    chosen: dict[str, Any],
    options: dict[str, Any],
    document: IO[str] | None,
    request_token: str | None,
    wait: bool,
    watch: bool,
    as_json: bool,
) -> None:
    """Deploy a revision to a group; prints the deployment's id. Without a revision its last good one is deployed again.

    With --wait or --watch it exits with 0 when the deployment succeeded, 1 when it failed or was stopped.
    """
    body = _document(document) if document is not None else {}
    body |= {"applicationName": application} if application else {}
    body |= {"deploymentGroupName": group} if group else {}
    if not body.get("applicationName") or not body.get("deploymentGroupName"):
        raise click.UsageError("which APPLICATION, and which GROUP?")
    revision = revision_of(client, body["applicationName"], chosen)
    if revision is not None:
        body["revision"] = revision
    body |= options
    if request_token is not None:
        body["clientRequestToken"] = request_token
    found = client.send("POST", "deployments", body=body)
    say(f"{found['revisionLabel']} goes to {found['applicationName']}/{found['deploymentGroupName']}")
    tell(client, found, wait=wait, watch=watch, as_json=as_json)


def _document(file: IO[str]) -> dict[str, Any]:
    """CodeDeploy's CreateDeployment, as the server takes it."""
    from hooks.deployments.documents.request import parse_request
    from registry.errors import InvalidDocument

    try:
        parsed = parse_request(file.read())
    except InvalidDocument as error:
        raise Failed("\n".join([f"{file.name} cannot be used:", *error.faults])) from error
    body = {
        "applicationName": parsed.application,
        "deploymentGroupName": parsed.group,
        "revision": parsed.revision,
        "deploymentConfigName": parsed.config_name,
        "description": parsed.description,
        "clientRequestToken": parsed.request_token,
        **parsed.options,
    }
    return {name: value for name, value in body.items() if value is not None}


@example("entrepot deploy push shop ./release")
@click.command("push")
@click.argument("application")
@click.argument("source", metavar="DIR|FILE", type=click.Path(exists=True, path_type=Path))
@json_option
@with_client
def push(client: Client, application: str, source: Path, *, as_json: bool) -> None:
    """Upload a bundle to be deployed (deploy create --upload ID); it is kept for a week, and while it is deployed."""
    found = push_bundle(client, application, source)
    if as_json:
        print_json(found)
    else:
        click.echo(found["id"])


@example("entrepot deploy diff shop prod --package shop@1.4.0 --repository prod --asset shop-1.4.0.tar.gz")
@click.command("diff")
@click.argument("application")
@click.argument("group")
@revision_options
@_start_options
@json_option
@with_client
def diff(
    client: Client, application: str, group: str, *, chosen: dict[str, Any], options: dict[str, Any], as_json: bool
) -> None:
    """Say what a deployment would do: which targets it goes to, in which order, and what they have now.

    Nothing is deployed. With --bundle the bundle is uploaded, so that it can be pinned.
    """
    body: dict[str, Any] = {"applicationName": application, "deploymentGroupName": group, **options}
    revision = revision_of(client, application, chosen)
    if revision is not None:
        body["revision"] = revision
    found = client.send("POST", "deployments", "preview", body=body)
    if as_json:
        print_json(found)
        return
    say(f"{found['revisionLabel']} would go to {len(found['items'])} target(s) by {found['deploymentConfigName']}")
    print_rows(found["items"], _PLANNED, as_json=False)


@example("entrepot deploy list --application shop --group prod --status InProgress")
@click.command("list")
@click.option("--application", help="Of this application only.")
@click.option("--group", help="Of this group of it only.")
@click.option("--status", "statuses", multiple=True, help="In this status only; repeatable.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="At most so many.")
@json_option
@with_client
def list_deployments(
    client: Client, *, application: str | None, group: str | None, statuses: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """List the latest deployments."""
    found = client.items(
        "deployments",
        application=application,
        group=group,
        status=",".join(statuses) or None,
        limit=min(limit, 100),
        most=limit,
    )
    print_rows(found if as_json else map(_listed, found), _COLUMNS, as_json=as_json, on_terminal=_ON_TERMINAL)


def _listed(found: dict[str, Any]) -> dict[str, Any]:
    """A line of the list, with what it undoes, or what undoes it."""
    rollback = found["rollbackInfo"] or {}
    undoes, undone_by = rollback.get("rollbackTriggeringDeploymentId"), rollback.get("rollbackDeploymentId")
    told = [f"of {undoes}"] if undoes else []
    return {**found, "rollback": [*told, f"by {undone_by}"] if undone_by else told}


@example("entrepot deploy status d-8XQ2L6T1P --watch")
@click.command("status")
@click.argument("deployment_id", metavar="DEPLOYMENT")
@waiting_options
@json_option
@with_client
def status(client: Client, deployment_id: str, *, wait: bool, watch: bool, as_json: bool) -> None:
    """Show a deployment and its targets; with --wait or --watch until it has ended."""
    found = client.get("deployments", deployment_id)
    if wait or watch:
        found = ended(client, found, watch=watch)
    targets = list(client.items("deployments", deployment_id, "targets", limit=1000))
    if as_json:
        print_json({**found, "targets": targets})
    else:
        print_record(found, _FIELDS, as_json=False)
        for line in waits(found):
            say(line)
        click.echo()
        print_rows([_row(target) for target in targets], _TARGETS, as_json=False)
    if wait or watch:
        check_succeeded(found)


def _row(target: dict[str, Any]) -> dict[str, Any]:
    begun = [event for event in target["lifecycleEvents"] if event["status"] != "Pending"]
    failed = next((event for event in begun if event["status"] == "Failed"), None)
    # What comes behind a failure is passed over, and says nothing of it.
    last = failed or (begun[-1] if begun else None)
    told = (last or {}).get("diagnostics") or {}
    return {
        **target,
        "label": label(target),
        "event": f"{last['lifecycleEventName']} {last['status']}" if last else None,
        "error": told.get("errorCode") if last and last["status"] == "Failed" else None,
        "message": told.get("message"),
    }


@example("entrepot deploy targets shop prod")
@click.command("targets")
@click.argument("application")
@click.argument("group")
@json_option
@with_client
def targets(client: Client, application: str, group: str, *, as_json: bool) -> None:
    """List a group's targets: which version each has, and whether somebody has changed its files since."""
    found = client.items("deployment-applications", application, "groups", group, "targets")
    print_rows(found, _INSTALLED, as_json=as_json)


COMMANDS = (create, push, diff, list_deployments, status, targets)
"""What goes into ``entrepot deploy``."""
