"""What an answer's head promises of its file: digests, in the fields that repository managers send. Pure.

The names are those that Maven's own resolver reads: ``X-Checksum-Sha1`` and its like (the central repository,
Artifactory, Nexus, Entrepot), and ``x-goog-meta-checksum-sha1`` (files in Google's storage).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

ALGORITHMS = ("sha512", "sha256", "sha1", "md5")
STRONG = frozenset({"sha512", "sha256", "sha1"})
"""What may stand for the checksum that lies beside a file: md5 alone may not."""

_PREFIXES = ("X-Checksum-", "X-Goog-Meta-Checksum-")
_HEX = frozenset("0123456789abcdef")


def checksums(header: Callable[[str], str | None]) -> Mapping[str, str]:
    """The digests in lower-case hex by algorithm; ``header`` gives a field's value. What is no digest is left out."""
    found: dict[str, str] = {}
    for algorithm in ALGORITHMS:
        for prefix in _PREFIXES:
            digest = (header(f"{prefix}{algorithm}") or "").strip().lower()
            if algorithm not in found and is_digest(digest, algorithm):
                found[algorithm] = digest
    return found


def is_digest(text: str, algorithm: str) -> bool:
    """Whether it is a digest of that algorithm, in lower-case hex."""
    length = hashlib.new(algorithm, usedforsecurity=False).digest_size * 2
    return len(text) == length and _HEX.issuperset(text)
