"""Install, lock, and install again from the lock: each tool, privately and anonymously, with the upstream gone meanwhile."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.fakes.upstream import FaultyUpstream
from tests.harness import packages
from tests.harness.clients import BIN, Clients
from tests.harness.python_clients import CLIENTS_BIN
from tests.harness.server import Server

FILES = (packages.wheel("far", "1.0", requires=("away>=1",)), packages.wheel("away", "2.0"))


@pytest.fixture(scope="module")
def token(proxy: Server) -> str:
    return proxy.token("admin", "read")


@pytest.fixture(scope="module")
def opened(proxy: Server) -> str:
    """A repository that everybody may read, in front of the same upstream."""
    admin = {"Authorization": f"Bearer {proxy.token('admin')}"}
    made = {"name": "open", "upstreams": ["public"], "anonymousRead": True}
    url = f"{proxy.url}/api/v1/domains/default/repositories"
    assert requests.post(url, json=made, headers=admin, timeout=10).status_code == 201
    return "open"


@pytest.fixture
def stocked(upstream: FaultyUpstream):
    """The upstream with its packages; it listens again when the test is over."""
    for name, (filename, body) in zip(("far", "away"), FILES, strict=True):
        document = packages.metadata(name, body_version(filename), requires=("away>=1",) if name == "far" else ())
        upstream.add_project(name, {filename: body}, metadata={filename: document.encode()})
    yield upstream
    if upstream.is_refusing:
        upstream.accept()


def body_version(filename: str) -> str:
    return filename.split("-")[1]


@pytest.fixture(params=["private", pytest.param("anonymous", marks=pytest.mark.long)])
def index(request: pytest.FixtureRequest, proxy: Server, token: str, opened: str) -> tuple[str, dict[str, str]]:
    """The index's address without a credential, and the credential as user and password (empty for none)."""
    if request.param == "private":
        return proxy.index("dev"), {"user": "alice", "password": token}
    return proxy.index(opened), {}


def with_credential(url: str, credential: dict[str, str]) -> str:
    return url.replace("://", f"://{credential['user']}:{credential['password']}@") if credential else url


Index = tuple[str, dict[str, str]]


def both_are_in(home: Clients, python: Path) -> bool:
    done = home.run(str(python), "-c", "import far, away; print(far.__version__, away.__version__)").ok()
    return done.output == "1.0 2.0\n"


def pip_locks(home: Clients, folder: Path, index: Index) -> Callable[[], Path]:
    requirements = folder / "requirements.txt"
    compiled = home.run(
        str(BIN / "uv"), "pip", "compile", "-q", "--generate-hashes", "--default-index", with_credential(*index), "-",
        "-o", str(requirements),
        stdin="far\n",
    )  # fmt: skip
    compiled.ok()
    assert requirements.read_text().count("--hash=sha256:") == 2
    number = iter("12")

    def install() -> Path:
        target = folder / f"target-{next(number)}"
        home.run(
            str(BIN / "pip"), "install", "-q", "--no-cache-dir", "--require-hashes", "-r", str(requirements),
            "--target", str(target), "--index-url", with_credential(*index),
        ).ok()  # fmt: skip
        return home.shim(target)

    return install


def uv_locks(home: Clients, folder: Path, index: Index) -> Callable[[], Path]:
    url, credential = index
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["far"]\n'
        f'[[tool.uv.index]]\nname = "here"\nurl = "{url}"\ndefault = true\n'
    )
    secret = {}
    if credential:
        secret = {"UV_INDEX_HERE_USERNAME": credential["user"], "UV_INDEX_HERE_PASSWORD": credential["password"]}
    uv = {"cwd": folder, "UV_NO_CONFIG": "0", **secret}
    home.run(str(BIN / "uv"), "lock", "-q", **uv).ok()  # type: ignore[arg-type]
    assert "alice" not in (folder / "uv.lock").read_text()

    def install() -> Path:
        shutil.rmtree(folder / ".venv", ignore_errors=True)
        home.run(str(BIN / "uv"), "sync", "-q", "--locked", **uv).ok()  # type: ignore[arg-type]
        return folder / ".venv/bin/python"

    return install


def poetry_locks(home: Clients, folder: Path, index: Index) -> Callable[[], Path]:
    url, credential = index
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["far"]\n'
        f'[tool.poetry]\npackage-mode = false\n[[tool.poetry.source]]\nname = "here"\nurl = "{url}"\npriority = "primary"\n'
    )
    settings = {"POETRY_VIRTUALENVS_IN_PROJECT": "true", "POETRY_CACHE_DIR": str(home.home / "poetry")}
    if credential:
        settings |= {
            "POETRY_HTTP_BASIC_HERE_USERNAME": credential["user"],
            "POETRY_HTTP_BASIC_HERE_PASSWORD": credential["password"],
        }
    poetry = {"cwd": folder, **settings}
    home.run(str(BIN / "poetry"), "lock", "-n", **poetry).ok()  # type: ignore[arg-type]

    def install() -> Path:
        shutil.rmtree(folder / ".venv", ignore_errors=True)
        shutil.rmtree(home.home / "poetry", ignore_errors=True)
        home.run(str(BIN / "poetry"), "install", "-n", **poetry).ok()  # type: ignore[arg-type]
        return folder / ".venv/bin/python"

    return install


def pdm_locks(home: Clients, folder: Path, index: Index) -> Callable[[], Path]:
    url, credential = index
    place = with_credential(url, {"user": "${WHO}", "password": "${SECRET}"} if credential else {})
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["far"]\n'
        f'[tool.pdm]\ndistribution = false\n[[tool.pdm.source]]\nname = "pypi"\nurl = "{place}"\n'
    )
    secret = {"WHO": credential["user"], "SECRET": credential["password"]} if credential else {}
    pdm = {"cwd": folder, "PDM_CHECK_UPDATE": "0", "PDM_CACHE_DIR": str(home.home / "pdm"), **secret}
    home.run(str(CLIENTS_BIN / "pdm"), "lock", "-q", **pdm).ok()  # type: ignore[arg-type]

    def install() -> Path:
        shutil.rmtree(folder / ".venv", ignore_errors=True)
        shutil.rmtree(home.home / "pdm", ignore_errors=True)
        home.run(str(CLIENTS_BIN / "pdm"), "sync", "-q", **pdm).ok()  # type: ignore[arg-type]
        return folder / ".venv/bin/python"

    return install


TOOLS = {"pip": pip_locks, "uv": uv_locks, "poetry": poetry_locks, "pdm": pdm_locks}


# Poetry and PDM resolve and lock by the same pages and files; the first two show the most of it in less time.
@pytest.mark.parametrize(
    "tool", ["pip", "uv", *(pytest.param(each, marks=pytest.mark.long) for each in ("poetry", "pdm"))]
)
def test_what_was_installed_once_is_installed_again_from_the_lock_without_the_upstream(
    stocked: FaultyUpstream, index: Index, home: Clients, tmp_path: Path, tool: str
):
    folder = tmp_path / "app"
    folder.mkdir()
    install = TOOLS[tool](home, folder, index)
    assert both_are_in(home, install())
    stocked.refuse()
    assert both_are_in(home, install())
