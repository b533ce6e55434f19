"""The pure half of the format, behind the contract of ``registry.format.Format``.

An upstream of this format is any web server with files under ``{name}/{version}/{path}``. Another Entrepot is one that
lists them as well.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO
from urllib.parse import quote

from registry.errors import Invalid
from registry.format import BadIndex, Description, FileLink, Listing, Location, LoginTarget, link_in
from registry.formats.generic import names
from registry.names import PackageKey

JSON_TYPE = "application/json"


class PureGeneric:
    """``registry.format.Format`` for files of any kind."""

    name = "generic"
    digests = frozenset({"sha1", "sha512", "md5"})
    osv_ecosystem = ""

    def key(self, written: str) -> PackageKey:
        """Names are as they are written; there are no namespaces."""
        return PackageKey(self.name, "", names.package_name(written))

    def display_name(self, key: PackageKey) -> str:
        """The name."""
        return key.name

    def index_path(self, key: PackageKey) -> str:
        """The folder of the package."""
        return f"{key.name}/"

    def index_accept(self) -> str:
        """The list that this format itself serves."""
        return JSON_TYPE

    def parse_index(self, key: PackageKey, body: bytes, _content_type: str, final_url: str) -> Listing:
        """Read another Entrepot's list of a package's files (``render_package``)."""
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadIndex(f"the list of {key.name} is not JSON") from error
        versions = document.get("versions") if isinstance(document, dict) else None
        if not isinstance(versions, list):
            raise BadIndex(f"the list of {key.name} is JSON, but no list of versions")
        links = [_link(final_url, version, asset) for version in versions for asset in _assets(version)]
        return Listing(key, tuple(link for link in links if link is not None))

    def find_link(
        self, key: PackageKey, body: bytes, content_type: str, final_url: str, filename: str
    ) -> FileLink | None:
        """As the whole is read: these lists are short."""
        return link_in(self.parse_index(key, body, content_type, final_url), filename)

    def locate(self, key: PackageKey, filename: str) -> Location | None:
        """``filename`` is ``{version}/{path}``: an upstream has it below the package's folder."""
        version = filename.partition("/")[0]
        return Location(version, quote(f"{key.name}/{filename}"), None, "sha256")

    def usual_files(self, _key: PackageKey, _version: str) -> Sequence[str]:
        """The index lists all files."""
        return ()

    def is_whole(self, _filenames: Collection[str]) -> bool:
        """Clients say when a version is finished."""
        return False

    def summary(self, _extra: Mapping[str, Any]) -> str:
        """Lists of files describe nothing."""
        return ""

    def describing(self, _filenames: Collection[str]) -> Sequence[str]:
        """Any bytes are a file; none of them describes the others."""
        return ()

    def describe(self, filename: str, _body: BinaryIO) -> Description:
        """Nothing."""
        raise Invalid(f"{filename} describes nothing")

    def dependency(self, _written: str) -> None:
        """Files need nothing."""

    def sort_key(self, version: str) -> Any:
        """Natural order."""
        return names.sort_key(version)

    def install_hint(self, repository_url: str, key: PackageKey, version: str) -> list[tuple[str, str]]:
        """How to see a version's files; their addresses are in the answer."""
        folder = shlex.quote(f"{repository_url}{key.name}/{version}/")
        return [("curl", f"curl --netrc -fsS {folder}")]

    def build_variables(self, repository_url: str) -> Mapping[str, str]:
        """Where builds find the files; ``curl --netrc`` has the credential."""
        return {"ENTREPOT_GENERIC_URL": repository_url}

    def build_files(self, _target: LoginTarget, _publish: LoginTarget | None = None) -> Mapping[str, str]:
        """The clients read ``~/.netrc``."""
        return {}

    def publish_variables(self, _target: LoginTarget) -> Mapping[str, str]:
        """None: the address is what a command is given."""
        return {}

    def build_packages(self) -> None:
        """Nothing."""
        return

    def build_paths(self) -> Sequence[str]:
        """All of the clients is in ``/usr``."""
        return ()

    def default_upstream_url(self, _is_own: Callable[[str], bool]) -> str | None:
        """There is no public index of files of any kind."""
        return None


def render_package(versions: Mapping[str, list[FileLink]], statuses: Mapping[str, str]) -> dict[str, Any]:
    """The list of a package's versions with their files; ``url`` is relative to the package's folder."""
    return {
        "versions": [
            {
                "version": version,
                "status": statuses[version],
                "assets": [
                    {
                        "path": link.filename.partition("/")[2],
                        "url": quote(link.filename),
                        "sizeBytes": link.size_bytes,
                        "hashes": dict(link.hashes),
                        "publishedAt": link.upload_time.isoformat() if link.upload_time else None,
                    }
                    for link in links
                ],
            }
            for version, links in versions.items()
        ]
    }


def _assets(version: Any) -> list[Any]:
    assets = version.get("assets") if isinstance(version, dict) else None
    return assets if isinstance(assets, list) else []


def _link(final_url: str, version: Any, asset: Any) -> FileLink | None:
    """A file that the list names, if it is one that could be published; where it is follows from its names."""
    try:
        number = names.package_version(str(version["version"]))
        path = names.asset_path(str(asset["path"]))
        hashes = {str(name): str(value) for name, value in asset["hashes"].items()}
        size = asset["sizeBytes"]
        at = datetime.fromisoformat(asset["publishedAt"]).astimezone(UTC) if asset.get("publishedAt") else None
    except (Invalid, KeyError, TypeError, ValueError, AttributeError):
        return None
    filename = f"{number}/{path}"
    size_bytes = size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None
    return FileLink(filename, number, final_url + quote(filename), hashes, size_bytes, at)
