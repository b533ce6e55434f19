import time

import pytest

from hooks.triggers.match import Candidate, PackageFilter, glob_matches

ACME = PackageFilter("default", "dev", "fmt", "acme-*", "1.*", 3)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("*", "anything", True),
        ("*", "", True),
        ("acme", "acme", True),
        ("acme-*", "acme-", True),
        ("*-acme", "x-acme", True),
        ("a*c*e", "abcde", True),
        ("a*c*e", "abcdef", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("1.?", "1.0", True),
        ("**", "x", True),
        # H1: contained in something longer, alternation, character classes, newline, case folding, look-alikes
        ("acme", "acme-evil", False),
        ("acme", "evil-acme", False),
        ("acme|evil", "evil", False),
        ("[ab]", "a", False),
        ("acme.", "acmex", False),
        ("acme", "ACME", False),
        ("k", "\u212a", False),
        ("main", "main\nx", False),
        ("main*", "main\nx", False),
        ("*", "1.0\n", False),
        ("acme", "\u0430cme", False),
    ],
)
def test_globs_cover_the_whole_value(pattern, text, expected):
    assert glob_matches(pattern, text) is expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"domain": "default2"}, False),
        ({"repository": "dev2"}, False),
        ({"format": "fmt2"}, False),
        ({"name": "acme"}, False),
        ({"name": "evil-acme-x"}, False),
        ({"version": "11.0"}, False),
        ({"version": "1.0\nx"}, False),
    ],
)
def test_every_criterion_holds(change, expected):
    values = {"domain": "default", "repository": "dev", "format": "fmt", "name": "acme-x", "version": "1.0"} | change
    assert ACME.matches(Candidate(**values)) is expected


def test_many_stars_do_not_explode():
    started = time.process_time()
    assert not glob_matches("*a" * 100 + "b", "a" * 2000)
    assert time.process_time() - started < 5
