"""The rules of the house that the import linter cannot see."""

import ast
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("config", "hooks", "registry", "storage")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST_FUNCTION_LINES = 60


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def code_of(path: Path) -> str:
    """A module's text without comments and docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body
            if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                node.body = body[1:] or [ast.Pass()]
    return ast.unparse(tree)


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if "registry/formats" not in str(p) and "migrations" not in str(p)], ids=names
)
def test_only_formats_name_a_format(path: Path):
    assert not re.search(r"\b(pypi|npm|maven)\b", code_of(path), re.IGNORECASE), "formats are named in formats/ only"


def test_templates_name_no_format():
    for path in [*ROOT.glob("registry/pages/templates/*.html"), *ROOT.glob("hooks/pages/templates/*.html")]:
        assert not re.search(r"\b(pypi|npm|maven)\b", path.read_text(), re.IGNORECASE), names(path)


def test_no_function_is_longer_than_sixty_lines():
    long = [
        f"{names(path)}:{node.lineno} {node.name}"
        for path in SOURCES
        if "migrations" not in str(path)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION_LINES
    ]
    assert long == []


def test_flask_globals_are_touched_in_one_place():
    users = [names(path) for path in SOURCES if re.search(r"\bcurrent_app\b", code_of(path))]
    assert users == ["registry/http/context.py"]


def test_dangerous_calls_are_absent():
    forbidden = re.compile(
        r"\bpickle\b|\bmarshal\b|\bshelve\b|yaml\.load\(|(?<![\w.])eval\(|(?<![\w.])exec\(|extractall\(|unpack_archive"
        r"|shell=True|tempfile\.mktemp|autoescape=False"
    )
    found = [f"{names(path)}: {match.group()}" for path in SOURCES for match in forbidden.finditer(code_of(path))]
    assert found == []


def test_client_commands_import_no_server():
    script = (
        "import sys; import config.cli.main as m; import click\n"
        "ctx = click.Context(m.main)\n"
        "[m.main.get_command(ctx, n) for n in ('login', 'package', 'repo', 'pipeline', 'build', 'token')]\n"
        "print(sorted({'flask', 'sqlalchemy', 'gunicorn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_wheel_holds_exactly_the_four_packages(tmp_path: Path):
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(tmp_path),
            str(ROOT),
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        members = archive.namelist()
    tops = {name.split("/")[0] for name in members}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert any(name.endswith("layout.html") for name in members)
    assert "config/entrepot.example.toml" in members


def client_registries(folder: Path) -> Iterator[str]:
    """The public registries as the clients and libraries on this machine know them, their configuration left out."""
    from pip._internal.models import index
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    yield from (PYPI_SIMPLE_ENDPOINT, index.PyPI.url, f"//{index.PyPI.file_storage_domain}/")
    npm, mvn = shutil.which("npm"), shutil.which("mvn")
    if npm is not None:
        files = {f"npm_config_{name}": str(folder / name) for name in ("userconfig", "globalconfig")}
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **files}
        command = [npm, "config", "get", "registry"]
        asked = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        yield asked.stdout.strip()
    if mvn is not None:
        for jar in (Path(mvn).resolve().parents[1] / "lib").glob("maven-model-builder*.jar"):
            with zipfile.ZipFile(jar) as archive:
                model = archive.read("org/apache/maven/model/pom-4.0.0.xml").decode()
            yield from re.findall(r"<url>(.*?)</url>", model)
    if importlib.util.find_spec("packageurl") is not None:
        from packageurl.contrib.purl2url import get_download_url

        yield from filter(None, map(get_download_url, ("pkg:npm/a@1", "pkg:maven/b/a@1", "pkg:pypi/a@1")))


def test_no_public_registry_host_is_written_down(tmp_path: Path):
    """Hosts are learned from the clients and libraries that carry them, so that none stands here either."""
    hosts = {urlsplit(address).hostname or address for address in client_registries(tmp_path)}
    assert len(hosts) >= 2
    assert all("." in host for host in hosts), hosts
    written = re.compile("|".join(map(re.escape, sorted(hosts))))
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    files = [ROOT / name for name in tracked.split("\0") if name] or [p for p in ROOT.rglob("*") if p.is_file()]
    for path in files:
        if path.is_file() and path.suffix not in {".png", ".ico"}:
            found = written.search(path.read_text(errors="replace"))
            assert found is None, f"{found.group()} stands in {names(path)}"
