"""The pure half of the format: its modules behind the contract of ``registry.format.Format``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from registry.errors import Invalid
from registry.format import Dependency, Description, FileLink, Listing, Location, LoginTarget, link_in
from registry.formats.npm import archive, default_upstream, integrity, manifest, names, packument
from registry.formats.npm.login import TOOLS
from registry.names import PackageKey


class PureNpm:
    """``registry.format.Format`` for npm packages."""

    name = names.FORMAT_NAME
    digests = frozenset(integrity.ALGORITHMS)
    osv_ecosystem = "npm"

    def key(self, written: str) -> PackageKey:
        """Scope (without its ``@``) as the namespace, and name."""
        return names.package_key(written)

    def display_name(self, key: PackageKey) -> str:
        """``@scope/name``."""
        return names.display_name(key)

    def index_path(self, key: PackageKey) -> str:
        """As npm asks: the slash of a scope is encoded."""
        return names.display_name(key).replace("/", "%2f")

    def index_accept(self) -> str:
        """The whole document: the abbreviated one has no times, and not what ``npm install`` itself asks for."""
        return packument.FULL_TYPE

    def parse_index(self, key: PackageKey, body: bytes, _content_type: str, final_url: str) -> Listing:
        """Read a packument. Registries behind gateways send it under many types; what it is shows when it is read."""
        return packument.parse(key, body, final_url)

    def find_link(
        self, key: PackageKey, body: bytes, _content_type: str, final_url: str, filename: str
    ) -> FileLink | None:
        """Of thousands of versions the one whose tarball it is."""
        return link_in(packument.parse(key, body, final_url, only=filename), filename)

    def locate(self, _key: PackageKey, _filename: str) -> Location | None:
        """Tarballs are where the packument says; nowhere else."""
        return None

    def usual_files(self, _key: PackageKey, _version: str) -> Sequence[str]:
        """The index lists all files."""
        return ()

    def is_whole(self, filenames: Collection[str]) -> bool:
        """A version is its tarball, and is never published without."""
        return bool(filenames)

    def summary(self, extra: Mapping[str, Any]) -> str:
        """The manifest's description."""
        return manifest.summary(manifest.from_text(extra.get("manifest", "{}")))

    def describing(self, filenames: Collection[str]) -> Sequence[str]:
        """The tarball; there is one."""
        return sorted(filenames)

    def describe(self, _filename: str, body: BinaryIO) -> Description:
        """What ``package.json`` and the README say."""
        return archive.describe(body)

    def dependency(self, written: str) -> Dependency | None:
        """``name range``, with what kind it is behind it where it is not a plain dependency."""
        name, _, wanted = written.partition(" ")
        kind = "regular"
        for note in ("peer", "optional"):
            if wanted.endswith(f" ({note})"):
                kind, wanted = note, wanted.removesuffix(f" ({note})")
        try:
            key = names.package_key(name)
        except Invalid:
            return None
        return Dependency(key.namespace, key.name, kind, wanted)

    def sort_key(self, version: str) -> Any:
        """Order of Semantic Versioning."""
        return names.sort_key(version)

    def install_hint(self, repository_url: str, key: PackageKey, version: str) -> list[tuple[str, str]]:
        """Commands for npm, pnpm and yarn."""
        registry, wanted = shlex.quote(repository_url), shlex.quote(f"{names.display_name(key)}@{version}")
        return [
            ("npm", f"npm install --registry {registry} {wanted}"),
            ("pnpm", f"pnpm add --registry {registry} {wanted}"),
            ("yarn", f"YARN_NPM_REGISTRY_SERVER={registry} yarn add {wanted}"),
        ]

    def build_variables(self, repository_url: str) -> Mapping[str, str]:
        """What npm, pnpm and yarn read; nothing of it asks anybody else than this repository."""
        return {
            "npm_config_registry": repository_url,
            "npm_config_update_notifier": "false",
            "npm_config_fund": "false",
            "YARN_NPM_REGISTRY_SERVER": repository_url,
            "YARN_UNSAFE_HTTP_WHITELIST": "127.0.0.1",
            "YARN_ENABLE_TELEMETRY": "0",
            # A build is to take what was published just now; yarn would wait for days.
            "YARN_NPM_MINIMAL_AGE_GATE": "0",
        }

    def build_files(self, target: LoginTarget, publish: LoginTarget | None = None) -> Mapping[str, str]:
        """What ``login`` would write: these clients read no ``.netrc``, and publish nothing without a token."""
        existing: dict[Path, str | None] = {Path(".yarnrc.yml"): None, Path(".npmrc"): None}
        if publish is not None:
            existing = {**existing, **TOOLS["npm"].plan({Path(".npmrc"): None}, publish)}
        planned = TOOLS["yarn"].plan(existing, target)
        return {path.name: text for path, text in planned.items()}

    def publish_variables(self, target: LoginTarget) -> Mapping[str, str]:
        """What yarn reads; npm and pnpm are told with ``--registry``."""
        return {"YARN_NPM_PUBLISH_REGISTRY": target.repository_url}

    def build_packages(self) -> tuple[str, Mapping[str, str]]:
        """Node.js with npm."""
        return "node", {"nodejs": "node", "npm": "npm"}

    def build_paths(self) -> Sequence[str]:
        """All of the clients is in ``/usr``."""
        return ()

    def default_upstream_url(self, is_own: Callable[[str], bool]) -> str | None:
        """What npm uses here."""
        return default_upstream.default_upstream_url(is_own)
