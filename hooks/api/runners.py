"""Runners, for administrators: which there are, what they do, made, revoked and forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds import runners
from hooks.builds.runners import Held, Limits, NewToken
from hooks.models.runner import BuildRunner
from hooks.services import HookServices
from registry.access import Action
from registry.api.routes import Route
from registry.api.shapes import Length
from registry.http import context
from registry.http.auth import requires


@dataclass(frozen=True, slots=True)
class NewRunner:
    """A runner to make. ``projects`` and ``domains`` are whose builds it may have; without any it may have all."""

    name: Annotated[str, Length(1, 100)]
    projects: Annotated[tuple[Annotated[str, Length(1, 100)], ...], Length(0, 200)] = ()
    domains: Annotated[tuple[Annotated[str, Length(1, 50)], ...], Length(0, 50)] = ()


@dataclass(frozen=True, slots=True)
class RunnerBuild:
    """A build that a runner has now."""

    id: str
    project: str
    number: int


@dataclass(frozen=True, slots=True)
class RunnerDetail:
    """A runner. ``state`` is PENDING (not registered), ONLINE, OFFLINE or REVOKED.

    ``host``, ``version``, ``environments`` and ``slots`` are what it says of itself.
    """

    name: str
    state: str
    projects: tuple[str, ...]
    domains: tuple[str, ...]
    host: str
    version: str
    environments: tuple[str, ...]
    slots: int
    builds: tuple[RunnerBuild, ...]
    created_by: str
    created_at: datetime
    registered_at: datetime | None
    seen_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunnerList:
    """All runners by name."""

    items: tuple[RunnerDetail, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class RegistrationToken:
    """What ``entrepot runner register`` takes: once, until ``expiresAt``. It is never told again."""

    name: str
    registration_token: str
    expires_at: datetime


class RunnerViews:
    """The operations on runners."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the management interface's table: for administrators."""
        door, one = requires(Action.ADMIN), "/runners/<runner>"
        return (
            Route("GET", "/runners", door, self.list_runners, answer=RunnerList),
            Route("POST", "/runners", door, self.add_runner, body=NewRunner, answer=RegistrationToken, status=201),
            Route("GET", one, door, self.get_runner, answer=RunnerDetail),
            Route(
                "POST",
                f"{one}/registration-token",
                door,
                self.renew_runner_registration,
                answer=RegistrationToken,
                status=201,
            ),
            Route("POST", f"{one}/revoke", door, self.revoke_runner, answer=RunnerDetail),
            Route("DELETE", one, door, self.delete_runner, status=204),
        )

    def list_runners(self) -> RunnerList:
        """All runners, with what each does now."""
        with self._services.db.read() as session:
            rows = session.scalars(select(BuildRunner).order_by(BuildRunner.name)).all()
            return RunnerList(tuple(self._details(session, rows)), None)

    def add_runner(self, body: NewRunner) -> RegistrationToken:
        """Make a runner; answers with the token it registers with, once and within the hour."""
        services, caller = self._services, context.caller()
        with services.db.write() as session:
            row, given = runners.add(
                session,
                body.name,
                Limits(body.projects, body.domains),
                digest=context.services().accounts.digest,
                created_by=caller.name,
                now=services.clock(),
            )
            return _token(row.name, given)

    def get_runner(self, runner: str) -> RunnerDetail:
        """A runner, with what it does now."""
        with self._services.db.read() as session:
            return self._details(session, [runners.find(session, runner)])[0]

    def renew_runner_registration(self, runner: str) -> RegistrationToken:
        """Another registration token, for a runner that lost its credential: registering with it ends the old one."""
        services, caller = self._services, context.caller()
        with services.db.write() as session:
            digest = context.services().accounts.digest
            given = runners.renew_registration(session, runner, digest=digest, by=caller.name, now=services.clock())
            return _token(runner, given)

    def revoke_runner(self, runner: str) -> RunnerDetail:
        """Take nothing from a runner any more, from its next request on; what it runs is given to others."""
        services, caller = self._services, context.caller()
        with services.db.write() as session:
            end_token = services.runners.work.end_token
            row = runners.revoke(session, runner, by=caller.name, now=services.clock(), end_token=end_token)
            session.flush()
            return self._details(session, [row])[0]

    def delete_runner(self, runner: str) -> None:
        """Revoke a runner and forget it."""
        services, caller = self._services, context.caller()
        with services.db.write() as session:
            end_token = services.runners.work.end_token
            runners.delete(session, runner, by=caller.name, now=services.clock(), end_token=end_token)

    def _details(self, session: Session, rows: Sequence[BuildRunner]) -> list[RunnerDetail]:
        held, now = runners.held_now(session, [row.id for row in rows]), self._services.clock()
        return [detail_of(row, held.get(row.id, ()), now) for row in rows]


def detail_of(row: BuildRunner, held: Sequence[Held], now: datetime) -> RunnerDetail:
    """A runner as it is told of."""
    return RunnerDetail(
        row.name,
        runners.state_of(row, now),
        tuple(row.projects),
        tuple(row.domains),
        row.host,
        row.version,
        tuple(row.environments),
        row.slots,
        tuple(RunnerBuild(each.build_id, each.project, each.number) for each in held),
        row.created_by,
        row.created_at,
        row.registered_at,
        row.seen_at,
        row.revoked_at,
    )


def _token(name: str, given: NewToken) -> RegistrationToken:
    return RegistrationToken(name, given.secret, given.expires_at)
