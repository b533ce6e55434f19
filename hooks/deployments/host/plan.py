"""Bundle and appspec → the steps of an installation, and what stands against it. Pure.

The rules are those of CodeDeploy's agent: a directory's contents go into the destination, two copies to one place are
refused before anything is written, permissions touch only what this deployment copies or makes.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from hooks.deployments.appspec_model import AppSpec, FileExistsBehavior, FileMapping, Permission
from hooks.deployments.host.globs import is_like
from hooks.deployments.host.steps import (
    Conflict,
    Copy,
    InstallPlan,
    Kind,
    MakeDirectory,
    Place,
    SetAcl,
    SetContext,
    SetMode,
    SetOwner,
    Step,
)

Listing = Mapping[str, Kind]
"""Paths in the bundle, directories included, without a slash at either end."""

Look = Callable[[Place], Kind | None]
"""What lies at a place now. Raises UnsafePlace where a link or a directory on the way must not be trusted."""

_SPECIAL = 0o6000


class UnsafePlace(OSError):
    """Somebody else decides where the way to a place leads; ``str()`` says who or what."""


@dataclass(slots=True)
class _Targets:
    """What the deployment wants to be there, by path and in order."""

    copies: dict[str, tuple[str, Place, Kind]] = field(default_factory=dict)
    directories: dict[str, Place] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)

    def copy(self, source: str, place: Place, kind: Kind) -> None:
        path = place.path
        if path in self.copies:
            other = self.copies[path][0]
            self.conflicts.append(Conflict(path, f"both {other} and {source} of the bundle are to be copied there"))
        elif path in self.directories:
            self.conflicts.append(Conflict(path, f"it is to be a directory and the file {source} at the same time"))
        else:
            self.copies[path] = (source, place, kind)

    def make(self, place: Place) -> None:
        path = place.path
        if path in self.copies:
            source = self.copies[path][0]
            self.conflicts.append(Conflict(path, f"it is to be the file {source} and a directory at the same time"))
        else:
            self.directories.setdefault(path, place)


def plan_install(
    listing: Listing,
    spec: AppSpec,
    behavior: FileExistsBehavior,
    look: Look,
    leaving: Collection[str] = frozenset(),
) -> InstallPlan:
    """The installation of a bundle. ``behavior`` counts where the appspec has none.

    ``leaving`` are absolute paths that are removed before: they count as not there.
    """
    targets = _targets(listing, spec)
    chosen = spec.file_exists_behavior or behavior
    steps: list[Step] = []
    retained: list[str] = []
    seen = _Seen(look, frozenset(leaving), targets.conflicts)
    made: dict[str, Place] = {}
    copied: dict[str, tuple[Place, Kind]] = {}
    for path, place in targets.directories.items():
        if seen.is_directory_wanted(path, place):
            made[path] = place
            steps.append(MakeDirectory(place))
    for path, (source, place, kind) in targets.copies.items():
        there = seen.at(path, place)
        if there is Kind.DIRECTORY:
            targets.conflicts.append(Conflict(path, f"a directory lies there; it does not go for the file {source}"))
        elif there is not None and chosen is FileExistsBehavior.DISALLOW:
            reason = f"a {there.value} of that name lies there, which is not of the deployment before"
            targets.conflicts.append(Conflict(path, reason))
        elif there is not None and chosen is FileExistsBehavior.RETAIN:
            retained.append(path)
        else:
            copied[path] = (place, kind)
            steps.append(Copy(source, place, kind, replaces=there is not None))
    notes: list[str] = []
    steps += _permission_steps(spec.permissions, copied, made, targets.conflicts, notes)
    return InstallPlan(tuple(steps), tuple(targets.conflicts), tuple(retained), tuple(notes))


@dataclass(frozen=True, slots=True)
class _Seen:
    """The machine as it will be, and what is wrong with it."""

    look: Look
    leaving: frozenset[str]
    conflicts: list[Conflict]
    missing: set[str] = field(default_factory=set)

    def at(self, path: str, place: Place) -> Kind | None:
        if path in self.leaving:
            return None
        if path.rpartition("/")[0] in self.missing:
            self.missing.add(path)
            return None
        try:
            there = self.look(place)
        except UnsafePlace as error:
            self.conflicts.append(Conflict(path, str(error)))
            return None
        if there is None:
            self.missing.add(path)
        return there

    def is_directory_wanted(self, path: str, place: Place) -> bool:
        there = self.at(path, place)
        if there is not None and there is not Kind.DIRECTORY:
            self.conflicts.append(Conflict(path, f"a {there.value} lies where a directory is needed"))
        return there is None


def _targets(listing: Listing, spec: AppSpec) -> _Targets:
    targets = _Targets()
    for mapping in spec.files:
        kind = Kind.DIRECTORY if not mapping.source else listing.get(mapping.source)
        if kind is None:
            hint = "; wildcards are not expanded, name the directory" if set("*?[") & set(mapping.source) else ""
            reason = f"line {mapping.line} of the appspec: the bundle has no {mapping.source}{hint}"
            targets.conflicts.append(Conflict(mapping.destination, reason))
            continue
        for path in _ancestors(mapping.destination):
            targets.make(Place.of(path))
        if kind is Kind.DIRECTORY:
            _contents(listing, mapping, targets)
        else:
            place = Place(mapping.destination, (posixpath.basename(mapping.source),))
            targets.copy(mapping.source, place, kind)
    return targets


def _ancestors(path: str) -> Iterator[str]:
    """The path and what is above it, topmost first, without ``/``."""
    parts = [part for part in path.split("/") if part]
    for count in range(1, len(parts) + 1):
        yield "/" + "/".join(parts[:count])


def _contents(listing: Listing, mapping: FileMapping, targets: _Targets) -> None:
    start = f"{mapping.source}/" if mapping.source else ""
    for source in sorted(listing, key=lambda name: name.split("/")):
        if not source.startswith(start):
            continue
        place = Place(mapping.destination, tuple(source[len(start) :].split("/")))
        if listing[source] is Kind.DIRECTORY:
            targets.make(place)
        else:
            targets.copy(source, place, listing[source])


# --- permissions


def _permission_steps(
    permissions: tuple[Permission, ...],
    copied: Mapping[str, tuple[Place, Kind]],
    made: Mapping[str, Place],
    conflicts: list[Conflict],
    notes: list[str],
) -> Iterator[Step]:
    chosen: set[str] = set()
    for permission in permissions:
        matches = list(_matches(permission, copied, made, conflicts))
        if not matches:
            notes.append(
                f"line {permission.line} of the appspec: nothing of this deployment matches the permission for"
                f" {permission.object}"
                + ("; the directory itself is not changed, only what is below it" if permission.object in made else "")
            )
        for path, place, kind in matches:
            if path in chosen:
                reason = f"line {permission.line} of the appspec: two permissions are set for it"
                conflicts.append(Conflict(path, reason))
                continue
            chosen.add(path)
            yield from _steps_of(permission, place, kind, conflicts)


def _matches(
    permission: Permission,
    copied: Mapping[str, tuple[Place, Kind]],
    made: Mapping[str, Place],
    conflicts: list[Conflict],
) -> Iterator[tuple[str, Place, Kind]]:
    if permission.object in copied:
        if permission.files:
            if permission.pattern != "**" or permission.excepted:
                reason = f"line {permission.line} of the appspec: pattern and except are for directories, it is a file"
                conflicts.append(Conflict(permission.object, reason))
                return
            place, kind = copied[permission.object]
            yield permission.object, place, kind
        return
    base = f"{permission.object.rstrip('/')}/"
    found = [(path, place, kind) for path, (place, kind) in copied.items()] if permission.files else []
    if permission.directories:
        # The deepest first: a directory that its owner may not enter any more is in nobody's way then.
        found += [(path, place, Kind.DIRECTORY) for path, place in reversed(list(made.items()))]
    for path, place, kind in found:
        name = path.removeprefix(base)
        if name == path or not name or ("/" in name and permission.pattern != "**"):
            continue
        if permission.pattern != "**" and not is_like(name, permission.pattern):
            continue
        if "/" not in name and any(is_like(name, pattern) for pattern in permission.excepted):
            continue
        yield path, place, kind


def _steps_of(permission: Permission, place: Place, kind: Kind, conflicts: list[Conflict]) -> Iterator[Step]:
    """Mode, access control list, context, owner: in the agent's order."""
    if permission.mode is not None and kind is not Kind.LINK:
        yield SetMode(place, permission.mode)
    if permission.acl and kind is not Kind.LINK:
        if kind is Kind.FILE and any(entry.is_default for entry in permission.acl):
            reason = f"line {permission.line} of the appspec: default entries of acls are for directories, it is a file"
            conflicts.append(Conflict(place.path, reason))
        yield SetAcl(place, permission.acl)
    if permission.context is not None:
        yield SetContext(place, permission.context)
    if permission.owner or permission.group:
        yield SetOwner(place, permission.owner, permission.group, (permission.mode or 0) & _SPECIAL)
