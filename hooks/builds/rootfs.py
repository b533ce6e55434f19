"""Root file systems for build images, made on a Debian machine without any container registry.

Either by ``debootstrap`` from the mirror that the machine itself uses, or out of the packages that are installed on it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hooks.builds.executor import ExecutorError

BASE = (
    *("base-files", "bash", "ca-certificates", "coreutils", "dash", "diffutils", "findutils", "git", "grep", "gzip"),
    *(
        "hostname",
        "libc-bin",
        "mawk",
        "ncurses-base",
        "procps",
        "python3",
        "sed",
        "tar",
        "unzip",
        "util-linux",
        "xz-utils",
    ),
)
# Links that Debian keeps outside of packages, and what the packages' scripts have made.
_EXTRA_TREES = ("/etc/alternatives", "/etc/ssl/certs")
_EXTRA_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/localtime")
_LEFT_OUT = re.compile(
    r"/(?:usr/share/(?:doc|man|info|locale|lintian|bash-completion)|var|boot|run|proc|sys|dev)(?:/|\Z)"
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TOP = {
    **dict.fromkeys(("usr", "etc", "run", "var"), 0o755),
    **dict.fromkeys(("tmp", "var/tmp"), 0o1777),
    "root": 0o700,
}
_SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d")


# --- with debootstrap


def mirror(read: Callable[[Path], str] = lambda path: path.read_text(errors="replace")) -> tuple[str, str]:
    """Suite and address of the archive that this machine installs from. Raises ExecutorError."""
    release = dict(re.findall(r'(?m)^([A-Z_]+)="?([^"\n]*)', read(Path("/etc/os-release"))))
    suite = release.get("VERSION_CODENAME", "")
    for place in map(Path, _SOURCES):
        files = sorted(place.iterdir()) if place.is_dir() else [place] if place.exists() else []
        for file in files:
            if file.suffix in {".list", ".sources"}:
                found = _address(read(file), suite)
                if found:
                    return suite, found
    raise ExecutorError("this machine's package sources name no archive of its own release")


def _address(text: str, suite: str) -> str:
    line = re.search(rf"(?m)^deb\s+(?:\[[^\]\n]*\]\s+)?(\S+)\s+{re.escape(suite)}\s", text)
    if line:
        return str(line[1])
    for paragraph in re.split(r"\n\s*\n", text):
        fields = {name.lower(): value for name, value in re.findall(r"(?m)^([A-Za-z-]+):[ \t]*(.*)$", paragraph)}
        if suite in fields.get("suites", "").split() and fields.get("enabled", "yes") != "no":
            return str((fields.get("uris", "").split() or [""])[0])
    return ""


def bootstrap(packages: Iterable[str], file: BinaryIO, say: Callable[[str], object]) -> None:
    """Write a tar of a fresh system with ``packages`` to ``file``. Raises ExecutorError."""
    suite, address = mirror()
    with tempfile.TemporaryDirectory(prefix="entrepot-image-", dir="/var/tmp") as place:
        root = Path(place, "root")
        included = f"--include={','.join(packages)}"
        say(f"debootstrap {suite} from {address}")
        command = ["debootstrap", "--variant=minbase", included, suite, str(root), address]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-3:]
            raise ExecutorError(f"debootstrap failed: {' / '.join(last)}")
        shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
        with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            archive.add(root, arcname=".", filter=lambda entry: None if entry.isdev() else entry)


# --- out of this machine's own packages


def pack_installed(packages: Mapping[str, str], file: BinaryIO, say: Callable[[str], object]) -> None:
    """Write a tar of the installed ``packages`` (package → its program, "" for none) and what they depend on to ``file``.

    Where a package is not installed but its program is there, the package that owns that is taken, or the program
    itself with its library. A configuration file that somebody has changed stays out: there may be a password in it.
    Raises ExecutorError.
    """
    if shutil.which("dpkg-query") is None:
        raise ExecutorError("images are made of Debian packages, and dpkg-query is not installed here")
    known = _installed()
    present: list[str] = []
    trees: list[str] = list(_EXTRA_TREES)
    for name, wanted in packages.items():
        # Not the PATH of whoever calls: what lies in somebody's home no build could reach.
        program = shutil.which(wanted, path=PATH) if wanted else None
        real = os.path.realpath(program) if program else ""
        owner = name if name in known.depends or name in known.provides else _owner(real)
        if owner:
            present.append(owner)
        elif program:
            trees += [program, real]
        else:
            raise ExecutorError(
                f"{name} is not installed on this machine; install it, or make the image by debootstrap"
            )
        # Such a program may have renewed itself: what belongs to its package is not all there is then.
        trees += re.findall(r"\A(.*/node_modules/[^/]+)/", real)
    closure = _closure(present, known)
    say(f"{len(closure)} packages of this machine")
    paths = _files_of(closure, known.changed, say)
    for tree in trees:
        paths.update(_below(tree))
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        _skeleton(archive)
        for path in sorted(paths):
            name = path.lstrip("/")
            if name not in _TOP:
                archive.add(path, arcname=name, recursive=False, filter=_plain)


@dataclass(frozen=True, slots=True)
class _Installed:
    depends: Mapping[str, Sequence[Sequence[str]]]
    provides: Mapping[str, str]
    changed: frozenset[str]


def _owner(path: str) -> str:
    """The package that a file belongs to, "" when it belongs to none."""
    if not path:
        return ""
    done = subprocess.run(["dpkg-query", "-S", path], capture_output=True, text=True, errors="replace", check=False)
    return done.stdout.split(":")[0].strip() if done.returncode == 0 else ""


def _installed() -> _Installed:
    form = "${Package}\\t${db:Status-Status}\\t${Pre-Depends}, ${Depends}\\t${Provides}"
    depends: dict[str, Sequence[Sequence[str]]] = {}
    provides: dict[str, str] = {}
    for line in _ask("dpkg-query", "-W", "-f", form + "\\n").splitlines():
        name, status, needs, gives = (*line.split("\t"), "", "", "")[:4]
        if status != "installed":
            continue
        depends[name] = [list(_names(group.split("|"))) for group in needs.split(",")]
        provides.update(dict.fromkeys(_names(gives.split(",")), name))
    changed = {
        path
        for path, digest in re.findall(
            r"(?m)^ (/\S+) ([0-9a-f]{32})\b", _ask("dpkg-query", "-W", "-f", "${Conffiles}\\n")
        )
        if _digest(path) != digest
    }
    return _Installed(depends, provides, frozenset(changed))


def _digest(path: str) -> str:
    try:
        return hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest()
    except OSError:
        return ""


def _names(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        name = text.strip().split(" ")[0].split(":")[0]
        if name:
            yield name


def _closure(wanted: Sequence[str], known: _Installed) -> list[str]:
    found: dict[str, None] = {}
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        name = name if name in known.depends else known.provides.get(name, "")
        if not name or name in found:
            continue
        found[name] = None
        for choices in known.depends[name]:
            waiting += [each for each in choices if each in known.depends or each in known.provides][:1]
    return list(found)


def _files_of(packages: Sequence[str], changed: frozenset[str], say: Callable[[str], object]) -> set[str]:
    paths: set[str] = set()
    for listed in _ask("dpkg-query", "-L", *packages).splitlines():
        if not listed.startswith("/") or listed == "/.":
            continue
        # Packages still name /bin/sh where /bin is a link; the archive's links are made once, at the top.
        path = os.path.join(os.path.realpath(os.path.dirname(listed)), os.path.basename(listed))  # noqa: PTH118, PTH119, PTH120
        if (
            _LEFT_OUT.match(path)
            or not os.path.lexists(path)
            or (Path(path).parent == Path("/") and Path(path).is_symlink())
        ):
            continue
        if listed in changed:
            say(f"left out, for it was changed: {listed}")
            continue
        paths.add(path)
        if path.endswith(".py"):
            paths.update(map(str, Path(path).parent.glob(f"__pycache__/{Path(path).stem}.*.pyc")))
    alternatives = (str(path) for path in Path("/usr/bin").iterdir() if path.is_symlink())
    paths.update(path for path in alternatives if str(Path(path).readlink()).startswith("/etc/alternatives/"))
    return paths | {path for path in _EXTRA_FILES if Path(path).exists()}


def _below(tree: str) -> Iterator[str]:
    """A file, or a directory with everything in it."""
    if os.path.lexists(tree):
        yield tree
    if not os.path.islink(tree):  # noqa: PTH114
        for directory, directories, files in os.walk(tree):
            yield from (os.path.join(directory, name) for name in (*directories, *files))  # noqa: PTH118


def _skeleton(archive: tarfile.TarFile) -> None:
    for name, mode in _TOP.items():
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        archive.addfile(entry)
    for path in Path("/").iterdir():
        if path.is_symlink() and path.name in {"bin", "sbin", "lib", "lib32", "lib64", "libx32"}:
            entry = tarfile.TarInfo(path.name)
            entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
            archive.addfile(entry)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Root's, without set-user-id, and nothing that others may not read: that is somebody's secret."""
    if entry.isdev() or not (entry.issym() or entry.islnk() or entry.mode & 0o004):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode &= 0o1777
    return entry


def _ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode and not done.stdout:
        raise ExecutorError(f"{command[0]}: {done.stderr.strip()[:500]}")
    return done.stdout
