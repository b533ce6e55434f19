"""Signatures of webhooks: Standard Webhooks 1.0.0, symmetric (``v1``). Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    """``whsec_`` and 32 random bytes in base64: shown to the owner once."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def fingerprint(secret: str) -> str:
    """Twelve characters that tell secrets apart and say nothing of them."""
    return hashlib.sha256(b"entrepot/webhook-secret/v1\0" + secret.encode()).hexdigest()[:12]


def headers(message_id: str, timestamp_seconds: int, body: bytes, secrets_: Sequence[str]) -> dict[str, str]:
    """The three fields: one signature for each secret, of ``id.timestamp.body``. ``message_id`` has no dot."""
    signed = f"{message_id}.{timestamp_seconds}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_seconds),
        "webhook-signature": " ".join(f"v1,{_sign(secret, signed)}" for secret in secrets_),
    }


def _sign(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    return base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def is_secret(text: str) -> bool:
    """Whether ``text`` is a secret that can sign: 24 to 64 bytes in base64 (Standard Webhooks, "Signature scheme")."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return 24 <= len(key) <= 64
