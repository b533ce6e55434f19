"""Attestations as a build service makes them (PEP 740), signed with a certificate of our own instead of a public one."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.harness import packages

KEY = ec.generate_private_key(ec.SECP256R1())


def certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(KEY, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


def statement(filename: str, body: bytes, **changes: Any) -> dict[str, Any]:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": filename, "digest": {"sha256": packages.sha256(body)}}],
        "predicateType": "https://attestations.example/publish/v1",
        "predicate": None,
        **changes,
    }


def attestation(said: dict[str, Any]) -> dict[str, Any]:
    payload = json.dumps(said).encode()
    kind = b"application/vnd.in-toto+json"
    signature = KEY.sign(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload), ec.ECDSA(hashes.SHA256()))
    return {
        "version": 1,
        "verification_material": {
            "certificate": base64.b64encode(certificate()).decode(),
            "transparency_entries": [{"logIndex": "1"}],
        },
        "envelope": {
            "statement": base64.b64encode(payload).decode(),
            "signature": base64.b64encode(signature).decode(),
        },
    }


def provenance(filename: str, body: bytes) -> bytes:
    """The document an index serves of a file."""
    bundle = {
        "publisher": {"kind": "Example", "claims": None},
        "attestations": [attestation(statement(filename, body))],
    }
    return json.dumps({"version": 1, "attestation_bundles": [bundle]}).encode()
