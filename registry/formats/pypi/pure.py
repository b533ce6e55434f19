"""The pure half of the format: its modules behind the contract of ``registry.format.Format``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, BinaryIO

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from registry.format import Dependency, Description, FileLink, Listing, Location, LoginTarget, link_in
from registry.formats.pypi import default_upstream, metadata, names, negotiation, reading
from registry.names import PackageKey


class PurePypi:
    """``registry.format.Format`` for Python distributions."""

    name = "pypi"
    digests = frozenset({"md5", "blake2b_256"})
    osv_ecosystem = "PyPI"

    def key(self, written: str) -> PackageKey:
        """PEP 503 normal form; there are no namespaces."""
        return PackageKey(self.name, "", names.project_name(written))

    def display_name(self, key: PackageKey) -> str:
        """The normal form: how an author wrote it is in the archives only."""
        return key.name

    def index_path(self, key: PackageKey) -> str:
        """PEP 503: ``/<project>/``, with the slash."""
        return f"{key.name}/"

    def index_accept(self) -> str:
        """PEP 691 with HTML as the fallback; JSON first, because only it carries sizes and upload times."""
        return f"{negotiation.JSON_TYPE}, {negotiation.HTML_TYPE};q=0.2, {negotiation.PLAIN_TYPE};q=0.01"

    def parse_index(self, key: PackageKey, body: bytes, content_type: str, final_url: str) -> Listing:
        """Read a project page, JSON or HTML."""
        return reading.parse(key.name, body, content_type, final_url)

    def find_link(
        self, key: PackageKey, body: bytes, content_type: str, final_url: str, filename: str
    ) -> FileLink | None:
        """Of thousands of files the one."""
        return link_in(reading.parse(key.name, body, content_type, final_url), filename)

    def locate(self, _key: PackageKey, _filename: str) -> Location | None:
        """Files are where the project's page says; nowhere else."""
        return None

    def usual_files(self, _key: PackageKey, _version: str) -> Sequence[str]:
        """The index lists all files."""
        return ()

    def is_whole(self, _filenames: Collection[str]) -> bool:
        """Each file is published at once."""
        return False

    def summary(self, _extra: Mapping[str, Any]) -> str:
        """Project pages describe nothing."""
        return ""

    def describing(self, filenames: Collection[str]) -> Sequence[str]:
        """Wheels, of which a small part is read, then source distributions."""
        found = [filename for filename in sorted(filenames) if filename.endswith((".whl", ".tar.gz", ".zip"))]
        return sorted(found, key=lambda filename: not filename.endswith(".whl"))

    def describe(self, filename: str, body: BinaryIO) -> Description:
        """What METADATA or PKG-INFO says."""
        return metadata.describe(filename, body)

    def dependency(self, written: str) -> Dependency | None:
        """A requirement (PEP 508); one that is only for an extra or some interpreters says so in its type."""
        try:
            found = Requirement(written)
        except InvalidRequirement:
            return None
        kind = f"Requires-Dist; {found.marker}" if found.marker is not None else "Requires-Dist"
        return Dependency("", found.name, kind, str(found.specifier) or str(found.url or ""))

    def sort_key(self, version: str) -> tuple[int, Version]:
        """PEP 440 order."""
        return names.sort_key(version)

    def install_hint(self, repository_url: str, key: PackageKey, version: str) -> list[tuple[str, str]]:
        """Commands for pip and uv."""
        index_url, requirement = shlex.quote(f"{repository_url}simple/"), shlex.quote(f"{key.name}=={version}")
        return [
            ("pip", f"pip install --index-url {index_url} {requirement}"),
            ("uv", f"uv add --default-index {index_url} {requirement}"),
        ]

    def build_variables(self, repository_url: str) -> Mapping[str, str]:
        """What pip and uv read; pip's configuration files of the machine must not add a second index."""
        index_url = f"{repository_url}simple/"
        return {
            "PIP_INDEX_URL": index_url,
            "PIP_CONFIG_FILE": "/dev/null",
            "UV_DEFAULT_INDEX": index_url,
            # Debian marks its own Python as managed by the distribution; a build's is nobody's but the build's.
            "PIP_BREAK_SYSTEM_PACKAGES": "1",
        }

    def build_files(self, _target: LoginTarget, _publish: LoginTarget | None = None) -> Mapping[str, str]:
        """The clients read ``~/.netrc``."""
        return {}

    def publish_variables(self, target: LoginTarget) -> Mapping[str, str]:
        """What twine and uv read; neither asks anybody for a password."""
        return {
            "TWINE_REPOSITORY_URL": target.repository_url,
            "TWINE_USERNAME": target.username,
            "TWINE_PASSWORD": target.token,
            "TWINE_NON_INTERACTIVE": "1",
            "UV_PUBLISH_URL": target.repository_url,
            "UV_PUBLISH_USERNAME": target.username,
            "UV_PUBLISH_PASSWORD": target.token,
        }

    def build_packages(self) -> tuple[str, Mapping[str, str]]:
        """The interpreter with venv and pip."""
        return "python", {"python3": "python3", "python3-venv": "", "python3-pip": ""}

    def build_paths(self) -> Sequence[str]:
        """All of the clients is in ``/usr``."""
        return ()

    def default_upstream_url(self, is_own: Callable[[str], bool]) -> str:
        """What pip uses here."""
        return default_upstream.default_upstream_url(is_own)
