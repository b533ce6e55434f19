"""Attestations beside a file (PEP 740): checked as far as that goes without anybody else's keys, and made a provenance.

What is checked: the shape, that the statement (in-toto, version 1) is about this very file, and that its signature was
made with the key of the certificate that comes with it. Whose certificate that is, and whether it is in a transparency
log, only trust roots of Sigstore can say; whoever installs has them or not, and gets everything that was sent.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from packaging.utils import canonicalize_version

from registry.errors import Invalid
from registry.format import BadIndex
from registry.formats.pypi.names import parse_filename

PROVENANCE_TYPE = "application/vnd.pypi.integrity.v1+json"

_MOST_ATTESTATIONS = 16
_LARGEST_CHARACTERS = 2 * 1024 * 1024
_PAYLOAD_TYPE = b"application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"


def provenance(attestations: str, filename: str, sha256: str, account: str) -> bytes:
    """The provenance document of a file, from the upload form's field and who uploaded it. Raises Invalid.

    ``publisher`` says what we know ourselves, the account; it is not a claim of the certificate's.
    """
    given = _json(attestations, "the form field attestations")
    if not isinstance(given, list) or not 1 <= len(given) <= _MOST_ATTESTATIONS:
        raise Invalid(f"the form field attestations is not a list of 1 to {_MOST_ATTESTATIONS} attestations (PEP 740)")
    for number, attestation in enumerate(given, start=1):
        statement, signature, certificate = _parts(attestation, f"attestation {number}")
        _check_subject(statement, filename, sha256, f"attestation {number}")
        _check_signature(statement, signature, certificate, f"attestation {number}")
    bundle = {"publisher": {"kind": "Entrepot", "claims": {"account": account}}, "attestations": given}
    return json.dumps({"version": 1, "attestation_bundles": [bundle]}, separators=(",", ":")).encode()


def check_provenance(body: bytes, filename: str, sha256: str | None) -> None:
    """Check an upstream's provenance document: its shape, and that it is about this file. Raises BadIndex."""
    try:
        document = _mapping(_json(body.decode("utf-8", "replace"), "the provenance"))
        for number, attestation in enumerate(_bundled(document), start=1):
            statement, _, _ = _parts(attestation, f"attestation {number}")
            if sha256 is not None:
                _check_subject(statement, filename, sha256, f"attestation {number}")
    except Invalid as error:
        raise BadIndex(str(error)) from error


def _bundled(document: Mapping[str, Any]) -> Iterable[Any]:
    bundles = document.get("attestation_bundles")
    if not isinstance(bundles, list) or document.get("version") != 1:
        raise Invalid("it is no provenance document of version 1 (PEP 740)")
    for bundle in bundles:
        held = bundle.get("attestations") if isinstance(bundle, dict) else None
        if not isinstance(held, list) or not isinstance(bundle.get("publisher"), dict):
            raise Invalid("a bundle of the provenance has no publisher or no attestations")
        yield from held


def _parts(attestation: Any, where: str) -> tuple[bytes, bytes, bytes]:
    """Statement, signature and certificate of an attestation object of version 1."""
    material = _mapping(_mapping(attestation).get("verification_material"))
    envelope = _mapping(_mapping(attestation).get("envelope"))
    entries = material.get("transparency_entries")
    if _mapping(attestation).get("version") != 1 or not isinstance(entries, list) or not entries:
        raise Invalid(f"{where} is not of version 1 with verification_material and its transparency_entries (PEP 740)")
    if not all(isinstance(entry, dict) for entry in entries):
        raise Invalid(f"{where} has a transparency entry that is no object")
    statement = _decoded(envelope.get("statement"), f"{where}: envelope.statement")
    signature = _decoded(envelope.get("signature"), f"{where}: envelope.signature")
    return statement, signature, _decoded(material.get("certificate"), f"{where}: verification_material.certificate")


def _check_subject(raw: bytes, filename: str, sha256: str, where: str) -> None:
    statement = _mapping(_json(raw.decode("utf-8", "replace"), f"the statement of {where}"))
    if statement.get("_type") != _STATEMENT_TYPE or not isinstance(statement.get("predicateType"), str):
        raise Invalid(f"{where} holds no in-toto statement of version 1 with a predicateType")
    subjects = statement.get("subject")
    subject = _mapping(subjects[0]) if isinstance(subjects, list) and len(subjects) == 1 else {}
    name, digest = subject.get("name"), _mapping(subject.get("digest")).get("sha256")
    if not isinstance(name, str) or not isinstance(digest, str):
        raise Invalid(f"{where} is not about exactly one file with a name and a sha256 digest")
    # Names that mean the same file (1.0 and 1.00) are one; a client that compares does it likewise.
    if name != filename and _meaning(name) != _meaning(filename):
        raise Invalid(f"{where} is about {name[:200]!a}, not about {filename}")
    if digest.lower() != sha256:
        raise Invalid(f"{where} is about a file with the digest {digest[:64]!a}, {filename} has {sha256}")


def _meaning(filename: str) -> tuple[str, str, tuple[str, ...]]:
    """Project, release and what else tells one file of it from another."""
    parsed = parse_filename(filename)
    is_wheel = parsed.packagetype == "bdist_wheel"
    tail = tuple(filename.split("-")[2:]) if is_wheel else (".zip" if filename.endswith(".zip") else ".tar.gz",)
    return parsed.name, canonicalize_version(parsed.version), tail


def _check_signature(statement: bytes, signature: bytes, certificate: bytes, where: str) -> None:
    """Verify the DSSE envelope with the certificate's key: ECDSA with SHA-256 as Sigstore's are, or Ed25519."""
    # DSSE, "PAE": what is signed is the type and the payload with their lengths.
    signed = b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD_TYPE), _PAYLOAD_TYPE, len(statement), statement)
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
        else:
            raise Invalid(f"{where}: the certificate's key is of a kind that does not sign attestations")
    except InvalidSignature as error:
        raise Invalid(f"{where}: the signature does not belong to the statement and the certificate") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Invalid(f"{where}: the certificate is no X.509 certificate in DER") from error


def _decoded(value: Any, where: str) -> bytes:
    try:
        # Some writers break the lines of base64.
        return base64.b64decode("".join(value.split()), validate=True) if isinstance(value, str) and value else _none()
    except (binascii.Error, ValueError) as error:
        raise Invalid(f"{where} is not base64") from error


def _none() -> bytes:
    raise ValueError("there is nothing")


def _json(text: str, where: str) -> Any:
    if len(text) > _LARGEST_CHARACTERS:
        raise Invalid(f"{where} is longer than {_LARGEST_CHARACTERS} characters")
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{where} is not JSON, or says something twice") from error


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose every key is there once: of two, readers take different ones."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
