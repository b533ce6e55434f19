"""pip installing an application with its dependencies: straight from upstream, and through each proxy, cold and warm.

"Cold" is a server that has never been asked, "warm" the same one asked again. pip itself has no cache, installs into an
empty folder each time, and sees nothing of this machine's own indexes: one it falls back to would hide a proxy's fault.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench import peers
from bench.load import Sample, Unusable
from bench.targets import HTML, entrepot
from bench.workloads import Workload
from registry.formats.pypi.default_upstream import default_upstream_url

PROJECT = "flask"
TITLE = f"pip install {PROJECT}"
NO_PROXY = "no proxy"
WARM_RUNS = 3
SETTLE_SECONDS = 3.0


def _unused(*_: object) -> Sample:
    raise Unusable("measured apart")


ROWS = tuple(
    Workload(f"install-{name}", f"{TITLE}, {name} proxy", "s", _unused, is_lower_better=True)
    for name in ("cold", "warm")
)


def install(pip_python: Path, index_url: str) -> float:
    """Seconds of one installation. Raises Unusable when pip fails."""
    with tempfile.TemporaryDirectory() as folder:
        # Certificates of this machine stay: they say whom to trust, not what to install.
        kept = ("PATH", "LANG", "LC_ALL", "TMPDIR", "PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY")
        environment = {key: os.environ[key] for key in kept if key in os.environ}
        environment |= {
            "HOME": folder,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
        }
        command = [str(pip_python), "-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-compile"]
        command += ["--ignore-installed", "--target", f"{folder}/target", "--index-url", index_url, PROJECT]
        start = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        elapsed = time.perf_counter() - start
        if done.returncode != 0:
            raise Unusable(f"pip: {(done.stderr or done.stdout)[-300:]}")
        return elapsed


def measure(
    folder: Path, binaries: Path, wanted: tuple[str, ...], number: int
) -> Iterator[tuple[str, str, Sample | Unusable]]:
    """Round ``number``, as (row, column, sample): fresh servers in turn, first cold, then warm."""
    python = binaries / "python"
    upstream = default_upstream_url(lambda _: False)
    straight = _tried(python, upstream, 1)
    yield from ((row.name, NO_PROXY, straight) for row in ROWS)
    with ExitStack() as stack:
        server = stack.enter_context(entrepot(folder / "entrepot"))
        proxies = [("entrepot, token", server.index(credential=server.token))]
        if "devpi" in wanted:
            target = stack.enter_context(peers.devpi(folder / "devpi", binaries, upstream))
            proxies.append(("devpi", target.pages[HTML] or ""))
        time.sleep(SETTLE_SECONDS)  # what a server does at its start is not what an install waits for
        for row, times in zip(ROWS, (1, WARM_RUNS), strict=True):
            for column, url in proxies[:: 1 if number % 2 == 0 else -1]:
                yield row.name, column, _tried(python, url, times)


def _tried(python: Path, url: str, times: int) -> Sample | Unusable:
    """The median of ``times`` installs."""
    try:
        return Sample(median(install(python, url) for _ in range(times)))
    except Unusable as error:
        return error
