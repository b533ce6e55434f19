"""runtime-versions: which of the runtimes that are there answers a wish, and what is said of it."""

import os
import subprocess
from pathlib import Path

import pytest

from hooks.builds.runtimes import Installed, choose, parse_found, probe_script, provide

PYTHONS = [Installed("/usr/bin/python3", "3.11.2"), Installed("/usr/bin/python3.9", "3.9.18")]


@pytest.mark.parametrize(
    ("wish", "version"),
    [
        ("3.11", "3.11.2"),
        ("3.9", "3.9.18"),
        ("3.9.18", "3.9.18"),
        ("3.x", "3.11.2"),
        ("3", "3.11.2"),
        ("latest", "3.11.2"),
        ("3.1", None),
        ("2.x", None),
        ("3.11.3", None),
        ("", None),
        ("the best", None),
    ],
)
def test_the_newest_that_answers_is_taken(wish: str, version: str | None):
    chosen = choose(wish, PYTHONS)
    assert (chosen.version if chosen else None) == version


@pytest.mark.parametrize(("wish", "answers"), [("corretto8", True), ("openjdk8", True), ("1.8", True), ("17", False)])
def test_java_eight_has_two_names(wish: str, *, answers: bool):
    assert (choose(wish, [Installed("/jvm/bin/java", "1.8.0")]) is not None) is answers


def told(wishes: dict[str, str], found: dict[str, list[Installed]], **variables: str) -> tuple[str, list[str]]:
    said: list[str] = []
    return provide(wishes, {"PATH": "/usr/bin:/bin", **variables}, found, said.append), said


def test_what_is_first_already_needs_nothing():
    assert told({"python": "3.11"}, {"python": PYTHONS}) == ("", ["python 3.11: /usr/bin/python3 (3.11.2)"])


def test_a_wish_may_come_from_a_variable():
    assert told({"python": "${WISH}"}, {"python": PYTHONS}, WISH="3.11")[1] == [
        "python 3.11: /usr/bin/python3 (3.11.2)"
    ]


def test_another_one_is_put_first_under_its_usual_names():
    script, _ = told({"python": "3.9"}, {"python": PYTHONS})
    assert 'ln -sf /usr/bin/python3.9 "$HOME/.runtimes/python"/python3' in script
    assert 'export PATH="$HOME/.runtimes/python":"$PATH"' in script
    script, _ = told({"golang": "1.x"}, {"golang": [Installed("/opt/my go/bin/go", "1.22.1")]})
    assert script == "export PATH='/opt/my go/bin':\"$PATH\""
    script, _ = told({"java": "corretto17"}, {"java": [Installed("/usr/lib/jvm/17/bin/java", "17.0.1")]})
    assert script.splitlines()[0] == "export JAVA_HOME=/usr/lib/jvm/17"


def test_what_is_not_there_is_warned_of():
    _, said = told({"python": "3.13", "ruby": "3.x", "android": "29"}, {"python": PYTHONS})
    assert said == [
        "Warning: runtime-versions: python 3.13 is not here; the build goes on with what is: 3.11.2, 3.9.18",
        "Warning: runtime-versions: ruby 3.x is not here, nor any other ruby",
        "Warning: runtime-versions: android 29 is not here, nor any other android",
    ]


def test_only_lines_of_the_probe_count():
    assert parse_found(
        "noise\npython\t/usr/bin/python3\tPython 3.11.2\npython\tbin/x\t1.0\nperl\t/x\t5.1\njava\t/x\t"
    ) == {"python": [Installed("/usr/bin/python3", "3.11.2")]}


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_the_probe_finds_programs_in_the_order_of_path(tmp_path: Path, shell: str):
    for place, name, words in [
        ("one two", "python3.12", "Python 3.12.1"),
        ("one two", "node", "v20.1.0"),
        ("b", "python3", "Python 3.10.4"),
        ("b", "node", "v18.0.0"),
    ]:
        program = tmp_path / place / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho {words}\n")
        program.chmod(0o755)
    path = f"{tmp_path}/one two:{tmp_path}/b:/usr/bin:/bin"
    done = subprocess.run(
        [shell, "-c", probe_script(["nodejs", "python"])],
        env={"PATH": path, "HOME": os.devnull},
        capture_output=True,
        text=True,
        check=True,
    )
    found = parse_found(done.stdout)
    assert [one.version for one in found["nodejs"][:2]] == ["20.1.0", "18.0.0"]
    assert found["python"][0] == Installed(f"{tmp_path}/b/python3", "3.10.4")
    assert Installed(f"{tmp_path}/one two/python3.12", "3.12.1") in found["python"]
