"""Commands that run the server: serve, worker, migrate, check-config."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from config import logs
from config.settings import BadSettings, Settings, load
from registry.errors import Problem
from storage.errors import StorageError


def data_option(function: Any) -> Any:
    """``--data DIR``: the data directory."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: Path(os.environ.get("ENTREPOT_DATA", "data")),
        show_default="ENTREPOT_DATA, else ./data",
        help="The data directory.",
    )(function)


def settings_of(data: Path, **overrides: dict[str, Any]) -> Settings:
    """The settings of a data directory, or the end of the command with every fault told."""
    try:
        settings = load(data.resolve(), **overrides)
    except BadSettings as error:
        for fault in error.faults:
            click.echo(f"entrepot: {fault}", err=True)
        sys.exit(2)
    logs.configure(settings.log)
    # Everything this process and its children create is for this user alone, the database file included.
    os.umask(0o077)
    return settings


def prepared(settings: Settings) -> str | None:
    """Make the data directory ready, or end the command saying why that is not possible."""
    from sqlalchemy.exc import DBAPIError

    from config import first_start

    try:
        return first_start.prepare(settings)
    except (StorageError, Problem, OSError) as error:
        _refuse(str(error))
    except DBAPIError as error:
        _refuse(f"the database says: {error.orig}")


def _refuse(reason: str) -> NoReturn:
    """End the command with one line."""
    click.echo(f"entrepot: cannot start: {logs.redact(' '.join(reason.split()))}", err=True)
    sys.exit(1)


@click.command()
@data_option
@click.option("--bind", metavar="HOST:PORT", help="Address and port to listen on (default 127.0.0.1:8080).")
@click.option("--workers", type=int, metavar="N", help="Web processes (default 2).")
@click.option("--no-worker", is_flag=True, help="Serve requests only; a worker runs elsewhere.")
def serve(data: Path, bind: str | None, workers: int | None, no_worker: bool) -> None:
    """Serve; the first start creates everything and prints a one-time sign-in.

    Example: entrepot serve --data /var/lib/entrepot --bind 0.0.0.0:8080
    """
    from config import addresses, data_lock, sqlite

    settings = settings_of(data, server={"bind": bind, "workers": workers})
    try:
        held = data_lock.lock(settings.data, settings.server.bind)
    except (data_lock.AlreadyServed, OSError) as error:
        _refuse(str(error))
    # The web framework and all that it serves: a start that is refused is refused before it.
    from config import serve as serving

    secret = prepared(settings)
    try:
        listener = serving.listen(settings.server.bind)
    except serving.StartFailed as error:
        _refuse(str(error))
    sqlite.warn(settings)

    def announce() -> None:
        click.echo("\n".join(addresses.announcement(settings, secret)))
        sys.stdout.flush()

    # A supervisor that is killed leaves neither its data nor its port to a child that still ends.
    children = [serving.web(settings, listener, lets_go=(held,))]
    if not no_worker:
        children.append(serving.Child("worker", lambda: _work(settings, is_alone=False), lets_go=(held, listener)))
    with addresses.told(settings):
        status = serving.Supervisor(settings, listener, children).run(announce)
    held.close()
    sys.exit(status)


class _WithRun(click.Group):
    """The worker of a server, and below it ``run``, a client's command that needs none of the server."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The one."""
        _ = ctx
        return ["run"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The one, imported when it is used."""
        _ = ctx
        if cmd_name != "run":
            return None
        from hooks.commands import worker as carrying_out

        command: click.Command = carrying_out.run
        return command


@click.group(cls=_WithRun, invoke_without_command=True)
@data_option
@click.pass_context
def worker(context: click.Context, data: Path) -> None:
    """Run a job worker: triggers, pipelines, builds, sweeps. ``serve`` starts one by itself.

    With ``run``: carry out actions of pipelines of a server elsewhere (``entrepot worker run --help``).

    Example: entrepot worker --data /var/lib/entrepot
    """
    if context.invoked_subcommand is None:
        _work(settings_of(data), is_alone=True)


def _work(settings: Settings, *, is_alone: bool) -> NoReturn:
    from sqlalchemy.exc import DBAPIError

    from config import worker as working

    try:
        status = working.run(settings, is_alone=is_alone)
    except (StorageError, Problem) as error:
        _refuse(str(error))
    except DBAPIError as error:
        _refuse(f"the database says: {error.orig}")
    sys.exit(status)


@click.command("migrate")
@data_option
def migrate_command(data: Path) -> None:
    """Create the data directory if need be and bring the database to this release's schema.

    Example: entrepot migrate --data /var/lib/entrepot
    """
    settings = settings_of(data)
    prepared(settings)
    click.echo(f"the database of {settings.data} is up to date")


@click.command("check-config")
@data_option
def check_config(data: Path) -> None:
    """Check the settings and print what is in force, and from where the program itself is loaded.

    Example: entrepot check-config --data /var/lib/entrepot
    """
    import config
    import hooks
    import registry
    import storage
    from config import sqlite

    settings = settings_of(data)
    click.echo(f"address   {settings.base_url} (listening on {settings.server.bind})")
    click.echo(f"data      {settings.data}")
    click.echo(f"database  {logs.redact(settings.database_url)}")
    if sqlite_in_use := sqlite.describe(settings):
        click.echo(f"sqlite    {sqlite_in_use}")
    click.echo(f"bodies    {settings.blobs_path}")
    click.echo(f"keys      {settings.keys_path}")
    for name, table in sorted(settings.routers.items()):
        click.echo(f"router    {name} ({table['type']})")
    for name, host in sorted(settings.container_hosts.items()):
        click.echo(f"host      {name} ({host.api})")
    for module in (config, hooks, registry, storage):
        click.echo(f"{module.__name__:9s} {Path(module.__file__ or '').parent}")
