"""H6: what a build prints of its secrets by accident, in a real sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest

from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.masking import Masker
from hooks.builds.phases import BuildStatus
from hooks.builds.plan import BuildOutcome
from hooks.builds.references import Reference, Resolved, Unresolved, VariableType
from tests.build_bench import MISSING_SANDBOX, Log, build, work_directory

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)

SECRET = "hunter2 & 'Sons'/+?"
PEM = "-----BEGIN KEY-----\nMIIBVgIBADANBgkqhkiG9w0BAQ\nAwIBAgIUQ1rmS0meC6Xyz\n-----END KEY-----\n"
MARKS = ("hunter", "Sons", "MIIBVgIBADANBgkqh", "AwIBAgIUQ1rm")
STORE = {
    "app/token": SECRET,
    "app/key": PEM,
    "doc": json.dumps({"user": "joe", "pass": SECRET}),
    "override": "0verridden",
}

PRINTS = [
    'echo "plain $TOKEN"',
    'for before in "" x xy; do printf "%s%s" "$before" "$TOKEN" | base64; printf "%s%s" "$before" "$TOKEN" | base64 | tr +/ -_ | tr -d =; done',
    'printf %s "$TOKEN" | od -An -v -tx1 | tr -d " \\n"; echo; printf %s "$TOKEN" | od -An -v -tx1 | tr -d " \\n" | tr a-f A-F; echo',
    'python3 -c \'import os, json, urllib.parse as u; t = os.environ["TOKEN"]; print(u.quote(t), u.quote_plus(t), json.dumps({"t": t}), repr(t))\'',
    'bash -c \'printf "%q\\n" "$TOKEN"; set -x; : "$TOKEN"\'',
    'printf "hun"; sleep 0.3; printf "ter2 & \'So"; sleep 0.3; printf "ns\'/+?\\n"',
    'python3 -c \'import os; raise SystemExit(ValueError("cannot sign in with " + os.environ["TOKEN"]))\' || true',
    'echo "$KEY"; echo "$KEY" | sed -n 3p; echo "$KEY" | base64',
    'echo "$DOC"; echo "taken apart: $PASS"',
    'export EXPORTED="sign in with $TOKEN"',
]


def resolver(references: Sequence[Reference]) -> Sequence[Resolved]:
    found = []
    for each in references:
        name, _, key = each.name.partition(":")
        if name not in STORE:
            raise Unresolved(each.type, f"AccessDeniedException: {name}")
        found.append(Resolved(each.variable, json.loads(STORE[name])[key] if key else STORE[name]))
    return found


@pytest.fixture(scope="module")
def executor() -> Iterator[ProcessExecutor]:
    with work_directory() as place:
        made = ProcessExecutor(ProcessSettings(place))
        assert made.available().ok
        yield made


def spec(*commands: str, post: Sequence[str] = (), **env: object) -> str:
    environment = {
        "parameter-store": {"TOKEN": "app/token", "KEY": "app/key"},
        "secrets-manager": {"DOC": "doc", "PASS": "doc:pass", "OVERRIDDEN": "override"},
        "exported-variables": ["TOKEN", "EXPORTED"],
        **env,
    }
    phases = {"build": {"commands": list(commands)}, "post_build": {"commands": list(post)}}
    return json.dumps({"version": "0.2", "env": environment, "phases": phases if post else {"build": phases["build"]}})


def leaking(executor: ProcessExecutor) -> tuple[BuildOutcome, Log, str]:
    failing = f'echo "{SECRET}" >/dev/null; exit 3'  # the command itself holds it: it stands in the phase's message
    text = spec(*PRINTS, failing, post=["true"])
    outcome, log = build(executor, text, resolver=resolver, overrides={"OVERRIDDEN": "by the project"})
    everything = "\n".join(
        [log.text, json.dumps(outcome.exported), *(json.dumps(record.as_json()) for record in outcome.phases)]
    )
    return outcome, log, everything


def test_H6_what_a_build_prints_of_its_secrets_is_masked_in_every_usual_form(executor: ProcessExecutor) -> None:
    outcome, log, everything = leaking(executor)
    assert outcome.status is BuildStatus.FAILED
    lines = log.text.splitlines()
    assert "plain ***" in lines
    assert "taken apart: ***" in lines
    for mark in MARKS:
        assert mark not in everything, everything
        for form in (mark.encode().hex(), mark.encode().hex().upper()):
            assert form not in everything
    # Base64, at the three alignments: nothing of the middle of the secret can be decoded from any line.
    assert not [line for line in lines if looks_decodable(line)]
    (fault,) = [each for record in outcome.phases for each in record.faults]
    assert fault.message.startswith('Error while executing command: echo "***')
    assert outcome.exported == {"EXPORTED": "sign in with ***"}
    assert "Warning: TOKEN comes from a secret or parameter and is not exported" in log.text


def test_H6_without_the_mask_all_of_it_is_there(executor: ProcessExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Masker, "add", lambda self, secrets: None)
    _, log, everything = leaking(executor)
    for mark in MARKS:
        assert mark in everything
    assert SECRET.encode().hex() in everything
    assert [line for line in log.text.splitlines() if looks_decodable(line)]


def looks_decodable(line: str) -> bool:
    import base64

    padded = line.replace("-", "+").replace("_", "/")
    try:
        return b"hunter2" in base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
    except ValueError:
        return False


def test_values_come_before_the_first_phase_and_overrides_are_not_asked_for(executor: ProcessExecutor) -> None:
    asked: list[Reference] = []

    def asking(references: Sequence[Reference]) -> Sequence[Resolved]:
        asked.extend(references)
        return resolver(references)

    outcome, log = build(
        executor,
        spec('test "$PLAIN" = yes', 'test "$PASS" = "0verridden"', 'test "$KEY" = plainly', post=[]),
        resolver=asking,
        overrides={"OVERRIDDEN": "x", "PLAIN": "yes", "KEY": "plainly"},
        references=(Reference("PASS", VariableType.SECRETS_MANAGER, "override"),),
    )
    assert outcome.status is BuildStatus.SUCCEEDED, log.text
    assert sorted(each.variable for each in asked) == ["DOC", "PASS", "TOKEN"]
    assert log.text.index("Decrypting parameter store environment variables") < log.text.index("Entering phase")


def test_a_value_that_cannot_be_had_fails_the_source_phase_before_any_command(executor: ProcessExecutor) -> None:
    for section, status in (
        ("parameter-store", "Decrypted Variables Error"),
        ("secrets-manager", "Secrets Manager Error"),
    ):
        outcome, log = build(executor, spec("echo ran", **{section: {"X": "nowhere"}}), resolver=resolver)
        assert outcome.status is BuildStatus.FAILED
        (record,) = [each for each in outcome.phases if each.faults]
        assert (record.phase.value, record.faults[0].status_code) == ("DOWNLOAD_SOURCE", status)
        assert f"Phase context status code: {status} Message: AccessDeniedException: nowhere" in log.text
        assert "ran" not in log.output
    assert "there is none" in build(executor, spec("echo ran"))[1].text, "a place without a store gives nothing"
