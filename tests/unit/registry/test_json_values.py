"""The fast reader and writer of documents mean what Python's own do, also where they have to leave the work to them."""

import json
import math

import pytest

from registry.json_text import decode, encode

ODD = [
    "-0",
    "1e5",
    '{"a": 1, "a": 2}',
    '"\\ud800"',
    '"é\\u2028"',
    "[" * 200 + "]" * 200,
    "9223372036854775807",
    " [1, 2.5, null]",
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_a_document_is_read_as_by_pythons_own_reader(text: str) -> None:
    assert decode(text) == json.loads(text)


def test_an_integer_beyond_64_bits_is_a_float_as_for_javascript() -> None:
    assert decode("1" * 30) == float("1" * 30)


def test_a_nest_too_deep_is_refused() -> None:
    with pytest.raises(RecursionError):
        decode("[" * 100_000 + "]" * 100_000)


@pytest.mark.parametrize("text", ["", "{", "[1,]", "nothing", '{"a": }'])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(text)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e400"])
def test_a_number_that_json_cannot_have_is_read_and_never_written(text: str) -> None:
    value = decode(f"[{text}]")
    assert not math.isfinite(value[0])
    with pytest.raises(ValueError, match="JSON"):
        encode(value)


@pytest.mark.parametrize("value", [{"a": [1, None, True, "x"]}, {"é": "\u2028"}, ["\ud800"], 10**30, {"n": -1.5}])
def test_what_is_written_is_compact_ascii_and_reads_back(value: object) -> None:
    text = encode(value)
    assert text.isascii()
    assert text == json.dumps(value, separators=(",", ":"))
    assert json.loads(text) == value
