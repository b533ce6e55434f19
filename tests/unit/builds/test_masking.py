"""Secrets in a stream, whatever the chunks are."""

import base64
import itertools
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.builds.masking import Masker, forms

SECRET = 'ent_Q+z/9 t"ö~7Kd'


def shown(masker: Masker, *chunks: bytes) -> bytes:
    return b"".join([masker.feed(chunk) for chunk in chunks] + [masker.flush()])


@pytest.mark.parametrize(
    "form",
    [
        SECRET.encode(),
        base64.b64encode(b"x" + SECRET.encode()),
        base64.b64encode(b"xy" + SECRET.encode() + b"z"),
        base64.b64encode(b"xyz" + SECRET.encode() + b"zz"),
        base64.urlsafe_b64encode(b"u:" + SECRET.encode()),
        SECRET.encode().hex().encode(),
        SECRET.encode().hex().upper().encode(),
        urllib.parse.quote(SECRET, safe="").encode(),
        urllib.parse.quote_plus(SECRET).encode(),
        json.dumps({"token": SECRET}).encode(),
    ],
)
def test_every_form_is_masked_and_its_surroundings_are_not(form: bytes):
    out = shown(Masker([SECRET]), b"before " + form + b" after")
    assert out.startswith(b"before ")
    assert out.endswith(b" after")
    assert b"***" in out
    core = min((f for f in forms(SECRET) if f in form), key=len)
    assert core not in out


@given(st.lists(st.integers(0, 60), max_size=8))
def test_the_borders_of_chunks_do_not_matter(cuts: list[int]):
    text = b"one " + SECRET.encode() + b" two " + SECRET.encode() + SECRET.encode() + b" ent_ end ent_Q"
    edges = sorted({0, len(text), *(cut for cut in cuts if cut <= len(text))})
    chunks = [text[a:b] for a, b in itertools.pairwise(edges)]
    assert shown(Masker([SECRET]), *chunks) == b"one *** two ****** ent_ end ent_Q"


def test_only_a_possible_start_is_held_back():
    masker = Masker([SECRET])
    assert masker.feed(b"harmless") == b"harmless"
    assert masker.feed(b"x ent_Q") == b"x "
    assert masker.feed(b" no") == b"ent_Q no"


def test_the_longer_of_two_secrets_wins():
    masker = Masker(["abcdefgh", "abcdefghij"])
    assert shown(masker, b"abcdefgh", b"ij!") == b"***!"


def test_lines_of_a_long_secret_are_masked_and_short_ones_are_not():
    masker = Masker(["first line\nshort\nsecond line"])
    assert shown(masker, b"a first line b\nshort\nsecond line") == b"a *** b\nshort\n***"


def test_short_secrets_would_mask_everything_and_are_ignored():
    assert shown(Masker(["1234567"]), b"1234567") == b"1234567"


def test_no_secrets_no_work():
    masker = Masker([])
    assert masker.feed(b"abc") == b"abc"
    assert masker.mask("abc") == "abc"
    assert Masker([SECRET]).mask(f"x{SECRET}y") == "x***y"
