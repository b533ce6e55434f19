"""The other columns: pypiserver, devpi-server (alone and behind nginx), nginx on finished files, a bare WSGI app.

Each runs with the settings that serve it best: pypiserver under our gunicorn settings with its own cache of digests,
devpi-server as ``devpi-init`` sets it up and with the nginx configuration that ``devpi-gen-config`` writes.
"""

from __future__ import annotations

import base64
import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import toolbox
from bench.fixtures import Distribution
from bench.load import Ask, Door
from bench.processes import Both, Running, free_port, loopback_session, running
from bench.targets import HTML, JSON, ROOT, Target, get

# Name → what has to be installed for it.
ALL: dict[str, tuple[toolbox.Tool, ...]] = {
    "bare wsgi": (),
    "nginx": (toolbox.NGINX,),
    "pypiserver": (toolbox.PYPISERVER,),
    "devpi": (toolbox.DEVPI,),
    "devpi + nginx": (toolbox.DEVPI, toolbox.NGINX),
    "proxpi": (toolbox.PROXPI,),
    "verdaccio": (toolbox.VERDACCIO,),
}
_PASSWORD = "bench-on-loopback"


def make_site(source: Target, files: list[Distribution], site: Path) -> None:
    """The pages and files as finished bytes: those that ``source`` answers, so that all serve the same."""
    for project in sorted({file.project for file in files}):
        for media, top in ((HTML, "html"), (JSON, "json")):
            page = site / top / "simple" / project / "index.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            ask = source.page(project, media)
            body = get(Ask(ask.url, {**ask.headers, "Accept-Encoding": "identity"})).content
            page.write_bytes(body)
            page.with_name("index.html.gz").write_bytes(gzip.compress(body, 5))
    for file in files:
        path = site / "html" / "files" / file.project / file.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.body)


def keep_answer(ask: Ask, site: Path, path: str) -> None:
    """What ``ask`` is answered, as finished bytes under the site's folder ``raw``."""
    body = get(Ask(ask.url, {**ask.headers, "Accept-Encoding": "identity"})).content
    file = site / "raw" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(body)
    if not path.endswith((".jar", ".tgz")):
        file.with_name(file.name + ".gz").write_bytes(gzip.compress(body, 5))


def basic(user: str, password: str) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _site_pages(url: str) -> dict[str, str | None]:
    return {HTML: f"{url}/html/simple/", JSON: f"{url}/json/simple/"}


_NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes auto; {user}
events {{ worker_connections 512; }}
http {{
    access_log off; sendfile on; tcp_nopush on; types {{ }} default_type application/octet-stream;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    client_max_body_size 0; keepalive_requests 1000000;
    server {{ listen 127.0.0.1:{port}; {server} }}
}}
"""
_STATIC = """
    root {site}; gzip_static on; index index.html;
    location /html/simple/ {{ default_type text/html; }}
    location /json/simple/ {{ default_type application/vnd.pypi.simple.v1+json; }}
"""
# The body of what devpi-gen-config writes.
_BEFORE_DEVPI = """
    gzip on; gzip_min_length 2000; gzip_proxied any;
    gzip_types application/json application/vnd.pypi.simple.v1+json;
    root {data};
    location ~ /\\+f/ {{
        error_page 418 = @app;
        if ($request_method !~ (GET)|(HEAD)) {{ return 418; }}
        expires max; try_files /+files$uri @app;
    }}
    location / {{ error_page 418 = @app; return 418; }}
    location @app {{
        proxy_pass {devpi}; proxy_read_timeout 60s;
        proxy_set_header X-outside-url $scheme://$http_host; proxy_set_header X-Real-IP $remote_addr;
    }}
"""


@contextmanager
def _nginx(folder: Path, server: str) -> Iterator[tuple[str, Running]]:
    folder.mkdir(parents=True)
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # root's cache folder is closed to the packaged user
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(folder=folder, port=port, user=user, server=server))
    command = ["nginx", "-p", str(folder), "-c", str(configuration)]
    with running(command, f"http://127.0.0.1:{port}/", folder / "log", cwd=folder) as process:
        yield f"http://127.0.0.1:{port}", process


@contextmanager
def nginx(folder: Path, site: Path) -> Iterator[Target]:
    """nginx on finished, precompressed pages and plain files."""
    with _nginx(folder, _STATIC.format(site=site)) as (url, server):
        yield Target("nginx", server, _site_pages(url), base=f"{url}/raw/")


@contextmanager
def gunicorn(folder: Path, python: Path | str, app: str, environment: dict[str, str]) -> Iterator[tuple[str, Running]]:
    """An application under the settings that Entrepot gives gunicorn."""
    port = free_port()
    settings = {"ENTREPOT_DATA": str(folder), "ENTREPOT_SERVER_BIND": f"127.0.0.1:{port}", "PYTHONPATH": str(ROOT)}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ENTREPOT_")}
    command = [python, "-m", "gunicorn", "-c", "python:config.gunicorn_conf", app]
    with running(
        command,
        f"http://127.0.0.1:{port}/",
        folder / "log",
        environment={**clean, **settings, **environment},
        cwd=folder,
    ) as server:
        yield f"http://127.0.0.1:{port}", server


@contextmanager
def bare_wsgi(folder: Path, site: Path) -> Iterator[Target]:
    """The HTTP server's own cost: ``bench.bare_app``."""
    uploads = folder / "uploads"
    uploads.mkdir(parents=True)
    environment = {"BENCH_SITE": str(site), "BENCH_UPLOADS": str(uploads)}
    with gunicorn(folder, sys.executable, "bench.bare_app:app", environment) as (url, server):
        yield Target("bare wsgi", server, _site_pages(url), door=Door(f"{url}/"), base=f"{url}/raw/")


@contextmanager
def pypiserver(folder: Path, cache: Path) -> Iterator[Target]:
    """pypiserver without passwords, with its cached-dir backend. Fresh, or started again."""
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    app = f"pypiserver:app(roots=[{str(packages)!r}], password_file='.', authenticate=[], backend_arg='cached-dir')"
    with gunicorn(folder, toolbox.PYPISERVER.python(cache), app, {}) as (url, server):
        simple = f"{url}/simple/"
        yield Target("pypiserver", server, {HTML: simple, JSON: simple}, door=Door(f"{url}/"))


@contextmanager
def devpi(folder: Path, cache: Path, mirror_url: str | None = None) -> Iterator[Target]:
    """devpi-server with the index ``root/bench``: its own, or a mirror of another index. Fresh, or started again."""
    data, port = folder / "data", free_port()
    url = f"http://127.0.0.1:{port}"
    is_new = not data.exists()
    if is_new:
        folder.mkdir(parents=True)
        initialise: list[str | Path] = [toolbox.DEVPI.program(cache, "devpi-init"), "--serverdir", data]
        initialise += ["--no-root-pypi", "--root-passwd", _PASSWORD]
        subprocess.run(initialise, check=True, capture_output=True, timeout=120)
    command: list[str | Path] = [
        toolbox.DEVPI.program(cache, "devpi-server"),
        "--serverdir",
        data,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with running(command, f"{url}/+api", folder / "log", cwd=folder) as server:
        simple = f"{url}/root/bench/+simple/"
        token = _devpi_index(url, mirror_url, is_new=is_new)
        yield Target("devpi", server, {HTML: simple, JSON: simple}, door=Door(f"{url}/root/bench/", "root", token))


def _devpi_index(url: str, mirror_url: str | None, *, is_new: bool) -> str:
    """Make the index unless it is there; returns a token to upload with: a password would cost each upload its hash."""
    with loopback_session() as session:
        session.headers["Accept"] = "application/json"
        answer = session.post(f"{url}/+login", json={"user": "root", "password": _PASSWORD}, timeout=60)
        answer.raise_for_status()
        token: str = answer.json()["result"]["password"]
        index = {"type": "stage", "bases": [], "volatile": True}
        if mirror_url is not None:
            # Without the list of all projects: loading it is no part of an install.
            index = {"type": "mirror", "mirror_url": mirror_url, "mirror_no_project_list": True}
        if is_new:
            session.put(f"{url}/root/bench", json=index, auth=("root", token), timeout=60).raise_for_status()
    return token


@contextmanager
def devpi_behind_nginx(folder: Path, data: Path, behind: Target) -> Iterator[Target]:
    """The same devpi-server through nginx, which serves the files itself; figures are of both."""
    base = (behind.pages[HTML] or "").partition("/root/")[0]
    with _nginx(folder, _BEFORE_DEVPI.format(data=data, devpi=base)) as (url, server):
        simple = f"{url}/root/bench/+simple/"
        yield Target("devpi + nginx", Both(server, behind.server), {HTML: simple, JSON: simple})
