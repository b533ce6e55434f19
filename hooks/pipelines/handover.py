"""Which artifacts an action is handed: the files of the pinned version, and what earlier builds left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hooks.builds.handing_over import identifier_of
from hooks.builds.revision_archives import identifier_of_revision
from hooks.pipelines.definition import ActionDefinition
from hooks.pipelines.run import Run
from hooks.pipelines.state import ActionStatus
from registry.errors import Conflict


@dataclass(frozen=True, slots=True)
class Handed:
    """An input artifact: the artifact ``identifier`` of the build ``build_id``.

    Without a build it is what a source action has fetched (``17/Source``), or without an identifier the package version.
    """

    build_id: str | None = None
    identifier: str = ""

    @property
    def is_version(self) -> bool:
        """Whether it is the package version itself."""
        return self.build_id is None and not self.identifier


def handed_to(run: Run, action: ActionDefinition) -> Mapping[str, Handed]:
    """The input artifacts of an action by name, in order. All that make them have ended (``rules``).

    Raises Conflict for an artifact whose stage was skipped: the package version must not stand in for what a build makes.
    """
    found = {}
    for name in action.inputs:
        for stage, maker in run.definition.actions():
            if name in maker.outputs and maker.type.category == "Source":
                found[name] = Handed(None, "" if maker.is_package_source else _fetched(run, maker.name))
            elif name in maker.outputs:
                row = run.made_by(stage.name, maker.name)
                is_made = row is not None and row.status == ActionStatus.SUCCEEDED
                if not is_made and maker.type.category != "Source":
                    raise Conflict(
                        f"artifact {name} is not there: {stage.name}/{maker.name}, which makes it, did not succeed"
                    )
                build_id = row.build_id if row is not None else None
                found[name] = Handed(build_id, identifier_of(name, maker.outputs) if build_id else "")
    return found


def own_revision(run: Run) -> str:
    """What the execution is about where that is no package version: ``17/Source``; "" for a package version."""
    source = run.definition.source
    return "" if source.is_package_source else _fetched(run, source.name)


def _fetched(run: Run, action: str) -> str:
    # A rollback has what the execution it goes back to has fetched.
    return identifier_of_revision(run.execution.rollback_target_id or run.execution.id, action)
