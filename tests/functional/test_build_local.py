"""``entrepot build run --local``: a build of a directory, without a server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from config.cli.main import main
from tests.build_bench import MISSING_SANDBOX, PATIENCE_SECONDS, eventually

needs_sandbox = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)

DOCUMENT = """\
version: 0.2
env:
  variables: {STAGE: document, OTHER: document}
  exported-variables: [WHERE, STAGE]
phases:
  build:
    commands:
      - WHERE=$PWD
      - cat sub/data.txt && test -L inner && ! test -L outer && touch left-behind
      - echo "> $STAGE $OTHER $CODEBUILD_LOCAL_BUILD $CI"
      - mkdir dist && echo made >dist/made.txt
artifacts:
  base-directory: dist
  files: '**/*'
  name: out/made here
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    (place / "sub").mkdir(parents=True)
    (place / "sub" / "data.txt").write_text("data of the directory\n")
    (place / "inner").symlink_to("sub")
    (place / "outer").symlink_to("/etc/passwd")
    (place / "buildspec.yml").write_text(DOCUMENT)
    return place


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["build", "run", *map(str, arguments)])


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "config.cli.main", "build", "run", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def work_places() -> set[Path]:
    return set(Path("/var/tmp").glob("entrepot-local-*"))


def nothing_more_than(before: set[Path]) -> None:
    # Another test's, beside this one, goes by itself.
    eventually(lambda: not work_places() - before, "the work directory stays")


@needs_sandbox
def test_a_directory_is_built_and_left_as_it_was(project: Path, tmp_path: Path):
    before, places = sorted(project.rglob("*")), work_places()
    with start("--local", project, "-e", "STAGE=mine", "--artifacts", tmp_path / "kept", "--json") as process:
        output, log = process.communicate(timeout=4 * PATIENCE_SECONDS)
    assert process.returncode == 0, log
    told = json.loads(output)
    assert told["status"] == "SUCCEEDED"
    assert told["exportedVariables"] == {"WHERE": "/codebuild/src", "STAGE": "mine"}
    assert [phase["phaseType"] for phase in told["phases"]][-2:] == ["FINALIZING", "COMPLETED"]
    assert "> mine document true true\n" in log
    assert "data of the directory\n" in log
    assert "outer is left out: it is a link to /etc/passwd" in log
    (path,) = told["artifacts"]
    assert Path(path).parent == tmp_path / "kept"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["made.txt"]
    assert sorted(project.rglob("*")) == before
    nothing_more_than(places)


@needs_sandbox
def test_ctrl_c_stops_the_build_in_order(project: Path):
    (project / "buildspec.yml").write_text(
        "version: 0.2\nphases:\n  build:\n    commands: ['echo it runs; sleep 1234']\n    finally: [echo never]"
    )
    places = work_places()
    with start("--local", project) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any(line == "it runs\n" for line in lines)  # live: the command has not ended
        os.kill(process.pid, signal.SIGINT)
        rest = "".join(lines)
    assert process.returncode == 1
    assert "Phase complete: BUILD State: STOPPED" in rest
    assert "\nnever" not in rest
    nothing_more_than(places)


def test_the_dummy_goes_through_the_phases_and_runs_nothing(project: Path):
    done = invoke("--local", project, "--environment", "dummy")
    assert done.exit_code == 0, done.output
    assert "Running command WHERE=$PWD" in done.output
    assert "Phase complete: UPLOAD_ARTIFACTS State: SUCCEEDED" in done.output
    assert "data of the directory" not in done.output


def test_a_failed_build_is_status_1(project: Path):
    (project / "buildspec.yml").write_text("version: 0.2\nphases:\n  build:\n    commands:\n      - echo a: b")
    done = invoke("--local", project, "--environment", "dummy", "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["status"] == "FAILED"
    (context,) = told["phases"][3]["contexts"]
    assert context["statusCode"] == "YAML_FILE_ERROR"
    assert "line 5" in context["message"]


def test_another_document_is_looked_for_in_the_directory_and_then_from_here(project: Path, tmp_path: Path):
    (project / "sub" / "ci.yml").write_text("version: 0.2\nphases:\n  build:\n    commands: [echo of the directory]")
    (tmp_path / "mine.yml").write_text("version: 0.2\nphases:\n  build:\n    commands: [echo from here]")
    for name, words in [("sub/ci.yml", "echo of the directory"), (tmp_path / "mine.yml", "echo from here")]:
        done = invoke("--local", project, "--environment", "dummy", "--buildspec", name)
        assert (done.exit_code, f"Running command {words}" in done.output) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--environment", "dummy"], "Missing option '--local'"),
        (["--local", "/nowhere"], "does not exist"),
        (["--local", ".", "-e", "novalue"], "write NAME=VALUE"),
        (["--local", ".", "-e", "a-b=c"], "write NAME=VALUE"),
        (["--local", ".", "--buildspec", "none.yml"], "none.yml"),
        (["--local", ".", "--environment", "moon"], "'moon' is not one of"),
        (["--local", ".", "--timeout", "soon"], "write a number"),
    ],
)
def test_what_is_not_right_is_status_2(arguments: list[str], words: str):
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert words in done.output


def test_a_machine_without_a_sandbox_says_so(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = invoke("--local", project)
    assert done.exit_code == 1
    assert "no build can run here: bwrap is not installed" in done.output


def test_a_directory_that_cannot_be_read_is_no_traceback(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    done = invoke("--local", project, "--environment", "dummy")
    assert done.exit_code == 1
    assert "the build could not be run: " in done.output
