"""What somebody who may publish writes into a build's document."""

from __future__ import annotations

import re
import signal

import pytest

from hooks.builds import run
from hooks.builds.executors.dummy import DummyExecutor
from hooks.builds.phases import BuildStatus
from tests.build_bench import build

ENDLESS = "(a+)+$"
LETTERS = "a" * 60 + "!"
DOCUMENT = f"""\
version: 0.2
phases:
  build:
    on-failure: 'RETRY-1-{ENDLESS}'
    commands: ['test {LETTERS}']
"""


def test_B8_a_pattern_of_on_failure_does_not_hold_the_worker() -> None:
    """It is matched against a message that its author chose as well, and the build ends."""
    executor = DummyExecutor()
    outcome, log = build(executor, DOCUMENT)
    assert outcome.status is BuildStatus.FAILED
    assert f"test {LETTERS}" in outcome.phases[6].faults[0].message
    assert "Not retrying: the message holds no match" in log.text
    assert len(executor.items) == 1


class TooSlowError(Exception):
    """Raised by the timer, in whatever runs."""


def test_B8_negative_control_an_engine_that_backtracks_never_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "is_found", lambda pattern, text: re.search(pattern, text) is not None)
    build(DummyExecutor(), DOCUMENT.replace(LETTERS, "a!"))  # so that it is the length of the text that does it

    def late(_number: int, _frame: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.5)  # of this process alone, however busy the machine is
    try:
        with pytest.raises(TooSlowError):
            build(DummyExecutor(), DOCUMENT)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
