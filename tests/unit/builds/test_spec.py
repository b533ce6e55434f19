"""buildspec.yml: the grammar, every fault with its line, and nothing dropped silently."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.builds.spec import (
    ArtifactSpec,
    BatchEnvironment,
    BatchMatrix,
    BatchSpec,
    BatchTask,
    BuildSpec,
    CacheSpec,
    FailureRule,
    OnFailure,
    PhaseSpec,
    ReportSpec,
    SecretReference,
    parse_buildspec,
    split_secret_reference,
)
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
        ("RETRY-.*", FailureRule(OnFailure.RETRY, 3)),
        ("RETRY-0-a", FailureRule(OnFailure.RETRY, 0, "a")),
        ("retry-5xx", FailureRule(OnFailure.RETRY, 3, "5xx")),
        ("RETRY-1-exit status (7|22)-x", FailureRule(OnFailure.RETRY, 1, "exit status (7|22)-x")),
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
        ("version: 0.2\nphases:\n  build:\n    run-as: x", "line 4: phases.build.commands is missing"),
        ("version: 0.2\nphases: [a]", "line 2: phases has to be a mapping"),
        ("version: 0.2\nversion: 0.2\nphases: {}", "line 2: the buildspec: 'version' stands here twice"),
        (
            "version: 0.2\nphases:\n  build:\n    commands:\n      - [a, b]",
            "line 5: phases.build.commands[0] is not text but a list",
        ),
        ("version: 0.2\nenv:\n  parameter-store:\n    A:\nphases: {}", "line 4: env.parameter-store.A names nothing"),
        (
            "version: 0.2\nenv:\n  secrets-manager:\n    A: a:b:c:d:e\nphases: {}",
            "line 4: env.secrets-manager.A: it is secret-id",
        ),
        (
            "version: 0.2\nenv:\n  secrets-manager:\n    A: a::c:d\nphases: {}",
            "line 4: env.secrets-manager.A: give the version's stage or its id",
        ),
        (
            "version: 0.2\nenv:\n  secrets-manager:\n    A: ':key'\nphases: {}",
            "line 4: env.secrets-manager.A: the secret's id is missing",
        ),
        ("version: 0.2\nrun-as: a b\nphases: {}", "line 2: run-as: 'a b' is not the name of a user"),
        (
            "version: 0.2\nphases:\n  install:\n    runtime-versions:\n      pyhton: 3.10",
            "line 5: phases.install.runtime-versions: 'pyhton' is unknown; the runtimes are android, docker",
        ),
        (
            "version: 0.2\nphases:\n  install:\n    runtime-versions:\n      python: three of them",
            "line 5: phases.install.runtime-versions.python: 'three of them' is not a version",
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
            "version: 0.2\nphases:\n  build:\n    on-failure: RETRY-1000000\n    commands: [x]",
            "line 4: phases.build.on-failure: at most",
        ),
        (
            "version: 0.2\nphases:\n  build:\n    on-failure: RETRY-2-(?<=a)b\n    commands: [x]",
            "line 4: phases.build.on-failure: '(?<=a)b' is not a regular expression",
        ),
        ("version: 0.2\nstrict: maybe\nphases: {}", "line 2: strict has to be yes or no"),
        ("version: 0.2\nstrict: yes\nenvironment:\n  a: b\nphases: {}", "line 3: environment is unknown"),
        ("version: 0.2\nstrict: yes\nphases:\n  deploy:\n    commands: [x]", "line 4: phases.deploy is unknown"),
        ("version: 0.2\nstrict: yes\nbuild:\n  commands: [x]", "line 3: build stands outside of phases"),
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
        ("proxy:\n  logs: yes", "proxy has no effect"),
        ("proxy:\n  artifacts: yes", "proxy.artifacts is unknown"),
        ("cache:\n  paths: [x]\n  fallback-keys: [y]", "cache.fallback-keys has no effect without cache.key"),
        ("cache:\n  path: [x]", "cache.path is unknown"),
        ("reports:\n  a:\n    files: x\n    format: JUNITXML", "reports.a.format is unknown"),
        ("unheard-of: 1", "unheard-of"),
        ("build:\n  commands: [x]", "build stands outside of phases"),
        ("env:\n  compute-type: X", "env.compute-type is unknown"),
        ("env:\n  variables:\n    CODEBUILD_X: y", "CODEBUILD_X is reserved"),
        ("env:\n  git-credential-helper: yes", "git-credential-helper"),
        ("artifacts:\n  files: x\n  type: zip", "artifacts.type is unknown"),
        (
            "artifacts:\n  secondary-artifacts:\n    a:\n      files: x\n      path: y",
            "artifacts.secondary-artifacts.a.path is unknown",
        ),
    ],
)
def test_what_is_not_carried_out_is_said(text: str, words: str):
    warnings = parse_buildspec(f"version: 0.2\nphases: {{}}\n{text}").warnings
    assert len(warnings) == 1, warnings
    assert words in warnings[0]
    assert warnings[0].startswith("line ")


def test_runtime_versions_users_and_unknown_phases():
    spec = parse_buildspec(
        "version: 0.2\nrun-as: root\nphases:\n  install:\n    runtime-versions:\n      python: 3.10\n      java: $JAVA\n"
        "  build:\n    run-as: joe\n    commands: [x, '']\n  deploy:\n    commands: [y]"
    )
    assert [warning.split(":")[0] for warning in spec.warnings] == ["line 10", "line 11"]
    assert spec.runtime_versions == {"python": "3.10", "java": "$JAVA"}
    assert spec.phase("install").commands == ()
    assert spec.phase("build").commands == ("x",)
    assert [spec.user_of(name) for name in ("install", "build", "post_build")] == ["root", "joe", "root"]


def test_a_phase_and_its_runtimes_may_come_by_a_merge_key():
    spec = parse_buildspec(
        "version: 0.2\nx: &x {runtime-versions: {nodejs: 18.x}}\nphases:\n  install:\n    <<: *x\n    commands: [a]"
    )
    assert spec.runtime_versions == {"nodejs": "18.x"}


def test_references_to_secrets_and_parameters():
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-a1b2c3"
    spec = parse_buildspec(
        f"version: 0.2\nenv:\n  parameter-store:\n    P: /app/db\n  secrets-manager:\n    A: db\n    B: '{arn}:user'\n"
        "    C: db:::1f0c\nphases: {}"
    )
    assert spec.parameter_store == {"P": "/app/db"}
    assert {name: split_secret_reference(text) for name, text in spec.secrets_manager.items()} == {
        "A": SecretReference("db"),
        "B": SecretReference(arn, "user"),
        "C": SecretReference("db", "", "", "1f0c"),
    }


def test_reports():
    spec = parse_buildspec(
        "version: 0.2\nreports:\n  unit:\n    files: '**/*.xml'\n  $NAME-cover:\n    files: [a, b]\n"
        "    base-directory: $CODEBUILD_SRC_DIR/x\n    discard-paths: yes\n    file-format: CoberturaXml\nphases: {}"
    )
    assert spec.reports == (
        ReportSpec("unit", ("**/*.xml",)),
        ReportSpec("$NAME-cover", ("a", "b"), "$CODEBUILD_SRC_DIR/x", True, "COBERTURAXML"),
    )
    assert spec.warnings == ()


def test_artifacts_of_every_kind():
    spec = parse_buildspec(
        "version: 0.2\nartifacts:\n  files: a\n  enable-symlinks: yes\n  s3-prefix: p\n  secondary-artifacts:\n"
        "    one:\n      files: ['b/*']\n      name: n\n    two:\n      files: c\n      discard-paths: no\nphases: {}"
    )
    assert spec.artifacts == ArtifactSpec(("a",), enable_symlinks=True, s3_prefix="p")
    assert spec.secondary_artifacts == {"one": ArtifactSpec(("b/*",), name="n"), "two": ArtifactSpec(("c",))}


def test_secondary_artifacts_alone_need_no_primary_one():
    spec = parse_buildspec("version: 0.2\nartifacts:\n  secondary-artifacts:\n    a:\n      files: x\nphases: {}")
    assert (spec.artifacts, spec.secondary_artifacts) == (None, {"a": ArtifactSpec(("x",))})


def test_cache():
    text = "version: 0.2\nphases: {}\ncache:\n"
    assert parse_buildspec(text + "  paths: /root/.m2/**/*").cache == CacheSpec(("/root/.m2/**/*",))
    assert parse_buildspec(text + "  key: k-$A\n  fallback-keys: [k-, k]\n  action: Save").cache == CacheSpec(
        (), "k-$A", ("k-", "k"), "save"
    )
    assert parse_buildspec(text).cache is None


def test_a_batch_list():
    spec = parse_buildspec(
        "version: 0.2\nbatch:\n  fast-fail: yes\n  build-list:\n    - identifier: a\n      buildspec: a.yml\n"
        "      ignore-failure: true\n      env:\n        image: i\n        privileged-mode: no\n        variables:\n"
        "          V: 010\n    - identifier: b\n      debug-session: yes\nphases: {}"
    )
    assert spec.batch == BatchSpec(
        "build-list",
        True,
        (
            BatchTask(
                "a",
                "a.yml",
                ignore_failure=True,
                environment=BatchEnvironment(image="i", privileged_mode=False, variables={"V": "010"}),
            ),
            BatchTask("b", debug_session=True),
        ),
    )


def test_a_batch_graph_matrix_and_fanout():
    text = "version: 0.2\nphases: {}\nbatch:\n"
    graph = parse_buildspec(
        text + "  build-graph:\n    - identifier: a\n    - {identifier: b, depend-on: a}\n"
        "    - {identifier: c, depend-on: [a, b]}"
    ).batch
    assert graph is not None
    assert [task.depends_on for task in graph.tasks] == [(), ("a",), ("a", "b")]
    matrix = parse_buildspec(
        text + "  build-matrix:\n    static:\n      ignore-failure: no\n      env: {type: T, compute-type: C}\n"
        "    dynamic:\n      buildspec: [a.yml, b.yml]\n      env: {image: [i], variables: {V: [1, 2.0]}}"
    ).batch
    assert matrix == BatchSpec(
        "build-matrix",
        matrix=BatchMatrix(
            environment=BatchEnvironment(type="T", compute_type="C"),
            buildspecs=("a.yml", "b.yml"),
            images=("i",),
            variables={"V": ("1", "2.0")},
        ),
    )
    fanout = parse_buildspec(text + "  build-fanout:\n    parallelism: 5\n    ignore-failure: yes").batch
    assert fanout == BatchSpec("build-fanout", parallelism=5, ignore_failure=True)
    assert parse_buildspec(text).batch is None


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("batch:\n  fast-fail: yes", "batch has to have exactly one of build-list"),
        ("batch:\n  build-list: [{identifier: a}]\n  build-graph: [{identifier: a}]", "batch has to have exactly one"),
        ("batch:\n  build-list: []", "batch.build-list has to be a list of builds"),
        ("batch:\n  build-list:\n    - buildspec: x", "batch.build-list[0].identifier is missing"),
        ("batch:\n  build-list:\n    - identifier: a b", "batch.build-list[0].identifier 'a b'"),
        ("batch:\n  build-list: [{identifier: a}, {identifier: a}]", "batch.build-list: two builds are called 'a'"),
        (
            "batch:\n  build-list: [{identifier: a, env: {fleet: f, compute-type: c}}]",
            "batch.build-list[0].env: give a fleet or a compute-type",
        ),
        ("batch:\n  build-graph: [{identifier: a, depend-on: b}]", "batch.build-graph: 'a' depends on 'b'"),
        (
            "batch:\n  build-graph: [{identifier: a, depend-on: b}, {identifier: b, depend-on: a}]",
            "batch.build-graph: the builds wait for each other",
        ),
        ("batch:\n  build-matrix:\n    static: {}", "batch.build-matrix.dynamic is missing"),
        (
            "batch:\n  build-matrix:\n    dynamic:\n      env: {variables: {A: []}}",
            "batch.build-matrix.dynamic.env.variables.A has no values",
        ),
        ("batch:\n  build-fanout:\n    parallelism: many", "batch.build-fanout.parallelism is a number"),
        ("batch:\n  build-fanout:\n    parallelism: 0", "batch.build-fanout.parallelism is a number"),
        ("reports:\n  a: {}", "reports.a.files is missing"),
        ("reports:\n  a: {files: x, file-format: JUNIT}", "reports.a.file-format: it is one of JUNITXML, CUCUMBERJSON"),
        (
            "reports: {a0: &r {files: x}, " + ", ".join(f"a{n}: *r" for n in range(1, 21)) + "}",
            "reports: at most 20",
        ),
        ("cache: {paths: [x], action: keep}", "cache.action 'keep': it is restore or save"),
        ("cache: {paths: [x], key: k, fallback-keys: [a, b, c, d, e, f]}", "cache.fallback-keys: at most 5"),
        ("artifacts:\n  secondary-artifacts:\n    a/b:\n      files: x", "artifacts.secondary-artifacts: 'a/b' is not"),
        (
            "artifacts:\n  secondary-artifacts:\n    a:\n      name: x",
            "artifacts.secondary-artifacts.a.files is missing",
        ),
    ],
)
def test_faults_of_sections(section: str, expected: str):
    found = faults(f"version: 0.2\nphases: {{}}\n{section}")
    assert any(expected in fault for fault in found), found
    assert all(fault.startswith("line ") for fault in found)


def test_a_document_without_phases_does_nothing_and_says_so():
    assert "does nothing" in parse_buildspec("version: 0.2").warnings[0]


WORDS = [
    "version",
    "strict",
    "run-as",
    "env",
    "variables",
    "parameter-store",
    "secrets-manager",
    "exported-variables",
    "shell",
    "phases",
    "install",
    "build",
    "commands",
    "finally",
    "on-failure",
    "runtime-versions",
    "python",
    "reports",
    "artifacts",
    "files",
    "secondary-artifacts",
    "discard-paths",
    "cache",
    "paths",
    "key",
    "fallback-keys",
    "action",
    "batch",
    "build-list",
    "build-graph",
    "build-matrix",
    "build-fanout",
    "identifier",
    "depend-on",
    "static",
    "dynamic",
    "image",
    "parallelism",
    "proxy",
    "logs",
    "environment_variables",
    "plaintext",
    "<<",
]
SCALARS = st.sampled_from(
    [None, 1, True, 0.2, "yes", "RETRY-3-(", "arn:aws:x", "a:b:c:d:e", "$X", "3.x", "", "\0", "é"]
)
TREES = st.recursive(
    SCALARS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(WORDS), children, max_size=5),
    max_leaves=30,
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.sampled_from(WORDS), TREES, max_size=8), st.sampled_from(["0.1", "0.2"]))
def test_whatever_is_written_the_answer_is_a_document_or_its_faults(tree: dict[str, object], version: str):
    try:
        assert parse_buildspec(json.dumps({**tree, "version": version})).version == version
    except InvalidDocument as error:
        assert error.faults  # noqa: PT017
        assert all(fault.startswith("line 1: ") for fault in error.faults)  # noqa: PT017  (JSON is one line)


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


def test_merges_that_lead_in_a_circle_or_too_deep_are_refused():
    for text in ("phases: &p {<<: *p}", "phases: &p {<<: [*p, *p]}"):
        assert any("in a circle" in fault for fault in faults(text)), text
    chain = ["a0: &a0 {build: {commands: [x]}}", *(f"a{n}: &a{n} {{<<: *a{n - 1}}}" for n in range(1, 700))]
    assert any("through more than" in fault for fault in faults("\n".join([*chain, "phases: {<<: *a699}"])))
