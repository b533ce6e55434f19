"""What it takes to bring a version to a registry elsewhere by the protocol of its format. Values and one contract.

A format's part (``registry.formats.NAME.outward``) knows the protocol and no sockets; who carries it out has the
connections, the credential and the rules of where one may go (``registry.upstream.outgoing``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from registry.errors import Conflict
from registry.names import PackageKey

_READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class OutgoingFile:
    """A file of a version. ``hashes`` are hex by algorithm, as far as they are known; ``extra`` is the format's own.

    ``open`` gives its body from the beginning, each time anew, to be closed by whoever asked.
    """

    filename: str
    size_bytes: int
    sha256: str
    hashes: Mapping[str, str]
    extra: Mapping[str, Any]
    open: Callable[[], BinaryIO] = field(repr=False)

    def chunks(self) -> Iterator[bytes]:
        """The body, piece by piece. Raises what the store raises."""
        with self.open() as body:
            while piece := body.read(_READ_BYTES):
                yield piece

    def digests(self, algorithms: Collection[str]) -> dict[str, str]:
        """Digests (hex) by ``hashlib``'s names; the body is read once for those that are not known."""
        known = {**self.hashes, "sha256": self.sha256}
        missing = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms if name not in known}
        if missing:
            for piece in self.chunks():
                for counted in missing.values():
                    counted.update(piece)
            known |= {name: counted.hexdigest() for name, counted in missing.items()}
        return {name: known[name] for name in algorithms}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A version that goes out. ``display_name`` is the package's as clients write it; ``tag`` names it, where one can."""

    key: PackageKey
    display_name: str
    version: str
    files: tuple[OutgoingFile, ...]
    tag: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A file that is at the destination now. ``was_there``: it had these bytes before."""

    filename: str
    url: str
    sha256: str
    was_there: bool


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent: exactly ``size_bytes``, made anew by each call of ``chunks``."""

    size_bytes: int
    content_type: str
    chunks: Callable[[], Iterator[bytes]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the destination answered: a status of success, or 404."""

    status: int
    body: bytes = field(repr=False)
    content_type: str


class SendRefused(Conflict):
    """The destination does not take it, and would not if it were asked again. ``status`` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class OtherBytes(Conflict):
    """The destination has other bytes under this name."""

    def __init__(self, filename: str, place: str) -> None:
        super().__init__(f"{filename} is at {place} already, with other bytes")


class Remote(Protocol):
    """A destination, as a format sees it. Paths are beneath ``url``; absolute URLs are taken, too.

    Every method raises SendRefused, UpstreamUnavailable (trying again later may help), and Invalid for a URL that is
    not gone to. Nothing is followed anywhere.
    """

    @property
    def url(self) -> str:
        """Where things are sent; without a slash at its end."""
        ...

    @property
    def index_url(self) -> str:
        """Where it is looked up what is there already; "" where nobody has said so."""
        ...

    def get(self, url: str, *, accept: str, limit_bytes: int) -> Reply:
        """Read a document; status 200 or 404."""
        ...

    def sha256_of(self, url: str) -> str | None:
        """The digest of a file that is there, read through and not kept; None for 404."""
        ...

    def send(self, method: str, url: str, body: Body) -> Reply:
        """Send a body; a status of success."""
        ...


class Outward(Protocol):
    """A format's protocol of publishing."""

    takes_tag: bool

    def publish(self, remote: Remote, version: Outgoing) -> Iterator[Sent]:
        """Bring all files of a version to a destination, one after the other; told as each is there.

        Repeating it is harmless: what is there with the same bytes is left alone. Raises OtherBytes, Invalid for a
        version that this format does not send, and what ``remote`` raises.
        """
        ...
