"""Release directories behind a link: the new release is laid out whole beside the old one, then the link is switched.

Not CodeDeploy's: its agent removes the old files before it copies the new ones, and between the two there is no
application. Here whoever goes through the link sees the old release or the new one, at every moment and after any crash.
``files`` and ``permissions`` of the appspec stay as they are; what they say of the link and of what is below it counts
for the release.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from hooks.deployments.appspec_model import AppSpec, FileExistsBehavior
from hooks.deployments.host import places, trees
from hooks.deployments.host.install import Cleanup, InstallError, carry_out, note_plan, refuse, unknown_accounts
from hooks.deployments.host.plan import Listing, UnsafePlace, plan_install
from hooks.deployments.host.state import KEPT_REVISIONS, GroupState
from hooks.deployments.host.steps import Conflict, InstallPlan, Kind, Place

RELEASES = "releases"


def release_directory(link: str, deployment_id: str) -> str:
    """Where a deployment's release lies: beside the link."""
    return f"{os.path.dirname(link)}/{RELEASES}/{deployment_id}"  # noqa: PTH120


def moved(spec: AppSpec, link: str, release: str) -> tuple[AppSpec, list[Conflict]]:
    """The appspec with the release in the link's place, and what is wrong with that. Pure."""
    conflicts: list[Conflict] = []

    def place(path: str, line: int) -> str:
        if path == link or path.startswith(f"{link}/"):
            return release + path[len(link) :]
        reason = f"line {line} of the appspec: it is not below {link}, which is what is switched"
        conflicts.append(Conflict(path, reason))
        return path

    files = tuple(replace(entry, destination=place(entry.destination, entry.line)) for entry in spec.files)
    permissions = tuple(replace(entry, object=place(entry.object, entry.line)) for entry in spec.permissions)
    if not files:
        conflicts.append(Conflict(link, "the appspec has no files, there is no release to be switched to"))
    return replace(spec, files=files, permissions=permissions), conflicts


def preview_release(
    listing: Listing, spec: AppSpec, behavior: FileExistsBehavior, link: str, deployment_id: str
) -> InstallPlan:
    """What a release would be made of, and what stands against it. Changes nothing."""
    spec, conflicts = moved(spec, link, release_directory(link, deployment_id))
    try:
        if _lies_at(link) not in {None, Kind.LINK}:
            conflicts.append(Conflict(link, "it is no link; move it away once, so that a link can take its place"))
    except UnsafePlace as error:
        conflicts.append(Conflict(link, str(error)))
    plan = plan_install(listing, spec, behavior, places.find)
    conflicts += [Conflict("permissions", reason) for reason in unknown_accounts(plan.steps)]
    return replace(plan, conflicts=(*conflicts, *plan.conflicts))


def _lies_at(path: str) -> Kind | None:
    try:
        with places.opened(Place.of(path)) as (directory, name):
            return places.kind_of(os.lstat(name, dir_fd=directory).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None


def current_release(link: str) -> str:
    """The id of the release that the link leads to; "" for none."""
    try:
        with places.opened(Place.of(link)) as (directory, name):
            target = os.readlink(name, dir_fd=directory)
    except OSError:
        return ""
    above, _, release = target.rpartition("/")
    return release if above in {RELEASES, f"{os.path.dirname(link)}/{RELEASES}"} else ""  # noqa: PTH120


def install_release(
    archive: Path,
    listing: Listing,
    spec: AppSpec,
    behavior: FileExistsBehavior,
    state: GroupState,
    link: str,
    deployment_id: str,
    say: Callable[[str], object],
) -> InstallPlan:
    """Lay out a release and switch the link to it. Raises InstallError; the link is as it was then."""
    release = release_directory(link, deployment_id)
    previous = current_release(link)
    plan = InstallPlan()
    if previous != deployment_id:  # else it was interrupted after the switch
        if _lies_at(release) is Kind.DIRECTORY:
            trees.remove(Place.of(release))  # the rest of an attempt that was interrupted
        plan = preview_release(listing, spec, behavior, link, deployment_id)
        refuse(plan)
        for note in plan.notes:
            say(note)
        note_plan(state, plan)
        # The release goes as a whole, when it is old; what SELinux is told of it does not lie in it.
        record = Cleanup(state).record
        carry_out(archive, plan.steps, lambda records: record([each for each in records if "context" in each]))
        switch(link, deployment_id)
        say(f"{link} leads to {RELEASES}/{deployment_id} now" + (f", before to {previous}" if previous else ""))
    for note in Cleanup(state).carry_out(spared=(link, release)):
        say(note)
    try:
        for gone in _prune(Place.of(os.path.dirname(release)), {deployment_id, previous}):  # noqa: PTH120
            say(f"the release {gone} is removed")
    except OSError as error:
        say(f"old releases are not removed: {error}")  # the new one counts already
    return plan


def switch(link: str, deployment_id: str) -> None:
    """Let the link lead to a release, in one step. Raises InstallError."""
    try:
        places.make_link(Place.of(link), f"{RELEASES}/{deployment_id}", replaces=True)
        with places.opened(Place.of(link)) as (directory, _):
            os.fsync(directory)
    except OSError as error:
        raise InstallError(f"{link} cannot be switched: {error}") from error


def _prune(releases: Place, kept: set[str]) -> Iterator[str]:
    found = trees.directories(releases)
    spare = len(found) - KEPT_REVISIONS
    for name in [name for name in found if name not in kept][: max(spare, 0)]:
        trees.remove(Place(releases.path, (name,)))
        yield name
