"""Values out of what a forge sends, each looked at before it is used. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from hooks.builds.git_address import version_fault
from registry.errors import Invalid

COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
MAX_FILES = 10_000
MAX_MESSAGE = 10_000


def files_of(commits: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The paths that commits added, modified or removed, at most 10 000, each once."""
    found: dict[str, None] = {}
    for commit in commits:
        for kind in ("added", "modified", "removed"):
            listed = commit.get(kind)
            for path in listed if isinstance(listed, list) else ():
                if isinstance(path, str) and len(found) < MAX_FILES:
                    found[path] = None
    return tuple(found)


def at(given: Any, *path: str) -> Any:
    """What lies there; None when nothing does."""
    for name in path:
        given = given.get(name) if isinstance(given, dict) else None
    return given


def object_at(given: Any, *path: str) -> Mapping[str, Any]:
    """The mapping that lies there. Raises Invalid."""
    found = at(given, *path)
    if not isinstance(found, dict):
        raise Invalid(f"the payload has no {'.'.join(path)}")
    return found


def text_at(given: Any, *path: str) -> str:
    """The text that lies there, without zero bytes; "" when there is none."""
    found = at(given, *path)
    return found.replace("\0", "") if isinstance(found, str) else ""


def id_at(given: Any, *path: str) -> str:
    """A number or a short word that names something to the forge. Raises Invalid."""
    found = at(given, *path)
    text = str(found) if isinstance(found, int | str) and not isinstance(found, bool) else ""
    if not re.fullmatch(r"[A-Za-z0-9_.:{}-]{1,128}", text):
        raise Invalid(f"the payload has no {'.'.join(path)}")
    return text


def number_at(given: Any, *path: str) -> int:
    """A number by which the forge counts something. Raises Invalid."""
    text = id_at(given, *path)
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise Invalid(f"{'.'.join(path)} of the payload is no number")
    return int(text)


def git_reference(text: str) -> str:
    """A full reference that git could have. Raises Invalid."""
    if not text.startswith("refs/") or "^{" in text or version_fault(text):
        raise Invalid("the payload names no reference that git could have")
    return text


def commit_id(text: str) -> str:
    """A full commit id. Raises Invalid."""
    if not COMMIT.match(text):
        raise Invalid("the payload names no commit")
    return text
