"""The Maven repository layout over HTTP: GET and HEAD of files, checksums and documents, PUT of files, DELETE of versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response

from registry.access import Action
from registry.errors import Invalid, NotFound
from registry.formats.maven import FORMAT, documents, paths
from registry.formats.maven.checksums import checksum_of, header_name
from registry.formats.maven.deploy import delete, deploy
from registry.formats.maven.folders import folder_page
from registry.http import auth, context
from registry.http.delivery import is_private, send_offered
from registry.http.responses import INERT_HEADERS, send_document
from registry.names import PackageKey
from registry.repos import shelf
from registry.repos.documents import Document
from registry.repos.resolve import OfferedFile
from registry.services import Services

NAME = FORMAT.name
DELETE_VERSIONS = "codeartifact:DeletePackageVersions"


def blueprint(services: Services) -> Blueprint:
    """The routes, to be mounted at ``/maven/<domain>/<repository>``."""
    routes = Blueprint("maven", __name__)
    read = auth.client(Action.READ, format_name=NAME, package=_key_of)
    publish = auth.client(Action.PUBLISH, format_name=NAME, package=_key_of)
    withdraw = auth.client(Action.PUBLISH, format_name=NAME, package=_version_key, permission=DELETE_VERSIONS)

    def add(view: Any, *methods: str) -> None:
        routes.add_url_rule("/<path:path>", endpoint=view.__name__, view_func=view, methods=list(methods))
        root = f"{view.__name__}_root"
        routes.add_url_rule("/", endpoint=root, view_func=view, methods=list(methods), defaults={"path": ""})

    @read
    def get(path: str) -> Response:
        return _get(services, path)

    @publish
    def put(path: str) -> Response:
        return deploy(services, path)

    @withdraw
    def remove(path: str) -> Response:
        return delete(services, path)

    add(get, "GET")
    add(put, "PUT")
    add(remove, "DELETE")
    return routes


def _key_of(route: Mapping[str, str]) -> PackageKey:
    """Whose revision the admission is to bring. Paths that are none are told after it: first comes who may ask."""
    try:
        place = paths.parse(route["path"])
    except Invalid:
        return documents.EVERYTHING
    return getattr(place, "key", None) or documents.EVERYTHING


def _version_key(route: Mapping[str, str]) -> PackageKey:
    """Whose version's folder it is that is to go."""
    try:
        return paths.parse_version(route["path"]).key
    except Invalid:
        return documents.EVERYTHING


def _get(services: Services, path: str) -> Response:
    if not path or path.endswith("/"):
        response = _send_document(folder_page(services, path))
        response.headers.update(INERT_HEADERS)
        return response
    try:
        place = paths.parse(path)
    except Invalid as error:
        # Clients ask for what other servers have beside the layout: none of it is here.
        raise NotFound("path", path) from error
    if not isinstance(place, paths.FilePath):
        if getattr(place, "key", None) is None and not context.admission().sees_all:
            raise NotFound("document", path)  # it names packages that the caller's token is not for
        found = documents.document(services, place)
        return _send_text(_digest(found, place.checksum)) if place.checksum else _send_document(found)
    offered = _find(services, place)
    if place.checksum is None:
        return send_offered(services, place.key, offered, digest_headers=_headers)
    hashes = offered.hashes if offered.kept is not None else services.files.digest_beside(offered)
    if place.checksum not in hashes and offered.kept is None:
        # Nobody outside has that checksum of it: it is computed from the file.
        hashes = services.files.complete(context.admission(), place.key, offered).digests
    if place.checksum not in hashes:
        raise NotFound("checksum", path)
    return _send_text(hashes[place.checksum])


def _find(services: Services, place: paths.FilePath) -> OfferedFile:
    """The file; one of a version that is not finished is there for those only who may publish where it lies."""
    admission = context.admission()
    offered = services.resolver.find_file(admission, place.key, place.filename)
    if offered.status != shelf.UNFINISHED or _may_publish(services, place.key, offered):
        return offered
    documents.finish_idle(services, place.key)  # nobody else may have looked since its last file came
    offered = services.resolver.find_file(admission, place.key, place.filename)
    if offered.status == shelf.UNFINISHED:
        raise NotFound("file", place.filename)
    return offered


def _may_publish(services: Services, key: PackageKey, offered: OfferedFile) -> bool:
    """Whether the caller may publish in the repository that holds the file."""
    admission, who = context.admission(), context.identity()
    holder = offered.kept.repository_id if offered.kept is not None else None
    names = [node.name for node in services.resolver.chain(admission) if node.id == holder]
    return who is not None and any(who.may(Action.PUBLISH, f"{admission.domain}/{name}", key) for name in names)


def _send_document(found: Document) -> Response:
    response = send_document(found, private=is_private())
    response.headers.update(_headers({name: checksum_of(found.body, name) for name in ("sha1", "md5", "sha256")}))
    return response


def _digest(found: Document, algorithm: str) -> str:
    return checksum_of(found.body, algorithm)


def _send_text(digest: str) -> Response:
    """A checksum: the digest alone, because clients compare the whole body."""
    response = Response(digest, content_type="text/plain")
    response.headers["Cache-Control"] = f"{'private' if is_private() else 'public'}, max-age=0, must-revalidate"
    return response


def _headers(hashes: Mapping[str, str]) -> dict[str, str]:
    """Digests in the answer's head save clients the request for the checksum (Maven's resolver 1.9 and later)."""
    return {header_name(name): hashes[name] for name in paths.CHECKSUMS if name in hashes}
