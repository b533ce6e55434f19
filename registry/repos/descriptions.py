"""The long descriptions of versions (their READMEs): sealed in their rows, and opened for who looks at one version.

They are what an archive says in its own words, like its other files, and are kept as these are: in no row in clear.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.names import PackageKey
from storage.keyring import Keyring


def sealed(keyring: Keyring, key: PackageKey, version: str, text: str) -> bytes | None:
    """``text`` for the row of a version, under the key of its domain; None for no text. Raises KeyUnavailable."""
    return keyring.seal(text.encode(), box_context(key, version)) if text else None


def opened(
    keyring: Keyring, key: PackageKey, version: str, box: bytes | None, metadata: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The text, and the version's metadata without it. Raises KeyUnavailable or Damaged.

    Rows of before the sealing have the text in their metadata, and stay readable.
    """
    rest = dict(metadata)
    in_clear = rest.pop("description", "")
    if box is None:
        return (in_clear if isinstance(in_clear, str) else ""), rest
    return keyring.unseal(box, box_context(key, version)).decode(), rest


def box_context(key: PackageKey, version: str) -> str:
    """What a description's box is bound to."""
    # Not the row's id or its repository: a promotion copies the box to another repository of the domain.
    return "\n".join(("package-description", *key, version))
