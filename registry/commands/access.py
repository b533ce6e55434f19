"""``entrepot domain``, ``policy``, ``role``, ``group`` and ``explain``: who may do what, and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from registry.commands.client import Client, Failed, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_record, print_rows, say

_DOMAIN_COLUMNS = (
    ("NAME", "name"),
    ("REPOSITORIES", "repositoryCount"),
    ("PACKAGES", "packageCount"),
    ("BYTES", "assetSizeBytes"),
)
_DOMAIN_FIELDS = (
    ("name", "name"),
    ("arn", "arn"),
    ("created", "createdTime"),
    ("repositories", "repositoryCount"),
    ("packages", "packageCount"),
    ("assets", "assetCount"),
    ("bytes", "assetSizeBytes"),
)
_GRANT_COLUMNS = (("ID", "id"), ("ROLE", "role"), ("WHO", "principal"), ("WHERE", "where"), ("BY", "grantedBy"))
_GROUP_COLUMNS = (("NAME", "name"), ("MEMBERS", "memberCount"), ("DESCRIPTION", "description"))
_ACCESS_FIELDS = (
    ("allowed", "allowed"),
    ("decision", "decision"),
    ("decided by", "decidedBy"),
    ("who", "principal"),
    ("what", "permission"),
    ("where", "resource"),
)


def _done(sentence: str, what: dict[str, Any], *, as_json: bool) -> None:
    say(sentence)
    if as_json:
        print_json(what)


# --- domains ---------------------------------------------------------------------------------------------------------


@click.group()
def domain() -> None:
    """Domains: list, describe, create, delete."""


@example("entrepot domain list")
@domain.command("list")
@json_option
@with_client
def list_domains(client: Client, *, as_json: bool) -> None:
    """List the domains you may look into."""
    print_rows(client.items("domains"), _DOMAIN_COLUMNS, as_json=as_json)


@example("entrepot domain describe default")
@domain.command()
@click.argument("name")
@json_option
@with_client
def describe(client: Client, name: str, *, as_json: bool) -> None:
    """Show a domain: what is in it."""
    print_record(client.get("domains", name), _DOMAIN_FIELDS, as_json=as_json)


@example("entrepot domain create payments")
@domain.command("create")
@click.argument("name")
@json_option
@with_client
def create_domain(client: Client, name: str, *, as_json: bool) -> None:
    """Make a domain, with a key of its own. What is in it is never seen from another."""
    made = client.send("POST", "domains", body={"name": name})
    say(f"made domain {made['name']}")
    print_record(made, _DOMAIN_FIELDS, as_json=as_json)


@example("entrepot domain delete payments --force")
@domain.command("delete")
@click.argument("name")
@click.option("--force", is_flag=True, help="Delete it with the packages in it.")
@json_option
@with_client
def delete_domain(client: Client, name: str, *, force: bool, as_json: bool) -> None:
    """Delete a domain with everything in it."""
    client.send("DELETE", "domains", name, force="true" if force else None)
    _done(f"deleted domain {name}", {"name": name}, as_json=as_json)


# --- policies --------------------------------------------------------------------------------------------------------


@click.group()
def policy() -> None:
    """Policies of domains and repositories: get, put, delete."""


def _place(text: str) -> tuple[str, ...]:
    name, slash, repository = text.partition("/")
    if not name or (slash and not repository) or "/" in repository:
        raise click.UsageError(f"{text!r}: write DOMAIN or DOMAIN/REPOSITORY")
    inside = ("repositories", repository) if repository else ()
    return ("domains", name, *inside, "permissions", "policy")


@example("entrepot policy get default/prod > prod-policy.json")
@policy.command("get")
@click.argument("where")
@json_option
@with_client
def get_policy(client: Client, where: str, *, as_json: bool) -> None:
    """Print the policy of DOMAIN or DOMAIN/REPOSITORY; with --json with its revision."""
    found = client.get(*_place(where))["policy"]
    if as_json:
        print_json(found)
        return
    say(f"revision {found['revision']}")
    click.echo(found["document"])


@example("entrepot policy put default/prod prod-policy.json")
@policy.command("put")
@click.argument("where")
@click.argument("file")
@click.option("--revision", metavar="TEXT", help="Fail unless this is the present policy's revision.")
@json_option
@with_client
def put_policy(client: Client, where: str, file: str, revision: str | None, *, as_json: bool) -> None:
    """Set the policy of DOMAIN or DOMAIN/REPOSITORY from FILE (- for stdin)."""
    try:
        document = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"the policy cannot be read: {error}") from error
    body: dict[str, Any] = {"policyDocument": document}
    if revision is not None:
        body["policyRevision"] = revision
    put = client.send("PUT", *_place(where), body=body)["policy"]
    if as_json:
        print_json(put)
        return
    say(f"set the policy of {put['resourceArn']}")
    click.echo(put["revision"])


@example("entrepot policy delete default/prod")
@policy.command("delete")
@click.argument("where")
@click.option("--revision", metavar="TEXT", help="Fail unless this is the present policy's revision.")
@json_option
@with_client
def delete_policy(client: Client, where: str, revision: str | None, *, as_json: bool) -> None:
    """Delete the policy of DOMAIN or DOMAIN/REPOSITORY."""
    gone = client.send("DELETE", *_place(where), policyRevision=revision)["policy"]
    _done(f"deleted the policy of {gone['resourceArn']}", gone, as_json=as_json)


# --- roles -----------------------------------------------------------------------------------------------------------


@click.group()
def role() -> None:
    """Built-in roles: list, grant, revoke, show."""


@example("entrepot role list")
@role.command("list")
@json_option
@with_client
def list_grants(client: Client, *, as_json: bool) -> None:
    """List who has which role where, in the places whose roles you manage."""
    print_rows(client.items("role-grants"), _GRANT_COLUMNS, as_json=as_json)


@example("entrepot role show")
@role.command()
@json_option
@with_client
def show(client: Client, *, as_json: bool) -> None:
    """Show the roles there are."""
    print_rows(client.items("roles"), (("ROLE", "name"), ("MAY", "description")), as_json=as_json)


_ROLE = click.argument("role_name", metavar="ROLE")
_WHO = click.argument("who", metavar="WHO")
_WHERE = click.argument("where", metavar="WHERE")


@example("entrepot role grant publisher group/payments 'default/payments-*'")
@role.command("grant")
@_ROLE
@_WHO
@_WHERE
@json_option
@with_client
def grant_role(client: Client, role_name: str, who: str, where: str, *, as_json: bool) -> None:
    """Give WHO (user/NAME or group/NAME) a role on WHERE: server, DOMAIN, or DOMAIN/REPOSITORY with * and ?."""
    given = client.send("POST", "role-grants", body={"role": role_name, "principal": who, "where": where})
    say(f"{who} is {role_name} on {where}")
    print_record(given, _GRANT_COLUMNS, as_json=as_json)


@example("entrepot role revoke publisher group/payments 'default/payments-*'")
@role.command("revoke")
@_ROLE
@_WHO
@_WHERE
@json_option
@with_client
def revoke_role(client: Client, role_name: str, who: str, where: str, *, as_json: bool) -> None:
    """Take a role away from WHO on WHERE. It counts from the next request on."""
    wanted = (role_name, who, where)
    for each in client.items("role-grants"):
        if (each["role"], each["principal"], each["where"]) == wanted:
            client.send("DELETE", "role-grants", each["id"])
            _done(f"{who} is no longer {role_name} on {where}", each, as_json=as_json)
            return
    raise Failed(f"{who} has not been granted {role_name} on {where}")


# --- groups ----------------------------------------------------------------------------------------------------------


@click.group()
def group() -> None:
    """Groups of accounts: list, show, create, delete, add, remove."""


@example("entrepot group list")
@group.command("list")
@json_option
@with_client
def list_groups(client: Client, *, as_json: bool) -> None:
    """List the groups."""
    print_rows(client.items("groups"), _GROUP_COLUMNS, as_json=as_json)


@example("entrepot group show payments")
@group.command("show")
@click.argument("name")
@json_option
@with_client
def show_group(client: Client, name: str, *, as_json: bool) -> None:
    """Show who is in a group, and who says so."""
    found = client.get("groups", name)
    if as_json:
        print_json(found)
        return
    print_rows(found["members"], (("USER", "user"), ("SOURCES", "sources")), as_json=False)


@example("entrepot group create payments --description 'Builds the billing service'")
@group.command("create")
@click.argument("name")
@click.option("--description", default="", help="What its members have in common.")
@json_option
@with_client
def create_group(client: Client, name: str, description: str, *, as_json: bool) -> None:
    """Make a group."""
    made = client.send("POST", "groups", body={"name": name, "description": description})
    _done(f"made group/{name}", made, as_json=as_json)


@example("entrepot group delete payments")
@group.command("delete")
@click.argument("name")
@json_option
@with_client
def delete_group(client: Client, name: str, *, as_json: bool) -> None:
    """Delete a group. What its members had through it ends."""
    client.send("DELETE", "groups", name)
    _done(f"deleted group/{name}", {"name": name}, as_json=as_json)


@example("entrepot group add payments ada")
@group.command()
@click.argument("name")
@click.argument("user")
@json_option
@with_client
def add(client: Client, name: str, user: str, *, as_json: bool) -> None:
    """Put a user into a group."""
    client.send("PUT", "groups", name, "members", user)
    _done(f"{user} is in group/{name}", {"group": name, "user": user}, as_json=as_json)


@example("entrepot group remove payments ada")
@group.command()
@click.argument("name")
@click.argument("user")
@json_option
@with_client
def remove(client: Client, name: str, user: str, *, as_json: bool) -> None:
    """Take a user out of a group."""
    client.send("DELETE", "groups", name, "members", user)
    _done(f"{user} is not in group/{name}", {"group": name, "user": user}, as_json=as_json)


# --- explanations ----------------------------------------------------------------------------------------------------


@click.group()
def explain() -> None:
    """Why the server decides as it does."""


@example("entrepot explain access user/ada PublishPackageVersion default/prod")
@explain.command()
@_WHO
@click.argument("what", metavar="WHAT")
@_WHERE
@click.option("--from", "address", metavar="ADDRESS", help="As if asked from this network address.")
@json_option
@with_client
def access(client: Client, who: str, what: str, where: str, address: str | None, *, as_json: bool) -> None:
    """May WHO (user/NAME, group/NAME, anonymous) do WHAT (an action) on WHERE? Exit code 1 when not."""
    found = client.get("explain", "access", who=who, what=what, where=where, sourceIp=address)
    print_record(found, _ACCESS_FIELDS, as_json=as_json)
    if not as_json:
        for entry in found["lookedAt"]:
            name = f" {entry['sid']}" if entry["sid"] else ""
            say(f"  {entry['effect']}{name}, {entry['source']}: {entry['verdict']}")
    if not found["allowed"]:
        sys.exit(1)
