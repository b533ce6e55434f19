"""A text looked for in a log: every line that has it, whatever the pieces and however long the lines."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.builds import log_search
from hooks.builds.log_search import Place, search
from registry.errors import Invalid


def over(data: bytes, piece_bytes: int):
    return lambda offset, limit: data[offset : offset + min(limit, piece_bytes)]


def lines_of(data: bytes, query: bytes) -> list[tuple[int, int]]:
    """(line number, offset of the first place) the plain way."""
    found, start = [], 0
    for number, line in enumerate(data.split(b"\n"), 1):
        at = line.find(query)
        if at >= 0:
            found.append((number, start + at))
        start += len(line) + 1
    return found


def all_of(data: bytes, query: str, *, piece_bytes: int, limit: int, ignores_case: bool = False):
    at: Place | None = Place()
    matches = []
    while at is not None:
        found = search(over(data, piece_bytes), query, ignores_case=ignores_case, at=at, limit=limit)
        matches += found.matches
        at = found.next
    return matches


@settings(max_examples=150)
@given(
    st.lists(st.text("ab\n", max_size=40), max_size=30).map("".join),
    st.text("ab", min_size=1, max_size=4),
    st.integers(1, 50),
    st.integers(1, 5),
)
def test_every_line_is_found_once_whatever_the_pieces(text: str, query: str, piece_bytes: int, limit: int):
    data = text.encode()
    monkey, log_search.AROUND_BYTES = log_search.AROUND_BYTES, 3
    try:
        matches = all_of(data, query, piece_bytes=piece_bytes, limit=limit)
    finally:
        log_search.AROUND_BYTES = monkey
    assert [(match.line, match.offset) for match in matches] == lines_of(data, query.encode())
    for match in matches:
        assert match.line_offset == data.rfind(b"\n", 0, match.offset) + 1
        assert query in match.excerpt
        assert "\n" not in match.excerpt
        assert match.excerpt.encode() in data[match.line_offset :].split(b"\n")[0]


def test_case_is_of_ascii_letters_and_the_query_is_no_pattern():
    data = b"one\nERROR: a.c\nerror: abc\n"
    assert [match.line for match in all_of(data, "Error", piece_bytes=100, limit=9, ignores_case=True)] == [2, 3]
    assert [match.line for match in all_of(data, "error", piece_bytes=100, limit=9)] == [3]
    assert [match.line for match in all_of(data, "a.c", piece_bytes=100, limit=9)] == [2]


def test_an_excerpt_is_of_its_line_and_no_longer_than_it_need_be():
    data = b"first\n" + b"x" * 3_000_000 + b"needle" + b"y" * 3_000_000 + b"needle\nlast"
    (match,) = all_of(data, "needle", piece_bytes=10**6, limit=10)
    assert (match.line, match.line_offset, match.offset) == (2, 6, 3_000_006)
    assert match.excerpt == "x" * 160 + "needle" + "y" * 160


@pytest.mark.parametrize("query", ["", "a\nb", "x" * 201])
def test_what_cannot_be_looked_for_is_refused(query: str):
    with pytest.raises(Invalid):
        search(over(b"", 10), query, ignores_case=False, at=Place(), limit=1)
