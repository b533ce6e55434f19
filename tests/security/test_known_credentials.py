"""H6: what a build shows of credentials that nobody declared, in its log and in its reports."""

from __future__ import annotations

import json

import pytest

from hooks.builds import known_shapes
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from registry import token_finder
from registry.accounts import new_token
from tests.build_bench import MISSING_SANDBOX, build, work_directory

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
REPORT = '<testsuite name="s"><testcase name="{token}"><failure message="{aws}"/></testcase></testsuite>'


def test_H6_what_looks_like_a_credential_is_masked_and_tokens_in_reports_are_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = new_token()
    spec = json.dumps({
        "version": "0.2",
        "phases": {"build": {"commands": [
            f"printf 'key=%s%s;\\n' {AWS[:10]} {AWS[10:]}",
            f"cat >r.xml <<'END'\n{REPORT.format(token=token, aws=AWS)}\nEND",
        ]}},
        "reports": {"unit": {"files": ["r.xml"]}},
    })  # fmt: skip
    with work_directory() as place:
        executor = ProcessExecutor(ProcessSettings(place))
        _, log = build(executor, spec)
        assert "key=***;" in log.text
        assert AWS not in log.text
        (_, entries) = log.reports["unit"]
        told = repr(entries)
        assert token not in told
        assert AWS not in told
        assert log.tokens == {token}
        # The control: with neither defence it is all there.
        monkeypatch.setattr(known_shapes.ShapeMask, "_take", lambda _self, text, is_last: text)
        monkeypatch.setattr(token_finder, "mask", lambda text: text)
        _, log = build(executor, spec)
        assert f"key={AWS};" in log.text
        assert token in repr(log.reports["unit"][1])
