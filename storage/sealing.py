"""Sealed boxes: small secrets under AES-256-GCM, which name the key that opens them.

::

    version (1 byte) | length of the key id (1) | key id (ASCII) | nonce (12) | cipher text | tag (16)

The nonce is random for every box. With 96 random bits one key may seal 2^32 boxes (NIST SP 800-38D, 8.3), which is
four thousand million blobs before a domain has to rotate its key. What a box is for is authenticated with it as a list
of texts, each with its length before it, so that no two contexts are the same bytes.
"""

from __future__ import annotations

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import Damaged

KEY_BYTES = 32
TAG_BYTES = 16
KEY_ID_AT, KEY_ID_CHARACTERS = 2, 16
"""Where the id stands in a box that a key named by its check value sealed."""
_NONCE_BYTES = 12
_VERSION = 1


def new_key() -> bytes:
    """256 random bits from the operating system."""
    return os.urandom(KEY_BYTES)


def key_check_value(key: bytes) -> str:
    """Sixteen hexadecimal characters that tell keys apart and say nothing of the key.

    Keys are named by it, so that a key under the wrong name is found before anything is done with it. HMAC rather than
    an encrypted constant: that would spend a nonce of the key, and a fixed one.
    """
    return hmac.digest(key, b"entrepot/key-check/v1", "sha256")[:8].hex()


def seal(key: AESGCM, key_id: str, plain: bytes, *context: str) -> bytes:
    """A box that opens with ``key`` and the same ``context`` only. ``key_id`` is ASCII, at most 255 characters."""
    name = key_id.encode("ascii")
    nonce = os.urandom(_NONCE_BYTES)
    sealed = key.encrypt(nonce, plain, _associated(key_id, *context))
    return bytes((_VERSION, len(name))) + name + nonce + sealed


def sealed_by(box: bytes) -> str:
    """The id of the key that opens ``box``. Raises Damaged when it is no box."""
    name, _ = _split(box)
    return name


def unseal(key: AESGCM, box: bytes, *context: str) -> bytes:
    """What was sealed. Raises Damaged when box, key or context is not what it was at sealing."""
    name, sealed = _split(box)
    try:
        return key.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _associated(name, *context))
    except InvalidTag:
        raise Damaged(f"what key {name} sealed does not authenticate") from None


def _split(box: bytes) -> tuple[str, bytes]:
    if len(box) < 2 or box[0] != _VERSION or len(box) < 2 + box[1] + _NONCE_BYTES + TAG_BYTES:
        raise Damaged("not a sealed box of a known version")
    end_of_name = 2 + box[1]
    try:
        return box[2:end_of_name].decode("ascii"), box[end_of_name:]
    except UnicodeDecodeError:
        raise Damaged("not a sealed box: its key id is not ASCII") from None


def _associated(*parts: str) -> bytes:
    encoded = [part.encode() for part in parts]
    return bytes((_VERSION,)) + b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
