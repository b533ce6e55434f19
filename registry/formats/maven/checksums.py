"""Checksums as they travel: files beside files, and header fields."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from registry.errors import Invalid
from registry.formats.maven.paths import CHECKSUMS

_HEX = frozenset("0123456789abcdef")


def checksum_of(body: bytes, algorithm: str) -> str:
    """A digest in lower-case hex; ``algorithm`` is one of ``CHECKSUMS``."""
    return hashlib.new(algorithm, body, usedforsecurity=False).hexdigest()


def header_name(algorithm: str) -> str:
    """The field that carries a digest: ``X-Checksum-Sha1``."""
    return f"X-Checksum-{algorithm.capitalize()}"


def read_checksum(body: bytes, algorithm: str) -> str:
    """The digest in a checksum file: its first word (some write the file's name behind it). Raises Invalid."""
    words = body.decode("latin-1").split()
    return check_digest(words[0] if words else "", algorithm)


def promised_in(headers: Mapping[str, str]) -> dict[str, str]:
    """The digests that a request's ``X-Checksum-*`` fields promise of its body. Raises Invalid."""
    found = {name: headers.get(header_name(name), "").strip() for name in CHECKSUMS}
    return {name: check_digest(digest, name) for name, digest in found.items() if digest}


def check_digest(text: str, algorithm: str) -> str:
    """The digest in lower case. Raises Invalid for what is none of that algorithm."""
    digest = text.lower()
    length = hashlib.new(algorithm, usedforsecurity=False).digest_size * 2
    if len(digest) != length or not _HEX.issuperset(digest):
        raise Invalid(f"that is no {algorithm} checksum: {length} hexadecimal digits are")
    return digest
