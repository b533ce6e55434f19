"""Which index pip uses on a machine: environment, then its files in their order, then the well-known constant."""

import os
from pathlib import Path

import pytest

from registry.formats.pypi import FORMAT
from registry.formats.pypi.default_upstream import default_upstream_url


def write(path: Path, url: str, option: str = "index-url", section: str = "global") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[{section}]\n{option} = {url}\n")
    return path


def found(tmp_path: Path, **environ: str) -> str:
    return default_upstream_url(
        lambda url: "ours.invalid" in url, environ, tmp_path / "home", tmp_path / "prefix", tmp_path / "etc"
    )


def test_the_strongest_place_wins(tmp_path: Path) -> None:
    home = tmp_path / "home"
    places = [
        write(tmp_path / "etc" / "xdg" / "pip" / "pip.conf", "https://xdg.invalid"),
        write(tmp_path / "etc" / "pip.conf", "https://etc.invalid"),
        write(home / ".pip" / "pip.conf", "https://old-user.invalid"),
        write(home / ".config" / "pip" / "pip.conf", "https://user.invalid/simple"),
        write(tmp_path / "prefix" / "pip.conf", "https://site.invalid/simple/"),
    ]
    own = write(tmp_path / "own.conf", "https://own.invalid/")
    environment = {"PIP_CONFIG_FILE": str(own), "PIP_INDEX_URL": "https://env.invalid/simple"}
    assert found(tmp_path, **environment) == "https://env.invalid/simple/"
    del environment["PIP_INDEX_URL"]
    assert found(tmp_path, **environment) == "https://own.invalid/"
    assert found(tmp_path) == "https://site.invalid/simple/"
    places.pop().unlink()
    assert found(tmp_path) == "https://user.invalid/simple/"
    places.pop().unlink()
    assert found(tmp_path) == "https://old-user.invalid/"
    places.pop().unlink()
    assert found(tmp_path) == "https://etc.invalid/"
    places.pop().unlink()
    assert found(tmp_path) == "https://xdg.invalid/"


def test_the_last_of_several_folders_for_all_users_wins(tmp_path: Path) -> None:
    write(tmp_path / "xdg" / "pip" / "pip.conf", "https://xdg.invalid")
    write(tmp_path / "later" / "pip" / "pip.conf", "https://later.invalid")
    both = f"{tmp_path / 'xdg'}{os.pathsep}{tmp_path / 'later'}"
    assert found(tmp_path, XDG_CONFIG_DIRS=both) == "https://later.invalid/"


def test_without_configuration_it_is_the_libraries_constant(tmp_path: Path) -> None:
    import pypi_simple

    assert found(tmp_path) == pypi_simple.PYPI_SIMPLE_ENDPOINT


def test_what_leads_to_this_server_is_passed_over(tmp_path: Path) -> None:
    import pypi_simple

    ours = "http://alice:secret@ours.invalid:8080/pypi/default/dev/simple/"
    write(tmp_path / "home" / ".config" / "pip" / "pip.conf", ours)
    assert found(tmp_path) == pypi_simple.PYPI_SIMPLE_ENDPOINT
    write(tmp_path / "etc" / "pip.conf", "https://etc.invalid")
    assert found(tmp_path, PIP_INDEX_URL=ours) == "https://etc.invalid/"
    write(tmp_path / "prefix" / "pip.conf", "https://site.invalid")
    assert found(tmp_path, PIP_INDEX_URL=ours) == "https://site.invalid/"
    assert found(tmp_path, PIP_INDEX_URL="https://env.invalid") == "https://env.invalid/"


def test_no_files_at_all_where_pip_is_told_so(tmp_path: Path) -> None:
    import pypi_simple

    write(tmp_path / "prefix" / "pip.conf", "https://site.invalid/simple/")
    assert found(tmp_path, PIP_CONFIG_FILE=os.devnull) == pypi_simple.PYPI_SIMPLE_ENDPOINT


@pytest.mark.parametrize(("option", "section"), [("index_url", "global"), ("Index-URL", "global")])
def test_spellings(tmp_path: Path, option: str, section: str) -> None:
    write(tmp_path / "prefix" / "pip.conf", "https://site.invalid/a%20b/", option, section)
    assert found(tmp_path) == "https://site.invalid/a%20b/"


def test_a_file_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "own.conf").write_bytes(b"\xff\xfe[[[")
    write(tmp_path / "prefix" / "pip.conf", "https://site.invalid/")
    assert found(tmp_path, PIP_CONFIG_FILE=str(tmp_path / "own.conf")) == "https://site.invalid/"


def test_the_format_asks_the_real_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://env.invalid/x")
    assert FORMAT.default_upstream_url(lambda _: False) == "https://env.invalid/x/"
