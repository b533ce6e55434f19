"""What holds for every archive that is uploaded: how large it may become, and what its members may be called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from registry.errors import Invalid, TooLarge

MIB = 1024 * 1024
PIECE_BYTES = 128 * 1024  # what is in memory of a member at a time

# C0 and C1 controls, DEL, and what turns the writing direction of a listing. NUL ends a name early in C programs.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of an archive, all checked against what is measured, not only against what is declared.

    ``directory_bytes`` bounds all names together, ``document_bytes`` a metadata document, ``record_bytes`` a list of
    the archive's files. ``ratio`` counts only above ``ratio_floor_bytes``: small archives of zeros are harmless.
    """

    content_bytes: int = 2048 * MIB
    ratio: int = 50
    ratio_floor_bytes: int = 64 * MIB
    members: int = 100_000
    name_bytes: int = 4096
    directory_bytes: int = 16 * MIB
    document_bytes: int = 8 * MIB
    record_bytes: int = 16 * MIB

    def check_content(self, content_bytes: int, archive_bytes: int) -> None:
        """Raise TooLarge when ``content_bytes`` is more than an archive of ``archive_bytes`` may unpack to."""
        allowed = min(self.content_bytes, max(self.ratio_floor_bytes, self.ratio * archive_bytes))
        if content_bytes > allowed:
            raise TooLarge("the archive's unpacked content", allowed)


def check_path(raw: str, limits: Limits) -> str:
    """Check a member's name and give it without the closing slash of a folder.

    Raises Invalid for a name that a client could unpack outside its folder, or that two clients would read differently.
    """
    path = raw.removesuffix("/")
    if len(raw.encode("utf-8", "surrogatepass")) > limits.name_bytes:
        raise Invalid(f"archive: a member's name is longer than {limits.name_bytes} bytes")
    if _INVISIBLE.search(path) or "\\" in path:
        raise Invalid(f"archive: member name {raw[:200]!a} has a control character or a backslash in it")
    if raw.startswith("/") or _DRIVE.match(path):
        raise Invalid(f"archive: member name {raw[:200]!a} is absolute")
    parts = path.split("/")
    if "" in parts or "." in parts or ".." in parts:
        raise Invalid(f"archive: member name {raw[:200]!a} has an empty, '.' or '..' part")
    return path


def check_tree(members: Iterable[tuple[str, bool]]) -> None:
    """Take (path, is a folder) of every member. Raise Invalid for a path that is there twice, or as file and folder.

    What is unpacked would depend on the client. In the order of the parts, whatever lies in a folder follows it at once,
    so that neighbours suffice: cheap for deep paths, of which an attacker can name very many.
    """
    ordered = sorted(path.replace("/", "\0") + "\0" * is_folder for path, is_folder in members)
    for path, following in pairwise(ordered):
        if following == path or (following.startswith(path + "\0") and not path.endswith("\0")):
            shown = path.rstrip("\0").replace("\0", "/")[:200]
            raise Invalid(f"archive: {shown!a} is there twice, or is a file and a folder")
