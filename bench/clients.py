"""Package clients run as a stranger to this machine: a home of their own, no cache, and none of its indexes.

An index that a client falls back to would hide a proxy's fault, and a cache would answer in its place.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from bench.load import Unusable
from bench.processes import Running, die_with_parent

SETS = Path(__file__).parent / "sets"
MEMORY = Path("/dev/shm")  # noqa: S108
LONGEST_INSTALL_SECONDS = 300
# Certificates of this machine stay: they say whom to trust, not what to install.
_KEPT = (
    "PATH", "LANG", "LC_ALL", "JAVA_HOME", "PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS", "HTTPS_PROXY",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where packages are installed from, one column of the tables. Without ``server`` it is not ours to measure."""

    name: str
    url: str
    server: Running | None = None
    user: str = ""
    password: str = ""

    @property
    def address(self) -> str:
        """The URL with the credential in it."""
        if not self.password:
            return self.url
        parts = urlsplit(self.url)
        credential = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return urlunsplit(parts._replace(netloc=f"{credential}@{parts.netloc}"))


def outside(name: str, address: str) -> Source:
    """A source that is reached over the network, by an address that may hold a credential."""
    parts = urlsplit(address)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return Source(name, bare, None, unquote(parts.username or ""), unquote(parts.password or ""))


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one run of a client: in memory where there is such a place.

    On a disk the second run of a client takes up to twice as long as the first (measured: pip 10 s after 6, for what the
    file system still does about the folder that was removed), and which proxy is measured when would decide.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as name:
        yield Path(name)


def run(command: Sequence[str | Path], home: Path, *, cwd: Path, more: Mapping[str, str] | None = None) -> float:
    """Seconds that a client took. Raises Unusable when it fails or does not end."""
    kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
    environment = kept | {"HOME": str(home), "TMPDIR": str(home)} | dict(more or {})
    name = Path(command[0]).name
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST_INSTALL_SECONDS,
            check=False,
            preexec_fn=die_with_parent,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unusable(f"{name}: {error}") from error
    elapsed = time.perf_counter() - start
    if done.returncode != 0:
        raise Unusable(f"{name}: {(done.stderr or done.stdout)[-500:]}")
    return elapsed
