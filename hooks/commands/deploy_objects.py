"""``entrepot deploy app``, ``group`` and ``config``: what is deployed where, and how."""

from __future__ import annotations

from typing import IO, Any

import click

from registry.commands.client import Client, Failed, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_record, print_rows, say

_APPLICATIONS = (
    ("NAME", "applicationName"),
    ("DOMAIN", "domain"),
    ("PLATFORM", "computePlatform"),
    ("GROUPS", "deploymentGroups"),
    ("BY", "createdBy"),
    ("CREATED", "createTime"),
)
_GROUPS = (
    ("NAME", "deploymentGroupName"),
    ("CONFIGURATION", "deploymentConfigName"),
    ("VERSION", "lastSuccessfulDeployment.version"),
    ("LAST GOOD", "lastSuccessfulDeployment.deploymentId"),
    ("LAST", "lastAttemptedDeployment.deploymentId"),
    ("STATUS", "lastAttemptedDeployment.status"),
    ("UPDATED", "updatedAt"),
)
_CONFIGS = (("NAME", "deploymentConfigName"), ("PLATFORM", "computePlatform"), ("BY", "createdBy"))


@click.group()
def app() -> None:
    """Applications: create, list, show, rename, delete."""


@example("entrepot deploy app create shop --domain default")
@app.command()
@click.argument("name")
@click.option("--platform", default="Server", show_default=True, help="Where it runs: Server, or ECS for containers.")
@click.option("--domain", default="default", show_default=True, help="Whose policy says who may deploy it.")
@json_option
@with_client
def create(client: Client, name: str, *, platform: str, domain: str, as_json: bool) -> None:
    """Make an application."""
    body = {"applicationName": name, "computePlatform": platform, "domain": domain}
    found = client.send("POST", "deployment-applications", body=body)
    if as_json:
        print_json(found)
    else:
        say(f"application {name} was made; give it a group: entrepot deploy group apply FILE --application {name}")


@example("entrepot deploy app list")
@app.command("list")
@json_option
@with_client
def list_applications(client: Client, *, as_json: bool) -> None:
    """List applications."""
    print_rows(client.items("deployment-applications", limit=100), _APPLICATIONS, as_json=as_json)


@example("entrepot deploy app show shop")
@app.command()
@click.argument("name")
@json_option
@with_client
def show(client: Client, name: str, *, as_json: bool) -> None:
    """Show an application."""
    print_record(client.get("deployment-applications", name), _APPLICATIONS, as_json=as_json)


@example("entrepot deploy app rename shop store")
@app.command()
@click.argument("name")
@click.argument("new_name", metavar="NEW")
@json_option
@with_client
def rename(client: Client, name: str, new_name: str, *, as_json: bool) -> None:
    """Give an application another name."""
    found = client.send("PATCH", "deployment-applications", name, body={"newApplicationName": new_name})
    if as_json:
        print_json(found)
    else:
        say(f"application {name} is called {new_name} now")


@example("entrepot deploy app delete shop")
@app.command()
@click.argument("name")
@json_option
@with_client
def delete(client: Client, name: str, *, as_json: bool) -> None:
    """Delete an application with its groups and uploads. Its deployments stay as a record."""
    client.send("DELETE", "deployment-applications", name)
    if as_json:
        print_json({"applicationName": name, "deleted": True})
    else:
        say(f"application {name} is deleted")


# --- groups ----------------------------------------------------------------------------------------------------------


@click.group()
def group() -> None:
    """Deployment groups: apply a document, list, show, delete."""


@example("entrepot deploy group apply prod.yml --application shop --name prod")
@group.command()
@click.argument("document", metavar="FILE", type=click.File(encoding="utf-8"))
@click.option("--application", help="The application, where the document does not say.")
@click.option("--name", help="The group's name, where the document does not say.")
@json_option
@with_client
def apply(client: Client, document: IO[str], *, application: str | None, name: str | None, as_json: bool) -> None:
    """Create or update a group from CodeDeploy's document (YAML or JSON; - for stdin)."""
    from hooks.deployments.documents.group import parse_group
    from registry.errors import InvalidDocument

    text = document.read()
    try:
        parsed = parse_group(text)
    except InvalidDocument as error:
        raise Failed("\n".join([f"{document.name} cannot be used:", *error.faults])) from error
    application, name = application or parsed.application, name or parsed.name
    if not application or not name:
        raise click.UsageError("the document says no applicationName or deploymentGroupName: --application, --name")
    place = ("deployment-applications", application, "groups", name)
    saved = client.send("PUT", *place, body={"document": text})
    for warning in saved["warnings"]:
        say(f"warning: {warning}")
    if as_json:
        print_json(saved)
    else:
        click.echo(f"{application}/{name}\t{saved['change']}")


@example("entrepot deploy group list shop")
@group.command("list")
@click.argument("application")
@json_option
@with_client
def list_groups(client: Client, application: str, *, as_json: bool) -> None:
    """List an application's groups, with what was deployed to them last."""
    found = client.items("deployment-applications", application, "groups", limit=100)
    print_rows(found, _GROUPS, as_json=as_json)


@example("entrepot deploy group show shop prod > prod.json")
@group.command("show")
@click.argument("application")
@click.argument("name")
@json_option
@with_client
def show_group(client: Client, application: str, name: str, *, as_json: bool) -> None:
    """Print a group's document as JSON, ready to be applied again; with --json all that is known of it."""
    found = client.get("deployment-applications", application, "groups", name)
    print_json(found if as_json else found["document"])


@example("entrepot deploy group delete shop prod")
@group.command("delete")
@click.argument("application")
@click.argument("name")
@json_option
@with_client
def delete_group(client: Client, application: str, name: str, *, as_json: bool) -> None:
    """Delete a group. What it has put on machines stays there."""
    client.send("DELETE", "deployment-applications", application, "groups", name)
    if as_json:
        print_json({"applicationName": application, "deploymentGroupName": name, "deleted": True})
    else:
        say(f"deployment group {application}/{name} is deleted")


# --- configurations --------------------------------------------------------------------------------------------------


@click.group()
def config() -> None:
    """Deployment configurations: how many machines at a time. List, show, create, delete."""


@example("entrepot deploy config list")
@config.command("list")
@json_option
@with_client
def list_configs(client: Client, *, as_json: bool) -> None:
    """List configurations, CodeDeploy's own among them."""
    print_rows(client.items("deployment-configs"), _CONFIGS, as_json=as_json)


@example("entrepot deploy config show CodeDeployDefault.HalfAtATime")
@config.command("show")
@click.argument("name")
@json_option
@with_client
def show_config(client: Client, name: str, *, as_json: bool) -> None:
    """Print a configuration's document as JSON; with --json all that is known of it."""
    found = client.get("deployment-configs", name)
    print_json(found if as_json else {"deploymentConfigName": name, **found["document"]})


@example("entrepot deploy config create three-quarters.yml")
@config.command("create")
@click.argument("document", metavar="FILE", type=click.File(encoding="utf-8"))
@json_option
@with_client
def create_config(client: Client, document: IO[str], *, as_json: bool) -> None:
    """Make a configuration from CodeDeploy's document (YAML or JSON; - for stdin). It never changes."""
    found: dict[str, Any] = client.send("POST", "deployment-configs", body={"document": document.read()})
    if as_json:
        print_json(found)
    else:
        say(f"deployment configuration {found['deploymentConfigName']} was made")


@example("entrepot deploy config delete three-quarters")
@config.command("delete")
@click.argument("name")
@json_option
@with_client
def delete_config(client: Client, name: str, *, as_json: bool) -> None:
    """Delete a configuration that no group names."""
    client.send("DELETE", "deployment-configs", name)
    if as_json:
        print_json({"deploymentConfigName": name, "deleted": True})
    else:
        say(f"deployment configuration {name} is deleted")
