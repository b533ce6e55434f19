"""A stranger's regular expressions: what is one, and that none keeps the worker busy."""

import re
import time

import pytest

from hooks.builds.patterns import is_found, pattern_fault

ENDLESS = "(a+)+$"
MEGABYTE_OF_A = "a" * 1024 * 1024 + "b"


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("exit status (7|22)", "Reason: exit status 22", True),
        ("exit status (7|22)$", "Reason: exit status 223", False),
        ("^Error", "an Error", False),
        ("(?i)TIMEOUT", "a timeout", True),
        ("", "anything", True),
    ],
)
def test_a_match_anywhere_in_the_text(pattern: str, text: str, *, found: bool):
    assert is_found(pattern, text) is found


@pytest.mark.parametrize("pattern", ["(", "(?=ahead)", r"(a)\1", "a{2000}", "((a{500}){500}){500}"])
def test_what_re2_does_not_take(pattern: str):
    assert pattern_fault(pattern)


def test_no_pattern_takes_longer_than_the_text_is_long():
    started = time.process_time()
    assert not is_found(ENDLESS, MEGABYTE_OF_A)
    assert time.process_time() - started < 5
    # The control: an engine that backtracks doubles its time with each letter; 20 letters are what a test can wait for.
    started = time.process_time()
    assert not re.search(ENDLESS, "a" * 20 + "b")
    assert time.process_time() - started > 0.01
