"""Access control lists of ``appspec.yml`` (``setfacl``'s entries), and the form in which Linux keeps them. Pure.

The kernel's form (the extended attribute ``system.posix_acl_access`` or ``…_default``) is a version and eight bytes an
entry, so that a list is set on an open file, without a program and without a path that could be exchanged meanwhile.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

ACCESS_ATTRIBUTE = "system.posix_acl_access"
DEFAULT_ATTRIBUTE = "system.posix_acl_default"

_KINDS = {"u": "user", "g": "group", "m": "mask", "o": "other"} | {
    name: name for name in ("user", "group", "mask", "other")
}
_DEFAULT = ("d", "default")
_TAGS = {("user", False): 1, ("user", True): 2, ("group", False): 4, ("group", True): 8}
_TAGS |= {("mask", False): 0x10, ("other", False): 0x20}
_VERSION = 2
_NO_ID = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class AclEntry:
    """``[default:]kind:name:rights``; ``rights`` are the bits r 4, w 2, x 1, ``name`` a name or a number or ""."""

    kind: str
    name: str
    rights: int
    is_default: bool = False


def parse_entry(text: str) -> AclEntry:
    """Read an entry as ``setfacl`` spells it. Raises ValueError, with words for people."""
    parts = text.strip().split(":")
    is_default = len(parts) > 2 and parts[0] in _DEFAULT
    if is_default:
        parts = parts[1:]
    kind, name = "user", ""
    if len(parts) == 2:
        kind = _KINDS[parts[0]] if _KINDS.get(parts[0]) in {"mask", "other"} else "user"
        name = "" if kind != "user" else parts[0]
    elif len(parts) == 3 and parts[0] in _KINDS:
        kind, name = _KINDS[parts[0]], parts[1]
    else:
        raise ValueError("it is [default:][user|group|mask|other]:[name]:rwx")
    if kind in {"mask", "other"} and name:
        raise ValueError(f"{kind} takes no name")
    if not is_default and not name and kind != "mask":
        raise ValueError("the owner's, the group's and the others' rights are set by mode")
    return AclEntry(kind, name, _rights(parts[-1]), is_default)


def _rights(text: str) -> int:
    if len(text) == 1 and text in "01234567":
        return int(text)
    if not text or set(text) - set("rwx-"):
        raise ValueError(f"the rights {text!r} are neither letters of rwx nor a digit")
    return sum(bit for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if letter in text)


def completed(entries: Iterable[AclEntry], mode: int) -> tuple[AclEntry, ...]:
    """The whole list: what is not said of the owner, the group, the others and the mask comes from ``mode``.

    The mask of named entries is the group's rights, as with CodeDeploy; ``setfacl`` alone would take their union.
    """
    given = list(entries)
    base = {"user": mode >> 6 & 7, "group": mode >> 3 & 7, "other": mode & 7}
    given += [AclEntry(kind, "", rights) for kind, rights in base.items()]
    defaults = [entry for entry in given if entry.is_default]
    if defaults:
        present = {entry.kind for entry in defaults if not entry.name}
        given += [AclEntry(kind, "", rights, is_default=True) for kind, rights in base.items() if kind not in present]
    for is_default in (False, True):
        own = [entry for entry in given if entry.is_default is is_default]
        if any(entry.name for entry in own) and not any(entry.kind == "mask" for entry in own):
            (group,) = [entry for entry in own if entry.kind == "group" and not entry.name]
            given.append(AclEntry("mask", "", group.rights, is_default))
    return tuple(given)


def packed(entries: Iterable[AclEntry], number_of: Callable[[str, str], int]) -> bytes:
    """One list (all access or all default entries) for the kernel. ``number_of`` (kind, name) knows users and groups.

    Raises ValueError for an entry that stands there twice.
    """
    rows = sorted(_rows(entries, number_of))
    if len({row[:2] for row in rows}) != len(rows):
        raise ValueError("an entry of the access control list stands there twice")
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", tag, rights, who) for tag, who, rights in rows)


def _rows(entries: Iterable[AclEntry], number_of: Callable[[str, str], int]) -> Iterator[tuple[int, int, int]]:
    for entry in entries:
        who = number_of(entry.kind, entry.name) if entry.name else _NO_ID
        yield _TAGS[entry.kind, bool(entry.name)], who, entry.rights
