"""Digests as npm writes them (Subresource Integrity, ``sha512-<base64>``) and as we keep them (hex by algorithm). Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from registry.errors import Invalid

ALGORITHMS = ("sha512", "sha1")
"""What is computed of every tarball besides sha256."""

_BYTES = {"sha512": 64, "sha256": 32, "sha1": 20}
_HEX = re.compile(r"[0-9a-fA-F]{40}\Z")
_LONGEST = 1000


def promised(dist: Mapping[str, Any]) -> dict[str, str]:
    """What a version's ``dist`` promises of its tarball; what cannot be read promises nothing."""
    found: dict[str, str] = {}
    said = dist.get("integrity")
    for word in said.split() if isinstance(said, str) and len(said) <= _LONGEST else ():
        algorithm, _, encoded = word.partition("-")
        digest = _decoded(encoded.partition("?")[0])
        if digest is not None and len(digest) == _BYTES.get(algorithm):
            # Of several digests of one algorithm any may match (SRI): then none of them is a promise.
            if algorithm in found and found[algorithm] != digest.hex():
                return {}
            found[algorithm] = digest.hex()
    shasum = dist.get("shasum")
    if isinstance(shasum, str) and _HEX.match(shasum):
        found.setdefault("sha1", shasum.lower())
    return found


def sent(dist: Mapping[str, Any]) -> dict[str, str]:
    """What a publisher promises. Raises Invalid when something is said that cannot be read: it could not be checked."""
    found = promised(dist)
    for name, algorithms in (("integrity", ("sha512", "sha256", "sha1")), ("shasum", ("sha1",))):
        if dist.get(name) and not any(algorithm in found for algorithm in algorithms):
            raise Invalid(f"dist.{name} is not a digest that can be checked")
    return found


def written(digests: Mapping[str, str]) -> dict[str, str]:
    """``integrity`` and ``shasum`` of a body with these digests (hex)."""
    encoded = base64.b64encode(bytes.fromhex(digests["sha512"])).decode("ascii")
    return {"integrity": f"sha512-{encoded}", "shasum": digests["sha1"]}


def _decoded(encoded: str) -> bytes | None:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
