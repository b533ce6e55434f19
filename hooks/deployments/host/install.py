"""Carry out an installation: journal first, then the step. Started anew after any end it comes to the same result.

As CodeDeploy's agent it removes what the deployment before has put there, copies, and sets permissions. Other than the
agent it first finds out whether anything stands against it, so that a conflict leaves the old files where they are.
"""

from __future__ import annotations

import ctypes
import grp
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hooks.deployments import acl
from hooks.deployments.appspec_model import AppSpec, FileExistsBehavior, SecurityContext
from hooks.deployments.host import bundle, places, trees
from hooks.deployments.host.plan import Listing, UnsafePlace, plan_install
from hooks.deployments.host.state import GroupState, Lines, replace_file
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

_BATCH = 200
_SPECIAL = re.compile(r"([.^$*+?()\[\]{}|\\])")
_SHOWN_CONFLICTS = 5
_NOT_INSTALLED = "{} is not installed on this machine; context needs SELinux's programs"
_MOST_NUMBER = 2**32 - 2  # the one above it means "leave as it is"


class InstallError(Exception):
    """The installation was not made, or not all of it; ``conflicts`` stood against it before anything was changed.

    ``untaken`` are the paths that were noted, and not made for this error.
    """

    def __init__(self, message: str, conflicts: Sequence[Conflict] = ()) -> None:
        super().__init__(message)
        self.conflicts = tuple(conflicts)
        self.untaken: frozenset[str] = frozenset()


def refuse(plan: InstallPlan) -> None:
    """Raise InstallError with what stands against a plan, if anything does."""
    if plan.conflicts:
        shown = [f"{conflict.path}: {conflict.reason}" for conflict in plan.conflicts[:_SHOWN_CONFLICTS]]
        more = len(plan.conflicts) - len(shown)
        raise InstallError("; ".join(shown) + (f"; and {more} more" if more else ""), plan.conflicts)


class Cleanup:
    """What the last installation has put where; read backwards it is how to take that away."""

    def __init__(self, state: GroupState) -> None:
        self._lines = Lines(state.cleanup)

    def places(self) -> list[Place]:
        """Files and directories, in the order in which they were made. Raises StateError."""
        return [_place(record) for record in self._lines.read() if "root" in record]

    def record(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Note what is about to be made."""
        self._lines.append(records)

    def forget(self, paths: Collection[str]) -> None:
        """Note that nothing was put there after all: what comes to lie there is not ours to remove. Raises StateError."""
        if paths:
            kept = [record for record in self._lines.read() if "root" not in record or _place(record).path not in paths]
            self._rewrite(kept)

    def _rewrite(self, records: Sequence[Mapping[str, Any]]) -> None:
        replace_file(self._lines.path, "".join(f"{json.dumps(record)}\n" for record in records))

    def carry_out(self, spared: Sequence[str] = ()) -> list[str]:
        """Take away what was put there, newest first, and forget it; what stays, with the reason.

        A directory stays that is not empty, and what a link that others may have made leads to; also everything below
        ``spared``, of which contexts stay in the record. Raises InstallError for what cannot be removed: the record is
        kept then.
        """
        left: list[str] = []
        kept: list[dict[str, Any]] = []
        with places.directories_kept_open():
            for record in reversed(self._lines.read()):
                path = str(record["context"]) if "context" in record else _place(record).path
                if any(f"{path}/".startswith(f"{above}/") for above in spared):
                    kept += [record] if "context" in record else []
                    continue
                note = _undo(record, path)
                left += [note] if note else []
        if kept:
            self._rewrite(kept[::-1])
        else:
            self._lines.path.unlink(missing_ok=True)
        return left


def _undo(record: Mapping[str, Any], path: str) -> str:
    """Take away one thing; why it stays, if it does."""
    try:
        if "context" in record:
            _forget_context(path)
        elif not places.remove(_place(record)):
            return f"{path} is not empty, and stays"
    except UnsafePlace as error:
        return f"{path} is not removed: {error}"
    except OSError as error:
        raise InstallError(f"what the deployment before has put there cannot be removed: {error}") from error
    return ""


def _place(record: Mapping[str, Any]) -> Place:
    return Place(str(record["root"]), tuple(map(str, record["parts"])))


def preview(
    listing: Listing, spec: AppSpec, behavior: FileExistsBehavior, state: GroupState
) -> tuple[list[Place], InstallPlan]:
    """What an installation would remove, and do after that. Changes nothing."""
    noted = Cleanup(state).places()
    with places.directories_kept_open():
        goes = _going(noted)
        leaving = [place for place in noted if place.path in goes]
        plan = plan_install(listing, spec, behavior, places.find, frozenset(place.path for place in leaving))
    unknown = [Conflict("permissions", reason) for reason in unknown_accounts(plan.steps)]
    return leaving, InstallPlan(plan.steps, (*plan.conflicts, *unknown), plan.retained, plan.notes)


def _going(noted: Sequence[Place]) -> set[str]:
    """The paths of what the cleanup will remove: not directories that are not empty, nor what others decide about."""
    goes: set[str] = set()
    for place in reversed(noted):
        try:
            below = trees.names(place) or ()
        except UnsafePlace:
            continue
        except PermissionError:
            below = ()  # it shows when it is removed
        if all(f"{place.path}/{name}" in goes or places.is_temporary(name) for name in below):
            goes.add(place.path)
    return goes


def install(
    archive: Path,
    listing: Listing,
    spec: AppSpec,
    behavior: FileExistsBehavior,
    state: GroupState,
    say: Callable[[str], object],
) -> InstallPlan:
    """Install an unpacked bundle; what was done. Raises InstallError."""
    _, expected = preview(listing, spec, behavior, state)
    refuse(expected)
    cleanup = Cleanup(state)
    for note in cleanup.carry_out():
        say(note)
    with places.directories_kept_open():
        plan = plan_install(listing, spec, behavior, places.find)
    refuse(plan)
    for note in plan.notes:
        say(note)
    note_plan(state, plan)
    try:
        carry_out(archive, plan.steps, cleanup.record)
    except InstallError as error:
        cleanup.forget(error.untaken)
        raise
    return plan


def note_plan(state: GroupState, plan: InstallPlan) -> None:
    """Write down what is going to be done, for people and for who looks later whether it is still so."""
    replace_file(state.install_plan, json.dumps({"instructions": [describe(step) for step in plan.steps]}, indent=1))


def carry_out(archive: Path, steps: Sequence[Step], record: Callable[[Sequence[Mapping[str, Any]]], object]) -> None:
    """Take the steps, each noted before. Raises InstallError."""
    devices: dict[int, str] = {}
    rights = bundle.rights_of(archive)
    for start in range(0, len(steps), _BATCH):
        batch = steps[start : start + _BATCH]
        records = list(_records(batch))
        if records:
            record(records)
        with places.directories_kept_open():
            for index, step in enumerate(batch):
                try:
                    _take(archive, step, devices, rights)
                except InstallError as error:
                    error.untaken = frozenset(_place(each).path for each in _records(batch[index:]) if "root" in each)
                    raise
    for path in devices.values():
        sync_file_system(path)


def _take(archive: Path, step: Step, devices: dict[int, str], rights: Mapping[str, int]) -> None:
    try:
        take_step(archive, step, rights)
        if isinstance(step, (Copy, MakeDirectory)):
            devices.setdefault(_device_of(step.place), os.path.dirname(step.place.path))  # noqa: PTH120
    except (OSError, ValueError) as error:
        raise InstallError(f"{describe(step)['type']} {step.place.path}: {error}") from error


def _records(steps: Iterable[Step]) -> Iterator[dict[str, Any]]:
    for step in steps:
        if isinstance(step, (Copy, MakeDirectory)):
            yield {"root": step.place.root, "parts": list(step.place.parts)}
        elif isinstance(step, SetContext):
            yield {"context": step.place.path}


def take_step(archive: Path, step: Step, rights: Mapping[str, int]) -> None:
    """Take one step. ``rights``: what ``bundle.rights_of`` says of the archive. Raises OSError, ValueError."""
    if isinstance(step, MakeDirectory):
        places.make_directory(step.place)
    elif isinstance(step, Copy):
        _copy(archive, step, rights.get(step.source))
    elif isinstance(step, SetMode):
        with places.held(step.place) as path:
            os.chmod(path, step.mode)  # noqa: PTH101 - a path that stands for an open file
    elif isinstance(step, SetAcl):
        _set_acl(step)
    elif isinstance(step, SetContext):
        _set_context(_true_path(step.place), step.context)
    else:
        _set_owner(step)


def _copy(archive: Path, step: Copy, mode: int | None) -> None:
    inside = Place(str(archive), tuple(step.source.split("/")))
    with places.opened(inside) as (directory, name):
        if step.kind is Kind.LINK:
            places.make_link(step.place, os.readlink(name, dir_fd=directory), replaces=step.replaces)
            return
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise ValueError(f"{step.source} of the bundle is not a file")
        places.write_file(step.place, source, replaces=step.replaces, mode=mode)
    finally:
        os.close(source)


def _set_owner(step: SetOwner) -> None:
    user = number_of("user", step.owner) if step.owner else -1
    group = number_of("group", step.group) if step.group else -1
    places.change_owner(step.place, user, group, step.special)


def _set_acl(step: SetAcl) -> None:
    with places.held(step.place) as path:
        entries = acl.completed(step.entries, os.stat(path).st_mode)  # noqa: PTH116
        for attribute, is_default in ((acl.ACCESS_ATTRIBUTE, False), (acl.DEFAULT_ATTRIBUTE, True)):
            own = [entry for entry in entries if entry.is_default is is_default]
            if own:
                os.setxattr(path, attribute, acl.packed(own, number_of))


def number_of(kind: str, name: str) -> int:
    """The number of a user or group. Raises ValueError."""
    if name.isdecimal():
        if int(name) > _MOST_NUMBER:
            raise ValueError(f"{name} is no number of a {kind}")
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(f"this machine has no {kind} {name!r}") from None


def unknown_accounts(steps: Iterable[Step]) -> list[str]:
    """What the steps name and this machine has not, so that it is known before anything is changed."""
    wanted: dict[tuple[str, str], None] = {}
    lists: dict[tuple[acl.AclEntry, ...], None] = {}
    programs: dict[str, None] = {}
    for step in steps:
        if isinstance(step, SetOwner):
            wanted |= {(kind, name): None for kind, name in (("user", step.owner), ("group", step.group)) if name}
        elif isinstance(step, SetAcl):
            wanted |= {(entry.kind, entry.name): None for entry in step.entries if entry.name}
            lists[step.entries] = None
        elif isinstance(step, SetContext):
            programs |= {"semanage": None, "restorecon": None}
    reasons: list[str] = []
    for kind, name in wanted:
        try:
            number_of(kind, name)
        except ValueError as error:
            reasons.append(str(error))
    if not reasons:
        reasons += [reason for entries in lists if (reason := _fault_of(entries))]
    reasons += [_NOT_INSTALLED.format(name) for name in programs if shutil.which(name) is None]
    return reasons


def _fault_of(entries: Sequence[acl.AclEntry]) -> str:
    """What is wrong with a list on this machine, where two names may stand for one account; "" for nothing."""
    try:
        for is_default in (False, True):
            acl.packed([entry for entry in entries if entry.is_default is is_default], number_of)
    except ValueError as error:
        return str(error)
    return ""


# --- SELinux


def _true_path(place: Place) -> str:
    """The path without links on the way, of which each was looked at. Raises UnsafePlace, OSError."""
    with places.opened(place) as (directory, name):
        return f"{os.readlink(f'/proc/self/fd/{directory}').rstrip('/')}/{name}"  # noqa: PTH115


def _set_context(path: str, context: SecurityContext) -> None:
    options = ["-t", context.type]
    options += ["-s", context.user] if context.user else []
    options += ["-r", context.range] if context.range else []
    pattern = _SPECIAL.sub(r"\\\1", path)
    try:
        _run("semanage", "fcontext", "-a", *options, pattern)
    except ValueError:
        _run("semanage", "fcontext", "-m", *options, pattern)  # there is one already, of before a crash or of others
    _run("restorecon", "-v", path)


def _forget_context(path: str) -> None:
    try:
        _run("semanage", "fcontext", "-d", _SPECIAL.sub(r"\\\1", _true_path(Place.of(path))))
    except (ValueError, FileNotFoundError, NotADirectoryError):
        return  # it was noted before it was made, and was not made


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=300)
    except FileNotFoundError:
        raise ValueError(_NOT_INSTALLED.format(command[0])) from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"{command[0]} did not end within 300 s") from None
    if done.returncode:
        raise ValueError(f"{' '.join(command)}: {done.stderr.strip()[:500] or done.returncode}")


# --- durability


def _device_of(place: Place) -> int:
    with places.opened(place) as (directory, _):
        return os.fstat(directory).st_dev


def sync_file_system(path: str | Path) -> None:
    """Make all durable that was written to a directory's file system. Raises InstallError, OSError.

    One call for many files: a sync of each would take minutes for many small ones.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            raise InstallError(f"{path}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)


def describe(step: Step) -> dict[str, Any]:
    """A step for people and files, in the agent's words."""
    path = step.place.path
    if isinstance(step, Copy):
        return {"type": "copy", "source": step.source, "destination": path}
    if isinstance(step, MakeDirectory):
        return {"type": "mkdir", "directory": path}
    if isinstance(step, SetMode):
        return {"type": "chmod", "mode": f"{step.mode:04o}", "file": path}
    if isinstance(step, SetAcl):
        return {"type": "setfacl", "acl": [asdict(entry) for entry in step.entries], "file": path}
    if isinstance(step, SetContext):
        return {"type": "semanage", "context": asdict(step.context), "file": path}
    return {"type": "chown", "owner": step.owner, "group": step.group, "file": path}
