"""B5, B6, B8: what the code never does with what others send: run it, unpickle it, fill it into templates, or be slow at it."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from registry.pages import render_page
from tests.functional.api_world import World

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("config", "hooks", "registry", "storage")
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "jsonpickle", "cloudpickle", "xml.sax", "xml.dom", "lxml"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "render_template_string",
    "os.system",
    "os.popen",
    "tarfile.extractall",
    "extractall",
    "unpack_archive",
    "mktemp",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "tempfile.mktemp",
}
# ``from_string`` makes a template out of a text; ``extract`` writes what an archive names.
FORBIDDEN_METHODS = {"extractall", "from_string"}


# They name the classes that defusedxml's parser calls; the parser itself is defusedxml's (B4).
READERS = {"registry/formats/maven/xml_reader.py", "registry/formats/maven/settings_file.py"}


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text("utf-8"))


def offences(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if _is_forbidden_module(name.name))
        elif isinstance(node, ast.ImportFrom) and node.module and _is_forbidden_module(node.module):
            yield node.module
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in FORBIDDEN_CALLS or called.rpartition(".")[2] in FORBIDDEN_METHODS:
                yield called
            if any(word.arg == "shell" and ast.unparse(word.value) != "False" for word in node.keywords):
                yield f"{called}(shell=…)"


def _is_forbidden_module(name: str) -> bool:
    if name == "xml.sax.saxutils":  # writes, and reads nothing
        return False
    return any(name == module or name.startswith(f"{module}.") for module in FORBIDDEN_MODULES)


def test_B5_B6_no_code_runs_or_revives_what_others_sent() -> None:
    found = {(str(path.relative_to(ROOT)), offence) for path, tree in sources() for offence in offences(tree)}
    assert {entry for entry in found if not (entry[0] in READERS and entry[1].startswith("xml.sax"))} == set()


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "eval(x)",
        "yaml.load(text)",
        "tar.extractall(place)",
        "environment.from_string(text)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_B6_negative_control_each_would_be_found(text: str) -> None:
    assert list(offences(ast.parse(text)))


def test_B5_texts_are_values_of_templates(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.app.test_request_context("/"):
        page = render_page(404, "{{ 7*7 }} ${7*7} #set($x=1) {% import os %} %s <svg onload=alert(1)>")
    world.close()
    assert "{{ 7*7 }} ${7*7} #set($x=1) {% import os %} %s &lt;svg onload=alert(1)&gt;" in page


# --- B8 --------------------------------------------------------------------------------------------------------------

LENGTH = 3_000
PIECES = (
    "a",
    "A",
    "1",
    "0",
    ".",
    "-",
    "_",
    "/",
    " ",
    "\t",
    "=",
    "%",
    "*",
    '"',
    "'",
    "(",
    "<",
    "\\",
    "a.",
    "1.",
    "a-",
    "a/",
    "é",
    "a1_",
)
TAILS = ("", "!", "\n", "\0")
LIMIT_SECONDS = 0.4


def patterns() -> dict[str, re.Pattern[str]]:
    """Every pattern of the product that is made when its module is imported, by its text."""
    found: dict[str, re.Pattern[str]] = {}
    for module in modules():
        for value in vars(module).values():
            if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
                found.setdefault(value.pattern, value)
    return found


def modules() -> Iterator[ModuleType]:
    for package in PACKAGES:
        for info in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            if "migrations" not in info.name and info.name not in {"config.gunicorn_conf", "config.wsgi"}:
                yield importlib.import_module(info.name)


class TooSlowError(Exception):
    """A match took longer than it may."""


def _give_up(_signal: int, _frame: object) -> None:
    raise TooSlowError


def is_slow(pattern: re.Pattern[str]) -> bool:
    """Whether one of the evil texts, by any way of matching, takes longer than the limit (processor time)."""
    before = signal.signal(signal.SIGVTALRM, _give_up)  # sre looks for signals while it matches
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_SECONDS)
    try:
        for piece in PIECES:
            for tail in TAILS:
                text = (piece * LENGTH)[:LENGTH] + tail
                for way in (pattern.match, pattern.fullmatch):
                    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_SECONDS)
                    way(text)
    except TooSlowError:
        return True
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return False


def test_B8_no_pattern_can_be_made_slow() -> None:
    known = patterns()
    assert len(known) > 50
    slow = {text for text, pattern in known.items() if is_slow(pattern)}
    assert slow == set()


def test_B8_negative_control_a_quadratic_pattern_is_found() -> None:
    assert is_slow(re.compile(r"(?:a|aa)+b"))
    assert is_slow(re.compile(r"[a ]*a*[a ]*b"))
    assert not is_slow(re.compile(r"a*b"))
