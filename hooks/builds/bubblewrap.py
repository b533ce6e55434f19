"""The command line of a sandbox: what a build sees of the machine. What is not listed here it does not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hooks.builds import inside

USER_INSIDE = 1000
HOSTNAME = "build"
ASSETS_DIR = str(inside.ASSETS)
SOURCE_DIR = str(inside.SOURCE)
HOME_DIR = str(inside.HOME)
PATH = f"{HOME_DIR}/.local/bin:{inside.BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RUNNER = "/entrepot/lib/inside.py"
INTERPRETER = "/usr/bin/python3"

# Never /etc as a whole: what is readable there on a careless machine would be readable for every build.
SYSTEM_FILES = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/mime.types",
)
OWN_FILES = {
    "passwd": f"root:x:0:0::/nonexistent:/usr/sbin/nologin\nbuild:x:{USER_INSIDE}:{USER_INSIDE}::{HOME_DIR}:/bin/sh\n",
    "group": f"root:x:0:\nbuild:x:{USER_INSIDE}:\n",
    "hosts": f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost\n",
    "resolv.conf": "",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things of one sandbox lie on the worker's machine, and how large its writable places may grow (bytes)."""

    library_dir: Path
    etc_dir: Path
    assets_dir: Path
    network_dir: Path | None
    workspace_bytes: int
    tmp_bytes: int
    readonly_paths: Sequence[str] = ()


def command(layout: Layout, *, seccomp_descriptor: int | None, root: Path = Path("/")) -> list[str]:
    """The arguments of ``bwrap``. ``root`` is where the machine's system directories are looked up."""
    arguments = [
        "bwrap",
        "--unshare-all",
        "--unshare-user",
        "--disable-userns",
        "--new-session",
        "--die-with-parent",
        "--clearenv",
        "--cap-drop",
        "ALL",
        *("--uid", str(USER_INSIDE), "--gid", str(USER_INSIDE), "--hostname", HOSTNAME),
        *_system(root),
        *("--proc", "/proc", "--dev", "/dev"),
        *_scratch("/dev/shm", layout.tmp_bytes),  # noqa: S108 - a path inside the sandbox
        *("--remount-ro", "/dev"),
    ]
    for name in OWN_FILES:
        arguments += ["--ro-bind", str(layout.etc_dir / name), f"/etc/{name}"]
    arguments += _scratch("/tmp", layout.tmp_bytes)  # noqa: S108 - a path inside the sandbox
    for path in (*SYSTEM_FILES, *layout.readonly_paths):  # which may lie below /tmp
        arguments += ["--ro-bind-try", path, path]
    arguments += ["--ro-bind", str(layout.library_dir), "/entrepot/lib"]
    arguments += ["--ro-bind", str(layout.assets_dir), ASSETS_DIR]
    if layout.network_dir is not None:
        arguments += ["--ro-bind", str(layout.network_dir), "/entrepot/net"]
    arguments += ["--size", str(layout.workspace_bytes), "--tmpfs", str(inside.ROOT), "--chdir", str(inside.ROOT)]
    # Last: bubblewrap's own root is a tmpfs without a size.
    arguments += ["--remount-ro", "/"]
    if seccomp_descriptor is not None:
        arguments += ["--seccomp", str(seccomp_descriptor)]
    return [*arguments, INTERPRETER, "-I", "-S", RUNNER]


def _system(root: Path) -> list[str]:
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = root / name
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), f"/{name}"]
        elif path.is_dir():
            arguments += ["--ro-bind", f"/{name}", f"/{name}"]
    return arguments


def _scratch(path: str, size_bytes: int) -> list[str]:
    # Without a size a tmpfs may grow to half of the machine's memory.
    return ["--perms", "1777", "--size", str(size_bytes), "--tmpfs", path]
