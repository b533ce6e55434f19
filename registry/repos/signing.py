"""Signing in the server's name: one key for each purpose, made at its first use and kept sealed."""

from __future__ import annotations

import base64
import hashlib
import threading
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.orm import Session

from registry.clock import Clock
from registry.db import Database
from registry.models import SigningKey
from registry.repos import shelf
from registry.stores import DomainStores

AUDIT_CHECKPOINT = "audit-checkpoint"
AGENT_COMMAND = "agent-command"
_ED25519 = frozenset({AUDIT_CHECKPOINT, AGENT_COMMAND})
"""The purposes whose keys are Ed25519 (RFC 8032); all others, which clients of formats verify, have ECDSA P-256."""

PrivateKey = ec.EllipticCurvePrivateKey | Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Signature:
    """``key_id`` is that of the public key, ``der`` the signature: ASN.1 DER, or Ed25519's 64 bytes."""

    key_id: str
    der: bytes

    @property
    def base64(self) -> str:
        """The signature as documents hold it."""
        return base64.b64encode(self.der).decode("ascii")


class Signer:
    """Signs for all of the server. Safe for many threads and processes: the first one to make a key makes it for all."""

    def __init__(self, db: Database, stores: DomainStores, clock: Clock) -> None:
        self._db = db
        self._stores = stores
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, PrivateKey] = {}

    def sign(self, purpose: str, message: bytes) -> Signature:
        """Ed25519 or ECDSA with SHA-256 over ``message``. Raises KeyUnavailable."""
        key = self._key(purpose)
        if isinstance(key, Ed25519PrivateKey):
            return Signature(key_id(_public_der(key)), key.sign(message))
        return Signature(key_id(_public_der(key)), key.sign(message, ec.ECDSA(hashes.SHA256())))

    def public_key(self, purpose: str) -> bytes:
        """The public key, SubjectPublicKeyInfo DER. Raises KeyUnavailable."""
        return _public_der(self._key(purpose))

    def _key(self, purpose: str) -> PrivateKey:
        with self._lock:
            known = self._keys.get(purpose)
        if known is not None:
            return known
        keyring, context = self._stores.server_keyring(), box_context(purpose)
        with self._db.read() as session:
            row = session.get(SigningKey, purpose)
        if row is None:
            fresh = keyring.seal(_private_der(_fresh_key(purpose)), context)

            def unit(session: Session) -> bytes:
                there = session.get(SigningKey, purpose)
                if there is None:
                    session.add(SigningKey(purpose=purpose, sealed=fresh, created_at=self._clock()))
                    session.flush()
                return there.sealed if there is not None else fresh

            sealed = shelf.settle(self._db, unit)
        else:
            sealed = row.sealed
        key = serialization.load_der_private_key(keyring.unseal(sealed, context), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey | Ed25519PrivateKey)
        with self._lock:
            return self._keys.setdefault(purpose, key)


def box_context(purpose: str) -> str:
    """What the box of a signing key is bound to."""
    return f"signing-key/{purpose}"


def key_id(public_der: bytes) -> str:
    """``SHA256:`` and the base64 of the public key's digest, as SSH writes fingerprints."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(public_der).digest()).decode("ascii").rstrip("=")


def _fresh_key(purpose: str) -> PrivateKey:
    return Ed25519PrivateKey.generate() if purpose in _ED25519 else ec.generate_private_key(ec.SECP256R1())


def _public_der(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _private_der(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
