"""Which versions an OSV document is about, and how bad it says it is."""

import pytest

from registry import formats
from registry.errors import Invalid
from registry.formats.npm.own_advisories import vulnerable_range
from registry.repos import advisories, osv

FORMATS = formats.all_formats()


def document(**changes: object) -> dict[str, object]:
    return {"id": "OSV-1", "modified": "2026-01-01T00:00:00Z", "affected": [affected()], **changes}


def affected(ecosystem: str = "PyPI", name: str = "Acme_Lib", **more: object) -> dict[str, object]:
    return {"package": {"ecosystem": ecosystem, "name": name}, "versions": ["1.0"], **more}


def ranges(*events: dict[str, str], kind: str = "ECOSYSTEM") -> list[dict[str, object]]:
    return [{"type": kind, "events": list(events)}]


def test_names_are_those_of_the_format() -> None:
    found = osv.read(
        document(
            affected=[
                affected(),
                affected("npm", "@acme/client"),
                affected("Maven", "org.acme:core"),
                affected("Debian:12", "acme"),
                affected("PyPI", "not a name!"),
                "nonsense",
            ]
        ),
        FORMATS,
    )
    assert [each.key for each in found.affected] == [
        ("pypi", "", "acme-lib"),
        ("npm", "acme", "client"),
        ("maven", "org.acme", "core"),
    ]


@pytest.mark.parametrize(
    ("events", "inside", "outside"),
    [
        (({"introduced": "0"}, {"fixed": "1.10"}), ("0.1", "1.9", "1.10rc1"), ("1.10", "2.0")),
        (({"introduced": "1.0"}, {"last_affected": "1.9"}), ("1.0", "1.9"), ("0.9", "1.9.1")),
        (({"introduced": "1.0"}, {"fixed": "1.5"}, {"introduced": "2.0"}), ("1.4", "2.0", "9"), ("0.9", "1.5", "1.9")),
        # in whatever order they are written
        (({"fixed": "1.5"}, {"introduced": "0"}), ("1.4",), ("1.5",)),
        ((), (), ("1.0",)),
    ],
)
def test_ranges_are_walked_in_the_order_of_versions(events, inside, outside) -> None:
    (found,) = osv.read(document(affected=[affected(versions=[], ranges=ranges(*events))]), FORMATS).affected
    key = FORMATS["pypi"].sort_key
    held = [[dict(event) for event in each] for each in found.ranges]
    assert [version for version in inside if not osv.is_affected(version, [], held, key)] == []
    assert [version for version in outside if osv.is_affected(version, [], held, key)] == []


def test_versions_that_are_named_count_and_commits_do_not() -> None:
    git = ranges({"introduced": "0"}, kind="GIT")
    (found,) = osv.read(document(affected=[affected(ranges=git)]), FORMATS).affected
    assert found.ranges == ()
    assert osv.is_affected("1.0", list(found.versions), [], FORMATS["pypi"].sort_key)
    assert not osv.is_affected("1.1", list(found.versions), [], FORMATS["pypi"].sort_key)


@pytest.mark.parametrize(
    ("more", "severity"),
    [
        ({"database_specific": {"severity": "MODERATE"}}, "moderate"),
        ({"database_specific": {"severity": "LOW"}, "severity": []}, "low"),
        # vectors with the scores that FIRST's own calculator gives them: 9.8, 7.5, 6.1, 3.7, 10.0
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]}, "critical"),
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}]}, "high"),
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N"}]}, "moderate"),
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:L/I:N/A:N"}]}, "low"),
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H"}]}, "critical"),
        ({"severity": [{"type": "CVSS_V3", "score": "nonsense"}]}, "unknown"),
        ({"severity": [{"type": "CVSS_V4", "score": "CVSS:4.0/AV:N"}]}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_severity_is_the_authors_word_or_the_vectors(more, severity) -> None:
    assert osv.read(document(**more), FORMATS).severity == severity


@pytest.mark.parametrize(
    ("versions", "events", "written"),
    [
        ((), ({"introduced": "0"}, {"fixed": "1.0.1"}), ">=0.0.0-0 <1.0.1"),
        ((), ({"introduced": "1.0.0"}, {"fixed": "1.5.0"}, {"introduced": "2.0.0"}), ">=1.0.0 <1.5.0 || >=2.0.0"),
        (("3.1.4",), ({"introduced": "1.0.0"}, {"last_affected": "1.9.0"}), "=3.1.4 || >=1.0.0 <=1.9.0"),
    ],
)
def test_npm_is_told_the_same_as_a_range(versions, events, written) -> None:
    assert vulnerable_range(versions, [events]) == written


def test_what_nobody_has_rated_blocks_at_every_threshold() -> None:
    reaching = {
        severity: [word for word in advisories.SEVERITIES if advisories.reaches(severity, word)]
        for severity in (*advisories.SEVERITIES, "unknown")
    }
    assert reaching == {
        "low": ["low"],
        "moderate": ["low", "moderate"],
        "high": ["low", "moderate", "high"],
        "critical": ["low", "moderate", "high", "critical"],
        "unknown": ["low", "moderate", "high", "critical"],
    }


@pytest.mark.parametrize(
    "broken",
    [
        [],
        {},
        {"id": "A B", "modified": "2026-01-01"},
        {"id": "A"},
        {"id": "A", "modified": "yesterday"},
        {"id": "A", "modified": "2026-01-01", "affected": "all"},
        {"id": "A", "modified": "2026-01-01", "affected": [affected(versions=["1"] * 20_001)]},
        {"id": "A" * 101, "modified": "2026-01-01"},
    ],
)
def test_what_is_no_advisory_is_refused(broken) -> None:
    with pytest.raises(Invalid):
        osv.read(broken, FORMATS)


def test_texts_are_one_line_and_links_go_to_the_web() -> None:
    found = osv.read(
        document(
            summary="two\nlines\x1b[31m\0",
            aliases=["CVE-2026-1", 7, "bad\0one"],
            references=[
                {"type": "WEB", "url": "https://forge.example/x"},
                {"type": "ADVISORY", "url": "javascript:alert(1)"},
            ],
        ),
        FORMATS,
    )
    assert (found.summary, found.aliases, found.url) == ("two lines [31m", ("CVE-2026-1",), "https://forge.example/x")
