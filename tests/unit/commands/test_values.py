"""Values on the command line, and how results are printed."""

import json
import os
import pty
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import click
import pytest

from registry.commands.client import Client, Failed, read_token
from registry.commands.options import DURATION, REPOSITORY, Place
from registry.commands.output import cell, print_record, print_rows

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("text", "place"),
    [("dev", Place("default", "dev")), ("acme/dev", Place("acme", "dev"))],
)
def test_repositories(text: str, place: Place) -> None:
    assert REPOSITORY.convert(text, None, None) == place


@pytest.mark.parametrize("text", ["", "/dev", "acme/", "a/b/c"])
def test_no_repositories(text: str) -> None:
    with pytest.raises(click.BadParameter):
        REPOSITORY.convert(text, None, None)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("12h", 43200), ("30d", 2592000)])
def test_durations(text: str, seconds: int) -> None:
    assert DURATION.convert(text, None, None) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "12", "h", "-1h", "0h", "1.5h", "1w", "12h\n", "9999999999d"])
def test_no_durations(text: str) -> None:
    with pytest.raises(click.BadParameter):
        DURATION.convert(text, None, None)


@pytest.mark.parametrize(
    "url", ["registry.example", "ftp://registry.example", "http://", "https://me:secret@registry.example"]
)
def test_no_server_addresses(url: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        Client(url, "token")
    assert "secret@" not in refused.value.message


def test_a_token_file_wins_over_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("ent_one\nent_two\n")
    assert read_token(str(file), "ent_three") == "ent_one"
    assert read_token(None, "ent_three") == "ent_three"
    assert read_token(None, "") is None
    file.write_text("\n")
    for path in (file, tmp_path / "absent"):
        with pytest.raises(Failed):
            read_token(str(path), "ent_three")


def test_cells_are_one_line_without_control_characters() -> None:
    assert cell("one\x1b[2J\ntwo\x9b3") == "one [2J two 3"
    assert cell(None) == ""
    assert cell([1, "b"]) == "1, b"
    assert cell({"a": "b"}) == "a=b"
    assert (cell(True), cell(False), cell(0)) == ("yes", "no", "0")


RECORDS = [{"name": "a\tb", "inner": {"size": 1}}, {"name": "c", "inner": None}]
COLUMNS = (("NAME", "name"), ("SIZE", "inner.size"))


def test_lists_are_tab_separated_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(RECORDS, COLUMNS, as_json=False)
    assert capsys.readouterr().out == "a b\t1\nc\t\n"
    print_record(RECORDS[0], COLUMNS, as_json=False)
    assert capsys.readouterr().out == "NAME\ta b\nSIZE\t1\n"


def test_json_is_what_the_server_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(RECORDS, COLUMNS, as_json=True)
    assert json.loads(capsys.readouterr().out) == RECORDS
    print_record(RECORDS[0], COLUMNS, as_json=True)
    assert json.loads(capsys.readouterr().out) == RECORDS[0]


def on_a_terminal(code: str, **environment: str) -> str:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", code]
    clean = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR"}}
    child = subprocess.Popen(command, cwd=ROOT, stdout=theirs, env={**clean, "TERM": "xterm", **environment})
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass  # EIO: the last writer has closed the terminal
    finally:
        os.close(ours)
    assert child.wait(30) == 0
    return shown.decode()


def test_people_get_a_table_with_headings() -> None:
    code = (
        "from registry.commands.output import print_rows\n"
        "print_rows([{'name': '[bold]x[/bold]', 'size': 1}], (('NAME', 'name'), ('SIZE', 'size')), as_json=False)"
    )
    table = on_a_terminal(code)
    assert "NAME" in table
    assert "[bold]x[/bold]" in table  # no markup of somebody else's
    assert "\x1b[1m" in table
    plain = on_a_terminal(code, NO_COLOR="1", TERM="dumb")
    assert "NAME" in plain
    assert "\x1b[" not in plain
