"""Client commands of hooks: they talk HTTP to a server, and import neither its web framework nor its database."""

from __future__ import annotations

from collections.abc import Sequence

import click


def commands(builders: Sequence[click.Command] = (), running: Sequence[click.Command] = ()) -> list[click.Command]:
    """``pipeline``, ``build``, ``webhook``, ``secret``, ``parameter``, ``deploy`` and ``runner``.

    ``builders`` go into ``build``, ``running`` into ``runner``: what only the composition root can make.
    """
    from hooks.commands.build import build
    from hooks.commands.build_batch import batch
    from hooks.commands.build_hook import hook
    from hooks.commands.build_lint import lint
    from hooks.commands.build_project import project
    from hooks.commands.build_reports import reports
    from hooks.commands.build_start import retry, start
    from hooks.commands.deploy import deploy
    from hooks.commands.pipeline import pipeline
    from hooks.commands.pipeline_stages import rollback, transition
    from hooks.commands.runner import runner
    from hooks.commands.secret import parameter, secret
    from hooks.commands.webhook import webhook

    project.add_command(hook)
    for command in (start, retry, batch, project, lint, reports, *builders):
        build.add_command(command)
    for command in running:
        runner.add_command(command)
    for command in (transition, rollback):
        pipeline.add_command(command)
    return [pipeline, build, webhook, secret, parameter, deploy, runner]
