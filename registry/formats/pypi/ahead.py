"""What pip asks next: the pages of a release's dependencies, and the wheel whose metadata it has just read.

An installer that resolves walks from a project's page to the metadata of its newest release, to the pages of what that
requires, and so on; it fetches the wheels in the end. The same walk is made here ahead of it, with several questions at
a time. Only pages and metadata are had for what nobody asked for by name, so that versions a client pins to, or skips,
cost no more than a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from functools import partial

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from registry.errors import Invalid
from registry.formats.pypi.installer import Installer, likely
from registry.formats.pypi.names import project_name, sort_key
from registry.formats.pypi.pages import listed
from registry.names import PackageKey
from registry.repos.admission import Admission
from registry.repos.resolve import Offer, OfferedFile
from registry.services import Services
from storage.blobs import MIB

DEEPEST = 5
MOST_REQUIREMENTS = 60
WHEEL_BYTES = 24 * MIB

Page = Callable[[PackageKey], Offer]
"""Gives what a project's page will say. Rendering it as well costs more than it saves: with an index that promises no
metadata, what is read out of the newest wheel changes the page once more (measured, a set of 33 packages by pip: 4 seconds of
the server's processor time instead of 3)."""
Document = Callable[[PackageKey, OfferedFile], bytes]
"""Gives a wheel's metadata."""


@dataclass(frozen=True, slots=True)
class Walk:
    """One client's repository, and how pages and metadata are had in it outside of its requests."""

    services: Services
    admission: Admission
    page: Page
    document: Document
    client: Installer | None = None

    def after_page(self, offer: Offer, depth: int = 0) -> None:
        """A page that was just fetched was answered: go on to what its newest release requires."""
        if depth < DEEPEST:
            self._start("release", offer.key.name, partial(self._release, offer, depth))

    def after_metadata(self, key: PackageKey, offered: OfferedFile) -> None:
        """A wheel's metadata was answered: most who read it want the wheel in the end.

        Once for each project in a while: a resolver that goes back through the versions installs one of them.
        """
        # Indexes in HTML say no sizes, and a wheel may have gigabytes.
        is_small = offered.size_bytes is not None and offered.size_bytes <= WHEEL_BYTES
        if offered.kept is None and is_small:
            self._start("wheel", key.name, partial(self.services.files.complete, self.admission, key, offered))

    def _start(self, kind: str, name: str, work: Callable[[], object]) -> None:
        self.services.ahead.start(f"pypi/{kind}/{self.admission.repository_id}/{name}", work)

    def _release(self, offer: Offer, depth: int) -> None:
        wheel = likely_wheel(offer, self.client)
        if wheel is None:
            return
        document = self.document(offer.key, wheel)
        for name in requirements(document):
            self._start("project", name, partial(self._project, name, depth + 1))

    def _project(self, name: str, depth: int) -> None:
        self.after_page(self.page(PackageKey("pypi", "", project_name(name))), depth)


def likely_wheel(offer: Offer, client: Installer | None) -> OfferedFile | None:
    """The wheel that the client will take: of the newest final release, for every platform where there is one."""
    by_version: dict[str, list[str]] = {}
    for filename, version in listed(offer):
        if filename.endswith(".whl"):
            by_version.setdefault(version, []).append(filename)
    final = [version for version in by_version if not _is_prerelease(version)] or list(by_version)
    for version in sorted(final, key=sort_key, reverse=True):
        found = [file for name in by_version[version] if (file := offer.file(name)) is not None]
        # A release that was yanked as a whole is not the newest: nobody gets it unasked.
        wheels = [file for file in found if file.yanked_reason is None]
        if wheels:
            return next(iter(likely(wheels, client)), None)
    return None


def requirements(document: bytes) -> list[str]:
    """The projects that a METADATA document requires, extras aside, for an interpreter like the server's."""
    names: dict[str, None] = {}
    for line in BytesHeaderParser().parsebytes(document).get_all("Requires-Dist", [])[:MOST_REQUIREMENTS]:
        try:
            requirement = Requirement(str(line))
            if requirement.url is None and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                names[project_name(requirement.name)] = None
        except (InvalidRequirement, Invalid, ValueError):
            continue  # what cannot be read is left to the client to complain of
    return list(names)


def _is_prerelease(version: str) -> bool:
    try:
        return Version(version).is_prerelease
    except InvalidVersion:
        return True
