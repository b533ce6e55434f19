"""Settings: the example is complete, the order of precedence holds, every fault is told."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from config import settings

EXAMPLE = Path(settings.__file__).parent / "entrepot.example.toml"


def test_the_example_has_every_setting_with_its_default_and_variable():
    text = EXAMPLE.read_text()
    document = settings.sections_of(tomllib.loads(text))
    assert set(document) == set(settings.SECTIONS)
    for name, kind in settings.SECTIONS.items():
        fields = {field.name: field for field in dataclasses.fields(kind)}
        assert set(document[name]) == set(fields), name
        defaults = kind()
        for key, value in document[name].items():
            expected = getattr(defaults, key)
            assert value == (list(expected) if isinstance(expected, tuple) else expected), f"{name}.{key}"
            assert f"ENTREPOT_{name}_{key}".upper().replace(".", "_") in text


def test_the_example_can_be_used_as_it_is(tmp_path: Path):
    (tmp_path / "entrepot.toml").write_text(EXAMPLE.read_text())
    assert settings.load(tmp_path, {}) == settings.load(tmp_path / "empty", {}).__class__(tmp_path)


def test_command_line_over_environment_over_file(tmp_path: Path):
    (tmp_path / "entrepot.toml").write_text('[server]\nbind = "127.0.0.1:1"\nworkers = 5\nthreads = 7\n')
    environment = {"ENTREPOT_SERVER_BIND": "127.0.0.1:2", "ENTREPOT_SERVER_WORKERS": "6"}
    loaded = settings.load(tmp_path, environment, server={"bind": "127.0.0.1:3", "workers": None})
    assert (loaded.server.bind, loaded.server.workers, loaded.server.threads) == ("127.0.0.1:3", 6, 7)


def test_all_faults_are_told_at_once(tmp_path: Path):
    (tmp_path / "entrepot.toml").write_text('[server]\nworkers = "many"\ncolour = "red"\n[cellar]\n')
    with pytest.raises(settings.BadSettings) as caught:
        settings.load(tmp_path, {"ENTREPOT_UPSTREAM_READ_TIMEOUT_SECONDS": "soon"})
    told = "\n".join(caught.value.faults)
    for word in ("workers", "colour", "cellar", "read_timeout_seconds"):
        assert re.search(word, told), told


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("server", "bind", "nowhere"),
        ("server", "public_url", "ftp://example.org"),
        ("server", "workers", 0),
        ("upstream", "allowed_networks", ["not a network"]),
        ("deployments", "check_networks", ["10.0.0.0/33"]),
        ("deployments", "agent_lost_seconds", 119),
        ("builds", "slots", 15),
        ("log", "level", "loud"),
        ("log", "format", "xml"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, section: str, key: str, value: object):
    with pytest.raises(settings.BadSettings, match=key):
        settings.load(tmp_path, {}, **{section: {key: value}})


@pytest.mark.parametrize(("said", "meant"), [("true", True), ("False", False), (" false ", False)])
def test_a_switch_is_said_in_words(tmp_path: Path, said: str, meant: bool):
    assert settings.load(tmp_path, {"ENTREPOT_UPSTREAM_READ_AHEAD": said}).upstream.read_ahead is meant


@pytest.mark.parametrize("said", ["", "0", "no", "off"])
def test_a_switch_takes_nothing_else(tmp_path: Path, said: str):
    with pytest.raises(settings.BadSettings, match=r"upstream\.read_ahead: .* is neither true nor false"):
        settings.load(tmp_path, {"ENTREPOT_UPSTREAM_READ_AHEAD": said})
