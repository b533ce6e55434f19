"""The orchestration over an executor that runs nothing: phases, rules, variables, words of the log, interruptions."""

from collections.abc import Callable

import pytest

from hooks.builds.executor import ExecutorError, Login, Refused, SourceBundle, SourceFile, StopReason
from hooks.builds.executors.dummy import DummyExecutor, Step
from hooks.builds.phases import BuildStatus
from hooks.builds.run import Abandoned
from tests.build_bench import build, bundle, phase_states

OK, BAD, HANG, GONE = Step(b"ok\n"), Step(b"bad\n", 3), Step(hangs=True), Step(vanishes=True)
STEPS = {"ok": OK, "bad": BAD, "hang": HANG, "gone": GONE, "fin": OK, "post": OK}
ALL = ["INSTALL", "PRE_BUILD", "BUILD", "POST_BUILD", "UPLOAD_ARTIFACTS", "FINALIZING", "COMPLETED"]


def dummy(**options) -> DummyExecutor:
    return DummyExecutor(STEPS, **options)


def spec(**phases: str) -> str:
    lines = ["version: 0.2", "phases:"]
    for name, body in phases.items():
        lines += [f"  {name}:", *(f"    {part.strip()}" for part in body.split(";"))]
    return "\n".join(lines)


def ran(executor: DummyExecutor) -> list[str]:
    return [item.script for item in executor.items]


def test_all_phases_are_entered_even_when_the_file_leaves_them_out():
    outcome, log = build(dummy(), spec(build="commands: [ok]"))
    assert outcome.status is BuildStatus.SUCCEEDED
    assert phase_states(outcome) == {
        **dict.fromkeys(["SUBMITTED", "QUEUED", "PROVISIONING", "DOWNLOAD_SOURCE", *ALL[:-1]], "SUCCEEDED"),
        "COMPLETED": None,
    }
    assert tuple(log.records) == outcome.phases


def test_the_words_of_the_log():
    _, log = build(dummy(), spec(build="commands: [ok, bad]"))
    start = "[Container] 2026/01/02 03:04:05 "
    for words in (
        "Phase is DOWNLOAD_SOURCE",
        "CODEBUILD_SRC_DIR=/codebuild/src",
        "Phases found in YAML: 1",
        " BUILD: 2 commands",
        "Entering phase BUILD",
        "Running command ok",
        "Command did not exit successfully bad exit status 3",
        "Phase complete: BUILD State: FAILED",
        (
            "Phase context status code: COMMAND_EXECUTION_ERROR Message: Error while executing command: bad. "
            "Reason: exit status 3"
        ),
        "Phase complete: POST_BUILD State: SUCCEEDED",
    ):
        assert f"{start}{words}\n" in log.text, words
    assert f"{start}Running command ok\nok\n{start}Running command bad\nbad\n" in log.text


@pytest.mark.parametrize(
    ("phases", "absent", "artifacts"),
    [
        ({"install": "commands: [bad]"}, {"PRE_BUILD", "BUILD", "POST_BUILD", "UPLOAD_ARTIFACTS"}, False),
        ({"pre_build": "commands: [bad]"}, {"BUILD", "POST_BUILD", "UPLOAD_ARTIFACTS"}, False),
        ({"build": "commands: [bad]"}, set(), True),
        ({"post_build": "commands: [bad]"}, set(), True),
        ({"build": "commands: [bad]; on-failure: ABORT"}, {"POST_BUILD", "UPLOAD_ARTIFACTS"}, False),
        ({"post_build": "commands: [bad]; on-failure: ABORT"}, {"UPLOAD_ARTIFACTS"}, False),
        ({"install": "commands: [bad]; on-failure: CONTINUE"}, set(), True),
        ({"pre_build": "commands: [bad]; on-failure: CONTINUE"}, set(), True),
    ],
)
def test_what_runs_after_a_failing_phase(phases: dict[str, str], absent: set[str], artifacts: bool):
    text = spec(**{"post_build": "commands: [post]", **phases}) + "\nartifacts:\n  files: out.txt"
    executor = dummy(files={"out.txt": b"x"})
    outcome, log = build(executor, text)
    assert outcome.status is BuildStatus.FAILED
    assert set(ALL) - set(phase_states(outcome)) == absent
    assert phase_states(outcome)[next(iter(phases)).upper()] == "FAILED"
    assert bool(log.artifacts) is artifacts
    assert phase_states(outcome)["FINALIZING"] == "SUCCEEDED"
    assert executor.standing == set()


def test_remaining_commands_are_skipped_and_finally_runs():
    executor = dummy()
    build(executor, spec(build="commands: [ok, bad, post]; finally: [fin]"))
    assert ran(executor) == ["ok", "bad", "fin"]


def test_a_failing_finally_fails_the_phase():
    outcome, _ = build(dummy(), spec(build="commands: [ok]; finally: [bad]"))
    assert phase_states(outcome)["BUILD"] == "FAILED"
    assert outcome.status is BuildStatus.FAILED


def test_succeeding_and_last_exit_are_told_to_commands():
    executor = dummy()
    build(executor, spec(build="commands: [ok, bad]; finally: [fin]", post_build="commands: [post]"))
    told = [
        (item.environment["CODEBUILD_BUILD_SUCCEEDING"], item.environment["CODEBUILD_LAST_EXIT"])
        for item in executor.items
    ]
    assert told == [("1", "0"), ("1", "0"), ("0", "3"), ("0", "0")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "YAML file does not exist"),
        ("version: 0.2\nphases:\n  build:\n    commands:\n    - a: b", "line 5"),
    ],
)
def test_a_document_that_cannot_be_used_fails_download_source(text: str | None, words: str):
    outcome, log = build(dummy(), text)
    assert phase_states(outcome)["DOWNLOAD_SOURCE"] == "FAILED"
    assert "INSTALL" not in phase_states(outcome)
    (fault,) = outcome.phases[3].faults
    assert fault.status_code == "YAML_FILE_ERROR"
    assert words in fault.message
    assert words in log.text


def test_the_document_comes_from_the_source_or_from_the_plan():
    executor = dummy(files={"buildspec.yml": spec(build="commands: [ok]").encode()})
    assert build(executor, None)[0].status is BuildStatus.SUCCEEDED
    assert build(executor, spec(build="commands: [post]"))[0].status is BuildStatus.SUCCEEDED
    assert ran(executor) == ["ok", "post"]


def test_a_source_that_is_gone_fails_the_build():
    def gone():
        raise Refused("thing-1.0.tar.gz was deleted")

    outcome, _ = build(dummy(), spec(), source=SourceBundle((SourceFile("x", gone),)))
    assert outcome.status is BuildStatus.FAILED
    assert outcome.phases[3].faults[0].status_code == "CLIENT_ERROR"


def test_warnings_are_in_the_log():
    _, log = build(dummy(), "version: 0.2\nbuild: {commands: x}\nphases: {}")
    assert "Warning: buildspec.yml: line 2: build stands outside of phases" in log.text


def test_exported_variables_are_read_after_the_last_command():
    executor = DummyExecutor({"set": Step(sets={"A": "late", "B": "other"})})
    outcome, _ = build(
        executor,
        "version: 0.2\nenv:\n  variables: {A: early}\n  exported-variables: [A, C]\n"
        "phases:\n  post_build:\n    commands: [set]",
    )
    assert outcome.exported == {"A": "late"}


def test_precedence_of_variables():
    executor = dummy()
    outcome, _ = build(
        executor,
        "version: 0.2\nenv:\n  variables: {A: spec, B: spec, PATH: spec}\n  exported-variables: [A, B, C, D, PATH, E]\nphases: {}",
        environment={"A": "image", "B": "image", "C": "image", "D": "image"},
        overrides={"A": "start", "C": "start", "CODEBUILD_BUILD_ID": "mine", "E": "start"},
        reserved={"CODEBUILD_BUILD_ID": "real", "E": "reserved"},
    )
    assert outcome.exported == {"A": "start", "B": "spec", "C": "start", "D": "image", "PATH": "spec", "E": "reserved"}


def test_no_artifact_matches():
    outcome, _ = build(dummy(), spec(build="commands: [ok]") + "\nartifacts:\n  files: nothing")
    assert outcome.status is BuildStatus.FAILED
    assert outcome.phases[-3].faults[0].message == "no matching artifact paths found"


def counted(reason: StopReason, after: int) -> Callable[[], StopReason | None]:
    left = [after]

    def interrupt() -> StopReason | None:
        left[0] -= 1
        return reason if left[0] < 0 else None

    return interrupt


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8, 20])
@pytest.mark.parametrize(("reason", "status"), [(StopReason.STOPPED, "STOPPED"), (StopReason.TIMED_OUT, "TIMED_OUT")])
def test_an_interruption_ends_the_phase_it_meets_and_nothing_follows(reason: StopReason, status: str, after: int):
    executor = dummy()
    text = spec(build="commands: [ok, hang]; finally: [fin]; on-failure: RETRY", post_build="commands: [post]")
    outcome, log = build(executor, text, interrupt=counted(reason, after))
    assert outcome.status.value == status
    assert outcome.phases[-1].status is not None
    assert outcome.phases[-1].status.value == status
    assert all(record.status is BuildStatus.SUCCEEDED for record in outcome.phases[:-1])
    assert not {"fin", "post"} & set(ran(executor))
    assert executor.standing == set()
    assert f"State: {status}" in log.text


def test_a_lost_build_says_nothing_more():
    executor = dummy()
    with pytest.raises(Abandoned):
        build(executor, spec(build="commands: [hang]"), interrupt=counted(StopReason.LOST, 8))
    assert executor.standing == set()


def test_the_build_has_a_time_out_of_its_own():
    outcome, _ = build(dummy(), spec(build="commands: [hang]"), timeout_seconds=0.3)
    assert outcome.status is BuildStatus.TIMED_OUT
    assert phase_states(outcome)["BUILD"] == "TIMED_OUT"


def test_a_sandbox_that_ends_under_a_command_fails_the_build():
    executor = dummy()
    outcome, _ = build(executor, spec(build="commands: [gone, ok]; finally: [fin]", post_build="commands: [post]"))
    assert outcome.status is BuildStatus.FAILED
    assert ran(executor) == ["gone"]
    assert phase_states(outcome)["BUILD"] == "FAILED"
    assert "POST_BUILD" not in phase_states(outcome)


def test_what_could_not_be_run_is_an_exception():
    executor = dummy(refusals=1)
    with pytest.raises(ExecutorError, match="the script says no"):
        build(executor, spec())
    assert build(executor, spec())[0].status is BuildStatus.SUCCEEDED


@pytest.mark.parametrize(("word", "starts"), [("RETRY", 4), ("RETRY-1", 2), ("RETRY-0", 1), ("ABORT", 1)])
def test_retry_starts_the_whole_build_anew(word: str, starts: int):
    executor = dummy()
    outcome, log = build(executor, spec(install="commands: [ok]", build=f"commands: [bad]; on-failure: {word}"))
    assert outcome.status is BuildStatus.FAILED
    assert ran(executor) == ["ok", "bad"] * starts
    assert log.text.count("Retrying the whole build") == starts - 1
    assert len([record for record in outcome.phases if record.phase.value == "BUILD"]) == 1


@pytest.mark.parametrize(
    ("pattern", "starts"),
    [("exit status 3$", 3), ("Error while executing command: bad", 3), (".*", 3), ("exit status 4", 1), ("^bad", 1)],
)
def test_retry_with_a_pattern_looks_at_the_message_of_the_failure(pattern: str, starts: int):
    executor = dummy()
    text = spec(build=f"commands: [bad]; on-failure: 'RETRY-2-{pattern}'", post_build="commands: [post]")
    outcome, log = build(executor, text)
    assert ran(executor) == ["bad"] * starts  # as with ABORT, nothing follows
    assert outcome.status is BuildStatus.FAILED
    assert ("Not retrying: the message holds no match of" in log.text) is (starts == 1)


def test_users_of_all_phases_and_of_one():
    executor = dummy()
    text = "run-as: builder\n" + spec(
        install="run-as: root; commands: [ok]", build="commands: [ok]; finally: [fin]", post_build="commands: [post]"
    )
    _, log = build(executor, text)
    assert [(item.script, item.user) for item in executor.items] == [
        ("ok", "root"),
        ("ok", "builder"),
        ("fin", "builder"),
        ("post", "builder"),
    ]
    assert "run-as" not in log.text  # this executor has users


def test_build_succeeding_stays_zero_after_a_failure_that_was_passed_over():
    executor = dummy()
    outcome, _ = build(
        executor, spec(install="commands: [bad]; on-failure: CONTINUE", build="commands: [ok]; finally: [fin]")
    )
    assert [item.environment["CODEBUILD_BUILD_SUCCEEDING"] for item in executor.items] == ["1", "0", "0"]
    assert phase_states(outcome)["BUILD"] == "SUCCEEDED"
    assert outcome.status is BuildStatus.FAILED


def test_a_single_build_of_a_batch_document_says_that_it_is_one():
    outcome, log = build(dummy(), "version: 0.2\nbatch: {build-list: [{identifier: a}]}\nphases: {}")
    assert outcome.status == "SUCCEEDED"
    assert "batch has no effect: this is a single build" in log.text


def test_a_build_that_pretends():
    executor = DummyExecutor({}, pretends=True)
    outcome, log = build(executor, spec(build="commands: [whatever]") + "\nartifacts:\n  files: '**/*'")
    assert (outcome.status, ran(executor)) == (BuildStatus.SUCCEEDED, ["whatever"])
    assert list(log.artifacts) == ["build"]


def test_version_0_1_carries_no_state():
    executor = dummy()
    build(executor, "version: 0.1\nphases:\n  build:\n    commands: [ok]")
    assert executor.items[0].carries_state is False


def test_secrets_are_masked_in_log_messages_and_exports():
    token = "ent_0123456789abcdef"
    executor = DummyExecutor(
        {"leak": Step(b"x " + token.encode() + b"\n", sets={"OUT": token}), f"false {token}": Step(exit_code=1)}
    )
    text = f"version: 0.2\nenv:\n  exported-variables: OUT\nphases:\n  build:\n    commands: [leak, 'false {token}']"
    outcome, log = build(executor, text, secrets=(token,), credentials=Login("build", token))
    assert token not in log.text
    assert "x ***" in log.text
    assert outcome.exported == {"OUT": "***"}
    assert all(token not in fault.message for record in outcome.phases for fault in record.faults)
    assert token not in repr(executor.requests)


def test_a_file_of_the_source_is_fetched():
    _, log = build(dummy(), spec(), source=bundle({"a.whl": b"12345"}))
    assert "fetched a.whl 5" in log.text
