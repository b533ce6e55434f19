"""What a token of this server looks like. Pure: where tokens are only looked for, no account and no database is needed."""

from __future__ import annotations

import re
import secrets
import string
import zlib

TOKEN_PREFIX = "ent_"  # noqa: S105  (a prefix, so that scanners can find tokens; not a secret)
TOKEN_PATTERN = re.compile(r"\bent_[0-9A-Za-z]{49}\b")
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_CHARACTERS = 43  # log2(62) * 43 = 256 bit
_CHECK_CHARACTERS = 6


def new_token() -> str:
    """``ent_``, 43 random base62 characters, 6 of CRC-32: garbage is refused before a database is asked."""
    body = TOKEN_PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARACTERS))
    return body + _checksum(body)


def looks_like_token(text: str) -> bool:
    """Whether ``text`` has a token's shape and checksum."""
    return (
        TOKEN_PATTERN.fullmatch(text) is not None and _checksum(text[:-_CHECK_CHARACTERS]) == text[-_CHECK_CHARACTERS:]
    )


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(_CHECK_CHARACTERS):
        number, remainder = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[remainder])
    return "".join(digits)
