"""A package's page: one version with everything about it, and all its versions."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from markupsafe import Markup

from registry.errors import Invalid, NotFound
from registry.format import Format
from registry.http import context
from registry.http.auth import open_page
from registry.names import PackageKey
from registry.pages import origins, sight
from registry.pages.catalogue import admit, readable, repository_url
from registry.pages.facts import describe
from registry.pages.manage import STATUSES
from registry.pages.panels import Coordinate, extensions
from registry.pages.readme import render_readme
from registry.pages.version_changes import choices
from registry.repos import advisories, browse, shelf

VERSIONS_SHOWN = 20


def routes(pages: Blueprint) -> None:
    """Add the routes. A name may hold slashes (a namespace), a version cannot."""
    base = "/packages/<domain>/<repository>/<format_name>/<path:name>"
    pages.add_url_rule(base, "package", _package)
    pages.add_url_rule(f"{base}/-/<version>", "version", _version)


@open_page("checks the right to read, or that anybody may")
def _package(domain: str, repository: str, format_name: str, name: str) -> str:
    return _page(domain, repository, format_name, name, None)


@open_page("checks the right to read, or that anybody may")
def _version(domain: str, repository: str, format_name: str, name: str, version: str) -> str:
    return _page(domain, repository, format_name, name, version)


def _page(domain: str, repository: str, format_name: str, raw_name: str, wanted: str | None) -> str:
    services = context.services()
    with services.db.read() as session:
        summary = admit(session, domain, repository, sight.named(format_name, raw_name))
        known = _format(format_name)
        key = _key(known, raw_name)
        package = browse.package(session, summary.id, *key, sort_key=known.sort_key)
        finished = [entry for entry in package.versions if entry.status == shelf.FINISHED] or package.versions
        latest = next((entry for entry in finished if entry.yanked_reason is None), finished[0])
        chosen = latest.version
        if wanted is not None:
            chosen = browse.canonical_version(session, summary.id, *key, wanted, sort_key=known.sort_key)
        detail = browse.version(session, summary.id, *key, chosen, keyring=services.stores.keyring)
        looks = sight.viewer(session)
        visible = {other.name for other in readable(session) if other.domain == domain and looks.describes(other, key)}
        why = origins.why(session, domain, repository, key, known, visible)
        acts = choices(session, domain, repository, key)
        warned = advisories.of_version(session, services.formats, key, detail.version)
    if not detail.metadata and services.files.readings.read(summary.id, key, chosen):
        with services.db.read() as session:
            detail = browse.version(session, summary.id, *key, chosen, keyring=services.stores.keyring)
    description = describe(detail.metadata)
    at = Coordinate(domain, repository, *key, detail.version)
    return render_template(
        "package.html",
        domain=domain,
        repository=repository,
        detail=detail,
        package=package,
        path=key.path,
        may_set_status=sight.may(domain, repository, key, sight.SET_STATUS),
        may_delete=sight.may(domain, repository, key, sight.DELETE),
        why=why,
        may_set_origin=origins.may_set(domain, repository, key),
        controls=origins.CONTROLS,
        statuses=STATUSES,
        acts=acts,
        advisories=warned,
        latest=latest,
        is_pinned=wanted is not None,
        versions=package.versions,
        shown_versions=package.versions if "all" in request.args else package.versions[:VERSIONS_SHOWN],
        visible=visible,
        held_by=[other for other in detail.held_by if other != repository and other in visible],
        install=known.install_hint(repository_url(domain, repository, format_name), key, detail.version),
        readme=render_readme(detail.description, detail.description_type),
        facts=description.facts,
        links=description.links,
        requires=description.requires,
        panels=_panels(at),
        tabs=_tabs(at),
    )


def _key(known: Format, written: str) -> PackageKey:
    try:
        return known.key(written)
    except Invalid as error:
        raise NotFound("package", written) from error  # nothing of that name can be here


def _format(name: str) -> Format:
    known = context.services().formats.get(name)
    if known is None:
        raise NotFound("format", name)
    return known


def _panels(coordinate: Coordinate) -> list[Markup]:
    who = context.identity()
    if who is None:
        return []
    return [panel for extension in extensions() if extension.version and (panel := extension.version(who, coordinate))]


def _tabs(coordinate: Coordinate) -> list[tuple[str, str]]:
    """What else there is about the version, for who is signed in: (label, address)."""
    if context.identity() is None:
        return []
    return [(tab.label, tab.url(coordinate)) for extension in extensions() for tab in extension.version_tabs]
