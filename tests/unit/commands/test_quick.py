"""Client commands start quickly: they bring along neither the server's framework nor its database."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

import config.cli.client  # noqa: F401  (it puts commands of hooks into those of the registry)
from config.cli.images import images
from config.cli.local_build import run as run_build
from config.cli.runner import register
from config.cli.runner import run as run_runner
from hooks.commands import commands as hook_commands
from registry.commands import commands as registry_commands

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("flask", "werkzeug", "sqlalchemy", "requests", "rich", "cryptography", "argon2", "gunicorn")


def no_token(*_: object, **__: object) -> tuple[str, str]:
    raise AssertionError("no token was to be made")


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    here = (*path, command.name or "")
    if isinstance(command, click.Group):
        return [leaf for child in command.commands.values() for leaf in leaves(child, here)]
    return [(here, command)]


ALL = [
    leaf
    for command in [*registry_commands({}, no_token), *hook_commands([run_build, images], [register, run_runner])]
    for leaf in leaves(command)
]


def loaded_after(code: str) -> set[str]:
    probe = f"import sys\n{code}\nprint(' '.join(sorted(module.partition('.')[0] for module in sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_of_client_commands_loads_nothing_heavy() -> None:
    code = (
        "from click.testing import CliRunner\n"
        "import registry.commands, hooks.commands\n"
        "for command in [*registry.commands.commands({}, None), *hooks.commands.commands()]:\n"
        "    assert CliRunner().invoke(command, ['--help']).exit_code == 0\n"
    )
    assert not loaded_after(code).intersection(HEAVY)
    assert "sqlalchemy" in loaded_after("import registry.db")  # negative control: the probe sees what is loaded


def test_the_whole_command_line_offers_them_as_quickly() -> None:
    code = "from config.cli.client import login, token, repo, package, pipeline, build, webhook, secret, runner, agent"
    assert not loaded_after(code).intersection(HEAVY)


def test_there_are_all_the_commands() -> None:
    assert {" ".join(path) for path, _ in ALL} == {
        "login",
        "apply",
        *(f"token {word}" for word in ("new", "list", "show", "revoke")),
        *(f"repo {word}" for word in ("list", "show", "create", "update", "delete", "endpoint", "quota")),
        *(f"user {word}" for word in ("list", "disable", "enable", "delete")),
        "package get-asset",
        *(f"domain {word}" for word in ("list", "describe", "create", "delete")),
        *(f"policy {word}" for word in ("get", "put", "delete")),
        *(f"role {word}" for word in ("list", "show", "grant", "revoke")),
        *(f"group {word}" for word in ("list", "show", "create", "delete", "add", "remove")),
        "explain access",
        *(f"repo connection {word}" for word in ("list", "add", "change", "remove")),
        *(f"package {word}" for word in ("list", "show", "promote", "yank", "unyank", "delete", "status")),
        *(f"package {word}" for word in ("explain", "origin show", "origin put", "life")),
        *(f"package-group {word}" for word in ("list", "show", "create", "update", "configure", "delete", "packages")),
        *(f"package {word}" for word in ("copy", "dispose", "versions", "reopen")),
        *(
            f"pipeline {word}"
            for word in ("apply", "lint", "list", "start", "status", "approve", "reject", "stop", "retry")
        ),
        *(f"pipeline {word}" for word in ("rollback", "transition", "graph", "override", "pass", "release", "detach")),
        *(f"pipeline freeze {word}" for word in ("add", "list", "delete")),
        *(f"pipeline connection {word}" for word in ("put", "list", "delete")),
        *(f"pipeline webhook {word}" for word in ("create", "list", "delete")),
        *(f"pipeline object {word}" for word in ("put", "list", "bucket")),
        *(f"pipeline action-type {word}" for word in ("create", "list", "delete")),
        *(f"pipeline action-webhook {word}" for word in ("put", "list", "delete")),
        "worker run",
        *(
            f"build {word}"
            for word in ("list", "show", "logs", "artifacts", "reports", "stop", "resume", "lint", "run")
        ),
        *(f"build {word}" for word in ("start", "retry", "images build", "images list")),
        *(f"build batch {word}" for word in ("start", "list", "show", "stop", "retry")),
        *(f"build project {word}" for word in ("apply", "list", "show", "delete", "credential")),
        *(f"build project hook {word}" for word in ("list", "waiting", "create", "change", "delete")),
        *(f"advisory {word}" for word in ("import", "show", "delete")),
        *(f"destination {word}" for word in ("set", "list", "show", "delete")),
        *(f"runner {word}" for word in ("add", "token", "list", "show", "revoke", "delete", "register", "run")),
        *(
            f"agent {word}"
            for word in ("add", "token", "list", "show", "tag", "untag", "clear-alarm", "revoke", "delete")
        ),
        *(f"agent {word}" for word in ("enrol", "run", "status", "systemd-unit")),
        *(f"deploy {word}" for word in ("lint", "run", "create", "push", "diff", "list", "status", "targets", "stop")),
        *("deploy provenance", "board", "figures"),
        *(f"deploy {word}" for word in ("continue", "pause", "resume", "retry", "rollback", "skip", "answer")),
        *(f"deploy app {word}" for word in ("create", "list", "show", "rename", "delete")),
        *(f"deploy group {word}" for word in ("apply", "list", "show", "delete")),
        *(f"deploy alarm {word}" for word in ("list", "tell", "delete")),
        *(f"deploy config {word}" for word in ("list", "show", "create", "delete")),
        *(f"secret {word}" for word in ("put", "list", "show", "change", "delete")),
        *(f"parameter {word}" for word in ("put", "list", "show", "change", "delete")),
        *(f"webhook {word}" for word in ("kinds", "list", "show", "create", "change", "delete", "enable", "disable")),
        *(f"webhook {word}" for word in ("ping", "rotate", "deliveries", "delivery", "redeliver")),
    }


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_help_has_an_example(path: tuple[str, ...], command: click.Command) -> None:
    from click.testing import CliRunner

    shown = CliRunner().invoke(command, ["--help"]).output
    example = shown.partition("Example:")[2]
    assert f"entrepot {' '.join(path)}" in example
    assert command.help


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_command_speaks_json(path: tuple[str, ...], command: click.Command) -> None:
    options = {name for parameter in command.params for name in parameter.opts}
    assert "--json" in options, path
