"""A package version deployed without a bundle: the bundle is made here, by the format's own installer.

What comes out is a bundle like any other: an environment in a directory, scripts, and an appspec that installs the one at
the link and runs the others. So all that holds for bundles holds: the journal, the switch of the link in one step, whose
ApplicationStop runs, what is cleaned up, and what a kill leaves.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hooks.deployments.appspec_model import EVENT_SECONDS
from hooks.deployments.documents.native import NativeDocument, NativeScript
from hooks.deployments.host import bundle
from hooks.deployments.host.script_log import ScriptLog
from hooks.deployments.host.scripts import run_program
from hooks.deployments.host.state import remove_tree
from hooks.deployments.outcomes import EventFailed
from registry.native import Installation, InstallFault, NativeVersion, PackageInstaller

LOG = logging.getLogger(__name__)

ENVIRONMENT = "environment"
_HANDED_ON = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_TAIL_CHARACTERS = 1200


@dataclass(frozen=True, slots=True)
class NativePackage:
    """What is installed: ``files`` (name → SHA-256) are all of the version's, as the deployment pins them."""

    version: NativeVersion
    files: Mapping[str, str]
    repository_url: str
    document: NativeDocument
    authorities: str = ""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where it comes from. ``fetch`` writes a file of the version to a path (raises BundleError, OSError).

    ``token`` gives what reads the repository; ``is_stopped`` is asked while programs run.
    """

    fetch: Callable[[str, Path], object]
    token: Callable[[], str]
    is_stopped: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class _Runner:
    """Runs the installer's programs: nothing of this process's environment reaches them but the way to the network."""

    home: Path
    log: ScriptLog
    is_stopped: Callable[[], bool]
    secrets: list[str] = field(default_factory=list)

    def __call__(self, argv: Sequence[str], variables: Mapping[str, str], directory: Path) -> None:
        handed_on = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
        path = os.environ.get("PATH") or os.defpath
        environment = {"PATH": path, "LANG": "C.UTF-8", "HOME": str(self.home), **handed_on, **variables}
        name = os.path.basename(argv[0])  # noqa: PTH119
        status = run_program(name, argv, environment, directory, self.log, EVENT_SECONDS, self.is_stopped)
        if status:
            raise InstallFault(f"{name} failed with exit code {status}: {self._masked(self.log.tail)}")

    def _masked(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "…")
        return text.strip()[-_TAIL_CHARACTERS:]


def make_bundle(
    package: NativePackage, installer: PackageInstaller, sources: Sources, into: Path, log: ScriptLog
) -> bundle.Made:
    """Make the bundle in the directory ``into``, anew if there is one. Raises BundleError, OSError, EventFailed."""
    if into.is_dir():
        remove_tree(into)  # the rest of an attempt that was interrupted
    into.unlink(missing_ok=True)
    into.mkdir(mode=0o700)
    scratch, files = into / "scratch", into / "files"
    try:
        scratch.mkdir()
        files.mkdir()
        chosen = installer.choose(
            package.version, sorted(package.files), runs_package_code=package.document.runs_package_code
        )
        taken = [_fetched(name, package.files[name], files, sources) for name in chosen]
        log.say(f"{package.version.name} {package.version.version} is installed from {', '.join(chosen)}")
        links = _install(package, installer, sources, into, taken, log)
        remove_tree(scratch)
        remove_tree(files)
        _write_appspec(package, into)
    except BaseException as error:
        remove_tree(into)  # an environment is large, and nobody asks for half of one
        if isinstance(error, InstallFault):
            raise bundle.BundleError(str(error)) from error
        if isinstance(error, Exception) and not isinstance(error, (OSError, bundle.BundleError, EventFailed)):
            # A package that nobody has thought of: left as it is, it would be tried again and again until time is out.
            called = f"{package.version.name} {package.version.version}"
            LOG.exception("%s cannot be installed: %s", called, type(error).__name__)
            told = f"{called} cannot be installed: something in it is not understood; the agent's log says more"
            raise bundle.BundleError(told) from error
        raise
    return bundle.Made(into, frozenset(f"{ENVIRONMENT}/{link}" for link in links))


def _fetched(name: str, wanted: str, files: Path, sources: Sources) -> Path:
    # Formats whose versions have folders have them in the names.
    if "\0" in name or {"", ".", ".."} & set(name.split("/")):
        raise bundle.BundleError(f"{name!r} is no name of a file")
    path = files / name
    path.parent.mkdir(parents=True, exist_ok=True)
    sources.fetch(name, path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        raise bundle.BundleError(
            f"{name} is not what the deployment names: its SHA-256 is {found}, and {wanted} is wanted"
        )
    return path


def _install(
    package: NativePackage,
    installer: PackageInstaller,
    sources: Sources,
    into: Path,
    files: Sequence[Path],
    log: ScriptLog,
) -> frozenset[str]:
    token = sources.token()
    environment = into / ENVIRONMENT
    links = installer.install(
        Installation(
            version=package.version,
            files=files,
            environment=environment,
            stable_path=package.document.link,
            repository_url=package.repository_url,
            authorities=package.authorities,
            scratch=into / "scratch",
            runs_package_code=package.document.runs_package_code,
            run=_Runner(into / "scratch", log, sources.is_stopped, [token]),
            secret_file=secret_file,
            token=token,
        )
    )
    found = installer.installed_version(environment, package.version)
    if found != package.version.version:
        raise InstallFault(f"{package.version.version} was to be installed, and {found or 'nothing'} is there")
    _make_readable(environment)
    return links


@contextmanager
def secret_file(text: str) -> Iterator[str]:
    """A text in memory that programs of this user read as a file: it lies on no disk and ends with this process."""
    descriptor = os.memfd_create("entrepot", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _make_readable(environment: Path) -> None:
    """Scripts may run as other users: what the agent's umask says is not what they need."""
    for folder, _, names in os.walk(environment):
        Path(folder).chmod(0o755)
        for name in names:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                path.chmod(0o755 if mode & 0o111 else 0o644)


# --- the appspec and its scripts -------------------------------------------------------------------------------------


def _write_appspec(package: NativePackage, into: Path) -> None:
    scripts = into / "hooks"
    scripts.mkdir()
    hooks = {}
    for event, script in package.document.hooks.items():
        _write_script(package, script, scripts / event)
        entry: dict[str, str | int] = {"location": f"hooks/{event}", "timeout": script.timeout_seconds}
        hooks[event] = [{**entry, "runas": script.runas} if script.runas else entry]
    files = [{"source": f"/{ENVIRONMENT}", "destination": package.document.link}]
    appspec = {"version": 0.0, "os": "linux", "files": files, "hooks": hooks}
    (into / "appspec.yml").write_text(json.dumps(appspec, indent=1), encoding="ascii")
    into.chmod(0o755)


def _write_script(package: NativePackage, script: NativeScript, path: Path) -> None:
    """A script that says what is installed by itself: as ApplicationStop it runs in the deployment after this one."""
    told = {
        "LINK": package.document.link,
        "PACKAGE_NAME": package.version.name,
        "PACKAGE_NAMESPACE": package.version.namespace,
        "PACKAGE_VERSION": package.version.version,
    }
    lines = ["#!/bin/sh", *(f"export {name}={shlex.quote(value)}" for name, value in told.items())]
    # Before the switch it is not at the link yet.
    lines += ["here=${0%/hooks/*}", f'export ENVIRONMENT="$here/{ENVIRONMENT}"']
    if script.words:
        words = []
        for word in script.words:
            for name, value in told.items():
                word = word.replace(f"${{{name}}}", value)  # noqa: PLW2901
            words.append(shlex.quote(word).replace("${ENVIRONMENT}", "'\"$ENVIRONMENT\"'"))
        lines.append(f"exec {' '.join(words)}")
    else:
        own = path.with_name(f"{path.name}.script")
        text = script.text if script.text.startswith("#!") else f"#!/bin/sh\n{script.text}"
        own.write_text(text if text.endswith("\n") else f"{text}\n", encoding="utf-8")
        own.chmod(0o755)
        lines.append('exec "$0.script"')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    path.chmod(0o755)
