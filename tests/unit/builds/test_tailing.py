"""Following a log: bounded in time, in number, and by caller; characters are never cut in two."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.builds import tailing
from hooks.builds.tailing import Tails, whole_characters
from registry.errors import RateLimited


def test_a_caller_and_a_process_follow_only_so_many():
    tails = Tails(most=3, most_of_one=2)
    leaves = [tails.enter(1), tails.enter(1)]
    with pytest.raises(RateLimited):
        tails.enter(1)
    leaves.append(tails.enter(2))
    with pytest.raises(RateLimited):
        tails.enter(3)
    leaves[0]()
    leaves[0]()  # twice is once
    with pytest.raises(RateLimited):
        tails.enter(1) and tails.enter(1)
    for leave in leaves[1:]:
        leave()
    with tails.place(3), tails.place(3), pytest.raises(RateLimited):
        tails.enter(3)


def test_an_answer_ends_by_itself_also_when_nothing_comes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tailing, "POLL_SECONDS", 0.001)
    pieces = list(Tails(stream_seconds=0.02).follow(lambda offset, _: (b"", offset, False), 7))
    assert pieces == []
    ending = iter([False, True])
    log = b"abcdef"
    read = lambda offset, _: (log[offset : offset + 2], min(offset + 2, 6), False)  # noqa: E731
    got = list(Tails(is_ending=lambda: next(ending)).follow(read, 0))
    assert [(piece.data, piece.start, piece.end) for piece in got] == [(b"ab", 0, 2), (b"cd", 2, 4)]


def test_it_ends_with_the_log_and_a_heartbeat_says_that_it_lives(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tailing, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(tailing, "HEARTBEAT_SECONDS", 0.0)
    answers = iter([(b"a", 1, False), (b"", 1, False), (b"", 1, True)])
    got = list(Tails().follow(lambda *_: next(answers), 0))
    assert [(piece.data, piece.is_last) for piece in got] == [(b"a", False), (b"", False), (b"", True)]


@given(st.text(max_size=30), st.data())
def test_a_piece_is_cut_between_characters(text: str, data: st.DataObject):
    raw = text.encode()
    edges = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    shown, held = "", b""
    for start, end in itertools.pairwise([0, *edges, len(raw)]):
        held += raw[start:end]
        whole = whole_characters(held, is_last=end == len(raw))
        shown += held[:whole].decode()
        held = held[whole:]
    assert shown == text


@given(st.binary(max_size=20))
def test_what_is_no_text_is_not_held_back_for_ever(data: bytes):
    assert len(data) - whole_characters(data, is_last=False) <= 3
    assert whole_characters(data, is_last=True) == len(data)
