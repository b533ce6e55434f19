"""An npm package installed into a directory of its own, on the machine of a deployment."""

from __future__ import annotations

import json
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from registry.native import Installation, InstallFault, NativeVersion

_MOST_MANIFEST = 4 << 20


class NpmInstaller:
    """The pinned tarball by its path; what it depends on from the repository, and from no other registry."""

    def choose(self, version: NativeVersion, filenames: Sequence[str], *, runs_package_code: bool) -> Sequence[str]:
        """The version's one tarball."""
        _ = runs_package_code
        found = [name for name in filenames if name.endswith(".tgz")]
        if len(found) != 1:
            raise InstallFault(f"{_full_name(version)} {version.version} has {len(found)} tarballs, not one")
        return found

    def install(self, wanted: Installation) -> frozenset[str]:
        """``node_modules``, and ``bin`` for its commands."""
        npm = shutil.which("npm")
        if npm is None:
            raise InstallFault("there is no npm on this machine")
        environment = wanted.environment
        for file in wanted.files:
            _refuse_other_places(file)
        environment.mkdir()
        host = urlsplit(wanted.repository_url)
        rights = f"//{host.netloc}{host.path}:_authToken={wanted.token}\n"
        options = ["--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier", "--no-package-lock", "--no-save"]
        options += ["--registry", wanted.repository_url, "--cache", str(wanted.scratch / "cache")]
        options += [] if wanted.runs_package_code else ["--ignore-scripts"]
        files = [str(path) for path in wanted.files]
        with wanted.secret_file(rights) as path:
            # The configurations of the machine and of its users do not count: they could name another registry.
            options += ["--userconfig", path, "--globalconfig", str(wanted.scratch / "no-configuration")]
            variables = {"NODE_EXTRA_CA_CERTS": wanted.authorities} if wanted.authorities else {}
            argv = [npm, "install", "--prefix", str(environment), *options, *files]
            wanted.run(argv, variables, wanted.scratch)
        if not (environment / "node_modules" / _full_name(version := wanted.version)).is_dir():
            raise InstallFault(f"npm has not installed {_full_name(version)}: the tarball says another name")
        (environment / "node_modules" / ".bin").mkdir(exist_ok=True)
        (environment / "bin").symlink_to("node_modules/.bin")
        return frozenset()

    def installed_version(self, environment: Path, version: NativeVersion) -> str:
        """What the package's own ``package.json`` says."""
        try:
            found = json.loads((environment / "node_modules" / _full_name(version) / "package.json").read_bytes())
        except (OSError, ValueError):
            return ""
        return str(found.get("version", "")) if isinstance(found, dict) else ""


def _refuse_other_places(tarball: Path) -> None:
    """Raise InstallFault for a package that says where a dependency lies: it would be fetched from there."""
    manifest: object = {}
    try:
        with tarfile.open(tarball) as archive:
            for member in archive:
                place = member.name.removeprefix("./").partition("/")[2]
                if place == "npm-shrinkwrap.json":
                    told = "dependencies are taken from the repository alone"
                    raise InstallFault(f"{tarball.name} has an npm-shrinkwrap.json; {told}")
                if place == "package.json" and (content := archive.extractfile(member)) is not None:
                    manifest = json.loads(content.read(_MOST_MANIFEST))
    except (OSError, tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise InstallFault(f"{tarball.name} cannot be read: {error}") from error
    for field in ("dependencies", "optionalDependencies", "peerDependencies"):
        found = manifest.get(field) if isinstance(manifest, dict) else None
        for name, wanted in (found if isinstance(found, dict) else {}).items():
            is_elsewhere = ":" in str(wanted) or "/" in str(wanted)
            if is_elsewhere and not str(wanted).startswith("npm:"):
                told = f"it depends on {name} at {str(wanted)[:200]}; dependencies are taken from the repository alone"
                raise InstallFault(f"{tarball.name}: {told}")


def _full_name(version: NativeVersion) -> str:
    return f"@{version.namespace}/{version.name}" if version.namespace else version.name


INSTALLER = NpmInstaller()
