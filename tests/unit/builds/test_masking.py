"""Secrets in a stream, whatever the chunks are."""

import base64
import itertools
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.builds import masking
from hooks.builds.masking import MASK, Masker, forms

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
    assert shown(Masker([SECRET]), *chunks) == b"one *** two *** ent_ end ent_Q"


# Few letters, so that secrets overlap, begin each other and nearly occur.
letters = st.text("ab\n", min_size=1, max_size=14)


def covered(secrets: list[str], text: bytes) -> bytes:
    """What the mask has to show, the slow way: each byte that any form covers is masked, runs of them by one mask."""
    marks = bytearray(len(text))
    for form in {form for secret in secrets for form in forms(secret)}:
        at = text.find(form)
        while at >= 0:
            marks[at : at + len(form)] = b"x" * len(form)
            at = text.find(form, at + 1)
    out = bytearray()
    for place, mark in enumerate(marks):
        if not mark:
            out.append(text[place])
        elif place == 0 or not marks[place - 1]:
            out += MASK
    return bytes(out)


@given(st.lists(letters, max_size=4), st.lists(st.text("ab\nc", max_size=12), max_size=8), st.data())
def test_any_split_of_any_stream_shows_the_same(secrets: list[str], around: list[str], data: st.DataObject):
    pieces = [piece.encode() for piece in around]
    every = sorted({form for secret in secrets for form in forms(secret)})
    if every:
        pieces += data.draw(st.lists(st.sampled_from(every), max_size=4))
    text = b"".join(data.draw(st.permutations(pieces)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    chunks = [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]
    assert shown(Masker(secrets), *chunks) == covered(secrets, text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(masking, "_LOOK", 5)  # so that the forms are longer than what is looked at first
        assert shown(Masker(secrets), *chunks) == covered(secrets, text)
    assert Masker(secrets).mask_bytes(text) == covered(secrets, text)
    assert shown(Masker(secrets), *(text[place : place + 1] for place in range(len(text)))) == covered(secrets, text)


@given(st.text(min_size=4, max_size=40).filter(lambda text: len(text.strip()) >= 4), st.binary(max_size=5), st.data())
def test_what_is_encoded_shows_nothing_of_the_secret_but_its_neighbours_bits(
    secret: str, before: bytes, data: st.DataObject
):
    """In base64 the secret shares at most one character on each side with what stands beside it."""
    raw = secret.encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(before + raw + data.draw(st.binary(max_size=5)))
        first, last = -(-8 * len(before) // 6), 8 * (len(before) + len(raw)) // 6
        masked = Masker([secret]).mask_bytes(encoded)
        assert encoded[first:last] not in masked
        assert MASK in masked


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
    assert shown(Masker(["1", "123"]), b"123") == b"123"
    assert shown(Masker(["1234"]), b"x1234x") == b"x***x"


def test_secrets_that_are_learned_later_are_masked_from_there_on():
    masker = Masker([])
    assert masker.feed(b"first-secret ") == b"first-secret "
    masker.add(["first-secret", "second-secret"])
    assert masker.feed(b"first-sec") == b""
    masker.add(["third-secret"])
    assert shown(masker, b"ret third-secret!") == b"*** ***!"


def test_overlapping_secrets_leave_nothing_of_either():
    assert shown(Masker(["abcdefgh", "efghijkl"]), b"<abcdefghijkl>") == b"<***>"


@pytest.mark.parametrize(
    ("written", "secret"),
    [
        ("it'\\''s a $ecret", "it's a $ecret"),
        ("'it'\"'\"'s a $ecret'", "it's a $ecret"),
        ("it\\'s\\ a\\ \\$ecret", "it's a $ecret"),
        ("$'two\\nlines of it'", "two\nlines of it"),
        ('a\\"b\\$c\\`d', 'a"b$c`d'),
        ("&lt;p&amp;&quot;q&#39;&gt;", "<p&\"q'>"),
        ('{\\"k\\": \\"a\\\\\\"bcdefg\\"}', 'a"bcdefg'),
        ("https:\\/\\/host\\/path", "https://host/path"),
        ("p%c3%a4ss%2fword", "päss/word"),
        ("p%C3%A4ss/word", "päss/word"),
        ("'p\\xe4', 'a\\\\b\\tcd'", "a\\b\tcd"),
    ],
)
def test_escapes_of_shells_and_documents_are_forms(written: str, secret: str):
    masked = Masker([secret]).mask(written)
    assert "***" in masked
    assert not any(part in masked for part in ("ecret", "lines", "bcdef", "path", "word", "&amp;", "cd"))


def test_base64_that_tools_wrap_and_pad_is_masked_to_the_last_character():
    secret = "S3cret of some length, " * 6
    for text in (secret, secret + "\n"):
        encoded = base64.b64encode(text.encode()).decode()
        for columns in (64, 76, 10_000):
            wrapped = "\n".join(encoded[at : at + columns] for at in range(0, len(encoded), columns))
            assert set(Masker([secret]).mask(wrapped)) <= set("*\n"), columns
    assert Masker(["hunter2"]).mask(base64.b64encode(b"hunter2").decode()) == "***"


def test_a_long_secret_costs_no_more_than_its_length():
    secret = "\n".join(f"{number:08x}" * 8 for number in range(900))
    masker = Masker([secret])
    text = b"x" * 1000 + secret.encode() + b"y" * 1000
    out = shown(masker, *(text[at : at + 4096] for at in range(0, len(text), 4096)))
    assert out == b"x" * 1000 + b"***" + b"y" * 1000


def test_no_secrets_no_work():
    masker = Masker([])
    assert masker.feed(b"abc") == b"abc"
    assert masker.mask("abc") == "abc"
    assert Masker([SECRET]).mask(f"x{SECRET}y") == "x***y"
