"""Parameters and secrets: put, described, read, listed, changed, deleted. JSON names as in AWS's documents."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from sqlalchemy.orm import Session

from hooks.models.secret_store import StoredValue
from hooks.secret_store import reading, store
from hooks.secret_store.names import LONGEST_NAME, Kind
from hooks.secret_store.store import ValueView, VersionView
from hooks.services import HookServices
from registry import audit
from registry.access import Action
from registry.api.routes import Door, Route
from registry.api.shapes import Between, Length
from registry.http import context
from registry.http.auth import requires
from registry.policies import LONGEST_DOCUMENT

Name = Annotated[str, Length(1, LONGEST_NAME)]
Description = Annotated[str, Length(0, store.LONGEST_DESCRIPTION)]
Projects = Annotated[tuple[Annotated[str, Length(1, 100)], ...], Length(0, store.MOST_PROJECTS)]
Policy = Annotated[str, Length(0, LONGEST_DOCUMENT)]


@dataclass(frozen=True, slots=True)
class ParameterView:
    """A parameter, without its value. ``projects`` may read it, beside what ``policy`` (JSON as text) says."""

    name: str
    type: str
    description: str
    projects: tuple[str, ...]
    policy: str | None
    version: int
    versions: tuple[VersionView, ...]
    created_date: datetime
    last_modified_date: datetime
    last_modified_user: str


@dataclass(frozen=True, slots=True)
class ParameterList:
    """Parameters by name; ``next`` goes into ``after``, null at the end."""

    items: tuple[ParameterView, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class ParameterChange:
    """A parameter's next version. Nulls leave a description or the list of projects as it is.

    With ``overwrite`` false an existing one is refused (409). ``type`` is String or SecureString.
    """

    value: Annotated[str, Length(1, 8192)]
    type: Annotated[str, Length(0, 16)] = ""
    description: Description | None = None
    projects: Projects | None = None
    overwrite: bool = True


@dataclass(frozen=True, slots=True)
class ParameterQuestion:
    """Which parameter's value; ``version`` null is the newest."""

    name: Name
    version: Annotated[int, Between(1, 10**9)] | None = None


@dataclass(frozen=True, slots=True)
class ParameterValue:
    """A parameter with its value."""

    name: str
    type: str
    value: str
    version: int


@dataclass(frozen=True, slots=True)
class SecretView:
    """A secret, without what it holds."""

    name: str
    description: str
    projects: tuple[str, ...]
    policy: str | None
    versions: tuple[VersionView, ...]
    created_date: datetime
    last_changed_date: datetime
    last_changed_user: str


@dataclass(frozen=True, slots=True)
class SecretList:
    """Secrets by name; ``next`` goes into ``after``, null at the end."""

    items: tuple[SecretView, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class SecretChange:
    """A secret's next version: a text, which may be a JSON document. Nulls leave the rest as it is.

    With ``overwrite`` false an existing one is refused (409).
    """

    secret_string: Annotated[str, Length(1, 65_536)]
    description: Description | None = None
    projects: Projects | None = None
    overwrite: bool = True


@dataclass(frozen=True, slots=True)
class SecretQuestion:
    """Which secret's value: of a version by its id, or by its stage (AWSCURRENT if neither is there)."""

    secret_id: Name
    version_id: Annotated[str, Length(1, 36)] | None = None
    version_stage: Annotated[str, Length(1, 16)] | None = None


@dataclass(frozen=True, slots=True)
class SecretValue:
    """A secret with what it holds."""

    name: str
    secret_string: str
    version_id: str
    version_stages: tuple[str, ...]
    created_date: datetime


@dataclass(frozen=True, slots=True)
class AboutChange:
    """What to change of all but the value; null leaves it. ``policy`` is JSON as text, "" takes it away."""

    description: Description | None = None
    projects: Projects | None = None
    policy: Policy | None = None


@dataclass(frozen=True, slots=True)
class ValueQuery:
    """Where in the list: names that begin with ``path``, from behind ``after`` on."""

    path: Annotated[str, Length(0, LONGEST_NAME)] = ""
    after: Annotated[str, Length(0, LONGEST_NAME)] = ""
    limit: Annotated[int, Between(1, 200)] = 50


def _may(permission: str) -> Door:
    return requires(Action.ADMIN, permission=permission)


class SecretViews:
    """The operations on parameters and secrets. Values are told by two of them only, each with a right of its own."""

    def __init__(self, services: HookServices) -> None:
        self._services = services
        self._sealer = services.stores.server_keyring()

    def routes(self) -> tuple[Route, ...]:
        """The part of the table."""
        parameter, secret = "/parameters/<path:value_name>", "/secrets/<path:value_name>"
        describe, update = _may("secretsmanager:DescribeSecret"), _may("secretsmanager:UpdateSecret")
        list_door, put_parameter = _may("ssm:DescribeParameters"), _may("ssm:PutParameter")
        return (
            Route("GET", "/parameters", list_door, self.list_parameters, query=ValueQuery, answer=ParameterList),
            Route("GET", parameter, list_door, self.show_parameter, answer=ParameterView),
            Route("PUT", parameter, put_parameter, self.put_parameter, body=ParameterChange, answer=ParameterView,
                  holds_secrets=True),
            Route("PATCH", parameter, put_parameter, self.change_parameter, body=AboutChange, answer=ParameterView),
            Route("DELETE", parameter, _may("ssm:DeleteParameter"), self.delete_parameter, status=204),
            Route("POST", "/parameter-values", _may("ssm:GetParameters"), self.read_parameter,
                  body=ParameterQuestion, answer=ParameterValue),
            Route("GET", "/secrets", _may("secretsmanager:ListSecrets"), self.list_secrets, query=ValueQuery,
                  answer=SecretList),
            Route("GET", secret, describe, self.show_secret, answer=SecretView),
            Route("PUT", secret, _may("secretsmanager:PutSecretValue"), self.put_secret, body=SecretChange,
                  answer=SecretView, holds_secrets=True),
            Route("PATCH", secret, update, self.change_secret, body=AboutChange, answer=SecretView),
            Route("DELETE", secret, _may("secretsmanager:DeleteSecret"), self.delete_secret, status=204),
            Route("POST", "/secret-values", _may("secretsmanager:GetSecretValue"), self.read_secret,
                  body=SecretQuestion, answer=SecretValue),
        )  # fmt: skip

    # --- parameters

    def list_parameters(self, query: ValueQuery) -> ParameterList:
        """Parameters by name. Values are not shown."""
        found = self._listed(Kind.PARAMETER, query)
        items = tuple(map(_parameter, found[: query.limit]))
        return ParameterList(items, items[-1].name if len(found) > len(items) else None)

    def show_parameter(self, value_name: str) -> ParameterView:
        """A parameter with its versions. Values are not shown."""
        with self._services.db.read() as session:
            return _parameter(store.view(session, store.find(session, Kind.PARAMETER, value_name)))

    def put_parameter(self, value_name: str, body: ParameterChange) -> ParameterView:
        """Make a parameter, or give it another value. Values before stay as its versions, the newest hundred."""
        wanted = store.Put(value_name, body.value, body.type, body.description, body.projects, body.overwrite)
        return _parameter(self._put(Kind.PARAMETER, wanted))

    def change_parameter(self, value_name: str, body: AboutChange) -> ParameterView:
        """Change a parameter's description, the projects that may read it, or its policy."""
        return _parameter(self._change(Kind.PARAMETER, value_name, body))

    def delete_parameter(self, value_name: str) -> None:
        """Delete a parameter with all its versions."""
        self._delete(Kind.PARAMETER, value_name)

    def read_parameter(self, body: ParameterQuestion) -> ParameterValue:
        """A parameter's value. Each read is written into the audit log."""
        with self._services.db.write() as session:
            row = store.find(session, Kind.PARAMETER, body.name)
            value, version = self._read(session, row, version_id=str(body.version or ""))
            return ParameterValue(row.name, row.type, value, version.number)

    # --- secrets

    def list_secrets(self, query: ValueQuery) -> SecretList:
        """Secrets by name. What they hold is not shown."""
        found = self._listed(Kind.SECRET, query)
        items = tuple(map(_secret, found[: query.limit]))
        return SecretList(items, items[-1].name if len(found) > len(items) else None)

    def show_secret(self, value_name: str) -> SecretView:
        """A secret with its versions. What they hold is not shown."""
        with self._services.db.read() as session:
            return _secret(store.view(session, store.find(session, Kind.SECRET, value_name)))

    def put_secret(self, value_name: str, body: SecretChange) -> SecretView:
        """Make a secret, or replace what it holds: that becomes its AWSPREVIOUS version."""
        wanted = store.Put(value_name, body.secret_string, "", body.description, body.projects, body.overwrite)
        return _secret(self._put(Kind.SECRET, wanted))

    def change_secret(self, value_name: str, body: AboutChange) -> SecretView:
        """Change a secret's description, the projects that may read it, or its policy."""
        return _secret(self._change(Kind.SECRET, value_name, body))

    def delete_secret(self, value_name: str) -> None:
        """Delete a secret with all its versions, at once."""
        self._delete(Kind.SECRET, value_name)

    def read_secret(self, body: SecretQuestion) -> SecretValue:
        """What a secret holds. Each read is written into the audit log."""
        with self._services.db.write() as session:
            row = store.find(session, Kind.SECRET, body.secret_id)
            value, version = self._read(session, row, version_id=body.version_id or "", stage=body.version_stage or "")
            return SecretValue(row.name, value, version.version_id, version.version_stages, version.created_date)

    # --- both

    def _listed(self, kind: Kind, query: ValueQuery) -> list[ValueView]:
        with self._services.db.read() as session:
            return store.listed(session, kind, prefix=query.path, after=query.after, limit=query.limit + 1)

    def _put(self, kind: Kind, wanted: store.Put) -> ValueView:
        with self._services.db.write() as session:
            who, now = context.caller().name, self._services.clock()
            return store.view(session, store.put(session, self._sealer, kind, wanted, actor=who, now=now))

    def _change(self, kind: Kind, name: str, body: AboutChange) -> ValueView:
        who, now = context.caller().name, self._services.clock()
        with self._services.db.write() as session:
            row = store.find(session, kind, name)
            store.change(session, row, description=body.description, projects=body.projects, actor=who, now=now)
            if body.policy is not None:
                reading.set_policy(session, row, body.policy, actor=who, now=now)
            session.flush()
            return store.view(session, row)

    def _delete(self, kind: Kind, name: str) -> None:
        who, now = context.caller().name, self._services.clock()
        with self._services.db.write() as session:
            store.remove(session, store.find(session, kind, name), actor=who, now=now)

    def _read(
        self, session: Session, row: StoredValue, *, version_id: str = "", stage: str = ""
    ) -> tuple[str, VersionView]:
        found = store.version_of(session, row, version_id=version_id, stage=stage)
        value = store.opened(self._sealer, found)
        who, now = context.caller().name, self._services.clock()
        audit.record(session, now, who, f"{row.kind}.read", store.path(row), version=found.version_id)
        return value, store.version_view(found)


def _parameter(view: ValueView) -> ParameterView:
    return ParameterView(
        view.name, view.type, view.description, view.projects, view.policy, view.version, view.versions,
        view.created_date, view.last_changed_date, view.last_changed_by,
    )  # fmt: skip


def _secret(view: ValueView) -> SecretView:
    return SecretView(
        view.name, view.description, view.projects, view.policy, view.versions,
        view.created_date, view.last_changed_date, view.last_changed_by,
    )  # fmt: skip
