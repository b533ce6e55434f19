"""What stands for the central repository on this machine: Maven's mirrors as Maven chooses among them, else a constant."""

from pathlib import Path

import pytest

from registry.formats.maven.default_upstream import default_upstream_url


def settings(folder: Path, *mirrors: tuple[str, str], blocked: bool = False) -> Path:
    entries = "".join(
        f"<mirror><id>m{number}</id><mirrorOf>{of}</mirrorOf><url>{url}</url>"
        f"{'<blocked>true</blocked>' if blocked else ''}</mirror>"
        for number, (of, url) in enumerate(mirrors)
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settings.xml"
    path.write_text(
        f'<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0"><!-- own --><mirrors>{entries}</mirrors></settings>'
    )
    return path


def is_own(url: str) -> bool:
    return "own.invalid" in url


def found(tmp_path: Path, **environ: str) -> str:
    return default_upstream_url(is_own, environ, tmp_path / "home", mvn=str(tmp_path / "maven" / "bin" / "mvn"))


@pytest.mark.parametrize("pattern", ["central", "*", "external:*", "external:*,!other", "other, central", "*,!other"])
def test_a_mirror_of_central(tmp_path: Path, pattern: str):
    settings(tmp_path / "home" / ".m2", (pattern, "https://mirror.invalid/maven"))
    assert found(tmp_path) == "https://mirror.invalid/maven/"


@pytest.mark.parametrize("pattern", ["other", "*,!central", "external:http:*", "!central", ""])
def test_a_mirror_of_something_else(tmp_path: Path, pattern: str):
    settings(tmp_path / "home" / ".m2", (pattern, "https://mirror.invalid/maven"))
    assert "mirror.invalid" not in found(tmp_path)


def test_the_exact_id_wins_over_patterns(tmp_path: Path):
    settings(tmp_path / "home" / ".m2", ("*", "https://all.invalid/"), ("central", "https://exact.invalid/"))
    assert found(tmp_path) == "https://exact.invalid/"


def test_the_person_s_settings_come_before_the_machine_s(tmp_path: Path):
    settings(tmp_path / "maven" / "conf", ("*", "https://machine.invalid/"))
    assert found(tmp_path) == "https://machine.invalid/"
    settings(tmp_path / "home" / ".m2", ("*", "https://person.invalid/"))
    assert found(tmp_path) == "https://person.invalid/"


def test_maven_home_says_which_machine_settings(tmp_path: Path):
    settings(tmp_path / "maven" / "conf", ("*", "https://machine.invalid/"))
    settings(tmp_path / "other" / "conf", ("*", "https://other.invalid/"))
    assert found(tmp_path, MAVEN_HOME=str(tmp_path / "other")) == "https://other.invalid/"


def test_blocked_mirrors_are_not_asked(tmp_path: Path):
    settings(tmp_path / "home" / ".m2", ("central", "https://blocked.invalid/"), blocked=True)
    assert "blocked.invalid" not in found(tmp_path)


def test_without_any_the_constant_of_a_library(tmp_path: Path):
    from packageurl.contrib.purl2url import DEFAULT_MAVEN_REPOSITORY

    assert found(tmp_path) == DEFAULT_MAVEN_REPOSITORY + "/"


def test_a_file_that_cannot_be_read_is_passed_over(tmp_path: Path):
    settings(tmp_path / "home" / ".m2").write_text("<settings><mirrors>")
    settings(tmp_path / "maven" / "conf", ("*", "https://machine.invalid/"))
    assert found(tmp_path) == "https://machine.invalid/"


def test_the_server_is_never_its_own_upstream(tmp_path: Path):
    settings(tmp_path / "home" / ".m2", ("*", "https://own.invalid/maven/default/dev/"))
    settings(tmp_path / "maven" / "conf", ("*", "https://machine.invalid/"))
    assert found(tmp_path) == "https://machine.invalid/"
