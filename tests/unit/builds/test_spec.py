"""buildspec.yml: the grammar, every fault with its line, and nothing dropped silently."""

import time

import pytest

from hooks.builds.spec import ArtifactSpec, BuildSpec, FailureRule, OnFailure, PhaseSpec, parse_buildspec
from registry.errors import InvalidDocument


def faults(text: str) -> list[str]:
    with pytest.raises(InvalidDocument) as caught:
        parse_buildspec(text)
    return caught.value.faults


def test_a_whole_document():
    spec = parse_buildspec(
        """\
version: 0.2
env:
  shell: bash
  variables: {A: "1", PATHS: "$PATH:/x"}
  exported-variables: [A, B]
phases:
  install:
    commands: [make deps]
  build:
    on-failure: ABORT
    commands:
      - make
      - |
        one
        two
    finally:
      - echo end
artifacts:
  files: ['**/*']
  base-directory: dist
  discard-paths: yes
  exclude-paths: ['*.tmp']
  name: out
"""
    )
    assert spec == BuildSpec(
        version="0.2",
        shell="/bin/bash",
        variables={"A": "1", "PATHS": "$PATH:/x"},
        exported_variables=("A", "B"),
        phases={
            "install": PhaseSpec(("make deps",)),
            "build": PhaseSpec(("make", "one\ntwo\n"), ("echo end",), FailureRule(OnFailure.ABORT)),
        },
        artifacts=ArtifactSpec(("**/*",), "dist", True, ("*.tmp",), "out"),
    )


@pytest.mark.parametrize("value", ["3.10", "1.20", "0644", "yes", "2020-01-01", "1e3", "0x1F", "1_000", "on", "12:30"])
def test_scalars_keep_their_spelling(value: str):
    assert parse_buildspec(f"version: 0.2\nenv:\n  variables:\n    A: {value}\nphases: {{}}").variables == {"A": value}


@pytest.mark.parametrize("word", ["yes", "YES", "true", "True"])
def test_booleans_in_every_spelling(word: str):
    spec = parse_buildspec(f"version: 0.2\nartifacts:\n  files: a\n  discard-paths: {word}\nphases: {{}}")
    assert spec.artifacts == ArtifactSpec(("a",), discard_paths=True)


def test_a_scalar_stands_for_a_list_of_one():
    spec = parse_buildspec(
        "version: 0.2\nphases:\n  build:\n    commands: make\n    finally: end\nartifacts:\n  files: x"
    )
    assert spec.phase("build") == PhaseSpec(("make",), ("end",))
    assert spec.artifacts == ArtifactSpec(("x",))


def test_version_0_1_has_its_own_words_and_no_state():
    spec = parse_buildspec(
        "version: 0.1\nenvironment_variables:\n  plaintext:\n    A: b\nphases:\n  build:\n    commands: [x]\n"
        "artifacts:\n  type: zip\n  files: [x]"
    )
    assert (spec.variables, spec.carries_state, spec.warnings) == ({"A": "b"}, False, ())


def test_merge_keys_and_aliases():
    spec = parse_buildspec(
        "version: 0.2\nx: &c [one]\nphases:\n  install: &p\n    commands: *c\n    finally: [f]\n"
        "  build:\n    <<: *p\n    commands: [two]"
    )
    assert spec.phase("build") == PhaseSpec(("two",), ("f",))
    assert spec.phase("install") == PhaseSpec(("one",), ("f",))


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        ("ABORT", FailureRule(OnFailure.ABORT)),
        ("continue", FailureRule(OnFailure.CONTINUE)),
        ("RETRY", FailureRule(OnFailure.RETRY, 3)),
        ("Retry-7", FailureRule(OnFailure.RETRY, 7)),
        ("RETRY-0", FailureRule(OnFailure.RETRY, 0)),
        ("RETRY-2-.*", FailureRule(OnFailure.RETRY, 2)),
    ],
)
def test_on_failure(word: str, rule: FailureRule):
    text = f"version: 0.2\nphases:\n  build:\n    on-failure: {word}\n    commands: [x]"
    assert parse_buildspec(text).phase("build").on_failure == rule


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: the document is empty"),
        ("[a]", "line 1: a buildspec is a mapping with 'version' and 'phases'"),
        ("phases: {}", "line 1: version is missing; it has to be 0.2 (or 0.1)"),
        ("phases: {}\nversion: 0.3", "line 2: version '0.3' is unknown; it has to be 0.2 (or 0.1)"),
        (
            "version: 0.2\nphases:\n  build:\n    commands:\n      - echo a: b",
            "line 5: phases.build.commands[0] is not text",
        ),
        ("version: 0.2\nphases:\n  build:\n    commands: {a: b}", "line 4: phases.build.commands has to be a list"),
        ("version: 0.2\nphases:\n  build:\n    finally: [x]", "line 4: phases.build.commands is missing"),
        ("version: 0.2\nphases: [a]", "line 2: phases has to be a mapping"),
        ("version: 0.2\nversion: 0.2\nphases: {}", "line 2: the buildspec: 'version' stands here twice"),
        ("version: 0.2\nbatch:\n  build-list: []\nphases: {}", "line 3: batch builds are not carried out"),
        (
            "version: 0.2\nenv:\n  parameter-store:\n    A: b\nphases: {}",
            "line 4: env.parameter-store is not available",
        ),
        (
            "version: 0.2\nenv:\n  secrets-manager:\n    A: b\nphases: {}",
            "line 4: env.secrets-manager is not available",
        ),
        ("version: 0.2\nenv:\n  shell: powershell.exe\nphases: {}", "line 3: env.shell 'powershell.exe': only bash"),
        (
            "version: 0.2\nenv:\n  variables:\n    a-b: c\nphases: {}",
            "line 4: env.variables: 'a-b' is not a variable name",
        ),
        ("version: 0.2\nenv:\n  variables:\n    A: [c]\nphases: {}", "line 4: env.variables.A has to be text"),
        (
            "version: 0.2\nenv:\n  exported-variables: [AWS_X]\nphases: {}",
            "line 3: env.exported-variables: 'AWS_X' cannot",
        ),
        ("version: 0.2\nartifacts:\n  name: x\nphases: {}", "line 3: artifacts.files is missing"),
        (
            "version: 0.2\nartifacts:\n  files: a\n  discard-paths: maybe\nphases: {}",
            "line 4: artifacts.discard-paths has",
        ),
        (
            "version: 0.2\nphases:\n  build:\n    on-failure: EXPLODE\n    commands: [x]",
            "line 4: phases.build.on-failure 'EX",
        ),
        (
            "version: 0.2\nphases:\n  build:\n    on-failure: RETRY-101\n    commands: [x]",
            "line 4: phases.build.on-failure: at most",
        ),
        (
            "version: 0.2\nphases:\n  build:\n    on-failure: RETRY-2-(a+)+$\n    commands: [x]",
            "line 4: phases.build.on-failure: RETRY with a",
        ),
        ("version: 0.2\n\tphases: {}", "line 2: "),
        ("version: 0.2\nphases: *nobody", "line 2: "),
        ("version: 0.2\n---\nversion: 0.2", "line 2: "),
    ],
)
def test_faults_have_their_line(text: str, expected: str):
    found = faults(text)
    assert any(fault.startswith(expected) for fault in found), found


def test_all_faults_come_at_once_in_the_order_of_the_lines():
    found = faults(
        "version: 9\nenv:\n  shell: fish\nphases:\n  build:\n    commands:\n      - [a]\n  install: {}\nbatch: {a: b}"
    )
    assert [fault.split(":")[0] for fault in found] == ["line 1", "line 3", "line 7", "line 8", "line 9"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("reports:\n  a:\n    files: x", "reports"),
        ("cache:\n  paths: [x]", "cache"),
        ("proxy:\n  logs: yes", "proxy"),
        ("run-as: root", "run-as"),
        ("unheard-of: 1", "unheard-of"),
        ("build:\n  commands: [x]", "build stands outside of phases"),
        ("env:\n  compute-type: X", "env.compute-type is unknown"),
        ("env:\n  variables:\n    CODEBUILD_X: y", "CODEBUILD_X is reserved"),
        ("env:\n  git-credential-helper: yes", "git-credential-helper"),
        ("artifacts:\n  secondary-artifacts:\n    a:\n      files: x", "secondary-artifacts"),
    ],
)
def test_what_is_not_carried_out_is_said(text: str, words: str):
    warnings = parse_buildspec(f"version: 0.2\nphases: {{}}\n{text}").warnings
    assert len(warnings) == 1, warnings
    assert words in warnings[0]
    assert warnings[0].startswith("line ")


def test_runtime_versions_and_phases_are_warned_of_by_line():
    spec = parse_buildspec(
        "version: 0.2\nphases:\n  install:\n    runtime-versions:\n      python: 3.10\n  build:\n    run-as: joe\n"
        "    commands: [x, '']\n  deploy:\n    commands: [y]"
    )
    assert [warning.split(":")[0] for warning in spec.warnings] == ["line 5", "line 7", "line 8", "line 10"]
    assert spec.phase("install").commands == ()
    assert spec.phase("build").commands == ("x",)


def test_a_document_without_phases_does_nothing_and_says_so():
    assert "does nothing" in parse_buildspec("version: 0.2").warnings[0]


def alias_bomb(levels: int) -> str:
    lines = ["version: 0.2", "a0: &a0 {x: y}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, levels)]
    return "\n".join([*lines, f"phases: {{<<: *a{levels - 1}}}"])


def test_a_bomb_of_merges_is_refused_in_time():
    started = time.process_time()
    assert any("too many merge keys" in fault for fault in faults(alias_bomb(40)))
    assert time.process_time() - started < 5  # 2 ** 40 merges would take for ever
    assert parse_buildspec(alias_bomb(5)).version == "0.2"  # the control: it is the number that is refused


def test_a_bomb_of_lists_is_refused_without_being_unrolled():
    lines = ["version: 0.2", "a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    found = faults("\n".join([*lines, "phases:\n  build:\n    commands: *a39"]))
    assert any("is not text" in fault for fault in found)


@pytest.mark.parametrize(
    "text",
    [
        "version: 0.2\nx: " + "[" * 5000,
        "version: 0.2\nx: [" + "a," * 30_000 + "]",
        "# " + "x" * 300_000,
        "a: &a [*a]\nversion: 0.2",
    ],
)
def test_what_is_too_deep_too_many_too_large_or_endless(text: str):
    try:
        parse_buildspec(text)
    except InvalidDocument as error:
        assert error.faults  # noqa: PT017 - the endless one may also be read, as it is ignored
    else:
        assert "[*a]" in text
