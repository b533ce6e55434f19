"""An npm package installed into a directory of its own, on the machine of a deployment."""

from __future__ import annotations

import json
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from registry.native import Installation, InstallFault, NativeVersion, nowhere_else

_MOST_MANIFEST = 4 << 20
_NO_GIT = "/bin/false"


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
        (file,) = wanted.files
        named = {_full_name(wanted.version): f"file:{file}"}
        manifest, lock = environment / "package.json", environment / "package-lock.json"
        manifest.write_text(json.dumps({"private": True, "dependencies": named}), encoding="utf-8")
        # First what would be installed, and from where: nothing of it runs. Only then is it installed, as it is written.
        _run(wanted, [npm, "install", "--package-lock-only", "--ignore-scripts"], is_confined=True)
        _check_lock(lock, wanted.repository_url, file)
        scripts = [] if wanted.runs_package_code else ["--ignore-scripts"]
        _run(wanted, [npm, "ci", *scripts], is_confined=not wanted.runs_package_code)
        manifest.unlink()
        lock.unlink()
        if not (environment / "node_modules" / _full_name(version := wanted.version)).is_dir():
            raise InstallFault(f"npm has not installed {_full_name(version)}: the tarball says another name")
        (environment / "node_modules" / ".bin").mkdir(exist_ok=True)
        (environment / "bin").symlink_to("node_modules/.bin")
        return frozenset()

    def installed_version(self, environment: Path, version: NativeVersion) -> str:
        """What the package's own ``package.json`` says."""
        try:
            found = json.loads((environment / "node_modules" / _full_name(version) / "package.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return ""
        return str(found.get("version", "")) if isinstance(found, dict) else ""


def _run(wanted: Installation, argv: Sequence[str], *, is_confined: bool) -> None:
    """Run npm with the repository as its only registry."""
    host = urlsplit(wanted.repository_url)
    rights = f"//{host.netloc}{host.path}:_authToken={wanted.token}\n"
    options = ["--prefix", str(wanted.environment), "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier"]
    options += ["--registry", wanted.repository_url, "--cache", str(wanted.scratch / "cache")]
    # Nobody else's program: what lies in a repository of git's is never looked at.
    options += ["--git", _NO_GIT]
    with ExitStack() as held:
        # The configurations of the machine and of its users do not count: they could name another registry.
        options += ["--userconfig", held.enter_context(wanted.secret_file(rights))]
        options += ["--globalconfig", str(wanted.scratch / "no-configuration")]
        variables = {"NODE_EXTRA_CA_CERTS": wanted.authorities} if wanted.authorities else {}
        if is_confined:
            variables |= held.enter_context(nowhere_else(wanted.repository_url))
        wanted.run([*argv, *options], variables, wanted.scratch)


def _check_lock(lock: Path, repository_url: str, own: Path) -> None:
    """Raise InstallFault unless all that a lock names is the chosen file or comes from the repository, with a digest."""
    try:
        packages = json.loads(lock.read_bytes())["packages"]
        for place, entry in packages.items():
            if not place or (entry.get("inBundle") and "resolved" not in entry):
                continue  # the project itself, and what lies in the archive of another and is fetched from nowhere
            source = str(entry.get("resolved", ""))
            is_served = source.startswith(repository_url) and bool(entry.get("integrity"))
            if entry.get("link") or not (is_served or _is_own(lock.parent, source, own)):
                told = f"{place} would be taken from {source[:200] or 'nowhere'}"
                raise InstallFault(f"dependencies are taken from the repository alone, and {told}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InstallFault(f"what npm would install cannot be told: {error}") from error


def _is_own(folder: Path, source: str, own: Path) -> bool:
    return source.startswith("file:") and (folder / source.removeprefix("file:")).resolve() == own.resolve()


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
    except (OSError, tarfile.TarError, EOFError, zlib.error, ValueError, RecursionError) as error:
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
