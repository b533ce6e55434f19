"""What a publish document says, checked: one package, one version, one tarball, all of one name. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from registry.errors import Invalid
from registry.format import Release
from registry.formats.npm import integrity
from registry.formats.npm.manifest import Json
from registry.formats.npm.names import canonical_version, display_name, publishable_key, tag_name, tarball_name
from registry.formats.npm.publish_body import ATTACHMENTS, PROVENANCE_SUFFIX, PublishBody
from registry.names import PackageKey

_ACCESS = (None, "", "public", "restricted", "private")
_MOST_TAGS = 20
_LONGEST_NOTE = 200
# What only the publishing client knows; everything else comes from the archive.
_CLIENT_NOTES = ("_nodeVersion", "_npmVersion", "gitHead")


@dataclass(frozen=True, slots=True)
class Publication:
    """A document that keeps the rules. ``digests`` (hex) and ``size_bytes`` are promises about the tarball.

    ``sent`` is the client's manifest, for comparison only; ``provenance`` the text of a Sigstore bundle.
    """

    key: PackageKey
    version: str
    filename: str
    tags: tuple[str, ...]
    digests: Mapping[str, str]
    size_bytes: int
    sent: Json
    notes: Mapping[str, str]
    provenance: str | None


def read(body: PublishBody, key: PackageKey) -> Publication:
    """Check a document that was sent to the address of package ``key``. Raises Invalid naming the rule."""
    document, name = body.document, display_name(publishable_key(display_name(key)))
    for field in ("name", "_id"):
        if document.get(field, name) != name:
            raise Invalid(f"the document's {field} is not {name}, to whose address it was sent")
    if document.get("access") not in _ACCESS:
        raise Invalid("access is public or restricted")
    version, sent = _one_version(document, name)
    attachment, provenance = _attachments(body, name, version)
    dist = sent.get("dist")
    if not isinstance(dist, dict):
        raise Invalid("the version has no dist with the tarball's digest")
    digests = integrity.sent(dist)
    if not digests:
        raise Invalid("the version's dist has neither integrity nor shasum")
    return Publication(
        key=key,
        version=version,
        filename=tarball_name(key, version),
        tags=_tags(document.get("dist-tags"), version),
        digests=digests,
        size_bytes=_length(attachment),
        sent=sent,
        notes=_notes(sent),
        provenance=provenance,
    )


def _one_version(document: Json, name: str) -> tuple[str, Json]:
    versions = document.get("versions")
    if not isinstance(versions, dict) or len(versions) != 1:
        raise Invalid("a publish holds exactly one version")
    ((written, sent),) = versions.items()
    if not isinstance(sent, dict):
        raise Invalid("the version's manifest is not an object")
    version = canonical_version(written)
    if sent.get("name") != name or canonical_version(sent.get("version")) != version:
        raise Invalid(f"the manifest is not of {name} {version}, under which it stands")
    if sent.get("_id", f"{name}@{version}") not in (f"{name}@{version}", f"{name}@{written}"):
        raise Invalid(f"the manifest's _id is not {name}@{version}")
    return version, sent


def _attachments(body: PublishBody, name: str, version: str) -> tuple[Json, str | None]:
    attachments = body.document.get(ATTACHMENTS)
    if not isinstance(attachments, dict) or body.attachment is None:
        raise Invalid("the document has no tarball in its _attachments")
    stem = f"{name}-{version}"
    # The tarball's name there is made of name and version by every client; anything else hides another package.
    allowed = {f"{stem}.tgz", f"{stem.rpartition('/')[2]}.tgz"}
    bundle_name = stem + PROVENANCE_SUFFIX
    for found in attachments:
        if found != bundle_name and (found != body.attachment or found not in allowed):
            raise Invalid(f"the attachment {found[:200]!a} is not the tarball of {name} {version}")
    attachment = attachments[body.attachment]
    if not isinstance(attachment, dict):
        raise Invalid("the attachment is not an object")
    bundle = attachments.get(bundle_name)
    if bundle is None:
        return attachment, None
    text = bundle.get("data") if isinstance(bundle, dict) else None
    if not isinstance(text, str):
        raise Invalid("the provenance bundle has no text")
    return attachment, text


def _length(attachment: Json) -> int:
    length = attachment.get("length")
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise Invalid("the attachment's length is not a number of bytes")
    return length


def _tags(said: object, version: str) -> tuple[str, ...]:
    if said is None:
        return ()
    if not isinstance(said, dict) or len(said) > _MOST_TAGS:
        raise Invalid("dist-tags is an object with at most 20 tags")
    for tag, target in said.items():
        tag_name(tag)
        if target != version:
            raise Invalid(f"the tag {tag} does not point at the version that is published with it")
    return tuple(said)


def _notes(sent: Json) -> dict[str, str]:
    return {
        name: sent[name]
        for name in _CLIENT_NOTES
        if isinstance(sent.get(name), str) and len(sent[name]) <= _LONGEST_NOTE
    }


def check_against(publication: Publication, release: Release) -> None:
    """Raise Invalid when the tarball is of another name or version than the document says."""
    said = (publication.key.namespace, publication.key.name, publication.version)
    if (release.namespace, release.name, release.version) != said:
        raise Invalid(f"package.json in the tarball is of {release.display_name} {release.version}")


@dataclass(frozen=True, slots=True)
class Provenance:
    """A Sigstore bundle that speaks of the tarball it came with. Its signature is the installing client's to check."""

    predicate_type: str
    text: str


def read_provenance(text: str, publication: Publication, digests: Mapping[str, str]) -> Provenance:
    """Check that a bundle's statement is about this version and these bytes. Raises Invalid."""
    statement = _statement(text)
    predicate, subjects = statement.get("predicateType"), statement.get("subject")
    namespace = f"%40{publication.key.namespace}/" if publication.key.namespace else ""
    purl = f"pkg:npm/{namespace}{quote(publication.key.name)}@{publication.version}"
    subject = subjects[0] if isinstance(subjects, list) and len(subjects) == 1 else None
    digest = subject.get("digest") if isinstance(subject, dict) else None
    if not isinstance(predicate, str) or not isinstance(subject, dict) or not isinstance(digest, dict):
        raise Invalid("the provenance bundle holds no statement about one package")
    if subject.get("name") != purl or digest.get("sha512") != digests["sha512"]:
        raise Invalid("the provenance bundle is about another package or other bytes")
    return Provenance(predicate, text)


def _statement(text: str) -> Json:
    try:
        payload = json.loads(text)["dsseEnvelope"]["payload"]
        statement = json.loads(base64.b64decode(payload, validate=True))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Invalid("the provenance bundle cannot be read") from error
    if not isinstance(statement, dict):
        raise Invalid("the provenance bundle cannot be read")
    return statement


def revision_text(key: PackageKey, count: int) -> str:
    """CouchDB's form of a document's revision: ``<n>-<hex>``, another one with each change under the name."""
    digest = hashlib.sha256(f"{key.path}\n{count}".encode()).hexdigest()
    return f"{count}-{digest[:32]}"
