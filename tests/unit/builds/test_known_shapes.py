"""H6: credentials of well-known shapes that nobody declared are masked, however the stream is cut."""

import random

import pytest

from hooks.builds.known_shapes import MASK, ShapeMask, mask

# Put together here, so that no scanner takes this file for a leak.
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
SESSION = "ASIA" + "ABCDEFGHIJKLMNOP"
FORGE = "ghp_" + "a1B2" * 9
FINE = "github_pat_" + "11ABCDEFG0" * 8 + "_x"
PACKAGES = "npm_" + "Zz09" * 9
KEY = "-----BEGIN {}PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC+/AB=\n" * 30 + "-----END {}PRIVATE KEY-----"


@pytest.mark.parametrize("secret", [AWS, SESSION, FORGE, FORGE.replace("ghp", "gho"), FINE, PACKAGES])
@pytest.mark.parametrize("around", ["{}", "key={}\n", '"{}",', "https://x:{}@host/", "a {} b {} c"])
def test_H6_tokens_of_known_shapes_are_masked(secret: str, around: str) -> None:
    shown = mask(around.replace("{}", secret))
    assert secret not in shown
    assert shown == around.replace("{}", MASK.decode())


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
@pytest.mark.parametrize("ending", ["\n", "\\n"])
def test_H6_private_keys_are_masked(kind: str, ending: str) -> None:
    key = KEY.format(kind, kind).replace("\n", ending)
    shown = mask(f"before {key} after [x]")
    assert "MIIE" not in shown
    assert shown == f"before -----BEGIN {kind}PRIVATE KEY-----***-----END {kind}PRIVATE KEY----- after [x]"


@pytest.mark.parametrize(
    "text",
    [
        "AKIA is a prefix", "AKIAshort", "npm_config_registry=http://x", "npm_" + "a" * 40, "ghp_short", "sha256:" + "ab" * 32,
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----", "-----BEGIN PUBLIC KEY-----\nMIIE", "---- a line ----", "",
    ],
)  # fmt: skip
def test_what_only_resembles_one_is_shown(text: str) -> None:
    assert mask(text) == text


def test_a_first_line_alone_does_not_swallow_the_log() -> None:
    line = "-----BEGIN PRIVATE KEY-----"
    assert mask(f"looking for {line}\n[Container] done\n") == f"looking for {line}***[Container] done\n"
    assert mask(line + "A" * 40_000 + "B") == line + MASK.decode() + "A" * (40_000 - 32 * 1024) + "B"


def test_H6_cuts_anywhere_change_nothing_and_what_is_held_back_is_bounded() -> None:
    rolls = random.Random(4711)
    text = "".join(
        rolls.choice(
            [
                AWS,
                FORGE,
                FINE,
                PACKAGES,
                KEY.format("", ""),
                "AKI",
                "gh",
                "github_pat_",
                "-----BEGIN ",
                "\n",
                "x",
                "----",
            ]
        )
        + rolls.choice(["", " ", "\n", "["])
        for _ in range(400)
    ).encode()
    whole = ShapeMask()
    expected = whole.feed(text) + whole.flush()
    assert f" {FORGE} ".encode() not in expected
    assert MASK in expected
    for _ in range(60):
        piecemeal, shown, position = ShapeMask(), b"", 0
        while position < len(text):
            size = rolls.choice([1, 2, 7, 50, 400, 3000])
            shown += piecemeal.feed(text[position : position + size])
            assert len(piecemeal._held) <= 256
            position += size
        assert shown + piecemeal.flush() == expected


def test_a_flood_is_taken_in_linear_time() -> None:
    for piece in (b"A" * 65536, b"-" * 65536, b"npm_" * 16384, b"-----BEGIN " * 6000, b"github_pat_" * 6000):
        stream = ShapeMask()
        total = sum(len(stream.feed(piece)) for _ in range(20)) + len(stream.flush())
        assert total > 0
