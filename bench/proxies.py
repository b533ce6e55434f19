"""The peers as proxies in front of an upstream: devpi-server, proxpi and Verdaccio, each with what serves it best.

What an upstream has said stays good for half an hour with each of them, which is the default of the first two.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from bench import peers, toolbox
from bench.clients import Source
from bench.processes import Running, free_port, running
from bench.targets import HTML, Target

_VERDACCIO = """
storage: {folder}/storage
web: {{enable: false}}
auth: {{htpasswd: {{file: {folder}/htpasswd}}}}
uplinks: {{upstream: {{url: "{url}", maxage: 30m, timeout: 60s{auth}}}}}
packages: {{"@*/*": {rights}, "**": {rights}}}
max_body_size: 1gb
middlewares: {{audit: {{enabled: false}}}}
log: {{type: stdout, format: json, level: error}}
"""


@contextmanager
def devpi(folder: Path, cache: Path, upstream: str) -> Iterator[Source]:
    """devpi-server with a mirror index."""
    with peers.devpi(folder, cache, upstream) as target:
        yield Source("devpi", target.pages[HTML] or "", target.server)


@contextmanager
def proxpi(folder: Path, cache: Path, upstream: str) -> Iterator[Source]:
    """proxpi in one process with threads, as its makers advise: its processes would not share what they know."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "PROXPI_INDEX_URL": upstream,
        "PROXPI_CACHE_DIR": str(folder / "files"),
        "PROXPI_LOGGING_LEVEL": "WARNING",
        "ENTREPOT_SERVER_WORKERS": "1",
    }
    with peers.gunicorn(folder, toolbox.PROXPI.python(cache), "proxpi.server:app", settings) as (url, server):
        yield Source("proxpi", f"{url}/index/", server)


@contextmanager
def verdaccio(folder: Path, cache: Path, upstream: str) -> Iterator[Source]:
    """Verdaccio with one uplink."""
    with _verdaccio(folder, cache, upstream) as (url, server):
        yield Source("verdaccio", url, server)


@contextmanager
def verdaccio_alone(folder: Path, cache: Path) -> Iterator[Target]:
    """Verdaccio with its own packages only, which all may read and publish. Fresh, or started again."""
    with _verdaccio(folder, cache, "") as (url, server):
        yield Target("verdaccio", server, {}, base=url)


@contextmanager
def _verdaccio(folder: Path, cache: Path, upstream: str) -> Iterator[tuple[str, Running]]:
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    parts = urlsplit(upstream)
    url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) or "http://127.0.0.1:9/"
    rights = "{access: $all, publish: $all, unpublish: $all" + (", proxy: upstream}" if upstream else "}")
    text = _VERDACCIO.format(folder=folder, url=url, auth=_uplink_auth(upstream), rights=rights)
    (folder / "config.yaml").write_text(text)
    command = [*toolbox.VERDACCIO.command(cache), "--config", folder / "config.yaml", "--listen", f"127.0.0.1:{port}"]
    address = f"http://127.0.0.1:{port}/"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("VERDACCIO_")}
    with running(command, f"{address}-/ping", folder / "log", environment=environment, cwd=folder) as server:
        yield address, server


def _uplink_auth(address: str) -> str:
    """The credential in an upstream's address as an uplink has it: a bearer token where there is no user."""
    parts = urlsplit(address)
    if not parts.password:
        return ""
    if not parts.username:
        return f', auth: {{type: bearer, token: "{unquote(parts.password)}"}}'
    return f', headers: {{authorization: "{peers.basic(unquote(parts.username), unquote(parts.password))}"}}'
