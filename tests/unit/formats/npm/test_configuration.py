"""npm's and yarn's configuration: read for the default upstream, written by ``entrepot login``."""

import base64
from pathlib import Path

import pytest
import yaml

from registry.errors import Invalid
from registry.format import LoginTarget
from registry.formats.npm import default_upstream, npmrc, yarnrc
from registry.formats.npm.login import TOOLS
from registry.upstream.guard import separate_credential

TARGET = LoginTarget("http://127.0.0.1:8080/npm/default/dev/", "alice", "ent_secret")
TOKEN_LINE = "//127.0.0.1:8080/npm/default/dev/:_authToken=ent_secret"


def upstream(environ: dict[str, str], tmp_path: Path, **files: str) -> str:
    home, prefix = tmp_path / "home", tmp_path / "prefix"
    for path, text in ((home / ".npmrc", files.get("user")), (prefix / "etc" / "npmrc", files.get("machine"))):
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text)
    return default_upstream.default_upstream_url(lambda url: "own-server" in url, environ, home, (prefix,))


def test_the_environment_comes_first(tmp_path: Path):
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        assert (
            upstream({name: "https://a.invalid/x"}, tmp_path, user="registry=https://b.invalid/")
            == "https://a.invalid/x/"
        )


def test_then_the_person_then_the_machine(tmp_path: Path):
    machine = "registry=https://machine.invalid/npm/\n"
    assert upstream({}, tmp_path, machine=machine) == "https://machine.invalid/npm/"
    assert (
        upstream({}, tmp_path, machine=machine, user="; x\nregistry = 'https://user.invalid/npm'\n")
        == "https://user.invalid/npm/"
    )
    own = tmp_path / "own"
    own.write_text('registry="https://own.invalid/${PLACE}"')
    assert upstream({"NPM_CONFIG_USERCONFIG": str(own), "PLACE": "p"}, tmp_path) == "https://own.invalid/p/"


def test_what_is_this_server_itself_is_passed_over(tmp_path: Path):
    machine = "registry=https://machine.invalid/npm/\n"
    assert (
        upstream({}, tmp_path, machine=machine, user="registry=http://own-server/npm/")
        == "https://machine.invalid/npm/"
    )
    own = {"npm_config_registry": "http://own-server/"}
    assert (
        upstream(own, tmp_path / "2", user="registry=http://own-server/npm/") == default_upstream.public_registry_url()
    )


def test_else_the_constant_of_a_library(tmp_path: Path):
    public = default_upstream.public_registry_url()
    assert public.startswith("https://")
    assert public.endswith("/")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".npmrc").write_bytes(b"\xff\xfe")
    assert upstream({}, tmp_path) == public
    assert upstream({"npm_config_registry": "file:///etc"}, tmp_path) == public


def test_credentials_come_along(tmp_path: Path):
    registry = "registry=https://r.invalid/a/b/\n"
    pair = base64.b64encode(b"bob:p@ss:word").decode()
    for line, expected in (
        ("//r.invalid/a/b/:_authToken=tok", ("", "tok")),
        ("//r.invalid/a/b/:_authToken=${TOKEN}", ("", "from-env")),
        ("//r.invalid/:_authToken=tok", ("", "tok")),
        (f"//r.invalid/a/:_auth={pair}", ("bob", "p@ss:word")),
        (
            f"//r.invalid/a/b/:username=bob\n//r.invalid/a/b/:_password={base64.b64encode(b'x/y').decode()}",
            ("bob", "x/y"),
        ),
        ("//other.invalid/:_authToken=tok", None),
        ("_authToken=tok", None),
        ("//r.invalid/a/b/:_auth=!!", None),
    ):
        url = upstream({"TOKEN": "from-env"}, tmp_path, user=registry + line)
        assert separate_credential(url) == ("https://r.invalid/a/b/", expected), line


def plan(tool: str, *texts: str | None) -> list[str]:
    paths = TOOLS[tool].files(Path("/home/alice"), {})
    planned = TOOLS[tool].plan(dict(zip(paths, texts, strict=True)), TARGET)
    return [planned[path] for path in paths]


@pytest.mark.parametrize("tool", ["npm", "pnpm"])
def test_npmrc_is_merged(tool: str):
    before = (
        "# mine\nregistry=https://old.invalid/\n@acme:registry=https://acme.invalid/\nsave-exact=true\n"
        '//old.invalid/:_authToken=keep\n//127.0.0.1:8080/npm/default/dev/:_authToken=old\nca[]="x"\n[section]\nregistry=inner\n'
    )
    (after,) = plan(tool, before)
    assert after.splitlines() == [
        "# mine",
        "@acme:registry=https://acme.invalid/",
        "save-exact=true",
        "//old.invalid/:_authToken=keep",
        'ca[]="x"',
        "registry=http://127.0.0.1:8080/npm/default/dev/",
        TOKEN_LINE,
        "[section]",
        "registry=inner",
    ]
    assert plan(tool, after) == [after]
    assert plan(tool, None) == [f"registry={TARGET.repository_url}\n{TOKEN_LINE}\n"]


def test_a_second_repository_leaves_the_first_ones_token():
    (first,) = plan("npm", None)
    path = Path("/home/alice/.npmrc")
    other = LoginTarget("http://127.0.0.1:8080/npm/default/prod/", "alice", "ent_other")
    second = TOOLS["npm"].plan({path: first}, other)[path]
    assert TOKEN_LINE in second
    assert npmrc.read(second, {})["registry"] == other.repository_url


def test_yarnrc_is_merged():
    before = (
        '# mine\nnodeLinker: node-modules\nunsafeHttpWhitelist:\n- localhost\n# inner\n- "*.local"\n# after\n'
        "npmScopes:\n  acme:\n    npmRegistryServer: https://acme.invalid\nnpmAuthToken: old\n"
    )
    settings, options = plan("yarn", before, None)
    assert yaml.safe_load(settings) == {
        "nodeLinker": "node-modules",
        "unsafeHttpWhitelist": ["localhost", "*.local", "127.0.0.1"],
        "npmScopes": {"acme": {"npmRegistryServer": "https://acme.invalid"}},
        "npmRegistryServer": "http://127.0.0.1:8080/npm/default/dev",
        "npmAuthToken": "ent_secret",
        "npmAlwaysAuth": True,
    }
    assert "# mine" in settings
    assert "# after" in settings
    assert "# inner" not in settings
    assert plan("yarn", settings, options) == [settings, options]


@pytest.mark.parametrize("text", ["- a\n", "a: [", "x", "'npmAuthToken': old\nnpmAuthToken : old2\n{"])
def test_a_yarnrc_that_cannot_be_read_is_left_alone(text: str):
    with pytest.raises(Invalid):
        yarnrc.set_values(text, {"npmAuthToken": "x"})


def test_values_that_no_line_holds_are_refused():
    for token in ("a\nb", "a;b", "a#b", "a\0b"):
        with pytest.raises(Invalid):
            TOOLS["npm"].plan({Path("/x"): None}, LoginTarget(TARGET.repository_url, "a", token))
    with pytest.raises(Invalid, match="slash"):
        TOOLS["npm"].plan({Path("/x"): None}, LoginTarget("http://h/npm/default/dev", "a", "t"))


def test_notes_never_hold_the_token():
    for tool in TOOLS.values():
        assert "ent_secret" not in "".join(tool.notes(TARGET))
