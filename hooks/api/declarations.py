"""Declarations: files that say what shall be there, compared with what is, and made so."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, NoReturn

from sqlalchemy.orm import Session

from hooks.declaring.applying import DeclaredChange, Means, Plan, Undeclared, apply_declarations
from hooks.declaring.documents import Declared, DeclaredFile, read_files
from hooks.declaring.lacking import DeclarationWarning
from hooks.pipelines.applying import known_providers
from hooks.services import HookServices
from registry.access import Action
from registry.api.routes import Route
from registry.api.shapes import Length
from registry.errors import Conflict
from registry.http import context
from registry.http.auth import requires

MOST_FILES = 200
LONGEST_FILE = 512 * 1024


@dataclass(frozen=True, slots=True)
class DeclarationFile:
    """A file: its name, for messages, and its text, YAML (several documents with ``---`` between them) or JSON."""

    name: Annotated[str, Length(1, 300)]
    text: Annotated[str, Length(0, LONGEST_FILE)]


@dataclass(frozen=True, slots=True)
class Declarations:
    """Files that declare things. With ``dryRun`` nothing is changed, only told what would be.

    ``plan`` of such an answer makes sure that exactly this is done, or nothing (409).
    """

    files: Annotated[tuple[DeclarationFile, ...], Length(1, MOST_FILES)]
    dry_run: bool = False
    plan: Annotated[str, Length(64, 64)] | None = None


@dataclass(frozen=True, slots=True)
class DeclarationPlan:
    """What became, or would become, of each declared thing, and what is there without being declared.

    ``warnings`` tell of repositories, build projects, applications and groups that pipelines name and that are nowhere, and
    of what in them has no effect.
    Nothing is ever deleted for not being declared.
    """

    applied: bool
    plan: str
    items: tuple[DeclaredChange, ...]
    undeclared: tuple[Undeclared, ...]
    warnings: tuple[DeclarationWarning, ...]


class DeclarationViews:
    """The operation on declarations."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table: for administrators, because declarations may hold any policy."""
        door, answer = requires(Action.ADMIN), DeclarationPlan
        return (Route("PUT", "/declarations", door, self.apply_declarations, body=Declarations, answer=answer),)

    def apply_declarations(self, body: Declarations) -> DeclarationPlan:
        """Make domains, repositories, policies, applications, build projects and pipelines as files say, in one go.

        All of it or, with a fault, nothing. What is as declared already is left alone, and so is what a document does not
        speak of.
        """
        with self._services.db.read() as session:
            providers = known_providers(session)
        declared = read_files([DeclaredFile(file.name, file.text) for file in body.files], providers)
        if body.dry_run:
            plan = self._rehearse(declared)
        else:
            plan = self._services.db.retry(lambda session: self._held_to(session, declared, body.plan))
        return DeclarationPlan(not body.dry_run, plan.digest, plan.changes, plan.undeclared, plan.warnings)

    def _held_to(self, session: Session, declared: list[Declared], planned: str | None) -> Plan:
        plan = self._apply(session, declared)
        if planned not in {None, plan.digest}:
            raise Conflict("what would change is not what the plan says any more; look at it again")
        return plan

    def _rehearse(self, declared: list[Declared]) -> Plan:
        """Do everything, and take it back."""
        plans: list[Plan] = []

        def rehearse(session: Session) -> None:
            plans.append(self._apply(session, declared))
            _take_back()

        with suppress(_Rehearsed):
            self._services.db.retry(rehearse)
        return plans[-1]

    def _apply(self, session: Session, declared: list[Declared]) -> Plan:
        services = self._services
        means = Means(services.actions, services.deployments, context.services().connections, services.stores)
        return apply_declarations(session, means, declared, caller=context.caller(), now=services.clock())


class _Rehearsed(Exception):
    """All went well; and the transaction goes back."""


def _take_back() -> NoReturn:
    raise _Rehearsed
