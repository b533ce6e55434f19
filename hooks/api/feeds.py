"""Atom feeds (RFC 4287): the executions of a pipeline, and what has come to a repository.

Readers send a token as the password of Basic authorization, as pip does; who may not see an entry does not get it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET  # it only writes here

from flask import Response, request
from sqlalchemy import select

from hooks.pipelines import store
from hooks.pipelines.gates import may_look_into
from hooks.services import HookServices
from registry.access import Action
from registry.api.routes import Route
from registry.http import context
from registry.http.auth import requires, signed_in_api
from registry.models import Package, PackageVersion
from registry.names import PackageKey, PackageName
from registry.repos.topology import find_repository

ATOM = "application/atom+xml"
ENTRIES = 50
_NAMESPACE = "http://www.w3.org/2005/Atom"  # a name, no address
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry. ``path`` is its page, from the server's root, and with ``updated`` what it is known by."""

    title: str
    path: str
    author: str
    updated: datetime
    summary: str


class FeedViews:
    """The feeds."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table."""
        reads = requires(Action.READ, repository=True, any_package=True)
        return (
            Route("GET", "/pipelines/<pipeline>/feed", signed_in_api, self.pipeline_feed, media_type=ATOM),
            Route(
                "GET", "/domains/<domain>/repositories/<repository>/feed", reads, self.repository_feed, media_type=ATOM
            ),
        )

    def pipeline_feed(self, pipeline: str) -> Response:
        """The newest executions of a pipeline that the caller may see, as an Atom feed."""
        caller = context.caller()
        with self._services.db.read() as session:
            name = store.get_pipeline(session, pipeline).name
            found = store.list_executions(session, pipeline=name, limit=ENTRIES)
        entries = [
            Entry(
                f"{each.name} {each.version}: {each.status}",
                f"/executions/{each.id}",
                each.triggered_by,
                each.ended_at or each.started_at,
                f"execution {each.id} of {name}, {each.domain}/{each.repository}, sha256 {each.digest}",
            )
            for each in found
            if may_look_into(caller, each)
        ]
        return self._feed(f"Executions of {name}", f"/pipelines/{quote(name, safe='')}", entries)

    def repository_feed(self, domain: str, repository: str) -> Response:
        """The versions that came to a repository last, as an Atom feed; of packages that the caller may look into."""
        caller, path = context.caller(), f"{domain}/{repository}"
        with self._services.db.read() as session:
            _, row = find_repository(session, domain, repository)
            newest = session.execute(
                select(Package, PackageVersion)
                .join(PackageVersion, PackageVersion.package_id == Package.id)
                .where(Package.repository_id == row.id, PackageVersion.status == "Published")
                .order_by(PackageVersion.published_at.desc(), PackageVersion.id.desc())
                .limit(ENTRIES)
            ).all()
        entries = []
        for package, version in newest:
            key = PackageKey(package.format, package.namespace, PackageName(package.name))
            if caller.may_look_into(path, key):
                parts = (domain, repository, key.format, *key.path.split("/"), "-", version.version)
                how = f"promoted from {version.promoted_from}" if version.promoted_from else version.origin
                entries.append(
                    Entry(
                        f"{package.display_name} {version.display_version}",
                        "/packages/" + "/".join(quote(part, safe="@") for part in parts),
                        version.published_by,
                        version.published_at,
                        ": ".join(part for part in (how, version.summary) if part),
                    )
                )
        return self._feed(f"Releases in {path}", f"/repositories/{quote(domain)}/{quote(repository)}", entries)

    def _feed(self, title: str, path: str, entries: Iterable[Entry]) -> Response:
        listed, base = list(entries), self._services.notifications.base_url
        root = ET.Element("feed", {"xmlns": _NAMESPACE})
        _add(root, "title", title)
        _add(root, "id", _tag(base, path, _BEGINNING))
        _add(root, "updated", _moment(max((each.updated for each in listed), default=_BEGINNING)))
        ET.SubElement(root, "link", {"rel": "alternate", "href": f"{base}{path}"})
        ET.SubElement(root, "link", {"rel": "self", "href": f"{base}{quote(request.path)}"})
        for each in listed:
            entry = ET.SubElement(root, "entry")
            _add(entry, "title", each.title)
            _add(entry, "id", _tag(base, each.path, each.updated))
            _add(entry, "updated", _moment(each.updated))
            ET.SubElement(entry, "link", {"rel": "alternate", "href": f"{base}{each.path}"})
            _add(ET.SubElement(entry, "author"), "name", each.author)
            _add(entry, "summary", each.summary)
        body = ET.tostring(root, encoding="utf-8", xml_declaration=True)
        return Response(
            body, content_type=f"{ATOM}; charset=utf-8",
            headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
        )  # fmt: skip


def _add(parent: ET.Element, name: str, text: str) -> None:
    # What XML cannot hold (control characters, lone surrogates) is left out.
    ET.SubElement(parent, name).text = "".join(char for char in text if char.isprintable())


def _tag(base: str, path: str, at: datetime) -> str:
    """An id that stays (RFC 4151): of the address, the page, and of an entry the moment that it tells of."""
    moment = "" if at == _BEGINNING else f"#{at:%Y%m%dT%H%M%S}"
    return f"tag:{urlsplit(base).hostname or 'entrepot'},2026:{path}{moment}"


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
