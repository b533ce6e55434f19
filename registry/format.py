"""What a package format is: the pure half of a protocol, as values and one contract.

A format knows names, archives and index documents. It never knows a repository, a database or a request; its routes
are not part of it (they would pull the HTTP rim into a floor below it) and are paired with it by ``registry.formats``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol, overload

from registry.names import PackageKey, PackageName


class BadIndex(ValueError):
    """An upstream's index document cannot be used. It says nothing about whether the package exists."""


@dataclass(slots=True)  # not frozen: a page has thousands, and each would take three times as long to make
class FileLink:
    """A file as an index lists it.

    ``version`` is canonical, ``url`` absolute, ``hashes`` lower-case hex by algorithm (``hashlib`` names),
    ``size_bytes`` and ``upload_time`` (UTC) None when the index does not say. ``extra`` is what only the format
    understands, JSON-able, passed on unread by everybody else.
    """

    filename: str
    version: str
    url: str
    hashes: Mapping[str, str]
    size_bytes: int | None = None
    upload_time: datetime | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class LazyLinks(Sequence[FileLink]):
    """Links of files by name, made when somebody asks for them."""

    def __init__(self, filenames: Iterable[str], make: Callable[[str], FileLink | None]) -> None:
        """``make(filename)`` gives None for a name that is not listed, or that nobody could use."""
        self._filenames = filenames
        self._make = make
        self._made: tuple[FileLink, ...] | None = None

    def named(self, filename: str) -> FileLink | None:
        """The one of that name, without the others."""
        return self._make(filename)

    def _all(self) -> tuple[FileLink, ...]:
        if self._made is None:  # two threads would make equal ones
            links = map(self._make, self._filenames)
            self._made = tuple(link for link in links if link is not None)
        return self._made

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all())

    @overload
    def __getitem__(self, index: int) -> FileLink: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FileLink]: ...
    def __getitem__(self, index: int | slice) -> FileLink | Sequence[FileLink]:
        """By position."""
        return self._all()[index]

    def __iter__(self) -> Iterator[FileLink]:
        """Each in the order of the names."""
        return iter(self._all())


@dataclass(frozen=True, slots=True)
class Listing:
    """All files an index has of one package, read or still to be (``LazyLinks``).

    ``status`` is the index's word for the package's state, None if it has none.

    ``extra`` is what the index says of the package as a whole and only the format understands, passed on unread. An
    index that names versions and not files has ``files`` empty and its versions there.
    """

    key: PackageKey
    files: Sequence[FileLink]
    status: str | None = None
    status_reason: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def link_in(listing: Listing, filename: str) -> FileLink | None:
    """The file of that name."""
    if isinstance(listing.files, LazyLinks):
        return listing.files.named(filename)
    return next((link for link in listing.files if link.filename == filename), None)


@dataclass(frozen=True, slots=True)
class Location:
    """Where an upstream has a file that no index lists: its path, and that of the document with its digest.

    Both are relative to the upstream's URL. ``digest_path`` None: nothing vouches for the file but the connection.
    """

    version: str
    path: str
    digest_path: str | None
    digest_algorithm: str


@dataclass(frozen=True, slots=True)
class Release:
    """What an archive says of itself: the only source of what is stored about it.

    ``name`` and ``version`` are canonical, ``display_name`` and ``display_version`` as the author wrote them.
    ``metadata`` (of the version) and ``extra`` (of the file) are JSON-able. ``metadata_document`` is the document to
    serve beside the file, byte for byte, None where the format serves none; ``provenance_document`` what the publisher
    attested of where the file came from, checked, in the format's own shape. ``filename`` may be a path with slashes
    where the format's own layout has folders; it is unique within the package.

    ``description`` is the long text for people (the README) and belongs in neither ``metadata`` nor ``summary``: these
    lie in the database in clear, for lists and searches, and it is sealed. ``description_type`` is its media type as in
    core metadata, empty for the format's own default.
    """

    name: PackageName
    display_name: str
    version: str
    display_version: str
    filename: str
    summary: str
    metadata: dict[str, Any]
    extra: dict[str, Any]
    metadata_document: bytes | None
    namespace: str = ""
    description: str = ""
    description_type: str = ""
    provenance_document: bytes | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What an archive says of its version for people: the part of a ``Release`` that pages show.

    ``text`` is the long text and ``media_type`` its type, as a ``Release`` has them in ``description`` and
    ``description_type``.
    """

    summary: str
    metadata: dict[str, Any]
    text: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Dependency:
    """What a version needs besides itself, in the ecosystem's words; ``namespace`` is empty where there is none."""

    namespace: str
    package: str
    dependency_type: str
    version_requirement: str


class Format(Protocol):
    """A package format. Stateless: every method may be called by any number of threads at once."""

    name: str
    """The word in URLs, rows and settings."""

    digests: frozenset[str]
    """The algorithms, besides sha256, that are computed for each of its files (``storage.intake.ALGORITHMS``)."""

    osv_ecosystem: str
    """What advisories call its packages' ecosystem (the OSV schema's "Defined ecosystems"); "" where there is none."""

    def key(self, written: str) -> PackageKey:
        """Which package a person means by ``written``, in the ecosystem's spelling or as ``PackageKey.path``.

        All spellings of one package give the same key. Raises registry.errors.Invalid.
        """

    def display_name(self, key: PackageKey) -> str:
        """The package's name in the ecosystem's own spelling; ``key`` reads it back."""

    def index_path(self, key: PackageKey) -> str:
        """Where an upstream lists the package: relative to the upstream's URL, which ends in a slash."""

    def index_accept(self) -> str:
        """The ``Accept`` header for that request."""

    def parse_index(self, key: PackageKey, body: bytes, content_type: str, final_url: str) -> Listing:
        """Read an upstream's index document; ``final_url`` is where redirects led and what relative links start from.

        Time and memory are linear in ``body``, whatever is in it. Raises BadIndex.
        """

    def find_link(
        self, key: PackageKey, body: bytes, content_type: str, final_url: str, filename: str
    ) -> FileLink | None:
        """The file of that name as ``parse_index`` lists it, None for none; without the work for all others, if possible.

        Raises BadIndex.
        """

    def locate(self, key: PackageKey, filename: str) -> Location | None:
        """Where upstreams have a file, for formats whose files need no index; None where the index must list it."""

    def usual_files(self, key: PackageKey, version: str) -> Sequence[str]:
        """Names of the files that a version usually has, for formats whose index lists none; empty for all others."""

    def is_whole(self, filenames: Collection[str]) -> bool:
        """Whether a version with these files is one even if its client never says so: silence then publishes it."""

    def summary(self, extra: Mapping[str, Any]) -> str:
        """The one line of description that an index gave with a file (its ``extra``); empty where it gave none."""

    def describing(self, filenames: Collection[str]) -> Sequence[str]:
        """Those of a version's files that say what it is, the one to read first in front."""

    def describe(self, filename: str, body: BinaryIO) -> Description:
        """Read what such a file says. It may be an upstream's, and need not keep the rules of those published here.

        ``body`` is seekable; time and memory are bounded. Raises registry.errors.Invalid or TooLarge.
        """

    def dependency(self, written: str) -> Dependency | None:
        """Read an entry of ``requires_dist`` in a version's metadata, as the format wrote it; None for what says nothing."""

    def sort_key(self, version: str) -> Any:
        """Give a key that puts versions in release order. Takes any text; what is no version sorts first."""

    def install_hint(self, repository_url: str, key: PackageKey, version: str) -> list[tuple[str, str]]:
        """Give (tool, shell command) pairs that install the version; ``repository_url`` ends in a slash."""

    def build_variables(self, repository_url: str) -> Mapping[str, str]:
        """Give the environment that makes the ecosystem's clients use a repository; its URL ends in a slash.

        Credentials are not in it: a build finds them in its ``~/.netrc``, and in its ``build_files``.
        """

    def build_files(self, target: LoginTarget, publish: LoginTarget | None = None) -> Mapping[str, str]:
        """Give the files that builds have below their home besides ``~/.netrc``, by path, for clients that do not read it.

        All are of mode 0600; the token is the build's own and ends with it. ``publish`` is where the build may publish,
        with a user and a token that mean nothing: the real ones are added on the way.
        """

    def publish_variables(self, target: LoginTarget) -> Mapping[str, str]:
        """Give the environment that makes the ecosystem's clients publish to a repository; see ``build_files``."""

    def build_paths(self) -> Sequence[str]:
        """Give what builds may read of this machine outside ``/usr`` because its clients need it to run.

        Nothing in which a person of the machine may keep a secret.
        """

    def build_packages(self) -> tuple[str, Mapping[str, str]] | None:
        """Give the language's word and the Debian packages its builds need: package → the program it is there for.

        A program may be "" where a package has none of its own. None: its builds need nothing.
        """

    def default_upstream_url(self, is_own: Callable[[str], bool]) -> str | None:
        """The index that the ecosystem's own tools use on this machine; ends in a slash. None where there is none.

        ``is_own(url)`` says whether a URL leads to this server itself, where ``login`` may have pointed those tools:
        such a candidate is passed over for the next one, and at last for the constant that a library carries.
        """


@dataclass(frozen=True, slots=True)
class LoginTarget:
    """What a client tool is to be pointed at. ``repository_url`` is the format's own and ends in a slash.

    The token must not show in an output: ``repr`` leaves it out.
    """

    repository_url: str
    username: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tool:
    """A client tool whose configuration ``login`` writes. All functions are pure.

    ``files`` gives, for a home directory and an environment, the paths that the tool reads. ``plan`` takes these
    paths, in that order, each with its text or None, and gives the new text of each that changes, keeping everything
    else that is in it; it raises registry.errors.Invalid for a file that it cannot read. ``notes`` are sentences for
    the person. Whoever writes the texts gives mode 0600 to every file with the token in it.
    """

    name: str
    files: Callable[[Path, Mapping[str, str]], list[Path]]
    plan: Callable[[Mapping[Path, str | None], LoginTarget], Mapping[Path, str]]
    notes: Callable[[LoginTarget], list[str]]
