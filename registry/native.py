"""What a package format does on the machine of a deployment: a version installed into an environment of its own.

The contract of ``registry/formats/FORMAT/native.py``, which names ``INSTALLER``. The agent of deployments loads it: neither
the server's web framework nor its database is there.
"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit


class InstallFault(Exception):
    """The version cannot be installed on this machine; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class NativeVersion:
    """A package version as a revision names it."""

    namespace: str
    name: str
    version: str


class Run(Protocol):
    """Runs a program to its end, with these variables and those of every program. Raises InstallFault."""

    def __call__(self, argv: Sequence[str], variables: Mapping[str, str], directory: Path) -> None:
        """``variables`` count before the few that every program gets (PATH, LANG, HOME)."""


SecretFile = Callable[[str], AbstractContextManager[str]]
"""Given a text, a path at which it can be read, by this user and while the context lasts; it lies on no disk."""


@dataclass(frozen=True, slots=True)
class Installation:
    """One version to be installed.

    ``files`` are those that were chosen, with their digests checked. ``environment`` is the directory to be made, and
    ``stable_path`` where applications will find it. ``repository_url`` is the format's own and ends in a slash;
    ``authorities`` is a file with the certificates to believe, "" for the machine's own. ``scratch`` is an empty directory
    that is removed afterwards. ``runs_package_code``: what comes with packages may run while they are installed.
    """

    version: NativeVersion
    files: Sequence[Path]
    environment: Path
    stable_path: str
    repository_url: str
    authorities: str
    scratch: Path
    runs_package_code: bool
    run: Run
    secret_file: SecretFile
    token: str = field(repr=False)


@contextmanager
def nowhere_else(url: str) -> Iterator[dict[str, str]]:
    """Variables that let programs reach the host of ``url`` and, of all that heeds proxies, nothing else.

    A second wall: it stops no program that wants out. None where the host itself is reached through the machine's proxy.
    """
    host = urlsplit(url).hostname or ""
    through = urllib.request.getproxies_environment()
    if urlsplit(url).scheme in through and not urllib.request.proxy_bypass(host):
        yield {}
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as wall:
        threading.Thread(target=wall.serve_forever, args=(0.05,), daemon=True).start()
        try:
            proxies = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
            there = dict.fromkeys(proxies, f"http://127.0.0.1:{wall.server_port}")
            yield {**there, "no_proxy": host, "NO_PROXY": host}
        finally:
            wall.shutdown()


class _Refusing(BaseHTTPRequestHandler):
    """A proxy that lets nobody through, and says so at once: programs go on asking where nobody answers."""

    def _refuse(self) -> None:
        self.send_error(403, "packages come from the repository alone")

    do_CONNECT = do_GET = do_HEAD = do_POST = _refuse  # noqa: N815  (the names of the methods)

    def log_message(self, *_: object) -> None:
        """Say nothing: the program tells it."""


class PackageInstaller(Protocol):
    """Installs versions of one format."""

    def choose(self, version: NativeVersion, filenames: Sequence[str], *, runs_package_code: bool) -> Sequence[str]:
        """The files of a version that this machine wants. Raises InstallFault where there is none for it."""

    def install(self, wanted: Installation) -> frozenset[str]:
        """Make the environment. Links in it that lead out of it, by their paths there. Raises InstallFault, OSError."""

    def installed_version(self, environment: Path, version: NativeVersion) -> str:
        """The version that really is in an environment, "" for none."""
