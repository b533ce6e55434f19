"""When a case is flaky, by its history."""

import pytest

from hooks.builds.flakiness import is_flaky


@pytest.mark.parametrize(
    ("history", "flaky"),
    [
        ("", False),
        ("a+ a+ b+", False),
        ("a- a- b-", False),
        ("a- b+ c+", False),  # mended
        ("a+ b- c+", False),  # broke and was mended
        ("a+ b- c+ d-", True),
        ("a+ a-", True),
        ("a- b+ b+ a+", True),
        ("a+ as a?", False),
        ("a+ b- cs d+ es f-", True),
    ],
)
def test_flaky(history: str, flaky: bool):
    words = {"+": "SUCCEEDED", "-": "FAILED", "s": "SKIPPED", "?": "UNKNOWN"}
    entries = [(entry[0], words[entry[1]]) for entry in history.split()]
    assert is_flaky(entries) is flaky
    assert is_flaky(reversed(entries)) is flaky
    assert is_flaky((source, status.replace("FAILED", "ERROR")) for source, status in entries) is flaky
