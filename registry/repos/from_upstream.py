"""Having versions here that lie outside: their files are fetched and kept, so that rows of them can be copied on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from registry.errors import Denied, NotFound
from registry.format import Format
from registry.names import PackageKey
from registry.repos.admission import Admission
from registry.repos.batches import NOT_ALLOWED, NOT_FOUND, VersionRefused
from registry.repos.held import OfferedFile
from registry.repos.keep import Files
from registry.repos.resolve import Resolver

MOST_FILES = 200
"""How many files one request fetches: it waits for all of them."""


class Fetching:
    """Fetches what versions have outside. Safe for many threads; each request has one of its own."""

    def __init__(self, resolver: Resolver, files: Files, formats: Mapping[str, Format]) -> None:
        self._resolver = resolver
        self._files = files
        self._formats = formats

    def keep(self, admission: Admission, key: PackageKey, spellings: Iterable[str]) -> dict[str, VersionRefused]:
        """Keep all files of these versions in the admitted repository, as if a client had asked for them there.

        Gives those (by their spelling) that cannot be had, and why; what counts here of the outside, origin controls say.
        Raises UpstreamUnavailable when it cannot be told or fetched: what was fetched until then stays, and asking again
        goes on from there.
        """
        listed = self._listed(admission, key)
        refused: dict[str, VersionRefused] = {}
        left = MOST_FILES
        for spelling in spellings:
            files = _of_version(listed, spelling, self._formats[key.format].sort_key)
            if not files:
                left -= self._fetch_usual(admission, key, spelling)
                continue
            wanted = [file for file in files if file.kept is None]
            left -= len(wanted)
            if left < 0:
                refused[spelling] = VersionRefused(
                    NOT_ALLOWED, f"not more than {MOST_FILES} files are fetched at once: name fewer versions"
                )
                continue
            try:
                for file in wanted:
                    self._files.complete(admission, key, file)
            except NotFound as error:
                refused[spelling] = VersionRefused(NOT_FOUND, f"the upstream lists it and has it not: {error}")
        return refused

    def _listed(self, admission: Admission, key: PackageKey) -> Sequence[OfferedFile]:
        try:
            return self._resolver.offer(admission, key).files
        except NotFound:
            return ()

    def _fetch_usual(self, admission: Admission, key: PackageKey, version: str) -> int:
        """Fetch what a version usually has, where no index names its files; gives how many of them there were."""
        count = 0
        for filename in self._formats[key.format].usual_files(key, version):
            try:
                file = self._resolver.find_file(admission, key, filename)
                if file.kept is None:
                    self._files.complete(admission, key, file)
                    count += 1
            except (NotFound, Denied):
                continue  # it may have none of that name, and what is withheld here is the copy's to tell
        return count


def _of_version(files: Sequence[OfferedFile], spelling: str, sort_key: Callable[[str], Any]) -> list[OfferedFile]:
    exactly = [file for file in files if file.version == spelling]
    if exactly:
        return exactly
    found = [file for file in files if sort_key(file.version) == sort_key(spelling)]
    # Two texts that are no versions sort alike, and are not the same one.
    return found if len({file.version for file in found}) == 1 else []
