"""Client configuration: what is written, what is kept, and that the real pip, uv and twine take it."""

import configparser
import netrc
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.client_files import set_ini, set_netrc, set_toml_index
from registry.errors import Invalid
from registry.format import LoginTarget
from registry.formats.pypi.login import TOOLS
from tests.unit.formats.pypi.forge import WHEEL, wheel

BIN = Path(sys.executable).parent
TOKEN = "ent_0123456789"
TARGET = LoginTarget("https://registry.invalid/pypi/default/dev/", "alice", TOKEN)


def plan(tool: str, target: LoginTarget = TARGET, **existing: str | None) -> dict[str, str]:
    """New texts by file name; ``existing`` by file name with ``_`` for the dot."""
    home = Path("/home/alice")
    paths = TOOLS[tool].files(home, {})
    texts = {path: existing.get(path.name.replace(".", "_")) for path in paths}
    return {path.name: text for path, text in TOOLS[tool].plan(texts, target).items()}


# Where the files are.


@pytest.mark.skipif(sys.platform != "linux", reason="the paths of Linux")
@pytest.mark.parametrize(
    ("tool", "env", "paths"),
    [
        ("pip", {}, ["/h/.config/pip/pip.conf", "/h/.netrc"]),
        ("pip", {"XDG_CONFIG_HOME": "/x"}, ["/x/pip/pip.conf", "/h/.netrc"]),
        ("pip", {"PIP_CONFIG_FILE": "/p/own.conf", "NETRC": "/n"}, ["/p/own.conf", "/n"]),
        ("pip", {"PIP_CONFIG_FILE": os.devnull}, ["/h/.config/pip/pip.conf", "/h/.netrc"]),
        ("uv", {}, ["/h/.config/uv/uv.toml", "/h/.netrc"]),
        ("uv", {"UV_CONFIG_FILE": "/u/own.toml"}, ["/u/own.toml", "/h/.netrc"]),
        ("twine", {"XDG_CONFIG_HOME": "/x"}, ["/h/.pypirc"]),
    ],
)
def test_files(tool: str, env: dict[str, str], paths: list[str]) -> None:
    assert TOOLS[tool].files(Path("/h"), env) == [Path(path) for path in paths]


# What is written.


def test_pip_from_nothing() -> None:
    assert plan("pip") == {
        "pip.conf": "[global]\nindex-url = https://registry.invalid/pypi/default/dev/simple/\n",
        ".netrc": f"machine registry.invalid login alice password {TOKEN}\n",
    }


def test_pip_keeps_everything_else() -> None:
    before = (
        "# mine\n[global]\ntimeout = 60\nIndex_URL =\n    https://old.invalid/simple\n; kept\nextra-index-url =\n    https://a.invalid\n"
        "    https://b.invalid\n\n[install]\nno-binary = :all:\n"
    )
    assert plan("pip", pip_conf=before)["pip.conf"] == (
        "# mine\n[global]\ntimeout = 60\nindex-url = https://registry.invalid/pypi/default/dev/simple/\n; kept\nextra-index-url =\n"
        "    https://a.invalid\n    https://b.invalid\n\n[install]\nno-binary = :all:\n"
    )


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("http://registry.invalid:8080/r/", "old.invalid\nregistry.invalid"),
        ("http://localhost:8080/r/", "old.invalid"),
        ("http://127.0.0.1:8080/r/", "old.invalid"),
        ("http://[::1]:8080/r/", "old.invalid"),
        ("https://registry.invalid/r/", "old.invalid"),
    ],
)
def test_pip_trusts_a_server_without_tls_because_it_would_ignore_it(url: str, trusted: str) -> None:
    text = plan("pip", LoginTarget(url, "alice", TOKEN), pip_conf="[global]\ntrusted-host = old.invalid\n")["pip.conf"]
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    assert parser["global"]["trusted-host"].split() == trusted.split()


def test_uv_from_nothing() -> None:
    files = plan("uv")
    assert tomllib.loads(files["uv.toml"]) == {
        "publish-url": "https://registry.invalid/pypi/default/dev/",
        "index": [
            {
                "name": "entrepot",
                "url": "https://registry.invalid/pypi/default/dev/simple/",
                "publish-url": "https://registry.invalid/pypi/default/dev/",
                "default": True,
                "authenticate": "always",
            }
        ],
    }
    assert TOKEN not in files["uv.toml"]


UV_BEFORE = """# mine
offline = false  # why not
exclude-newer-package = { a = "2026-01-01" }
no-binary-package = [
    "a",
]

[pip]
strict = true

# about the other
[[index]]
name = "other"
url = "https://other.invalid/simple"
default = true
"""


def test_uv_keeps_everything_else_and_logs_in_again() -> None:
    once = plan("uv", uv_toml=UV_BEFORE)["uv.toml"]
    for line in UV_BEFORE.splitlines():
        assert line in once
    assert [index["name"] for index in tomllib.loads(once)["index"]] == ["entrepot", "other"]
    other = LoginTarget("https://registry.invalid/pypi/default/prod/", "alice", TOKEN)
    twice = plan("uv", other, uv_toml=once)["uv.toml"]
    assert twice == once.replace("/default/dev/", "/default/prod/")


def test_uv_leaves_somebodys_own_publish_url() -> None:
    text = plan("uv", uv_toml='publish-url = "https://mine.invalid/"\n')["uv.toml"]
    assert tomllib.loads(text)["publish-url"] == "https://mine.invalid/"


def test_twine_from_nothing_keeps_what_twine_assumes() -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(plan("twine")[".pypirc"])
    assert parser["distutils"]["index-servers"].split() == ["pypi", "testpypi", "entrepot"]
    assert dict(parser["entrepot"]) == {
        "repository": "https://registry.invalid/pypi/default/dev/", "username": "alice", "password": TOKEN,
    }  # fmt: skip


def test_twine_keeps_everything_else() -> None:
    before = "[distutils]\nindex-servers = mine\n\n[mine]\nrepository = https://mine.invalid/\npassword = 100%secret\n# end\n"
    text = plan("twine", _pypirc=before)[".pypirc"]
    assert text.startswith("[distutils]\nindex-servers =\n    mine\n    entrepot\n")
    assert "[mine]\nrepository = https://mine.invalid/\npassword = 100%secret\n# end\n" in text
    assert plan("twine", _pypirc=text)[".pypirc"] == text


@pytest.mark.parametrize("tool", TOOLS)
def test_logging_in_twice_changes_nothing(tool: str) -> None:
    paths = TOOLS[tool].files(Path("/h"), {})
    once = dict(TOOLS[tool].plan(dict.fromkeys(paths), TARGET))
    assert dict(TOOLS[tool].plan(once, TARGET)) == once


@pytest.mark.parametrize("tool", TOOLS)
def test_notes_say_what_to_do_and_never_the_token(tool: str) -> None:
    notes = TOOLS[tool].notes(TARGET)
    assert notes
    assert TOKEN not in "".join(notes)
    assert TOKEN not in repr(TARGET)


@pytest.mark.parametrize(
    ("tool", "existing"),
    [
        ("pip", {"pip_conf": "no section\n"}), ("pip", {"pip_conf": "[global]\na=1\na=2\n"}), ("twine", {"_pypirc": "[a\n"}),
        ("uv", {"uv_toml": "a = \n"}), ("uv", {"uv_toml": 'index = [{ name = "a", url = "https://a.invalid" }]\n'}),
    ],
)  # fmt: skip
def test_files_that_cannot_be_changed_safely_are_left_alone(tool: str, existing: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        plan(tool, **existing)


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(
    "target",
    [
        LoginTarget("https:///x/", "alice", TOKEN), LoginTarget("https://registry.invalid/x", "alice", TOKEN),
        LoginTarget("https://registry.invalid/", "alice", "a\nmachine evil.invalid"),
    ],
)  # fmt: skip
def test_targets_that_make_no_sense(tool: str, target: LoginTarget) -> None:
    with pytest.raises(Invalid):
        plan(tool, target)


# The files' forms.


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("machine h login a password b\n", ""),
        ("machine h\n  login a\n  password b\n", ""),
        ("machine other login a password b\n", "machine other login a password b\n"),
        (
            "machine other login a password h\nmachine h login x account y password z\n",
            "machine other login a password h\n",
        ),
        ("machine h login a password b machine other login c password d\n", " machine other login c password d\n"),
        ("# machine h login a password b\n", "# machine h login a password b\n"),
        ("default login a password b\n", "default login a password b\n"),
        ("macdef init\nmachine h\n\nmachine h login a password b\n", "macdef init\nmachine h\n\n"),
        ('machine other login "a machine" password "h"\n', 'machine other login "a machine" password "h"\n'),
        ("machine h login a password b\nmachine h login c password d\n", ""),
    ],
)
def test_netrc(before: str, after: str) -> None:
    assert set_netrc(before, "h", "me", "secret") == "machine h login me password secret\n" + after


@given(
    st.lists(
        st.tuples(st.sampled_from(["h", "a", "b.c"]), st.sampled_from([" ", "\n", "\n\t"]), st.booleans()), max_size=5
    )
)
def test_netrc_reads_back(tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, str, bool]]) -> None:
    before = "".join(
        f"machine {host}{gap}login l{number}{gap}password p{number}\n" + ("# machine h\n" if comment else "")
        for number, (host, gap, comment) in enumerate(entries)
    )
    path = tmp_path_factory.mktemp("netrc") / "netrc"
    path.write_text(before)
    expected = {**netrc.netrc(path).hosts, "h": ("me", "", "secret")}
    path.write_text(set_netrc(before, "h", "me", "secret"))
    assert {
        host: (login, account or "", password) for host, (login, account, password) in netrc.netrc(path).hosts.items()
    } == {host: (login, account or "", password) for host, (login, account, password) in expected.items()}


def test_an_option_of_the_same_name_in_another_section_stays() -> None:
    assert set_ini("[a]\nx = 1\n[b]\nx = 2\n", "b", {"x": "3"}) == "[a]\nx = 1\n[b]\nx = 3\n"


def test_a_text_that_looks_like_a_table_is_none() -> None:
    before = 'a = """\n[[index]]\nname = "entrepot"\n"""\nb = [\n  ["x"],\n]\n[pip]\nstrict = true\n'
    text = set_toml_index(before, {"name": "entrepot", "url": "u"}, {})
    assert tomllib.loads(text) == {**tomllib.loads(before), "index": [{"name": "entrepot", "url": "u"}]}


# The real clients.


class Index(BaseHTTPRequestHandler):
    """A server that wants credentials for everything, and remembers who came with which."""

    seen: list[tuple[str, str, str | None]]

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Content-Type": "text/html", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def serve(self, body: bytes) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        credential = self.headers.get("Authorization")
        self.seen.append((self.command, self.path, credential))
        if credential is None:
            self.answer(401, WWW_Authenticate='Basic realm="test"')
        else:
            self.answer(200, body)

    def do_GET(self) -> None:
        files = {"/r/simple/demo/": f'<a href="../../files/{WHEEL}">x</a>'.encode(), f"/r/files/{WHEEL}": wheel()}
        self.serve(files.get(self.path, b""))

    def do_POST(self) -> None:
        self.serve(b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[tuple[LoginTarget, list[tuple[str, str, str | None]]]]:
    seen: list[tuple[str, str, str | None]] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Seen", (Index,), {"seen": seen})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield LoginTarget(f"http://127.0.0.1:{server.server_port}/r/", "__token__", TOKEN), seen
        server.shutdown()
        thread.join()


CREDENTIAL = "Basic X190b2tlbl9fOmVudF8wMTIzNDU2Nzg5"  # __token__ and TOKEN


def logged_in(tool: str, home: Path, target: LoginTarget) -> None:
    paths = TOOLS[tool].files(home, {})
    for path, text in TOOLS[tool].plan(dict.fromkeys(paths), target).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)


def client(home: Path, *command: str) -> str:
    environment = {
        "HOME": str(home), "PATH": f"{BIN}:/usr/bin:/bin", "UV_NO_CACHE": "1", "UV_PYTHON_DOWNLOADS": "never", "LC_ALL": "C.UTF-8",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    }  # fmt: skip
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], env=environment, cwd=home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_pip_takes_it(tmp_path: Path, index: tuple[LoginTarget, list[tuple[str, str, str | None]]]) -> None:
    target, seen = index
    logged_in("pip", tmp_path, target)
    listed = client(tmp_path, "pip", "config", "list")
    assert f"global.index-url='{target.repository_url}simple/'" in listed
    assert TOKEN not in listed
    client(tmp_path, "pip", "download", "--no-deps", "demo")
    assert (tmp_path / WHEEL).read_bytes() == wheel()
    assert {credential for _, _, credential in seen} == {CREDENTIAL}


def test_uv_takes_it(tmp_path: Path, index: tuple[LoginTarget, list[tuple[str, str, str | None]]]) -> None:
    target, seen = index
    logged_in("uv", tmp_path, target)
    client(
        tmp_path,
        "uv",
        "pip",
        "install",
        "--no-deps",
        "--target",
        str(tmp_path / "lib"),
        "--python",
        sys.executable,
        "demo",
    )
    assert (tmp_path / "lib" / "demo" / "__init__.py").read_text() == "answer = 42\n"
    (tmp_path / WHEEL).write_bytes(wheel())
    client(tmp_path, "uv", "publish", "--trusted-publishing", "never", WHEEL)
    assert {path for method, path, _ in seen if method == "POST"} == {"/r/"}
    assert {credential for _, _, credential in seen} == {CREDENTIAL}


def test_twine_takes_it(tmp_path: Path, index: tuple[LoginTarget, list[tuple[str, str, str | None]]]) -> None:
    target, seen = index
    logged_in("twine", tmp_path, target)
    (tmp_path / WHEEL).write_bytes(wheel())
    client(
        tmp_path, "twine", "upload", "--non-interactive", "--disable-progress-bar", "--repository", "entrepot", WHEEL
    )
    assert seen == [("POST", "/r/", CREDENTIAL)]
