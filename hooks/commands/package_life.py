"""``entrepot package life``, and backwards from a machine or a group: what went where and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from registry.commands.client import Client, with_client
from registry.commands.options import example
from registry.commands.output import cell, json_option, print_json, print_rows, say

_TIMELINE = (("AT", "at"), ("WHAT", "kind"), ("HOW", "text"), ("DETAIL", "detail"))
_PROVENANCE = (
    ("GROUP", "place"),
    ("VERSION", "version"),
    ("DIGEST", "digest"),
    ("DEPLOYMENT", "deploymentId"),
    ("EXECUTION", "run"),
    ("APPROVED", "approved"),
    ("BUILD", "built"),
    ("COMMIT", "commit"),
    ("TARGETS", "names"),
)
_ON_TERMINAL = ("GROUP", "VERSION", "DEPLOYMENT", "EXECUTION", "APPROVED", "BUILD", "COMMIT", "TARGETS", "DIGEST")
_NAMED = 5


@example("entrepot package life generic acme-tool 1.4.0")
@click.command("life")
@click.argument("format_name", metavar="FORMAT")
@click.argument("name")
@click.argument("version")
@click.option("--domain", default="default", show_default=True, help="The domain that the package is in.")
@json_option
@with_client
def life(client: Client, format_name: str, name: str, version: str, *, domain: str, as_json: bool) -> None:
    """Show a version from its source to where it is deployed, moment by moment, and what keeps it from going on."""
    namespace, _, last = name.rpartition("/")
    path = ("domains", domain, "packages", format_name, last, "versions", version, "life")
    found = client.get(*path, namespace=namespace or None)
    if as_json:
        print_json(found)
        return
    say(f"{domain}: {found['format']} {name} {found['version']}")
    print_rows(found["timeline"], _TIMELINE, as_json=False)
    for place in _where(found):
        say(place)
    for each in found["blocking"]:
        say(cell(f"{each['kind']}: {each['text']} ({each['pipeline']} #{each['executionId']})"))
    if found["isCut"]:
        say("there is more than is shown: of executions the newest 50 are looked at, of deployments the newest 100")


def _where(found: Mapping[str, Any]) -> Iterable[str]:
    """Where it is now."""
    if found["places"]:
        yield f"it is in {', '.join(place['repository'] for place in found['places'])}"
    for each in found["deployments"]:
        here = [target["name"] for target in each["targets"] if target["isThere"]][:_NAMED]
        if each["thereCount"] and each["until"] is None:
            some = ", ".join(here) + (
                f" and {each['thereCount'] - len(here)} more" if each["thereCount"] > len(here) else ""
            )
            yield cell(f"it is installed in {each['application']}/{each['group']}: {some}, by {each['deploymentId']}")


def print_provenance(client: Client, *path: str) -> None:
    """What is installed there, with what led to it; nothing where nothing is."""
    rows = [_row(each) for each in client.get(*path, "provenance")["items"]]
    print_rows(rows, _PROVENANCE, as_json=False, on_terminal=_ON_TERMINAL)


def _row(each: Mapping[str, Any]) -> dict[str, Any]:
    execution = each["execution"]
    names = [target["name"] for target in each["targets"]]
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return {
        **each,
        "place": f"{each['application']}/{each['group']}",
        "run": f"{execution['pipeline']} #{execution['executionId']}" if execution else None,
        "approved": [told for one in each["approvals"] if (told := approval_told(one))],
        "built": [f"{build['project']} {build['number']}" for build in each["builds"]],
        "commit": [build["commit"] for build in each["builds"] if build["commit"]],
        "names": ", ".join(names[:_NAMED]) + rest,
    }


def approval_told(approval: Mapping[str, Any]) -> str:
    """Who made an approval what it is, and how many were needed; "" where nobody has answered."""
    verdict, answers = approval["verdict"], approval["answers"]
    names = [said["account"] for said in answers if said["verdict"] == verdict]
    if names or approval["by"]:
        needed = (
            f" ({len(names)} of {approval['required']})" if verdict == "Approved" and approval["required"] > 1 else ""
        )
        return f"{verdict.lower()} by {', '.join(names) or approval['by']}{needed}"
    if answers:
        said = ", ".join(each["account"] for each in answers)
        return f"{verdict.lower()}, approved by {said} ({len(answers)} of {approval['required']})"
    return ""


@example("entrepot deploy provenance shop prod")
@click.command("provenance")
@click.argument("application")
@click.argument("group")
@json_option
@with_client
def provenance(client: Client, application: str, group: str, *, as_json: bool) -> None:
    """Show what is installed of a group, and what led to it: digest, deployment, execution, approvals, build, commit."""
    path = ("deployment-applications", application, "groups", group)
    if as_json:
        print_json(client.get(*path, "provenance")["items"])
    else:
        print_provenance(client, *path)
