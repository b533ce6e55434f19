"""Values for builds: looked up, decided on, opened, and written down in the audit log. One transaction for all of a build.

Whether a value exists is told only to who may have it: for everybody else a name that nobody ever used and a secret of
somebody else's give the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.executor import ExecutorError
from hooks.builds.references import Reference, Resolved, Resolver, Unresolved, VariableType, json_member
from hooks.builds.spec_environment import split_secret_reference
from hooks.jobs.context import OUTAGES
from hooks.models.build import Build, BuildProject
from hooks.models.secret_store import StoredValue, StoredValueVersion
from hooks.secret_store import reading, store
from hooks.secret_store.names import Kind, parameter_and_version, secret_names
from registry import audit
from registry.clock import Clock
from registry.db import Database
from registry.errors import Invalid, NotFound
from storage.errors import StorageError

_KINDS = {VariableType.PARAMETER_STORE: Kind.PARAMETER, VariableType.SECRETS_MANAGER: Kind.SECRET}


@dataclass(frozen=True, slots=True)
class _Receiver:
    """The build that asks."""

    build_id: str
    project_id: int
    project: str


class Deliveries:
    """Gives builds the values they name. Safe for many threads."""

    def __init__(self, db: Database, sealer: store.Sealer, clock: Clock) -> None:
        self._db = db
        self._sealer = sealer
        self._clock = clock

    def resolver(self, build: Build) -> Resolver:
        """What gets the values for one build."""

        def resolve(references: Sequence[Reference]) -> Sequence[Resolved]:
            try:
                return self._resolve(build, references)
            except OUTAGES as error:
                raise ExecutorError("parameters and secrets cannot be read now") from error
            except StorageError as error:
                raise ExecutorError(f"a parameter or secret does not open: {error}") from error

        return resolve

    def _resolve(self, build: Build, references: Sequence[Reference]) -> Sequence[Resolved]:
        now = self._clock()
        refused: Unresolved | None = None
        found: list[Resolved] = []
        with self._db.write() as session:
            project = session.scalar(select(BuildProject.name).where(BuildProject.id == build.project_id)) or ""
            receiver = _Receiver(build.id, build.project_id, project)
            for reference in references:
                try:
                    found.append(self._one(session, receiver, reference, now))
                except Unresolved as error:
                    # Its entry stays, with those of what was got before it.
                    refused = error
                    break
        if refused is not None:
            raise refused
        return found

    def _one(self, session: Session, receiver: _Receiver, reference: Reference, now: datetime) -> Resolved:
        kind = _KINDS[reference.type]
        try:
            get = _parameter if kind is Kind.PARAMETER else _secret
            row, version_of, finish = get(session, reference.name)
        except (Invalid, ValueError) as error:
            raise Unresolved(reference.type, f"ValidationException: {reference.variable}: {error}") from error
        if row is None or not reading.may_read(session, row, receiver.project_id, now):
            return _refuse(session, receiver, reference, kind, now)
        try:
            version = version_of(row)
        except NotFound as error:
            raise Unresolved(reference.type, f"ResourceNotFoundException: {error}") from error
        value = finish(store.opened(self._sealer, version))
        if value is None:
            raise Unresolved(
                reference.type, f"ResourceNotFoundException: {reference.variable}: the secret has no such JSON key"
            )
        audit.record(
            session, now, f"project/{receiver.project}"[:100], f"{kind}.deliver", store.path(row),
            build=receiver.build_id, version=version.version_id, variable=reference.variable,
        )  # fmt: skip
        return Resolved(reference.variable, value, is_open=kind is Kind.PARAMETER and row.type == store.OPEN)


_Lookup = tuple[StoredValue | None, Callable[[StoredValue], StoredValueVersion], Callable[[str], str | None]]


def _parameter(session: Session, name: str) -> _Lookup:
    wanted, number = parameter_and_version(name)
    version_id = str(number) if number is not None else ""
    return (
        _found(session, Kind.PARAMETER, (wanted,)),
        lambda row: store.version_of(session, row, version_id=version_id),
        lambda value: value,
    )


def _secret(session: Session, text: str) -> _Lookup:
    wanted = split_secret_reference(text)
    return (
        _found(session, Kind.SECRET, secret_names(wanted.secret_id)),
        lambda row: store.version_of(session, row, version_id=wanted.version_id, stage=wanted.version_stage),
        lambda value: json_member(value, wanted.json_key) if wanted.json_key else value,
    )


def _found(session: Session, kind: Kind, names: Sequence[str]) -> StoredValue | None:
    rows = {
        row.name: row
        for row in session.scalars(
            select(StoredValue).where(StoredValue.kind == kind.value, StoredValue.name.in_(names))
        )
    }
    return next((rows[name] for name in names if name in rows), None)


def _refuse(session: Session, receiver: _Receiver, reference: Reference, kind: Kind, now: datetime) -> Resolved:
    names = (
        (parameter_and_version(reference.name)[0],)
        if kind is Kind.PARAMETER
        else secret_names(split_secret_reference(reference.name).secret_id)
    )
    resource = store.resource_of(kind, names[0])
    audit.record(
        session, now, f"project/{receiver.project}"[:100], f"{kind}.refuse", resource,
        build=receiver.build_id, variable=reference.variable,
    )  # fmt: skip
    raise Unresolved(
        reference.type,
        f"AccessDeniedException: project {receiver.project} is not authorized to perform: {reading.READ_ACTION[kind]}"
        f" on resource: {resource}",
    )
