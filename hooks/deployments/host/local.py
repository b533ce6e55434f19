"""A whole deployment of a directory or an archive on this machine, without a server (AWS's ``codedeploy-local``)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hooks.deployments.appspec import parse_appspec
from hooks.deployments.appspec_model import AppSpec
from hooks.deployments.host import bundle
from hooks.deployments.host.atomic import current_release, preview_release
from hooks.deployments.host.deployment import Deployment, HostDeployment
from hooks.deployments.host.install import describe, preview
from hooks.deployments.host.state import GroupState
from hooks.deployments.host.steps import InstallPlan, Place
from hooks.deployments.lifecycle import APPLICATION_STOP
from hooks.deployments.outcomes import EventResult, EventStatus
from hooks.document import MAX_DOCUMENT_BYTES


@dataclass(frozen=True, slots=True)
class Preview:
    """What a deployment would do: paths it removes, and the plan of what comes after that."""

    removed: tuple[Place, ...]
    plan: InstallPlan
    spec: AppSpec
    switches: tuple[str, str] = ("", "")
    """Link, and the release it leads to now."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        plan = self.plan
        return {
            "willRemove": [place.path for place in self.removed],
            "willCreate": list(plan.created),
            "willOverwrite": list(plan.overwritten),
            "willRetain": list(plan.retained),
            "conflicts": [{"path": each.path, "reason": each.reason} for each in plan.conflicts],
            "instructions": [describe(step) for step in plan.steps],
            "warnings": [*self.spec.warnings, *plan.notes],
            "hooks": {event: [script.location for script in scripts] for event, scripts in self.spec.hooks.items()},
        }


def preview_deployment(source: Path, wanted: Deployment, state: GroupState) -> Preview:
    """What a deployment of ``source`` would do; nothing is changed, and no script runs.

    Raises BundleError, InvalidDocument, StateError, OSError, UnicodeDecodeError.
    """
    with tempfile.TemporaryDirectory(prefix="entrepot-deploy-") as place:
        archive = Path(place, "bundle")
        bundle.take(source, archive, wanted.appspec_name)
        path = bundle.find_appspec(archive, wanted.appspec_name)
        if path is None:
            raise bundle.BundleError(f"the bundle has no {wanted.appspec_name} at its top")
        with path.open("rb") as file:
            spec = parse_appspec(file.read(MAX_DOCUMENT_BYTES + 1).decode(), path.name, events=wanted.events)
        found = bundle.listing(archive)
    behavior = wanted.file_exists_behavior
    if wanted.link:
        plan = preview_release(found, spec, behavior, wanted.link, wanted.deployment_id)
        return Preview((), plan, spec, (wanted.link, current_release(wanted.link)))
    leaving, plan = preview(found, spec, behavior, state)
    return Preview(tuple(reversed(leaving)), plan, spec)


def deploy(
    host: HostDeployment,
    show: Callable[[EventResult], object],
    *,
    skipped: Sequence[str] = (),
    ignores_stop: bool = False,
) -> list[EventResult]:
    """All events in order; the rest is skipped after one has failed. ``ignores_stop``: but for ApplicationStop.

    ``skipped`` events are left out. Raises StateError, OSError.
    """
    host.begin()
    results: list[EventResult] = []
    for result in _events(host, skipped, ignores_stop=ignores_stop):
        results.append(result)
        show(result)
    host.end()
    return results


def _events(host: HostDeployment, skipped: Sequence[str], *, ignores_stop: bool) -> Iterator[EventResult]:
    failed = ""
    for event in host.deployment.events:
        if failed:
            yield host.skip(event, f"{failed} has failed")
        elif host.is_stopped:
            yield host.skip(event, "the deployment was stopped")
        elif event in skipped:
            yield host.skip(event, "it was asked to be left out")
        else:
            result = host.carry_out(event)
            if result.status is EventStatus.FAILED:
                if event == APPLICATION_STOP and ignores_stop:
                    result = replace(result, message=f"{result.message} (ignored)")
                else:
                    failed = event
            yield result


def has_succeeded(host: HostDeployment, results: Sequence[EventResult], *, ignores_stop: bool) -> bool:
    """Whether a deployment of these events has."""
    if host.is_stopped:
        return False
    failed = [result.event for result in results if result.status is EventStatus.FAILED]
    return not failed or (ignores_stop and failed == [APPLICATION_STOP])
