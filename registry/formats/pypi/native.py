"""A distribution installed into a virtual environment of its own, on the machine of a deployment."""

from __future__ import annotations

import email
import importlib.metadata
import importlib.util
import json
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, canonicalize_version, parse_wheel_filename

from registry.native import Installation, InstallFault, NativeVersion, nowhere_else

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA\Z")
_MOST_METADATA = 4 << 20
_CONFINED_PIP = Path(__file__).with_name("confined_pip.py")
_SOURCES = (".tar.gz", ".zip")


class PythonInstaller:
    """The pinned file by its path; what it requires from the repository's index, and from no other place."""

    def choose(self, version: NativeVersion, filenames: Sequence[str], *, runs_package_code: bool) -> Sequence[str]:
        """The wheel that fits this machine best; else, where packages' code may run, the source distribution."""
        order = {tag: place for place, tag in enumerate(sys_tags())}
        fitting = []
        for name in filenames:
            try:
                tags = parse_wheel_filename(name)[3] if name.endswith(".whl") else frozenset()
            except InvalidWheelFilename:
                continue
            places = [order[tag] for tag in tags if tag in order]
            if places:
                fitting.append((min(places), name))
        if fitting:
            return (min(fitting)[1],)
        sources = [name for name in filenames if name.endswith(_SOURCES)]
        if sources and runs_package_code:
            return (sources[0],)
        python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
        hint = "; to build it from its source the group has to say runPackageCode: true" if sources else ""
        raise InstallFault(f"{version.name} {version.version} has no wheel for {python} on this machine{hint}")

    def install(self, wanted: Installation) -> frozenset[str]:
        """A venv without pip in it; its scripts begin with the stable path, at which they will lie."""
        pip = importlib.util.find_spec("pip")
        if pip is None or pip.origin is None:
            raise InstallFault(f"{sys.executable} has no pip; install it there (ensurepip, or python3-pip)")
        _refuse_other_places(wanted.files)
        environment = wanted.environment
        python = str(environment / "bin" / "python")
        wanted.run([sys.executable, "-I", "-m", "venv", "--without-pip", str(environment)], {}, wanted.scratch)
        options = ["--no-input", "--disable-pip-version-check", "--no-cache-dir", "--no-compile"]
        options += ["--report", str(report := wanted.scratch / "report.json")]
        argv = [python, "-I", str(_CONFINED_PIP), str(Path(pip.origin).parents[1]), "install", *options]
        self._run(wanted, [*argv, *_index(wanted), *(str(path) for path in wanted.files)])
        _check_report(report, wanted.files)
        _move(environment, wanted.stable_path)
        # Before they are there at the stable path; their names in it are what tracebacks show.
        compiled = [python, "-I", "-m", "compileall", "-q", "-q", "-s", str(environment), "-p", wanted.stable_path]
        wanted.run(["/bin/sh", "-c", '"$@" || true', "sh", *compiled, str(environment / "lib")], {}, wanted.scratch)
        return frozenset(
            f"bin/{path.name}" for path in (environment / "bin").iterdir() if path.is_symlink() and _is_absolute(path)
        )

    @staticmethod
    def _run(wanted: Installation, argv: Sequence[str]) -> None:
        host = urlsplit(wanted.repository_url).hostname
        netrc = f"machine {host} login __token__ password {wanted.token}\n"
        with ExitStack() as held:
            # No configuration of the machine: it could name a further index.
            variables = {"NETRC": held.enter_context(wanted.secret_file(netrc)), "PIP_CONFIG_FILE": os.devnull}
            if not wanted.runs_package_code:  # which may need what it likes
                variables |= held.enter_context(nowhere_else(wanted.repository_url))
            wanted.run(argv, variables, wanted.scratch)

    def installed_version(self, environment: Path, version: NativeVersion) -> str:
        """What the metadata in the environment say."""
        wanted = canonicalize_name(version.name)
        places = [str(path) for path in environment.glob("lib/python3*/site-packages")]
        for found in importlib.metadata.distributions(path=places):
            if canonicalize_name(found.metadata["Name"] or "") == wanted:
                # Files may spell a version in another way than the revision does.
                is_it = canonicalize_version(found.version) == canonicalize_version(version.version)
                return version.version if is_it else found.version
        return ""


def _index(wanted: Installation) -> list[str]:
    """Options of pip for the repository, and for what may come from it."""
    index = f"{wanted.repository_url}simple/"
    options = ["--index-url", index]
    options += [] if wanted.runs_package_code else ["--only-binary", ":all:"]
    options += ["--cert", wanted.authorities] if wanted.authorities else []
    host = urlsplit(index)
    return options + (["--trusted-host", host.netloc] if host.scheme == "http" else [])


def _check_report(report: Path, files: Sequence[Path]) -> None:
    """Raise InstallFault where pip says that it took anything by an address but the files that were chosen."""
    own = {path.as_uri() for path in files}
    try:
        taken = json.loads(report.read_bytes())["install"]
        others = [each for each in taken if each["is_direct"] and each["download_info"]["url"] not in own]
        named = [f"{each['metadata']['name']} from {each['download_info']['url'][:200]}" for each in others]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InstallFault(f"what pip has installed cannot be told: {error}") from error
    if named:
        raise InstallFault(f"requirements are taken from the repository alone, and pip took {', '.join(named)}")


def _refuse_other_places(files: Sequence[Path]) -> None:
    """Raise InstallFault for a wheel that says where a requirement lies: it would be fetched from there, source or not."""
    for file in files:
        if file.suffix != ".whl":
            continue
        try:
            with zipfile.ZipFile(file) as wheel:
                names = [name for name in wheel.namelist() if _METADATA.match(name)]
                texts = [wheel.open(name).read(_MOST_METADATA) for name in names]
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
            raise InstallFault(f"{file.name} cannot be read: {error}") from error
        for text in texts:
            for line in email.message_from_bytes(text).get_all("Requires-Dist", ()):
                try:
                    required = Requirement(str(line))
                except InvalidRequirement:
                    continue  # which is pip's to refuse
                try:
                    is_wanted = required.marker is None or required.marker.evaluate({"extra": ""})
                except ValueError as error:
                    told = f"nobody can tell whether it requires {str(line)[:200]}"
                    raise InstallFault(f"{file.name}: {told}: {error}") from error
                if required.url and is_wanted:
                    told = f"it requires {str(line)[:200]}; requirements are taken from the repository alone"
                    raise InstallFault(f"{file.name}: {told}")


def _is_absolute(link: Path) -> bool:
    return os.readlink(link).startswith("/")  # noqa: PTH115 - the text counts


def _move(environment: Path, stable_path: str) -> None:
    """Let everything in ``bin`` and the environment's own file name the place where it will be."""
    old, new = os.fsencode(environment), os.fsencode(stable_path)
    for path in (environment / "pyvenv.cfg", *(environment / "bin").iterdir()):
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        if old in content:
            path.write_bytes(content.replace(old, new))


INSTALLER = PythonInstaller()
