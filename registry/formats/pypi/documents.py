"""Documents about a project that are not its page: a wheel's metadata, a file's provenance, the JSON description."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from flask import Response, request

from registry.errors import Invalid, NotFound, TooLarge
from registry.formats.pypi import FORMAT, core_metadata
from registry.formats.pypi.attestations import PROVENANCE_TYPE, check_provenance
from registry.formats.pypi.bare_wheels import is_bare
from registry.formats.pypi.metadata import glance
from registry.formats.pypi.names import is_same_release, sort_key
from registry.formats.pypi.pages import Addresses, provenance_url
from registry.formats.pypi.project_json import Described, ReleaseFile, latest_version, render
from registry.http import context
from registry.http.delivery import is_private
from registry.http.responses import INERT_HEADERS, send_document
from registry.names import PackageKey
from registry.repos.admission import Admission
from registry.repos.documents import Document, Stamp, make_document
from registry.repos.resolve import KeptFile, Offer, OfferedFile
from registry.services import Services
from storage.reader import open_file

FOREVER = "max-age=31536000, immutable"


def stamp() -> Stamp:
    """What a document rendered for this request depends on."""
    admission = context.admission()
    return Stamp(admission.topology_revision, admission.package_revision)


def root_url(services: Services) -> str:
    """The repository's address, absolute, without a slash at its end: for links that may not be relative.

    What is rendered with it is kept under it as well: without a configured address it is the request's own.
    """
    admission = context.admission()
    base = (services.public_url or request.url_root).rstrip("/")
    return f"{base}/{FORMAT.name}/{admission.domain}/{admission.repository}"


def page_addresses(services: Services) -> Addresses:
    """What links of a project's page begin with: in full where the page itself was asked for at the public address.

    Who came another way (a build in its sandbox, a name inside the network) stays on it by relative links.
    """
    root = root_url(services)
    is_public = services.public_url is not None and urlsplit(services.public_url).netloc == request.host
    return Addresses.absolute(root) if is_public else Addresses(root)


# Metadata.


def send_metadata(services: Services, key: PackageKey, offered: OfferedFile) -> Response:
    """A wheel's METADATA, byte for byte (PEP 658). Raises NotFound for a file without."""
    sha256 = _promised(offered)
    body = metadata(services, context.admission(), key, offered)
    response = Response(body, content_type="application/octet-stream", headers=INERT_HEADERS)
    response.set_etag(f"{sha256 or hashlib.sha256(body).hexdigest()}-metadata")
    response.headers["Cache-Control"] = FOREVER
    return response.make_conditional(request.environ)  # type: ignore[return-value]


def metadata(services: Services, admission: Admission, key: PackageKey, offered: OfferedFile) -> bytes:
    """A wheel's metadata document: stored at upload, in the wheel that was kept, the upstream's, or read out of it.

    Raises NotFound or UpstreamUnavailable.
    """
    if not offered.extra.get("core_metadata", False):
        return _read_out(services, admission, key, offered)
    kept, sha256 = offered.kept, _promised(offered)
    if kept is not None and kept.metadata_blob_id is None:
        document = _glance_at_kept(services, admission, offered.filename, kept)
        if document is not None and sha256 in (None, hashlib.sha256(document).hexdigest()):
            return document
    if is_bare(offered):
        return _read_out(services, admission, key, offered)
    return services.files.metadata(admission, offered, sha256)


def _promised(offered: OfferedFile) -> str | None:
    """The digest that the page promises of a wheel's metadata."""
    promised = offered.extra.get("core_metadata", False)
    return promised.get("sha256") if isinstance(promised, dict) else None


def _read_out(services: Services, admission: Admission, key: PackageKey, offered: OfferedFile) -> bytes:
    """The METADATA of a wheel whose upstream serves none, read out of the wheel. Raises NotFound."""
    document = None
    if offered.kept is not None:
        document = _glance_at_kept(services, admission, offered.filename, offered.kept)
    elif offered.link is not None and offered.connection is not None and is_bare(offered):
        document = services.files.derived.document(offered.connection, key, offered.link, glance)
    if document is None:
        raise NotFound("metadata", f"{offered.filename}.metadata")
    return document


def _glance_at_kept(services: Services, admission: Admission, filename: str, kept: KeptFile) -> bytes | None:
    """The document out of a kept wheel: so that it is there while the upstream is not. None where it cannot be read."""
    store = services.stores.of(admission.domain_id)
    try:
        with open_file(store, kept.handle) as body:
            return glance(filename, body)
    except (Invalid, TooLarge):
        return None  # an upstream's wheel need not keep the rules that publishing here has


# Provenance.


def send_provenance(services: Services, project: str, version: str, filename: str) -> Response:
    """The provenance document of a file. Raises NotFound."""
    key = FORMAT.key(project)
    # By the page and not by the file: only the page says which upstream has it.
    offer = services.resolver.offer(context.admission(), key)
    found = offer.file(filename)
    if found is None or not _is_version(found.version, version):
        raise NotFound("file", filename)

    def check(body: bytes) -> None:
        check_provenance(body, filename, found.hashes.get("sha256"))

    url = str(found.extra.get("provenance") or "")
    body = services.files.provenance(context.admission(), found, url, accept=PROVENANCE_TYPE, check=check)
    response = Response(body, content_type=PROVENANCE_TYPE, headers=INERT_HEADERS)
    response.set_etag(hashlib.sha256(body).hexdigest())
    response.headers["Cache-Control"] = f"{'private' if is_private() else 'public'}, max-age=3600"
    return response.make_conditional(request.environ)  # type: ignore[return-value]


# The JSON description.


def send_project_json(services: Services, project: str, version: str | None) -> Response:
    """The description of a project by its latest release, or of the release named. Raises NotFound."""
    admission, key = context.admission(), FORMAT.key(project)
    root = root_url(services)
    place = (admission.repository_id, FORMAT.name, key.name, f"json {version or ''} {root}")
    document = services.documents.get(place, stamp(), services.clock())
    if document is None:
        document = _described(services, key, version, root)
        services.documents.put(place, document)
    return send_document(document, private=is_private())


def _described(services: Services, key: PackageKey, version: str | None, root: str) -> Document:
    offer = services.resolver.offer(context.admission(), key)
    files = [_release_file(root, key.name, file) for file in offer.files]
    if version is None:
        chosen = latest_version(files)
    else:
        chosen = next((file.version for file in files if _is_version(file.version, version)), None)
    if chosen is None:
        raise NotFound("version", f"{key.name} {version or ''}".strip())
    made_under = stamp()
    described = Described(
        name=key.name,
        version=chosen,
        fields=_fields(services, offer, chosen),
        project_url=f"{root}/simple/{key.name}/",
        release_url=f"{root}/{key.name}/{quote(chosen)}/json",
        serial=made_under.package_revision,
        status=offer.status,
        status_reason=offer.status_reason,
    )
    body = render(described, files, with_releases=version is None)
    return make_document(body, "application/json", made_under, offer.valid_until, stale=offer.is_stale)


def _release_file(root: str, name: str, file: OfferedFile) -> ReleaseFile:
    return ReleaseFile(
        filename=file.filename,
        version=file.version,
        url=f"{root}/files/{name}/{quote(file.filename, safe='')}",
        hashes=file.hashes,
        size_bytes=file.size_bytes,
        upload_time=file.upload_time,
        requires_python=file.extra.get("requires_python"),
        yanked_reason=file.yanked_reason,
        core_metadata=file.extra.get("core_metadata", False),
        provenance=provenance_url(root, name, file),
    )


def _fields(services: Services, offer: Offer, version: str) -> dict[str, Any]:
    """What the release's archive says of it: as read at upload, else out of its wheel's metadata document.

    Raises UpstreamUnavailable when that is an upstream's and cannot be had now: half a description would pass for all.
    """
    files = sorted((file for file in offer.files if file.version == version), key=_wheels_first)
    for file in files:
        known = services.files.described(context.admission(), offer.key, file.kept) if file.kept is not None else None
        if known is not None:
            return _with_description(known.metadata, known.description, known.description_type)
    return _read_fields(services, offer.key, files)


def _read_fields(services: Services, key: PackageKey, files: Sequence[OfferedFile]) -> dict[str, Any]:
    for file in files:
        promised = file.extra.get("core_metadata", False)
        if not promised and file.kept is None:
            continue
        try:
            document = metadata(services, context.admission(), key, file)
            core = core_metadata.parse(document, file.filename)
        except (NotFound, Invalid, TooLarge):
            continue  # an upstream's archive need not keep our rules; another file of the release may tell
        return _with_description({"summary": core.summary, **core.fields}, core.description, core.description_type)
    return {}


def _with_description(fields: Mapping[str, Any], description: str, media_type: str) -> dict[str, Any]:
    return {**fields, "description": description, "description_content_type": media_type or None}


def _wheels_first(file: OfferedFile) -> tuple[bool, str]:
    return not file.filename.endswith(".whl"), file.filename


def _is_version(version: str, said: str) -> bool:
    return version == said or (sort_key(said)[0] == 1 and is_same_release(version, said))
