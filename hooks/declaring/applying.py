"""Declarations made so, all of them in the caller's one transaction: a rehearsal is the same, rolled back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hooks.declaring.documents import (
    ApplicationDeclaration,
    ConnectionDeclaration,
    Declared,
    DomainDeclaration,
    RepositoryDeclaration,
)
from hooks.declaring.lacking import DeclarationWarning, lacking
from hooks.declaring.state import (
    connections_of,
    difference,
    find_repository,
    lock_declared,
    state_of,
    undeclared,
    upstreams_of,
    version_of,
)
from hooks.deployments import applications, configs
from hooks.deployments.documents.config import ParsedConfig
from hooks.deployments.documents.group import ParsedGroup
from hooks.deployments.parts import Parts as DeploymentParts
from hooks.pipelines.applying import apply_declared, lock_pipelines
from hooks.pipelines.definition import BuildProjectDeclaration, PipelineDefinition
from hooks.pipelines.parts import Parts as PipelineParts
from registry import audit, policies, repository_changes
from registry.access import Identity
from registry.errors import Conflict, Invalid, InvalidDocument, NotFound
from registry.models import Repository
from registry.names import domain_name, repository_name
from registry.repos import topology
from registry.repos.connections import Change, Connections, Wish
from registry.stores import DomainStores


@dataclass(frozen=True, slots=True)
class Means:
    """What declarations are made so with."""

    pipelines: PipelineParts
    deployments: DeploymentParts
    connections: Connections
    stores: DomainStores


@dataclass(frozen=True, slots=True)
class DeclaredChange:
    """What becomes of one declared thing: ``change`` is ``created``, ``updated`` or ``unchanged``.

    ``diff`` is a unified diff, without its head, of the text of what there was and of what there is then.
    """

    kind: str
    name: str
    file: str
    change: str
    diff: str


@dataclass(frozen=True, slots=True)
class Undeclared:
    """Something that is there, and that no document declares."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of everything, in the order of the doing; ``digest`` is a name for exactly these changes.

    ``warnings`` tell of names in pipelines that nobody has, and of what in them has no effect.
    """

    changes: tuple[DeclaredChange, ...]
    undeclared: tuple[Undeclared, ...]
    warnings: tuple[DeclarationWarning, ...]

    @property
    def digest(self) -> str:
        """The SHA-256 (hex) of kinds, names, changes and diffs."""
        told = [[each.kind, each.name, each.change, each.diff] for each in self.changes]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


class _NoSecret:
    """Declarations hold no credential, so that nothing of them is ever sealed."""

    def seal(self, plain: bytes, context: str) -> bytes:
        raise AssertionError(f"a declaration has no secret: {len(plain)} bytes for {context}")

    def unseal(self, sealed: bytes, context: str) -> bytes:
        raise AssertionError(f"a declaration has no secret: {len(sealed)} bytes of {context}")


def apply_declarations(
    session: Session, means: Means, declared: Sequence[Declared], *, caller: Identity, now: datetime
) -> Plan:
    """Make everything as it is declared: all of it or, with InvalidDocument naming all faults, nothing.

    What is as declared already is not touched. Nothing is deleted. Executions, builds and deployments in progress stay on
    what they began with.
    """
    return _Applying(session, means, caller, now).all(list(declared))


class _Applying:
    def __init__(self, session: Session, means: Means, caller: Identity, now: datetime) -> None:
        self._session, self._means, self._caller, self._now = session, means, caller, now
        self._faults: dict[int, list[str]] = {}
        self._freed: set[str] = set()

    def all(self, declared: list[Declared]) -> Plan:
        session = self._session
        # Before everything else, as whoever runs pipelines takes them: what an execution touches is locked behind it.
        lock_pipelines(session, [each.name for each in declared if isinstance(each.declares, PipelineDefinition)])
        lock_declared(session, declared)
        before = [state_of(session, each) for each in declared]
        versions = [version_of(session, each) for each in declared]
        # Several walks, because repositories may name each other, and policies whatever the documents make.
        for step in (self._make, self._free, self._fill, self._govern, self._the_rest):
            for number, each in enumerate(declared):
                if number not in self._faults and type(each.declares) in _CONCERNS[step.__name__]:
                    self._try(number, each, step)
        if self._faults:
            found = [each.fault(text) for number, each in enumerate(declared) for text in self._faults.get(number, [])]
            raise InvalidDocument("declarations", found)
        changes = []
        for each, old, was in zip(declared, before, versions, strict=True):
            new = state_of(session, each)
            # A secret that a pipeline's text masks is a change that the text does not show.
            is_same = old == new and was == version_of(session, each)
            change = "created" if old is None else "unchanged" if is_same else "updated"
            changes.append(DeclaredChange(each.kind, each.name, each.file, change, difference(old, new)))
        left = tuple(Undeclared(kind, name) for kind, name in undeclared(session, declared))
        return Plan(tuple(changes), left, lacking(session, declared))

    def _try(self, number: int, declared: Declared, step: Callable[[Declared], None]) -> None:
        """Do a step; what cannot be is noted and taken back alone, so that the other faults are found as well."""
        try:
            with self._session.begin_nested():
                step(declared)
                self._session.flush()
        except InvalidDocument as error:
            self._faults[number] = error.faults
        except (Invalid, NotFound, Conflict) as error:
            self._faults[number] = [str(error)]
        except IntegrityError as error:
            raise Conflict(f"{declared.kind} {declared.name} was made meanwhile; look at it again") from error

    # --- domains and repositories

    def _make(self, declared: Declared) -> None:
        """Domains and repositories that are not there, empty."""
        session, now = self._session, self._now
        match declared.declares:
            case DomainDeclaration(name=name):
                if state_of(session, declared) is None:
                    made = topology.create_domain(session, domain_name(name), now)
                    self._means.stores.new_key(session, made.id, now)
                    audit.record(session, now, self._caller.name, "domain.create", name)
            case RepositoryDeclaration(domain=domain, name=name) as wanted:
                if find_repository(session, domain, name) is None:
                    new = repository_changes.Wanted(
                        repository_name(name),
                        wanted.description or "",
                        anonymous_read=bool(wanted.anonymous_read),
                    )
                    repository_changes.create(session, domain, new, self._caller, now)

    def _free(self, declared: Declared) -> None:
        """Upstreams that go, before others come: else two that change places would be each other's for a moment."""
        if isinstance(declared.declares, RepositoryDeclaration) and declared.declares.upstreams is not None:
            row, wanted = self._repository(declared.declares), declared.declares.upstreams
            there = upstreams_of(self._session, row)
            staying = [name for name in there if name in wanted]
            if staying != there:
                topology.set_upstreams(self._session, row, staying)
                self._freed.add(declared.name)

    def _fill(self, declared: Declared) -> None:
        if not isinstance(declared.declares, RepositoryDeclaration):
            return
        wanted, row = declared.declares, self._repository(declared.declares)
        upstreams, is_freed = wanted.upstreams, declared.name in self._freed
        is_other = upstreams is not None and (is_freed or list(upstreams) != upstreams_of(self._session, row))
        change = repository_changes.Change(
            wanted.description if wanted.description != row.description else None,
            upstreams if is_other else None,
            wanted.anonymous_read if wanted.anonymous_read != row.anonymous_read else None,
        )
        if change != repository_changes.Change():
            repository_changes.change(self._session, wanted.domain, wanted.name, change, self._caller, self._now)
        if wanted.connections is not None:
            self._connect(wanted, row, wanted.connections)

    def _connect(
        self, wanted: RepositoryDeclaration, row: Repository, connections: Sequence[ConnectionDeclaration]
    ) -> None:
        session, rows = self._session, self._means.connections
        there = {(each.format, each.name): each for each in connections_of(session, row)}
        for format_name, name in there.keys() - {(each.format, each.name) for each in connections}:
            rows.remove(session, row, format_name, name)
            self._tell("connection.remove", wanted, f"/{format_name}/{name}")
        for each in connections:
            known = there.get((each.format, each.name))
            if known is None:
                rows.add(session, row, each.format, each.name, Wish(each.url), _NoSecret(), self._now)
                self._tell("connection.create", wanted, f"/{each.format}/{each.name}", url=each.url)
            elif known.url != each.url:
                rows.change(session, row, each.format, each.name, Change(url=each.url or ""), _NoSecret())
                self._tell("connection.change", wanted, f"/{each.format}/{each.name}", url=each.url or "")
        order = [(each.format, each.name) for each in connections_of(session, row)]
        if order != [(each.format, each.name) for each in connections]:
            now = {(each.format, each.name): each.position for each in connections_of(session, row)}
            moved = [each for each in enumerate(connections) if now[each[1].format, each[1].name] != each[0]]
            for position, each in moved:
                rows.change(session, row, each.format, each.name, Change(position=position), _NoSecret())
                self._tell("connection.change", wanted, f"/{each.format}/{each.name}", position=position)

    def _govern(self, declared: Declared) -> None:
        """Policies, when all that they name is there."""
        match declared.declares:
            case DomainDeclaration(name=domain, policy=policy):
                repository = None
            case RepositoryDeclaration(domain=domain, name=repository, policy=policy):
                pass
            case _:
                return
        if policy is None:
            return
        there = policies.find(self._session, domain, repository)
        who = self._caller.name
        if not policy:
            if there is not None:
                policies.take_away(self._session, domain, repository, expected=None, actor=who, now=self._now)
        elif there is None or json.loads(there.document) != policies.read(policy):
            policies.put(self._session, domain, repository, policy, expected=None, actor=who, now=self._now)

    # --- deployments, builds, pipelines

    def _the_rest(self, declared: Declared) -> None:
        session, means, who, now = self._session, self._means, self._caller.name, self._now
        match declared.declares:
            case ParsedConfig() as config:
                there = {name: document for name, document, _ in configs.list_configs(session)}.get(config.name)
                if there is None:
                    configs.create_config(session, config, actor=who, now=now)
                elif dict(there) != dict(config.document):
                    raise Conflict("configurations never change; give this one another name")
            case ApplicationDeclaration() as application:
                self._application(application)
            case ParsedGroup() as group:
                row = applications.find_application(session, group.application)
                platform = means.deployments.platforms.get(row.compute_platform)
                if platform is None:
                    raise Invalid(f"this server carries out no deployments to {row.compute_platform}")
                applications.put_group(session, row, group.name, group, platform, etag=None, actor=who, now=now)
            case BuildProjectDeclaration() | PipelineDefinition() as definition:
                apply_declared(
                    session, means.pipelines, definition, declared.text, secrets=declared.secrets, actor=who, now=now
                )

    def _application(self, wanted: ApplicationDeclaration) -> None:
        session, platforms = self._session, self._means.deployments.platforms
        try:
            row = applications.find_application(session, wanted.name)
        except NotFound:
            applications.create_application(
                session,
                wanted.name,
                wanted.domain,
                wanted.platform,
                platforms=platforms,
                actor=self._caller.name,
                now=self._now,
            )
        else:
            if (row.domain, row.compute_platform) != (wanted.domain, wanted.platform):
                raise Conflict(
                    f"it is of domain {row.domain} and platform {row.compute_platform}, which never change;"
                    " delete it first, or give this one another name"
                )

    # ---

    def _repository(self, wanted: RepositoryDeclaration) -> Repository:
        return topology.find_repository(self._session, wanted.domain, wanted.name)[1]

    def _tell(self, action: str, wanted: RepositoryDeclaration, below: str, **details: object) -> None:
        path = f"{wanted.domain}/{wanted.name}{below}"
        audit.record(self._session, self._now, self._caller.name, action, path, **details)


_CONCERNS: Mapping[str, frozenset[type]] = {
    "_make": frozenset({DomainDeclaration, RepositoryDeclaration}),
    "_free": frozenset({RepositoryDeclaration}),
    "_fill": frozenset({RepositoryDeclaration}),
    "_govern": frozenset({DomainDeclaration, RepositoryDeclaration}),
    "_the_rest": frozenset(
        {ParsedConfig, ApplicationDeclaration, ParsedGroup, BuildProjectDeclaration, PipelineDefinition}
    ),
}
"""Which declarations a step has something to do for: a savepoint for each of the others would cost as much as the work."""
