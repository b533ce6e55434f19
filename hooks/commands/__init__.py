"""Client commands of hooks: they talk HTTP to a server, and import neither its web framework nor its database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click


def commands(
    builders: Sequence[click.Command] = (),
    running: Sequence[click.Command] = (),
    installers: Callable[[str], Any] = lambda _: None,
) -> list[click.Command]:
    """All of them, in the order in which the composition root takes them.

    ``builders`` go into ``build``, ``running`` into ``runner``: what only the composition root can make. ``installers``
    gives what installs packages of a format (``registry.native.PackageInstaller``).
    """
    from hooks.commands.agent import agent
    from hooks.commands.agent_machine import enrol, run_command, status, systemd_unit
    from hooks.commands.apply import apply
    from hooks.commands.board import board
    from hooks.commands.build import build
    from hooks.commands.build_batch import batch
    from hooks.commands.build_hook import hook
    from hooks.commands.build_lint import lint
    from hooks.commands.build_project import project
    from hooks.commands.build_reports import reports
    from hooks.commands.build_start import retry, start
    from hooks.commands.deploy import deploy
    from hooks.commands.deploy_alarms import alarm
    from hooks.commands.deploy_objects import app, config, group
    from hooks.commands.deploy_server import COMMANDS as DEPLOYING
    from hooks.commands.deploy_steer import STEERING
    from hooks.commands.destination import destination
    from hooks.commands.figures import figures
    from hooks.commands.package_life import provenance
    from hooks.commands.pipeline import pipeline
    from hooks.commands.pipeline_gates import freeze, let_through, override, release
    from hooks.commands.pipeline_graph import graph
    from hooks.commands.pipeline_sources import connection, detach, kept_object, pipeline_hook
    from hooks.commands.pipeline_stages import rollback, transition
    from hooks.commands.runner import runner
    from hooks.commands.secret import parameter, secret
    from hooks.commands.webhook import webhook

    project.add_command(hook)
    for command in (start, retry, batch, project, lint, reports, *builders):
        build.add_command(command)
    for command in (app, group, config, alarm, provenance, *DEPLOYING, *STEERING):
        deploy.add_command(command)
    for command in running:
        runner.add_command(command)
    for command in (transition, rollback, graph, override, freeze, let_through, release):
        pipeline.add_command(command)
    for command in (connection, pipeline_hook, detach, kept_object):
        pipeline.add_command(command)
    for command in (enrol, run_command(installers), status, systemd_unit):
        agent.add_command(command)
    return [pipeline, build, webhook, secret, parameter, deploy, runner, agent, apply, board, figures, destination]
