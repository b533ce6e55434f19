"""The order of versions: tables that Maven 3.8.7 and 3.9.16 agree with (each line was asked of both)."""

from itertools import combinations

import pytest

from registry.formats.maven.version_order import compare, sort_key

ASCENDING = [
    (
        "1-alpha2snapshot 1-alpha2 1-alpha-123 1-beta-2 1-beta123 1-m2 1-m11 1-rc 1-cr2 1-rc123 1-SNAPSHOT 1 1-sp 1-sp2 1-sp123"
        " 1-abc 1-def 1-pom-1 1-1-snapshot 1-1 1-2 1-123"
    ),
    (
        "2.0 2.0.a 2-1 2.0.2 2.0.123 2.1.0 2.1-a 2.1b 2.1-c 2.1-1 2.1.0.1 2.2 2.123 11.a2 11.a11 11.b2 11.b11 11.m2 11.m11 11 11.a"
        " 11b 11c 11m"
    ),
    (
        "0.9 1.0-alpha 1.0-alpha-1 1.0-alpha-2 1.0-beta-1 1.0-milestone-1 1.0-rc1 1.0-rc2 1.0-SNAPSHOT 1.0 1.0-sp1 1.0-x 1.0-1 1.0.1"
        " 1.1 1.2 1.10 2"
    ),
    "1.0.0-20230101 1.0.0-20230102 1.0.1",
    "31.1-android 31.1-jre 32.0-android",
    "5.3.0.Alpha1 5.3.0.Beta1 5.3.0.CR1 5.3.0.Final 5.3.1.Final",
    "1.0.RC2 1.0-RC3 1.0",
    "2.0.a 2.0.0.a.1 2.0.1",
    "9 10 99999999999 99999999999999999999999",
]
EQUAL = [
    "1 1.0 1.0.0 1-0 1.0-0 1-ga 1.ga 1-final 1.final 1-release 1.0.0-final 1ga 1.GA 1-RELEASE 01 1.00",
    "1-rc1 1-cr1 1-RC1 1.0-rc1 1rc1 1-rc-1 1.0.rc1",
    "1-a1 1-alpha-1 1-alpha1 1.0-alpha1 1a1",
    "1-b2 1-beta-2",
    "1-m3 1-milestone-3",
    "1-x 1.x 1.0.x 1.0.0-x",
    "1-1 1.0-1 1-1.0",
    "2.0-SNAPSHOT 2-snapshot",
]


@pytest.mark.parametrize("line", ASCENDING)
def test_ascending(line: str):
    versions = line.split()
    for lower, higher in combinations(versions, 2):
        assert compare(lower, higher) < 0 < compare(higher, lower), (lower, higher)
    assert sorted(set(versions), key=sort_key) == versions


@pytest.mark.parametrize("line", EQUAL)
def test_equal_in_order_and_still_two_versions(line: str):
    for one, other in combinations(line.split(), 2):
        assert compare(one, other) == compare(other, one) == 0, (one, other)
        assert sort_key(one) != sort_key(other)
        # They stand together, whichever is first.
        assert sort_key("0.1") < min(sort_key(one), sort_key(other))
        assert max(sort_key(one), sort_key(other)) < sort_key("3")


def test_builds_stand_at_their_snapshot_in_the_order_of_their_time():
    ordered = ["1.0", "1.1-SNAPSHOT", "1.1-20260101.000000-9", "1.1-20260101.000000-10", "1.1-20260102.000000-1", "1.1"]
    assert sorted(set(ordered), key=sort_key) == ordered


def test_what_is_no_version_comes_first():
    for raw in ("", "no version", "1,0", "../1", "x" * 10_000, "1." * 200):
        assert sort_key(raw) < sort_key("0")


def test_long_versions_are_no_burden():
    for raw in ("1-" * 120 + "1", "a1" * 120, "9" * 255, "-" * 0 + "1" + ".0" * 120):
        assert sort_key(raw) >= sort_key("0") or raw.startswith("a")
