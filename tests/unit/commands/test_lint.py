"""``entrepot build lint``."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hooks.commands.build_lint import lint

GOOD = "version: 0.2\nphases:\n  build:\n    commands: [make]\n"


def run(*arguments: str, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(lint, list(arguments), input=given)


@pytest.fixture
def document(tmp_path: Path) -> Path:
    return tmp_path / "buildspec.yml"


def test_a_good_document_says_nothing(document: Path):
    document.write_text(GOOD)
    done = run(str(document))
    assert (done.exit_code, done.output) == (0, "")


def test_warnings_have_their_line_and_do_not_count(document: Path):
    document.write_text(GOOD + "phasen: {}\n")
    done = run(str(document))
    assert (done.exit_code, done.output) == (0, f"{document}:5: warning: phasen is unknown and is ignored\n")


def test_faults_hide_no_warnings(document: Path):
    document.write_text(GOOD + "phasen: {}\nenv: {shell: fish}\n")
    done = run(str(document))
    assert done.exit_code == 1
    assert [line.split(" ")[1] for line in done.output.splitlines()] == ["fault:", "warning:"]


def test_strict_makes_faults_of_them(document: Path):
    document.write_text(GOOD + "phasen: {}\nstrict: yes\n")
    done = run(str(document))
    assert (done.exit_code, done.output) == (1, f"{document}:5: fault: phasen is unknown\n")


def test_what_has_no_effect_here_is_said():
    done = run("-", given=GOOD + "proxy: {logs: yes}\n")
    assert done.exit_code == 0
    assert "warning: proxy has no effect" in done.output


def test_all_faults_at_once_as_json():
    done = run("-", "--json", given="version: 3\nphases:\n  build:\n    commands:\n      - echo a: b\n")
    told = json.loads(done.output)
    assert done.exit_code == 1
    assert (told["valid"], [fault["line"] for fault in told["faults"]]) == (False, [1, 5])
    assert "put quotes around" in told["faults"][1]["text"]


def test_json_of_a_good_document():
    told = json.loads(run("-", "--json", given=GOOD + "x: y\n").output)
    assert told["phases"] == {"build": 1}
    assert told["version"] == "0.2"
    assert told["warnings"] == [{"line": 5, "text": "x is unknown and is ignored"}]
    assert told["valid"] is True


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"version: 0.2\nx: \xff\n", "-:2: fault: not UTF-8 text"),
        (b"x" * 300_000, "fault: larger than 256 KiB"),
        ("ä" * 200_000, "fault: larger than 256 KiB"),
        (b"", "-:1: fault: the document is empty"),
    ],
)
def test_what_is_no_document(given: bytes, words: str):
    done = run("-", given=given)
    assert done.exit_code == 1
    assert words in done.output


def test_a_file_that_is_not_there_is_a_wrong_use():
    assert run("/nowhere/buildspec.yml").exit_code == 2
