"""The Python package index over HTTP: simple API (PEP 503, 691, 700, 714, 592, 740, 792), files, JSON, legacy upload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, request

from registry.access import Action
from registry.errors import Invalid, NotAcceptable
from registry.format import Release
from registry.formats.pypi import FORMAT, pages
from registry.formats.pypi.ahead import Walk
from registry.formats.pypi.attestations import provenance as attested
from registry.formats.pypi.bare_wheels import with_read_metadata
from registry.formats.pypi.core_metadata import is_newer_than_known
from registry.formats.pypi.documents import (
    metadata,
    page_addresses,
    send_metadata,
    send_project_json,
    send_provenance,
    stamp,
)
from registry.formats.pypi.installer import Installer
from registry.formats.pypi.installer import parse as parse_user_agent
from registry.formats.pypi.metadata import inspect
from registry.formats.pypi.names import parse_filename
from registry.formats.pypi.negotiation import JSON_TYPE, negotiate
from registry.formats.pypi.upload import check_against, parse_form
from registry.formats.pypi.writing import render_html, render_list_html, render_list_json
from registry.http import auth, context
from registry.http.delivery import is_private, send_offered
from registry.http.responses import REVISION_HEADER, send_document
from registry.http.upload import Form, read_form
from registry.names import PackageKey
from registry.repos.admission import Admission
from registry.repos.documents import Document, Key, Stamp, make_document
from registry.repos.resolve import Offer, OfferedFile
from registry.services import Services
from storage.intake import Intake, Received
from storage.reader import open_file

NAME = FORMAT.name
JUST_NOW = timedelta(seconds=5)
# Tools put the rules with "/pypi" in place of an index address that ends in "/simple".
_JSON_RULES = tuple(
    f"{start}/<project>{version}/json{slash}"
    for start in ("", "/pypi")
    for version in ("", "/<version>")
    for slash in ("", "/")
)


def blueprint(services: Services) -> Blueprint:
    """The routes, to be mounted at ``/pypi/<domain>/<repository>``."""
    routes = Blueprint("pypi", __name__)
    read = auth.client(Action.READ, format_name=NAME)
    read_project = auth.client(Action.READ, format_name=NAME, package=lambda route: FORMAT.key(route["project"]))
    publish = auth.client(Action.PUBLISH, format_name=NAME, names_later=True)

    def add(rule: str, view: Any, methods: tuple[str, ...] = ("GET",)) -> None:
        routes.add_url_rule(rule, endpoint=f"{view.__name__}{rule}", view_func=view, methods=list(methods))

    @read
    def project_list() -> Response:
        return _project_list(services)

    @read_project
    def project_page(project: str) -> Response:
        return _project_page(services, project)

    @read_project
    def project_file(project: str, filename: str) -> Response:
        if filename.endswith(".metadata"):
            return _metadata(services, project, filename.removesuffix(".metadata"))
        return _file(services, project, filename)

    @read_project
    def provenance(project: str, version: str, filename: str) -> Response:
        return send_provenance(services, project, version, filename)

    @read_project
    def project_json(project: str, version: str | None = None) -> Response:
        return send_project_json(services, project, version)

    @publish
    def upload() -> Response:
        return _upload(services)

    add("/simple/", project_list)
    add("/simple/<project>/", project_page)
    add("/simple/<project>", project_page)
    # Clients that take every index for one of another server ask here before they upload.
    add("/+simple/<project>/", project_page)
    add("/legacy/+simple/<project>/", project_page)
    add("/simple/+simple/<project>/", project_page)
    add("/files/<project>/<filename>", project_file)
    add("/integrity/<project>/<version>/<filename>/provenance", provenance)
    for rule in _JSON_RULES:
        add(rule, project_json)
    for rule in ("/", "/legacy/", "/legacy", "/simple/", "/simple"):
        add(rule, upload, ("POST",))
    return routes


def _representation() -> str:
    chosen = negotiate(request.headers.get("Accept"), request.args.get("format"))
    if chosen is None:
        raise NotAcceptable("no representation you accept is offered: JSON (PEP 691) or HTML (PEP 503)")
    return chosen


def _project_page(services: Services, project: str) -> Response:
    wanted = FORMAT.key(project)
    if "+simple" not in request.path and not request.path.endswith(f"/{wanted.name}/"):
        return _redirect(wanted.name)
    media = _representation()
    admission = context.admission()
    shown = _Shown(services, admission, media, page_addresses(services))
    document = shown.known(wanted, stamp())
    if document is None:
        offer = with_read_metadata(services, services.resolver.offer(admission, wanted), _client())
        document = shown.render(offer)
        if offer.fetched_at is not None and services.clock() <= offer.fetched_at + JUST_NOW:
            _read_ahead(services, shown, lambda walk: walk.after_page(offer))
    return send_document(document, private=is_private())


@dataclass(frozen=True, slots=True)
class _Shown:
    """Project pages as one client sees them: of its repository, in its representation, with links where it came from."""

    services: Services
    admission: Admission
    media: str
    addresses: pages.Addresses

    def known(self, key: PackageKey, under: Stamp) -> Document | None:
        """The page as it was rendered, if that still holds."""
        found = (self.services.documents.get(place, under, self.services.clock()) for place in self._places(key))
        return next((document for document in found if document is not None), None)

    def render(self, offer: Offer) -> Document:
        """Render a page, and keep it."""
        addresses = self.addresses
        if self.media == JSON_TYPE:
            body, has_root = pages.as_json(offer, addresses)
        else:
            view = pages.view(offer, addresses)
            body, has_root = render_html(view), any(file.provenance for file in view.files)
        # What the offer was read under, and not what the request came in under: fetching a page counts as a change.
        under = Stamp(self.admission.topology_revision, offer.revision)
        document = make_document(body, _content_type(self.media), under, offer.valid_until, stale=offer.is_stale)
        plain, rooted = self._places(offer.key)
        self.services.documents.put(rooted if has_root else plain, document)
        return document

    def _places(self, key: PackageKey) -> tuple[Key, Key]:
        """Where a page is kept: for all addresses of the repository, or with this one in it."""
        place = (self.admission.repository_id, NAME, str(key.name))
        plain = f"{self.media} {self.addresses.files}"
        return (*place, plain), (*place, f"{plain} {self.addresses.root}")


def _read_ahead(services: Services, shown: _Shown, step: Callable[[Walk], None]) -> None:
    """Go on ahead of this request's client, if it is one that waits for answers."""
    admission, client = shown.admission, _client()
    if client is not None and client.asks_at_once:
        return

    def page(key: PackageKey) -> Offer:
        return with_read_metadata(services, services.resolver.offer(admission, key), client)

    step(Walk(services, admission, page, lambda key, file: metadata(services, admission, key, file), client))


def _client() -> Installer | None:
    return parse_user_agent(request.headers.get("User-Agent", ""))


def _metadata(services: Services, project: str, filename: str) -> Response:
    offered = _find(services, project, filename)
    response = send_metadata(services, FORMAT.key(project), offered)
    shown = _Shown(services, context.admission(), JSON_TYPE, page_addresses(services))
    _read_ahead(services, shown, lambda walk: walk.after_metadata(FORMAT.key(project), offered))
    return response


def _redirect(name: str) -> Response:
    """To the one address of a project's page: relative, so that it holds behind any proxy and prefix."""
    location = f"../{name}/" if request.path.endswith("/") else f"{name}/"
    return Response(status=301, headers={"Location": location, "Cache-Control": "no-cache"})


def _content_type(media: str) -> str:
    return media if media == JSON_TYPE else f"{media}; charset=utf-8"


def _project_list(services: Services) -> Response:
    media = _representation()
    admission = context.admission()
    key = (admission.repository_id, NAME, "", media)
    # The admission carries the revision of the name "": it grows whenever any name is added.
    # A list that is one caller's alone is rendered for them alone.
    document = services.documents.get(key, stamp(), services.clock()) if admission.sees_all else None
    if document is None:
        names = [display for _, display in services.resolver.names(admission, NAME)]
        body = render_list_json(names) if media == JSON_TYPE else render_list_html(names)
        document = make_document(body, _content_type(media), stamp(), None)
        if admission.sees_all:
            services.documents.put(key, document)
    return send_document(document, private=is_private())


def _find(services: Services, project: str, filename: str) -> OfferedFile:
    return services.resolver.find_file(context.admission(), FORMAT.key(project), filename)


def _file(services: Services, project: str, filename: str) -> Response:
    return send_offered(services, FORMAT.key(project), _find(services, project, filename))


def _upload(services: Services) -> Response:
    admission = context.admission()
    store = services.stores.of(admission.domain_id)

    def make_intake(_filename: str) -> Intake:
        return Intake(store, services.limits.upload_bytes, algorithms=FORMAT.digests)

    form = read_form(make_intake, limit_bytes=services.limits.upload_bytes)
    try:
        return _publish(services, form)
    finally:
        form.abort()


def _publish(services: Services, form: Form) -> Response:
    checked = parse_form(form.fields)
    if "content" not in form.files:
        raise Invalid("the form has no file in its field 'content'")
    filename, intake = form.files["content"]
    admission = context.admission()
    parse_filename(filename)  # a name that cannot be a distribution's is refused before anything is stored
    received = intake.finish(expected=checked.digests)
    store = services.stores.of(admission.domain_id)
    try:
        with open_file(store, received.handle) as body:
            release = inspect(filename, body)
        check_against(checked, release)
        if checked.attestations is not None:
            document = attested(checked.attestations, filename, received.handle.digest, admission.actor)
            release = replace(release, provenance_document=document)
    except BaseException:
        store.delete(received.handle.locator)
        raise
    published = services.publisher.publish(
        admission, auth.credential_sent(), NAME, release, received.handle, _hashes(received)
    )
    text = f"{filename} is published in {admission.path}\n" if published.is_new else f"{filename} is here already\n"
    headers = {REVISION_HEADER: published.revision}
    return Response(text + _remark(release), headers=headers, content_type="text/plain; charset=utf-8")


def _remark(release: Release) -> str:
    """What the publisher should know though the file was taken."""
    version = str(release.metadata["metadata_version"])
    if not is_newer_than_known(version):
        return ""
    return (
        f"warning: Metadata-Version {version} is newer than this server knows; fields it does not know are not shown\n"
    )


def _hashes(received: Received) -> dict[str, str]:
    return {name: value for name, value in received.digests.items() if name != "sha256"}
