"""The rules of a buildspec in the real sandbox, those that no other file shows: phases, users, runtimes, variables."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

import pytest

from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.phases import BuildStatus
from hooks.builds.plan import BuildOutcome
from tests.build_bench import MISSING_SANDBOX, Log, build, phase_states, work_directory

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)


@pytest.fixture(scope="module")
def executor() -> Iterator[ProcessExecutor]:
    with work_directory() as place:
        yield ProcessExecutor(ProcessSettings(place))


def printed(log: Log, prefix: str) -> list[str]:
    """What commands printed behind ``prefix``."""
    return [line.removeprefix(prefix) for line in log.text.splitlines() if line.startswith(prefix)]


# One build that goes wrong in BUILD: what runs, in which order, and what each is told.
FAILING = r"""
version: 0.2
env:
  shell: bash
  variables: {LITERAL: "$HOME/x", MODE: 0644, ANSWER: yes, FLOAT: 3.10, EMPTY: }
  exported-variables: [LATE, LITERAL, NEVER]
phases:
  pre_build:
    commands:
      - tell() { echo "> $1 $CODEBUILD_BUILD_SUCCEEDING $CODEBUILD_LAST_EXIT"; }
      - declare -f tell || echo "> functions are gone"
      - echo "> $LITERAL $MODE $ANSWER $FLOAT [$EMPTY]"
      - |
        false
        echo "> only the last status of several lines counts"
      - "[[ a == a ]] && mkdir deep && cd deep"
  build:
    commands:
      - echo "> build $CODEBUILD_BUILD_SUCCEEDING $CODEBUILD_LAST_EXIT $PWD"
      - exit 7
      - echo "> never"
    finally:
      - echo "> finally $CODEBUILD_BUILD_SUCCEEDING $CODEBUILD_LAST_EXIT $PWD"
      - LATE=late; exit 3
      - echo "> not after a failure in finally"
  post_build:
    commands:
      - echo "> post $CODEBUILD_BUILD_SUCCEEDING $CODEBUILD_LAST_EXIT $LATE"
      - if [ "$CODEBUILD_BUILD_SUCCEEDING" = 0 ]; then echo "> guarded"; exit 0; fi
      - touch made
artifacts:
  files: deep/made
"""


@pytest.fixture(scope="module")
def failing(executor: ProcessExecutor) -> tuple[BuildOutcome, Log]:
    return build(executor, FAILING)


def test_commands_finally_and_the_phases_after_a_failure(failing):
    outcome, log = failing
    assert printed(log, "> ") == [
        "functions are gone",
        "$HOME/x 0644 yes 3.10 []",
        "only the last status of several lines counts",
        "build 1 0 /codebuild/src/deep",
        "finally 0 7 /codebuild/src/deep",
        "post 0 3 late",
        "guarded",
    ]
    assert phase_states(outcome) == {
        **dict.fromkeys(["SUBMITTED", "QUEUED", "PROVISIONING", "DOWNLOAD_SOURCE"], "SUCCEEDED"),
        "INSTALL": "SUCCEEDED",  # not in the document, and entered
        "PRE_BUILD": "SUCCEEDED",
        "BUILD": "FAILED",
        "POST_BUILD": "SUCCEEDED",
        "UPLOAD_ARTIFACTS": "SUCCEEDED",
        "FINALIZING": "SUCCEEDED",
        "COMPLETED": None,
    }


def test_the_context_of_a_failed_phase_names_the_first_failure(failing):
    outcome, _ = failing
    record = next(record.as_json() for record in outcome.phases if record.phase.value == "BUILD")
    assert record["contexts"] == [
        {
            "statusCode": "COMMAND_EXECUTION_ERROR",
            "message": "Error while executing command: exit 7. Reason: exit status 7",
        }
    ]
    assert record["durationInSeconds"] == 0


def test_exported_variables_are_the_last_values_and_literal(failing):
    outcome, _ = failing
    assert outcome.exported == {"LATE": "late", "LITERAL": "$HOME/x"}


def test_the_log_goes_in_the_order_people_know(failing):
    _, log = failing
    said = re.findall(r"^\[Container\] \S+ \S+ (.*)$", log.text, re.MULTILINE)
    places = [
        said.index(words)
        for words in (
            "Waiting for agent ping",
            "Waiting for DOWNLOAD_SOURCE",
            "Phase is DOWNLOAD_SOURCE",
            "CODEBUILD_SRC_DIR=/codebuild/src",
            "Processing environment variables",
            "No runtime version selected in buildspec.",
            "Moving to directory /codebuild/src",
            "Registering with agent",
            "Phases found in YAML: 3",
            " PRE_BUILD: 5 commands",
            " BUILD: 3 commands",
            " POST_BUILD: 3 commands",
            "Phase complete: DOWNLOAD_SOURCE State: SUCCEEDED",
            "Entering phase INSTALL",
            "Phase complete: INSTALL State: SUCCEEDED",
            "Entering phase BUILD",
            "Running command exit 7",
            "Command did not exit successfully exit 7 exit status 7",
            "Phase complete: BUILD State: FAILED",
            "Entering phase POST_BUILD",
            "Phase complete: UPLOAD_ARTIFACTS State: SUCCEEDED",
        )
    ]
    assert places == sorted(places)


# Which phases a build does not get to, where one fails; what is left of it, and the word it ends with.
AFTER_A_FAILURE = [
    ("install", "", {"PRE_BUILD", "BUILD", "POST_BUILD", "UPLOAD_ARTIFACTS"}),
    ("pre_build", "", {"BUILD", "POST_BUILD", "UPLOAD_ARTIFACTS"}),
    ("build", "abort", {"POST_BUILD", "UPLOAD_ARTIFACTS"}),
    ("install", "CONTINUE", set()),
    ("post_build", "", set()),
]


@pytest.mark.parametrize(("phase", "on_failure", "absent"), AFTER_A_FAILURE)
def test_where_a_build_goes_from_a_phase_that_failed(
    executor: ProcessExecutor, phase: str, on_failure: str, absent: set[str]
):
    """The table of transitions; of BUILD without ``on-failure`` the build above shows it."""
    order = ("install", "pre_build", "build", "post_build")
    phases = {name: {"commands": [f"echo {name} >>went", f"test {name} != {phase}"]} for name in order}
    if on_failure:
        phases[phase]["on-failure"] = on_failure
    document = {"version": "0.2", "phases": phases, "artifacts": {"files": "went", "name": "left"}}
    outcome, log = build(executor, json.dumps(document))
    assert outcome.status is BuildStatus.FAILED
    states = phase_states(outcome)
    everything = {"INSTALL", "PRE_BUILD", "BUILD", "POST_BUILD", "UPLOAD_ARTIFACTS", "FINALIZING", "COMPLETED"}
    assert everything - set(states) == absent
    assert [name for name, state in states.items() if state == "FAILED"] == [phase.upper()]
    assert set(log.artifacts) == (set() if "UPLOAD_ARTIFACTS" in absent else {"left"})


# --- who runs the commands, and with what


def test_run_as_in_a_sandbox_of_one_user(executor: ProcessExecutor):
    outcome, log = build(
        executor,
        'version: 0.2\nrun-as: root\nphases:\n  install:\n    run-as: build\n    commands: [echo "> $(id -un)"]\n'
        '  build:\n    commands: [echo "> $(id -un)"]',
    )
    assert outcome.status is BuildStatus.SUCCEEDED
    assert printed(log, "> ") == ["build", "build"]
    assert log.text.count("Warning: buildspec.yml: run-as: root has no effect: this sandbox has one user, build,") == 1
    assert "run-as: build has no effect" not in log.text


def test_runtimes_of_the_machine(executor: ProcessExecutor):
    """The wish that the machine answers is first in PATH; the other one is warned of, and the build goes on."""
    _, log = build(
        executor,
        "version: 0.2\nenv: {variables: {WISH: 3.x}}\nphases:\n  install:\n    runtime-versions:\n      python: $WISH\n"
        "      ruby: 0.1\n    commands:\n      - 'python3 -c \"import sys; print(chr(62), sys.version_info[0])\"'",
    )
    assert printed(log, "> ") == ["3"]
    assert re.search(r"python 3\.x: /usr/\S*python3\S* \(3\.", log.text)
    assert re.search(r"Warning: runtime-versions: ruby 0\.1 is not here", log.text)
    assert "Selecting 'python' runtime version '$WISH' based on manual selections..." in log.text
    assert "No runtime version selected" not in log.text


@pytest.mark.skipif(shutil.which("java") is None, reason="no Java on this machine")
def test_java_brings_its_home(executor: ProcessExecutor):
    _, log = build(
        executor,
        "version: 0.2\nphases:\n  install:\n    runtime-versions: {java: latest}\n"
        '  build:\n    commands: [test -x "$JAVA_HOME/bin/java" && echo "> $(command -v java)" $JAVA_HOME]',
    )
    (line,) = printed(log, "> ")
    program, home = line.split()
    assert program == f"{home}/bin/java"


def test_an_unknown_runtime_is_a_fault_of_the_document(executor: ProcessExecutor):
    outcome, _ = build(executor, "version: 0.2\nphases:\n  install:\n    runtime-versions: {pyhton: 3.11}")
    (fault,) = outcome.phases[3].faults
    assert fault.status_code == "YAML_FILE_ERROR"
    assert "'pyhton' is unknown; the runtimes are android, docker, dotnet" in fault.message
    assert "INSTALL" not in phase_states(outcome)


def test_variables_by_precedence_and_names_that_are_reserved(executor: ProcessExecutor):
    text = (
        "version: 0.2\nenv:\n  variables: {A: spec, B: spec, C: spec, CODEBUILD_BUILD_ID: spec}\nphases:\n  build:\n"
        '    commands:\n      - echo "> $A $B $C $D"\n      - echo "> $CODEBUILD_BUILD_ID $CODEBUILD_SRC_DIR $PWD"\n'
        '      - CODEBUILD_BUILD_SUCCEEDING=5\n      - echo "> $CODEBUILD_BUILD_SUCCEEDING"'
    )
    outcome, log = build(
        executor,
        text,
        environment={"A": "image", "D": "image"},
        overrides={"B": "start", "CODEBUILD_SRC_DIR": "start"},
        reserved={"CODEBUILD_BUILD_ID": "p:1", "C": "reserved"},
    )
    assert printed(log, "> ") == ["spec start reserved image", "p:1 /codebuild/src /codebuild/src", "1"]
    assert outcome.status is BuildStatus.SUCCEEDED


def test_a_path_that_is_literal_breaks_what_is_looked_for_in_it(executor: ProcessExecutor):
    """As in CodeBuild: values are not expanded, so that "$PATH:/x" hides every program, and the shell still starts."""
    outcome, log = build(
        executor,
        'version: 0.2\nenv:\n  variables: {PATH: "$PATH:/x"}\nphases:\n  build:\n    commands: [echo "> $PATH", ls]',
    )
    assert printed(log, "> ") == ["$PATH:/x"]
    assert "exit status 127" in log.text
    assert outcome.status is BuildStatus.FAILED


def test_a_retry_begins_in_an_empty_sandbox(executor: ProcessExecutor):
    outcome, log = build(
        executor,
        "version: 0.2\nphases:\n  build:\n    on-failure: RETRY-1-exit status 9\n"
        "    commands: ['test ! -e mark && echo \"> fresh\"; touch mark /tmp/mark; exit 9']",
    )
    assert printed(log, "> ") == ["fresh", "fresh"]
    assert "Retrying the whole build (1 of at most 1)" in log.text
    assert outcome.status is BuildStatus.FAILED
    assert "POST_BUILD" not in phase_states(outcome)
