"""Generic packages over HTTP: ``PUT | GET | HEAD | DELETE {name}/{version}/{path}``, and lists in JSON.

A version of several files may be sent as Unfinished (``?status=unfinished``): it is listed and announced with the first
file that is sent without it, or with ``POST {name}/{version}/?status=published``.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, request

from registry.access import Action
from registry.errors import Conflict, FileExists, Invalid, NotFound
from registry.format import FileLink, Release
from registry.formats.generic import FORMAT, names
from registry.formats.generic.pure import JSON_TYPE, render_package
from registry.http import auth, context
from registry.http.delivery import is_private, send_offered
from registry.http.responses import send_document
from registry.http.upload import BUFFER_BYTES, counted_body
from registry.names import PackageKey
from registry.repos import shelf, withdraw
from registry.repos.documents import Stamp, make_document
from registry.repos.resolve import OfferedFile
from registry.services import Services
from storage.intake import Intake, Received

NAME = FORMAT.name
# RFC 9530 §5: ``sha-256=:base64:``, several with commas between.
_DIGEST_FIELD = re.compile(r"\s*([a-z0-9-]+)=:([A-Za-z0-9+/=]*):\s*\Z")
_FIELD_ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}


def blueprint(services: Services) -> Blueprint:
    """The routes, to be mounted at ``/generic/<domain>/<repository>``."""
    routes = Blueprint("generic", __name__)
    read = auth.client(Action.READ, format_name=NAME)
    read_package = auth.client(Action.READ, format_name=NAME, package=_key_of)
    publish = auth.client(Action.PUBLISH, format_name=NAME, package=_key_of)
    remove = auth.client(
        Action.PUBLISH, format_name=NAME, package=_key_of, permission="codeartifact:DeletePackageVersions"
    )

    def add(rule: str, view: Any, *methods: str) -> None:
        routes.add_url_rule(rule, endpoint=view.__name__, view_func=view, methods=list(methods))

    @read
    def list_names() -> Response:
        return _names(services)

    @read_package
    def list_versions(name: str) -> Response:
        return _listed(services, FORMAT.key(name), None)

    @read_package
    def list_files(name: str, version: str) -> Response:
        return _listed(services, FORMAT.key(name), names.package_version(version))

    @read_package
    def get_file(name: str, version: str, path: str) -> Response:
        return _file(services, FORMAT.key(name), _filename(version, path))

    @publish
    def put_file(name: str, version: str, path: str) -> Response:
        return _put(services, FORMAT.key(name), names.package_version(version), _filename(version, path))

    @publish
    def finish_version(name: str, version: str) -> Response:
        return _finish(services, FORMAT.key(name), names.package_version(version))

    @remove
    def delete_version(name: str, version: str) -> Response:
        return _delete(services, FORMAT.key(name), names.package_version(version))

    add("/", list_names, "GET")
    add("/<name>/", list_versions, "GET")
    add("/<name>/<version>/", list_files, "GET")
    add("/<name>/<version>/<path:path>", get_file, "GET")
    add("/<name>/<version>/<path:path>", put_file, "PUT")
    add("/<name>/<version>/", finish_version, "POST")
    add("/<name>/<version>/", delete_version, "DELETE")
    return routes


def _key_of(route: Mapping[str, str]) -> PackageKey:
    return FORMAT.key(route["name"])


def _filename(version: str, path: str) -> str:
    return f"{names.package_version(version)}/{names.asset_path(path)}"


def _may_publish(key: PackageKey) -> bool:
    who = context.identity()
    return who is not None and who.may(Action.PUBLISH, context.admission().path, key)


def _file(services: Services, key: PackageKey, filename: str) -> Response:
    offered = services.resolver.find_file(context.admission(), key, filename)
    if offered.status == shelf.UNFINISHED and not _may_publish(key):
        raise NotFound("file", filename)  # others see a version when it is whole
    return send_offered(services, key, offered, digest_headers=_digest_headers)


def _digest_headers(hashes: Mapping[str, str]) -> Mapping[str, str]:
    digests = {name: value for name, value in hashes.items() if name in ("sha256", "sha1", "md5")}
    headers = {f"X-Checksum-{name.capitalize()}": value for name, value in digests.items()}
    if "sha256" in digests:
        headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(digests['sha256'])).decode()}:"
    return headers


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body, indent=1) + "\n", status, content_type=JSON_TYPE)


def _names(services: Services) -> Response:
    found = services.resolver.names(context.admission(), NAME)
    return _json({"packages": [{"name": key.name} for key, _ in found]})


def _listed(services: Services, key: PackageKey, version: str | None) -> Response:
    admission = context.admission()
    stamp = Stamp(admission.topology_revision, admission.package_revision)
    place = (admission.repository_id, NAME, key.path, f"version {version}" if version else "versions")
    document = services.documents.get(place, stamp, services.clock())
    if document is None:
        offer = services.resolver.offer(admission, key)
        listed = [file for file in offer.files if offer.withheld.lists(file.version)]
        files = [file for file in listed if version in (None, file.version)]
        if not files:
            raise NotFound("version", f"{key.name} {version}") if version else NotFound("package", key.name)
        body = json.dumps({"name": key.name, **_rendered(files)}).encode()
        document = make_document(body, JSON_TYPE, stamp, offer.valid_until, stale=offer.is_stale)
        services.documents.put(place, document)
    return send_document(document, private=is_private())


def _rendered(files: list[OfferedFile]) -> dict[str, Any]:
    versions: dict[str, list[FileLink]] = {}
    statuses: dict[str, str] = {}
    for file in sorted(files, key=lambda file: (FORMAT.sort_key(file.version), file.filename)):
        link = FileLink(file.filename, file.version, "", file.hashes, file.size_bytes, file.upload_time)
        versions.setdefault(file.version, []).append(link)
        statuses[file.version] = file.status
    return render_package(versions, statuses)


def _put(services: Services, key: PackageKey, version: str, filename: str) -> Response:
    is_finished = _status_asked("published") == "published"
    expected = _promised_digests()
    if request.headers.get("If-None-Match", "").strip() == "*" and _is_here(services, key, filename):
        # RFC 9110 §13.1.2: the sender wants to make the file, never to find it made.
        return Response(f"{filename} is here already\n", 412, content_type="text/plain; charset=utf-8")
    received = _receive(services, expected)
    release = Release(
        name=key.name,
        display_name=key.name,
        version=version,
        display_version=version,
        filename=filename,
        summary="",
        metadata={},
        extra={},
        metadata_document=None,
    )
    hashes = {name: value for name, value in received.digests.items() if name != "sha256"}
    admission, credential = context.admission(), auth.credential_sent()
    try:
        done = services.publisher.publish(
            admission, credential, NAME, release, received.handle, hashes, is_finished=is_finished
        )
    except FileExists as error:
        raise Conflict(str(error)) from error
    if is_finished:
        services.publisher.finish(admission, key, version)
    said = {"sha256": received.handle.digest, "sizeBytes": received.handle.size_bytes, "isNew": done.is_new}
    said |= {"versionRevision": done.revision}
    return _json({"name": key.name, "version": version, "path": filename.partition("/")[2], **said}, 201)


def _status_asked(default: str) -> str:
    asked = request.args.get("status", default).lower()
    if asked not in ("published", "unfinished"):
        raise Invalid("the parameter status is 'published' or 'unfinished'")
    return asked


def _is_here(services: Services, key: PackageKey, filename: str) -> bool:
    try:
        offered = services.resolver.find_file(context.admission(), key, filename)
    except NotFound:
        return False
    return offered.kept is not None and offered.kept.repository_id == context.admission().repository_id


def _receive(services: Services, expected: Mapping[str, str]) -> Received:
    body = counted_body(services.limits.upload_bytes)
    store = services.stores.of(context.admission().domain_id)
    with Intake(store, services.limits.upload_bytes, algorithms=FORMAT.digests) as intake:
        while piece := body.read(BUFFER_BYTES):
            intake.write(piece)
        body.check_complete()
        return intake.finish(expected=expected)


def _promised_digests() -> dict[str, str]:
    """What the sender says of the body: ``X-Checksum-*`` in hex, ``Repr-Digest`` and ``Content-Digest`` (RFC 9530)."""
    promised = {
        name: value.strip()
        for name in ("sha256", "sha1", "sha512", "md5")
        if (value := request.headers.get(f"X-Checksum-{name}"))
    }
    for header in ("Repr-Digest", "Content-Digest"):
        for entry in filter(None, request.headers.get(header, "").split(",")):
            found = _DIGEST_FIELD.match(entry)
            if found is None:
                raise Invalid(f"the header {header} is not as RFC 9530 says: algorithm=:base64:")
            if found[1] in _FIELD_ALGORITHMS:
                promised[_FIELD_ALGORITHMS[found[1]]] = _hex(header, found[2])
    return promised


def _hex(header: str, text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).hex()
    except (binascii.Error, ValueError) as error:
        raise Invalid(f"the header {header} holds a digest that is not base64") from error


def _finish(services: Services, key: PackageKey, version: str) -> Response:
    if _status_asked("published") != "published":
        raise Invalid("a version can only be finished; what is Published stays so")
    is_new = services.publisher.finish(context.admission(), key, version)
    return _json({"name": key.name, "version": version, "status": shelf.FINISHED, "isNew": is_new})


def _delete(services: Services, key: PackageKey, version: str) -> Response:
    admission, now = context.admission(), services.clock()
    shelf.settle(services.db, lambda session: withdraw.delete_version(session, admission, key, version, now))
    return Response(status=204)
