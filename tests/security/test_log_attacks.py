"""E5: a build's log is a stranger's text, and terminals act on text."""

import html
import re

import pytest

from hooks.pages import terminal

ATTACKS = {
    "link (OSC 8)": "\x1b]8;;https://evil.example/\x07click\x1b]8;;\x1b\\",
    "title (OSC 2)": "\x1b]2;you are root\x07",
    "unfinished string": "\x1b]0;hides all that follows",
    "device control string": "\x1bP+q544e\x1b\\",
    "cursor up and erase": "failed\x1b[1A\x1b[2Kpassed",
    "erase the screen": "\x1b[2J\x1b[H",
    "answer back": "\x1b[6n\x1b[c\x05",
    "carriage return": "FAILED\rpassed",
    "backspaces": "FAILED\b\b\b\b\b\bpassed",
    "eight-bit controls": "\x9b2J\x9d2;title\x9c",
    "right-to-left override": "user\u202e nimda",
    "zero width": "ad\u200bmin",
    "line separator": "one\u2028two",
    "markup": "<script>alert(1)</script><svg onload=alert(1)>",
    "markup in a colour": '\x1b[31m"><img src=x onerror=alert(1)>\x1b[0m',
    "markup in parameters": '\x1b[38;5;"><b>m',
    "reset of the terminal": "\x1bc",
}
# What may be left in a page: no control character but the line's own end, and no direction but ours.
ACTED_ON = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2066-\u2069]")
TAG = re.compile(r"<[^>]*>")
OURS = re.compile(r'</?(?:div|a|span)(?: (?:class|id|href|title)="[A-Za-z0-9 #_.+-]*")*>')


def page_of(text: str) -> str:
    return str(terminal.render(text).html) + str(terminal.render_line(text))


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
def test_E5_what_a_terminal_would_act_on_is_text(text: str) -> None:
    shown = page_of(f"before {text} behind\nnext line")
    assert not ACTED_ON.search(shown)
    assert all(OURS.fullmatch(tag) for tag in TAG.findall(shown)), shown
    assert "evil.example" not in shown
    plain = html.unescape(TAG.sub("", shown))
    for word in ("before", "behind", "next line"):
        assert word in plain, "nothing hides what stands beside it"


def test_E5_a_browser_that_gets_it_as_it_is_would_act_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    monkeypatch.setattr(terminal, "_TOKEN", re.compile("(?P<final>)(?P<parameters>)(?P<odd>)(?!)"))
    assert ACTED_ON.search(page_of(ATTACKS["right-to-left override"]))
    assert ACTED_ON.search(page_of(ATTACKS["cursor up and erase"]))


def test_E5_an_endless_line_is_cut_and_said_to_be() -> None:
    shown = page_of("x" * 1_000_000)
    assert len(shown) < 50_000
    assert "990,000 more characters" in shown
    assert len(page_of("\x1b[31m" * 200_000)) < 50_000
    assert len(page_of("\x1b]" * 500_000)) < 2_000_000
