"""A Maven artifact with all that it runs with, in a directory of its own, on the machine of a deployment.

Neither Maven nor a plug-in of it runs: ``gather`` reads POMs as Maven does and fetches files (docs/decisions/0050).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.errors import Invalid
from registry.formats.maven import paths
from registry.formats.maven.gather import Request
from registry.formats.maven.pom_tree import Machine
from registry.native import Installation, InstallFault, NativeVersion

RECORD = "installed.json"
"""Of what is in an environment: the artifact, the class path, and each file's SHA-256."""
_POM = "pom.xml"
_MANIFEST = "META-INF/MANIFEST.MF"
_MOST_MANIFEST = 1 << 20
_NAME = re.compile(r"[\w$]+(?:\.[\w$]+)*\Z")
_RELEASE = re.compile(r'JAVA_VERSION="([^"]{1,50})"')
# What lies beside an artifact and is none.
_BESIDE = (".asc", ".sigstore", ".sigstore.json", "cyclonedx.json", "cyclonedx.xml", "module")
_USUAL_FIRST = ("jar", "war", "ear")

_JAVA = """#!/bin/sh
# The machine's Java, with the class path of what is installed here. The place is the release's own, not the link's: what
# runs goes on with its own files when the link leads elsewhere.
here=$(dirname -- "$(readlink -f -- "$0")")
here=${{here%/bin}}
CLASSPATH={class_path}
export CLASSPATH
java=${{JAVA_HOME:+$JAVA_HOME/bin/}}java
command -v "$java" > /dev/null || {{ echo "there is no $java on this machine; install it, or set JAVA_HOME" >&2; exit 127; }}
exec "$java" "$@"
"""
_START = """#!/bin/sh
here=$(dirname -- "$(readlink -f -- "$0")")
# JAVA_OPTS are words.
exec "$here/java" ${{JAVA_OPTS-}} {main_class} "$@"
"""


@dataclass(frozen=True, slots=True)
class _Jar:
    """What a jar says of itself. ``is_whole``: what it needs is in it."""

    main_class: str
    is_whole: bool


class MavenInstaller:
    """The pinned file; what its POM, pinned as well, needs at run time from the repository, and from no other place."""

    def choose(self, version: NativeVersion, filenames: Sequence[str], *, runs_package_code: bool) -> Sequence[str]:
        """The artifact's main file, and its POM behind it."""
        _ = runs_package_code
        found = {}
        for name in filenames:
            try:
                place = paths.parse(f"{version.namespace.replace('.', '/')}/{version.name}/{name}")
            except Invalid:
                continue
            if isinstance(place, paths.FilePath) and not place.classifier and not place.checksum:
                found[place.extension] = name
        pom = found.pop("pom", None)
        main = {extension: name for extension, name in found.items() if not extension.endswith(_BESIDE)}
        chosen = next((main[each] for each in _USUAL_FIRST if each in main), None)
        if chosen is None and len(main) == 1:
            (chosen,) = main.values()
        called = f"{version.namespace}:{version.name} {version.version}"
        if chosen is None:
            told = f"it has {', '.join(sorted(main.values())) or 'none'}"
            raise InstallFault(f"{called} has no jar, war or ear, and not one other file without a classifier: {told}")
        if pom is None:
            raise InstallFault(f"{called} has no POM, which says what it needs")
        return chosen, pom

    def install(self, wanted: Installation) -> frozenset[str]:
        """``ARTIFACT.jar``, ``lib`` and ``bin``; of what is no jar the file alone."""
        main, pom = wanted.files
        version, environment = wanted.version, wanted.environment
        is_jar = main.suffix == ".jar"
        name = f"{version.name}.{_extension(version, main)}"
        java = _java_version() if is_jar else ""
        environment.mkdir()
        shutil.copyfile(main, environment / name)
        fetched = {}
        if is_jar:
            jar = _read(main)
            fetched = {} if jar.is_whole else _gathered(wanted, pom, java)
            class_path = [name, *(f"lib/{each}" for each in fetched if each.endswith(".jar"))]
            _write_scripts(environment / "bin", version.name, class_path, jar.main_class)
        (environment / _POM).write_bytes(pom.read_bytes())
        digests = {each: _digest(environment / each) for each in (name, _POM)}
        record = {
            "groupId": version.namespace,
            "artifactId": version.name,
            "version": version.version,
            "classPath": class_path if is_jar else [],
            "files": digests | {f"lib/{each}": digest for each, digest in fetched.items()},
        }
        (environment / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return frozenset()

    def installed_version(self, environment: Path, version: NativeVersion) -> str:
        """What the record says, where every file still is what it says."""
        try:
            record = json.loads((environment / RECORD).read_bytes())
            is_it = (record["groupId"], record["artifactId"]) == (version.namespace, version.name)
            is_whole = all(_digest(environment / name) == wanted for name, wanted in record["files"].items())
            return str(record["version"]) if is_it and is_whole else ""
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return ""


def _extension(version: NativeVersion, file: Path) -> str:
    place = paths.parse(f"{version.namespace.replace('.', '/')}/{version.name}/{file.parent.name}/{file.name}")
    return place.extension if isinstance(place, paths.FilePath) else ""


def _gathered(wanted: Installation, pom: Path, java: str) -> dict[str, str]:
    """What the artifact needs, fetched into ``lib``: names in the order of the class path, with their SHA-256."""
    lib = wanted.environment / "lib"
    lib.mkdir()
    answer = wanted.scratch / "answer.json"
    arch = platform.machine()
    request = Request(
        wanted.version.namespace,
        wanted.version.name,
        wanted.version.version,
        str(pom),
        str(lib),
        str(answer),
        wanted.repository_url,
        wanted.authorities,
        Machine(java, os_arch={"x86_64": "amd64"}.get(arch, arch)),
    )
    told = wanted.scratch / "request.json"
    told.write_text(request.as_text(), encoding="utf-8")
    with wanted.secret_file(wanted.token) as path:
        argv = [sys.executable, "-I", "-m", "registry.formats.maven.gather", str(told), path]
        wanted.run(argv, {}, wanted.scratch)
    found: dict[str, str] = json.loads(answer.read_text(encoding="utf-8"))
    return found


def _java_version() -> str:
    """The version of the machine's Java, "" where it does not say so itself. Raises InstallFault without one."""
    home = os.environ.get("JAVA_HOME", "")
    program = shutil.which(f"{home}/bin/java" if home else "java")
    if program is None:
        raise InstallFault(f"there is no java on this machine{f' in JAVA_HOME ({home})' if home else ''}; install one")
    for folder in Path(program).resolve().parents[1:3]:
        try:
            found = _RELEASE.search((folder / "release").read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if found:
            return found[1]
    return ""


def _read(jar: Path) -> _Jar:
    """What the manifest says, and whether libraries are in the jar. Raises InstallFault."""
    try:
        with zipfile.ZipFile(jar) as archive:
            names = archive.namelist()
            manifest = archive.open(_MANIFEST).read(_MOST_MANIFEST) if _MANIFEST in names else b""
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise InstallFault(f"{jar.name} cannot be read: {error}") from error
    text = manifest.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").replace("\n ", "")
    # The attributes of the jar itself end with an empty line.
    said = dict(line.partition(":")[::2] for line in text.partition("\n\n")[0].split("\n"))
    main_class = said.get("Main-Class", "").strip()
    return _Jar(
        main_class if _NAME.match(main_class) else "",
        any(name.startswith("BOOT-INF/lib/") and name.endswith(".jar") for name in names),
    )


def _write_scripts(folder: Path, name: str, class_path: Sequence[str], main_class: str) -> None:
    folder.mkdir()
    scripts = {"java": _JAVA.format(class_path=":".join(f'"$here/{each}"' for each in class_path))}
    if main_class and name != "java":
        scripts[name] = _START.format(main_class=shlex.quote(main_class))
    for each, text in scripts.items():
        path = folder / each
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


INSTALLER = MavenInstaller()
