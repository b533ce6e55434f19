"""Parameters and secrets as rows: put, listed, changed, deleted. All in the caller's transaction, values always sealed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session, defer

from hooks.models.build import BuildProject
from hooks.models.secret_store import StoredValue, StoredValueProject, StoredValueVersion
from hooks.secret_store.names import Kind, canonical
from registry import audit
from registry.db import table_of
from registry.errors import Conflict, Invalid, NotFound
from registry.repos.sealed_fields import SealedField

CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
OPEN = "String"
TYPES = (OPEN, "SecureString")
MOST_VERSIONS = 100
"""So many are kept of one value, the newest."""
MOST_VALUES = 10_000
MOST_PROJECTS = 200
LONGEST_DESCRIPTION = 200
_LONGEST = {Kind.PARAMETER: 8192, Kind.SECRET: 65_536}


class Sealer(Protocol):
    """Encrypts small things at rest, bound to ``context``."""

    def seal(self, data: bytes, context: str) -> bytes:
        """Encrypt and authenticate."""
        ...

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """Undo ``seal``. Raises storage.errors.Damaged or KeyUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version, without what it holds. ``version_id`` of a parameter is its number."""

    number: int
    version_id: str
    version_stages: tuple[str, ...]
    created_date: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class ValueView:
    """All about a value but the value. ``projects`` may read it, beside what ``policy`` (JSON text) says."""

    id: int
    name: str
    type: str
    description: str
    projects: tuple[str, ...]
    policy: str | None
    version: int
    versions: tuple[VersionView, ...]
    created_date: datetime
    last_changed_date: datetime
    last_changed_by: str


@dataclass(frozen=True, slots=True)
class Put:
    """A value to be stored. None leaves a description or the list of projects as it is."""

    name: str
    value: str
    type: str = ""
    description: str | None = None
    projects: Sequence[str] | None = None
    overwrite: bool = True


def put(session: Session, sealer: Sealer, kind: Kind, wanted: Put, *, actor: str, now: datetime) -> StoredValue:
    """Store a value under a new name, or as the next version. Raises Invalid, Conflict, and NotFound for projects."""
    name = canonical(kind, wanted.name)
    data = _checked_value(kind, wanted.value)
    row = session.scalar(_named(kind, name).with_for_update())
    is_new = row is None
    if row is None:
        _check_room(session, kind)
        row = StoredValue(kind=kind.value, name=name, type=_checked_type(kind, wanted.type or "SecureString"),
                          last_number=0, created_at=now, updated_at=now, updated_by=actor)  # fmt: skip
        session.add(row)
        session.flush()
    elif not wanted.overwrite:
        raise Conflict(f"the {kind} {name} exists already")
    elif wanted.type:
        row.type = _checked_type(kind, wanted.type)
    if wanted.description is not None:
        row.description = _checked_description(wanted.description)
    if wanted.projects is not None:
        set_projects(session, row, wanted.projects)
    row.last_number += 1
    row.updated_at, row.updated_by = now, actor
    _add_version(session, sealer, kind, row, data, actor, now)
    audit.record(
        session, now, actor, f"{kind}.{'create' if is_new else 'put'}", path(row), version=row.last_number,
        **({"projects": sorted(wanted.projects)} if wanted.projects is not None else {}),
    )  # fmt: skip
    session.flush()
    return row


def _add_version(
    session: Session, sealer: Sealer, kind: Kind, row: StoredValue, data: bytes, actor: str, now: datetime
) -> None:
    of_row = StoredValueVersion.value_id == row.id
    for before, after in ((PREVIOUS, ""), (CURRENT, PREVIOUS)):
        session.execute(
            update(StoredValueVersion).where(of_row, StoredValueVersion.stage == before).values(stage=after),
            execution_options={"synchronize_session": False},
        )
    number = row.last_number
    session.add(
        StoredValueVersion(
            value_id=row.id,
            number=number,
            version_id=str(uuid.uuid4()) if kind is Kind.SECRET else str(number),
            stage=CURRENT,
            sealed=sealer.seal(data, context_of(row.id, number)),
            created_at=now,
            created_by=actor,
        )
    )
    session.execute(
        delete(StoredValueVersion).where(of_row, StoredValueVersion.number <= number - MOST_VERSIONS),
        execution_options={"synchronize_session": False},
    )


def change(
    session: Session,
    row: StoredValue,
    *,
    description: str | None,
    projects: Sequence[str] | None,
    actor: str,
    now: datetime,
) -> None:
    """Change what is not None. Raises Invalid, and NotFound for projects."""
    changed: dict[str, object] = {}
    if description is not None:
        row.description = changed["description"] = _checked_description(description)
    if projects is not None:
        set_projects(session, row, projects)
        changed["projects"] = sorted(projects)
    if changed:
        row.updated_at, row.updated_by = now, actor
        audit.record(session, now, actor, f"{row.kind}.change", path(row), **changed)


def set_projects(session: Session, row: StoredValue, names: Sequence[str]) -> None:
    """Set the plain list of projects that may read the value. Raises NotFound naming the first unknown one."""
    if len(names) > MOST_PROJECTS:
        raise Invalid(f"at most {MOST_PROJECTS} projects may stand on the list; a policy can name them by a pattern")
    wanted = project_ids(session, names)
    rows = {each.project_id: each for each in session.scalars(_projects_of(row))}
    for project_id, each in rows.items():
        each.may_read = project_id in wanted
    session.add_all(
        [StoredValueProject(value_id=row.id, project_id=each, may_read=True) for each in sorted(wanted - set(rows))]
    )
    session.flush()


def project_ids(session: Session, names: Sequence[str]) -> set[int]:
    """The rows of build projects. Raises NotFound."""
    found = {
        name: row_id
        for row_id, name in session.execute(
            select(BuildProject.id, BuildProject.name).where(BuildProject.name.in_(names))
        )
    }
    for name in names:
        if name not in found:
            raise NotFound("build project", name[:100])
    return set(found.values())


def remove(session: Session, row: StoredValue, *, actor: str, now: datetime) -> None:
    """Delete a value with all its versions."""
    audit.record(session, now, actor, f"{row.kind}.delete", path(row))
    session.delete(row)


def find(session: Session, kind: Kind, name: str) -> StoredValue:
    """The value of that name. Raises NotFound, Invalid."""
    row = session.scalar(_named(kind, canonical(kind, name)))
    if row is None:
        raise NotFound(kind.value, name)
    return row


def version_of(session: Session, row: StoredValue, *, version_id: str = "", stage: str = "") -> StoredValueVersion:
    """A version by its id or its stage; without either the current one. Raises NotFound."""
    statement = select(StoredValueVersion).where(StoredValueVersion.value_id == row.id)
    if version_id:
        statement = statement.where(StoredValueVersion.version_id == version_id)
    else:
        statement = statement.where(StoredValueVersion.stage == (stage or CURRENT))
    found = session.scalar(statement)
    if found is None:
        raise NotFound(f"version of {row.kind} {row.name}", version_id or stage or CURRENT)
    return found


def opened(sealer: Sealer, version: StoredValueVersion) -> str:
    """What a version holds. Raises storage.errors.Damaged or KeyUnavailable. Whoever asks writes the audit entry."""
    return sealer.unseal(version.sealed, context_of(version.value_id, version.number)).decode()


def listed(session: Session, kind: Kind, *, prefix: str = "", after: str = "", limit: int = 50) -> list[ValueView]:
    """Values by name, from behind ``after`` on; with ``prefix`` those whose names begin with it."""
    statement = select(StoredValue).where(StoredValue.kind == kind.value, StoredValue.name > after)
    if prefix:
        statement = statement.where(StoredValue.name.startswith(prefix, autoescape=True))
    return [view(session, row) for row in session.scalars(statement.order_by(StoredValue.name).limit(limit))]


def view(session: Session, row: StoredValue) -> ValueView:
    """A value to be shown: everything but the value."""
    versions = session.scalars(
        select(StoredValueVersion)
        .where(StoredValueVersion.value_id == row.id)
        .order_by(StoredValueVersion.number.desc())
        .options(defer(StoredValueVersion.sealed))
    )
    readers = session.scalars(
        select(BuildProject.name)
        .join(StoredValueProject, StoredValueProject.project_id == BuildProject.id)
        .where(StoredValueProject.value_id == row.id, StoredValueProject.may_read)
        .order_by(BuildProject.name)
    )
    return ValueView(
        id=row.id,
        name=row.name,
        type=row.type,
        description=row.description,
        projects=tuple(readers),
        policy=policy_text(row),
        version=row.last_number,
        versions=tuple(map(version_view, versions)),
        created_date=row.created_at,
        last_changed_date=row.updated_at,
        last_changed_by=row.updated_by,
    )


def version_view(version: StoredValueVersion) -> VersionView:
    """A version to be shown."""
    stages = (version.stage,) if version.stage else ()
    return VersionView(version.number, version.version_id, stages, version.created_at, version.created_by)


def policy_text(row: StoredValue) -> str | None:
    """A value's policy as people write it."""
    return json.dumps(row.policy, indent=2, ensure_ascii=False) if row.policy is not None else None


def path(row: StoredValue) -> str:
    """How audit entries and policies name it: ``secret/NAME``, ``parameter/NAME``."""
    return resource_of(Kind(row.kind), row.name)


def resource_of(kind: Kind, name: str) -> str:
    """The resource of a name."""
    return f"{kind.value}/{name.removeprefix('/')}"


def context_of(value_id: int, number: int) -> str:
    """What the box of a version is bound to."""
    return f"stored-value:{value_id}:{number}"


def sealed_values() -> SealedField:
    """Where the values lie, for whoever rotates the server's keys."""
    table = table_of(StoredValueVersion)
    rows = select(table.c.value_id, table.c.number, table.c.sealed)
    what = "values of parameters and secrets"
    return SealedField(what, table, "sealed", rows, lambda row: context_of(row.value_id, row.number))


def _named(kind: Kind, name: str) -> Select[StoredValue]:
    return select(StoredValue).where(StoredValue.kind == kind.value, StoredValue.name == name)


def _projects_of(row: StoredValue) -> Select[StoredValueProject]:
    return select(StoredValueProject).where(StoredValueProject.value_id == row.id)


def _check_room(session: Session, kind: Kind) -> None:
    held = session.scalar(select(func.count()).select_from(StoredValue).where(StoredValue.kind == kind.value))
    if held is not None and held >= MOST_VALUES:
        raise Conflict(f"there are {MOST_VALUES} {kind}s already; delete some first")


def _checked_value(kind: Kind, value: str) -> bytes:
    try:
        data = value.encode()
    except UnicodeEncodeError as error:
        raise Invalid("the value holds half a character, which no build could be given") from error
    if not data or "\0" in value:
        raise Invalid("the value is empty, or holds a NUL character")
    if len(data) > _LONGEST[kind]:
        raise Invalid(f"the value of a {kind} has at most {_LONGEST[kind]} bytes")
    return data


def _checked_type(kind: Kind, text: str) -> str:
    if kind is Kind.SECRET:
        return ""
    if text not in TYPES:
        raise Invalid(f"type {text[:40]!r}: {' or '.join(TYPES)}")
    return text


def _checked_description(text: str) -> str:
    cleaned = " ".join(text.split())
    if len(cleaned) > LONGEST_DESCRIPTION:
        raise Invalid(f"the description has at most {LONGEST_DESCRIPTION} characters")
    return cleaned
