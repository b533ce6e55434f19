"""The pure half of the format: its modules behind the contract of ``registry.format.Format``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import BinaryIO

from packaging.version import Version

from registry.format import Listing, Release
from registry.formats.pypi import default_upstream, index, names
from registry.formats.pypi.metadata import inspect
from registry.names import PackageName


class PurePypi:
    """``registry.format.Format`` for Python distributions."""

    name = "pypi"

    def normalize(self, raw: str) -> PackageName:
        """PEP 503 normal form."""
        return names.project_name(raw)

    def inspect(self, filename: str, body: BinaryIO) -> Release:
        """Read a wheel or an sdist."""
        return inspect(filename, body)

    def index_path(self, name: PackageName) -> str:
        """PEP 503: ``/<project>/``, with the slash."""
        return f"{name}/"

    def index_accept(self) -> str:
        """PEP 691 with HTML as the fallback; JSON first, because only it carries sizes and upload times."""
        return f"{index.JSON_TYPE}, {index.HTML_TYPE};q=0.2, {index.PLAIN_TYPE};q=0.01"

    def parse_index(self, name: PackageName, body: bytes, content_type: str, final_url: str) -> Listing:
        """Read a project page, JSON or HTML."""
        return index.parse(name, body, content_type, final_url)

    def version_of(self, filename: str) -> tuple[PackageName, str]:
        """Read a wheel's or sdist's file name."""
        parsed = names.parse_filename(filename)
        return parsed.name, parsed.version

    def sort_key(self, version: str) -> tuple[int, Version]:
        """PEP 440 order."""
        return names.sort_key(version)

    def install_hint(self, repository_url: str, name: PackageName, version: str) -> list[tuple[str, str]]:
        """Commands for pip and uv."""
        index_url, requirement = shlex.quote(f"{repository_url}simple/"), shlex.quote(f"{name}=={version}")
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

    def default_upstream_url(self) -> str:
        """What pip uses here."""
        return default_upstream.default_upstream_url()
