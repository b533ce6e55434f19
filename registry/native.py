"""What a package format does on the machine of a deployment: a version installed into an environment of its own.

The contract of ``registry/formats/FORMAT/native.py``, which names ``INSTALLER``. The agent of deployments loads it: neither
the server's web framework nor its database is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


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


class PackageInstaller(Protocol):
    """Installs versions of one format."""

    def choose(self, version: NativeVersion, filenames: Sequence[str], *, runs_package_code: bool) -> Sequence[str]:
        """The files of a version that this machine wants. Raises InstallFault where there is none for it."""

    def install(self, wanted: Installation) -> frozenset[str]:
        """Make the environment. Links in it that lead out of it, by their paths there. Raises InstallFault, OSError."""

    def installed_version(self, environment: Path, version: NativeVersion) -> str:
        """The version that really is in an environment, "" for none."""
