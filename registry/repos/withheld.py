"""Which versions of a name a chain withholds: what lists and downloads are to make of each, by one rule.

As with files, the first repository of the chain that has a version decides: its state counts for who looks through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from registry.errors import Denied, NotFound
from registry.format import FileLink, Listing
from registry.names import PackageKey
from registry.repos import states
from registry.repos.held import OfferedFile


@dataclass(frozen=True, slots=True)
class Withheld:
    """States of versions that are in no list, by the format's order of versions; spellings of one version share a state."""

    by_rank: Mapping[Any, str] = field(default_factory=dict)
    sort_key: Callable[[str], Any] = str

    @classmethod
    def of(cls, found: Mapping[str, str], sort_key: Callable[[str], Any]) -> Withheld:
        """Out of version → state."""
        ranked = _hashable(sort_key)
        return cls({ranked(version): status for version, status in found.items()}, ranked)

    def status(self, version: str) -> str:
        """The state of a version: Published unless it is withheld."""
        return self.by_rank.get(self.sort_key(version), states.PUBLISHED) if self.by_rank else states.PUBLISHED

    def lists(self, version: str) -> bool:
        """Whether clients may choose the version."""
        return states.is_listed(self.status(version))

    def check_served(self, key: PackageKey, version: str, filename: str) -> None:
        """Raise Denied for a file of a version that is Archived, NotFound for one that was disposed of."""
        status = self.status(version)
        if status == states.ARCHIVED:
            raise Denied(f"{key.path} {version} is Archived, so none of its files is served until it is brought back")
        if status == states.DISPOSED:
            raise NotFound("file of a version that was disposed of", filename)

    def offered(self, files: Mapping[str, OfferedFile]) -> dict[str, OfferedFile]:
        """The files that lists have. Those of an Unlisted version count as withdrawn: for who pins it, and for nobody else."""
        shown: dict[str, OfferedFile] = {}
        for name, file in files.items():
            if file.status == states.UNFINISHED:
                continue
            status = self.status(file.version)
            if status == states.UNLISTED:
                shown[name] = replace(file, yanked_reason=file.yanked_reason or states.UNLISTED_REASON)
            elif states.is_listed(status):
                shown[name] = file
        return shown

    def listing(self, listing: Listing) -> Listing:
        """What an upstream lists, without what is withheld here."""
        if not self.by_rank:
            return listing
        # What the index says of the package as a whole stays; a format's own index of its files does not.
        extra = {name: value for name, value in listing.extra.items() if name != "entries"}
        return replace(listing, files=tuple(self._links(listing.files)), extra=extra)

    def _links(self, links: Iterable[FileLink]) -> Iterable[FileLink]:
        for link in links:
            status = self.status(link.version)
            if status == states.UNLISTED:
                reason = link.extra.get("yanked") or states.UNLISTED_REASON
                yield replace(link, extra={**link.extra, "yanked": reason})
            elif states.is_listed(status):
                yield link


def _hashable(sort_key: Callable[[str], Any]) -> Callable[[str], Any]:
    """The order as a key of maps. Formats whose keys cannot be one have no two spellings of a version."""

    def ranked(version: str) -> Any:
        rank = sort_key(version)
        try:
            hash(rank)
        except TypeError:
            return version
        return rank

    return ranked


NOTHING = Withheld()
