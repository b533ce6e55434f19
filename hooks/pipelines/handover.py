"""Which artifacts an action is handed: the files of the pinned version, and what earlier builds left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hooks.builds.handing_over import identifier_of
from hooks.pipelines.definition import ActionDefinition
from hooks.pipelines.run import Run


@dataclass(frozen=True, slots=True)
class Handed:
    """An input artifact. ``build_id`` None: the package version; else the artifact ``identifier`` of that build, or job."""

    build_id: str | None = None
    identifier: str = ""


def handed_to(run: Run, action: ActionDefinition) -> Mapping[str, Handed]:
    """The input artifacts of an action by name, in order. All that make them have ended (``rules``)."""
    found = {}
    for name in action.inputs:
        for stage, maker in run.definition.actions():
            if name in maker.outputs:
                row = run.made_by(stage.name, maker.name)
                build_id = (row.build_id or row.action_job_id) if row is not None else None
                # Jobs hand on artifacts under their own names, builds as their buildspecs have them.
                called = name if row is not None and row.build_id is None else identifier_of(name, maker.outputs)
                found[name] = Handed(build_id, called if build_id else "")
    return found
