"""Advisories: brought in as OSV documents by an administrator, and what they say of a version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from registry.access import Action
from registry.api import coordinates
from registry.api.packages import NamespaceQuery
from registry.api.routes import Route
from registry.api.shapes import Length
from registry.http import context
from registry.http.auth import requires
from registry.repos import advisories
from registry.repos.advisories import AdvisoryView, Imported

MOST_DOCUMENTS = 500


@dataclass(frozen=True, slots=True)
class AdvisoryDocuments:
    """Documents in the OSV format (schema version 1), at most 500 in one request."""

    documents: Annotated[tuple[dict[str, Any], ...], Length(1, MOST_DOCUMENTS)]


@dataclass(frozen=True, slots=True)
class VersionAdvisories:
    """The advisories about a version, the worst first."""

    items: tuple[AdvisoryView, ...]


def import_advisories(body: AdvisoryDocuments) -> Imported:
    """Keep advisories, each unless one that is as new is here. All that are sent, or with a fault none of them.

    What is of no ecosystem that this server knows is counted as `foreign`, and not kept.
    """
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        return advisories.import_documents(
            session, services.formats, body.documents, actor=caller.name, now=services.clock()
        )


def delete_advisory(advisory: str) -> None:
    """Forget an advisory. A later import may bring it back."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        advisories.remove(session, advisory, actor=caller.name, now=services.clock())


def list_version_advisories(format_name: str, name: str, version: str, query: NamespaceQuery) -> VersionAdvisories:
    """What the advisories that were brought in say of a version. Nothing outside is asked."""
    services, admission = context.services(), context.admission()
    with services.db.read() as session:
        at = coordinates.find(
            session, services.formats, admission.repository_id, format_name, query.namespace, name, version
        )
        return VersionAdvisories(tuple(advisories.of_version(session, services.formats, at.key, at.version)))


ROUTES = (
    Route("POST", "/advisories", requires(Action.ADMIN), import_advisories, body=AdvisoryDocuments, answer=Imported),
    Route("DELETE", "/advisories/<advisory>", requires(Action.ADMIN), delete_advisory, status=204),
)
