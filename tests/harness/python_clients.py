"""The tools with which Python projects are published, each as its documentation says; all get the same project."""

from collections.abc import Callable, Mapping
from pathlib import Path

import requests

from tests.harness import packages
from tests.harness.clients import BIN, Clients, Done
from tests.harness.server import Server

CLIENTS_BIN = BIN / "../clients/bin"  # tools whose dependencies contradict the server's


def project(folder: Path, name: str, version: str, metadata_version: str = "2.1") -> Path:
    """A project with its built distributions in ``dist/``, as any of the tools would have left it."""
    module = name.replace("-", "_")
    fields = (f"Import-Name: {module}",) if metadata_version == packages.METADATA_25 else ()
    made = {"metadata_version": metadata_version, "fields": fields}
    packages.save(
        folder / "dist",
        packages.wheel(name, version, **made),  # type: ignore[arg-type]
        packages.sdist(name, version, **made),  # type: ignore[arg-type]
    )
    (folder / f"{module}.py").write_text(f'"""The {name} package."""\n__version__ = "{version}"\n')
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"\n\n'
        f'[project]\nname = "{name}"\nversion = "{version}"\ndescription = "The {name} package"\n'
        f'requires-python = ">=3.8"\nauthors = [{{name = "A", email = "a@example.org"}}]\n'
        f'[tool.flit.module]\nname = "{module}"\n'
    )
    return folder


def twine(home: Clients, folder: Path, url: str, token: str) -> Done:
    return home.twine(url, token, *sorted((folder / "dist").iterdir()))


def uv(home: Clients, folder: Path, url: str, token: str) -> Done:
    return home.uv_publish(url, token, *sorted((folder / "dist").iterdir()))


def poetry(home: Clients, folder: Path, url: str, token: str) -> Done:
    return home.run(
        str(BIN / "poetry"), "publish", "-n", "-r", "here",
        cwd=folder,
        POETRY_REPOSITORIES_HERE_URL=url,
        POETRY_HTTP_BASIC_HERE_USERNAME="__token__",
        POETRY_HTTP_BASIC_HERE_PASSWORD=token,
        POETRY_VIRTUALENVS_CREATE="false",
    )  # fmt: skip


def hatch(home: Clients, folder: Path, url: str, token: str) -> Done:
    return home.run(str(CLIENTS_BIN / "hatch"), "publish", "-n", "-r", url, "-u", "__token__", "-a", token, cwd=folder)


def flit(home: Clients, folder: Path, url: str, token: str) -> Done:
    """It always builds by itself, with the date given the same bytes each time."""
    return home.run(
        str(CLIENTS_BIN / "flit"), "publish",
        cwd=folder,
        FLIT_INDEX_URL=url, FLIT_USERNAME="__token__", FLIT_PASSWORD=token,
        SOURCE_DATE_EPOCH="1577836800",
    )  # fmt: skip


def pdm(home: Clients, folder: Path, url: str, token: str) -> Done:
    return home.run(
        str(CLIENTS_BIN / "pdm"), "publish", "--no-build", "-r", url, "-u", "__token__", "-P", token,
        cwd=folder,
        PDM_CHECK_UPDATE="0",
    )  # fmt: skip


Uploader = Callable[[Clients, Path, str, str], Done]
UPLOADERS: Mapping[str, Uploader] = {
    "twine": twine, "uv": uv, "poetry": poetry, "hatch": hatch, "flit": flit, "pdm": pdm,
}  # fmt: skip


def post(
    server: Server,
    token: str,
    filename: str,
    body: bytes,
    name: str,
    version: str,
    more: Mapping[str, str] | None = None,
    *,
    repository: str = "dev",
) -> requests.Response:
    """One upload of a wheel or sdist without a tool, with further form fields."""
    is_wheel = filename.endswith(".whl")
    form = {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "name": name,
        "version": version,
        "filetype": "bdist_wheel" if is_wheel else "sdist",
        "pyversion": "py3" if is_wheel else "source",
        "sha256_digest": packages.sha256(body),
        **(more or {}),
    }
    return requests.post(
        server.index(repository, simple=False),
        data=form,
        files={"content": (filename, body)},
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    )
