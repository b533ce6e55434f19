"""``entrepot``: the one command."""

from __future__ import annotations

import importlib
from typing import Any

import click

# Name → (module, attribute, line for --help). A module is imported when its command is used: what serves brings a web
# framework and a database along, which no client command and no --help needs.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "serve": ("config.cli.server", "serve", "Serve; the first start creates everything."),
    "worker": ("config.cli.server", "worker", "Run a job worker beside or apart from serve."),
    "migrate": ("config.cli.server", "migrate_command", "Bring the database to this release's schema."),
    "check-config": ("config.cli.server", "check_config", "Check the settings and print what is in force."),
    "health": ("config.cli.health", "health", "Say whether the server or worker of this host works."),
    "fsck": ("config.cli.care", "fsck_command", "Check that everything promised is there."),
    "sweep": ("config.cli.care", "sweep_command", "Remove bodies that nothing refers to."),
    "audit": ("config.cli.audit", "audit", "The audit log: verify, export, checkpoint, public-key."),
    "keys": ("config.cli.keys", "keys", "Encryption keys: list, verify, rotate, destroy."),
    "user": (
        "config.cli.people",
        "user",
        "Users: list, disable, enable, delete, create, password, login-link, recover.",
    ),
    "login": ("config.cli.client", "login", "Write a client's configuration."),
    "token": ("config.cli.client", "token", "Tokens: new, list, show, revoke."),
    "package": (
        "config.cli.client",
        "package",
        "Packages: list, show, life, get-asset, explain, promote, yank, origin.",
    ),
    "package-group": (
        "config.cli.client",
        "package_group",
        "Package groups: list, show, create, configure, packages.",
    ),
    "domain": ("config.cli.client", "domain", "Domains: list, describe, create, delete."),
    "repo": (
        "config.cli.client",
        "repo",
        "Repositories: list, show, create, update, delete, endpoint, quota, connection.",
    ),
    "policy": ("config.cli.client", "policy", "Policies of domains and repositories: get, put, delete."),
    "role": ("config.cli.client", "role", "Built-in roles: list, grant, revoke, show."),
    "group": ("config.cli.client", "group", "Groups of accounts: list, show, create, delete, add, remove."),
    "advisory": ("config.cli.client", "advisory", "Advisories about packages: import, show, delete."),
    "explain": ("config.cli.client", "explain", "Why the server decides as it does."),
    "apply": ("config.cli.client", "apply", "Make a server as files declare it, with a plan first."),
    "pipeline": ("config.cli.client", "pipeline", "Pipelines: apply, start, status, graph, approve, reject, retry."),
    "build": ("config.cli.client", "build", "Builds: list, show, logs, artifacts, reports, stop, lint, run, images."),
    "deploy": (
        "config.cli.client",
        "deploy",
        "Deployments: create, status, stop, rollback, targets, app, group, run, lint.",
    ),
    "board": ("config.cli.client", "board", "Which version is in which environment, and what keeps the next one."),
    "figures": ("config.cli.client", "figures", "Lead time, deployments a day, failures and time to restore."),
    "secret": ("config.cli.client", "secret", "Secrets for builds: put, list, show, change, delete."),
    "parameter": ("config.cli.client", "parameter", "Parameters for builds: put, list, show, change, delete."),
    "destination": ("config.cli.client", "destination", "Registries elsewhere to publish to: set, list, show, delete."),
    "runner": (
        "config.cli.client",
        "runner",
        "Runners of builds elsewhere: add, list, show, revoke, delete, register, run.",
    ),
    "agent": (
        "config.cli.client",
        "agent",
        "Agents of deployments: add, list, show, tag, revoke, delete, enrol, run, status.",
    ),
    "webhook": ("config.cli.client", "webhook", "Webhooks: list, create, ping, rotate, deliveries, redeliver."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the table."""
        _ = ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, imported now."""
        _ = ctx
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: Any = getattr(importlib.import_module(module), attribute)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table alone."""
        _ = ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="entrepot", prog_name="entrepot")
def main() -> None:
    """Entrepot: a package registry with builds, approvals and promotion in it.

    Server commands take --data DIR (or ENTREPOT_DATA); client commands read ENTREPOT_URL and ENTREPOT_TOKEN.

    Example: entrepot serve --data ./data
    """


if __name__ == "__main__":
    main()
