"""Package groups' patterns and their tree: CodeArtifact's documented examples, and a naive reading of its words."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import Invalid
from registry.names import PackageKey, PackageName
from registry.repos.group_patterns import Group, GroupTree, Mode, Restriction, normalised, parse

EXAMPLES = (
    "/*",
    "/npm/*",
    "/maven/com.anycompany~",
    "/npm/space/*",
    "/npm/space/anycompany-ui~",
    "/maven/org.apache.logging.log4j/log4j-core$",
    "/pypi//requests$",
    "/npm/space/foo-*",
)
NOT_PATTERNS = (
    "",
    "/",
    "*",
    "npm/*",
    "/npm",
    "/npm*",
    "/npm~",
    "/npm$",
    "/npm/space/foo",
    "/npm/space/foo*",
    "/npm/space/foo-~",
    "/npm/space~/foo$",
    "/npm/space$",
    "/npm/~",
    "/npm//$",
    "//space/foo$",
    "/npm/ns/name/extra$",
    "/npm/a b/*",
    "/npm/a\tb/*",
    "/npm/" + "x" * 520 + "$",
)


def key(path: str) -> PackageKey:
    _, format_name, namespace, name = path.split("/")
    return PackageKey(format_name, namespace, PackageName(name))


def tree(*patterns: str, **modes: dict[str, str]) -> GroupTree:
    return GroupTree(Group(parse(pattern), {}) for pattern in patterns)


@pytest.mark.parametrize("pattern", EXAMPLES)
def test_the_documented_kinds_are_read(pattern: str) -> None:
    assert parse(pattern).text == pattern


@pytest.mark.parametrize("pattern", NOT_PATTERNS)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(Invalid):
        parse(pattern)


@pytest.mark.parametrize(
    ("pattern", "path", "match"),
    [
        # Words and their boundaries.
        ("/npm/space/foo~", "/npm/space/foo", True),
        ("/npm/space/foo~", "/npm/space/foo-bar", True),
        ("/npm/space/foo~", "/npm/space/food", None),
        ("/npm/space/foo~", "/npm/space/foot", None),
        ("/npm/space/one~", "/npm/space/OneWord", None),
        ("/maven/com.anycompany~", "/maven/com.anycompany.tools/lib", True),
        ("/maven/com.anycompany~", "/maven/com.anycompanyx/lib", None),
        ("/npm/space/foo-*", "/npm/space/foo-bar", True),
        ("/npm/space/foo-*", "/npm/space/foo", None),
        # Variations: case, separators, look-alikes.
        ("/npm//AsyncStorage$", "/npm//AsyncStorage", True),
        ("/npm//AsyncStorage$", "/npm//asyncstorage", False),
        ("/npm//foo-bar$", "/npm//foo.bar", False),
        ("/npm//foo-bar$", "/npm//foo..bar", False),
        ("/npm//foo-bar$", "/npm//foo_bar", False),
        ("/npm//foo-bar$", "/npm//foobar", None),
        ("/maven/com.act.on/lib$", "/maven/com.act-on/lib", False),
        ("/npm//internal-lib$", "/npm//internal-1ib", False),
        ("/npm//corp$", "/npm//c\N{CYRILLIC SMALL LETTER O}rp", False),
        ("/npm/space/*", "/npm/Space/lib", False),
        ("/npm/space/*", "/npm//space", None),
        ("/npm/*", "/pypi//lib", None),
        ("/*", "/pypi//lib", True),
    ],
)
def test_the_documented_matches(pattern: str, path: str, match: bool | None) -> None:
    assert parse(pattern).match(key(path)) is match


@pytest.mark.parametrize(
    ("path", "pattern", "is_strong"),
    [
        ("/npm//react", "/npm/*", True),
        ("/npm/space/aui.components", "/npm/space/*", True),
        ("/npm/space/anycompany-ui-core", "/npm/space/anycompany-ui~", True),
        ("/npm/space/anycompany-ui", "/npm/space/anycompany-ui$", True),
        ("/maven/com.acme/lib", "/*", True),
        # A variation does not fall through to the more general pattern.
        ("/npm//anycompany-spicy-client", "/npm//anycompany-spicy-client$", True),
        ("/npm//AnyCompany-spicy-client", "/npm//anycompany-spicy-client$", False),
        # Unless somebody made a group for that very variation.
        ("/npm//AsyncStorage", "/npm//AsyncStorage$", True),
        ("/npm//asyncStorage", "/npm//asyncStorage$", True),
    ],
)
def test_the_most_specific_pattern_counts(path: str, pattern: str, is_strong: bool) -> None:
    ruling = tree(
        "/npm/*",
        "/npm/space/*",
        "/npm/space/anycompany-ui~",
        "/npm/space/anycompany-ui$",
        "/npm//anycompany-spicy-client$",
        "/npm//AsyncStorage$",
        "/npm//asyncStorage$",
    ).ruling(key(path))
    assert (ruling.pattern, ruling.is_strong) == (pattern, is_strong)


def test_what_is_not_said_is_inherited_from_the_nearest_that_says_it() -> None:
    groups = GroupTree(
        [
            Group(parse("/npm/*"), {Restriction.PUBLISH: Mode.BLOCK, Restriction.EXTERNAL_UPSTREAM: Mode.ALLOW}),
            Group(
                parse("/npm/space/*"),
                {Restriction.EXTERNAL_UPSTREAM: Mode.ALLOW_SPECIFIC_REPOSITORIES},
                {Restriction.EXTERNAL_UPSTREAM: frozenset({7})},
            ),
            Group(parse("/npm/space/foo~"), {Restriction.PUBLISH: Mode.ALLOW}),
            Group(parse("/npm/other/*"), {}),
        ]
    )
    assert [(group.pattern.text, groups.parent(group.pattern.text)) for group in groups.groups()] == [
        ("/*", None),
        ("/npm/*", "/*"),
        ("/npm/other/*", "/npm/*"),
        ("/npm/space/*", "/npm/*"),
        ("/npm/space/foo~", "/npm/space/*"),
    ]
    counts = groups.effective("/npm/space/foo~")
    assert {restriction: (each.mode, each.pattern) for restriction, each in counts.items()} == {
        Restriction.PUBLISH: (Mode.ALLOW, "/npm/space/foo~"),
        Restriction.INTERNAL_UPSTREAM: (Mode.ALLOW, "/*"),
        Restriction.EXTERNAL_UPSTREAM: (Mode.ALLOW_SPECIFIC_REPOSITORIES, "/npm/space/*"),
    }
    assert [counts[Restriction.EXTERNAL_UPSTREAM].allows(repository) for repository in (7, 8)] == [True, False]
    assert groups.effective("/npm/other/*")[Restriction.PUBLISH].mode is Mode.BLOCK


WORDS = st.sampled_from(["a", "ab", "a-b", "a.b", "ab-c", "A", "b", "a-b-c"])
NAMESPACES = st.one_of(st.just(""), WORDS)
FORMATS = st.sampled_from(["npm", "pypi"])
PATTERNS = st.one_of(
    st.builds("/{}/*".format, FORMATS),
    st.builds("/{}/{}~".format, FORMATS, WORDS),
    st.builds("/{}/{}/*".format, FORMATS, NAMESPACES),
    st.builds("/{}/{}/{}~".format, FORMATS, NAMESPACES, WORDS),
    st.builds("/{}/{}/{}$".format, FORMATS, NAMESPACES, WORDS),
)


def expression(pattern: str) -> str:
    """The pattern as a regular expression over paths, word by word as the documentation says it."""
    beginning = re.escape(pattern[:-1])
    return beginning + {"$": r"\Z", "*": ".*", "~": r"(?![a-zA-Z0-9]).*"}[pattern[-1]]


@settings(max_examples=150, deadline=None)
@given(st.sets(PATTERNS, max_size=6), FORMATS, NAMESPACES, WORDS)
def test_among_exact_matches_the_longest_pattern_counts(
    patterns: set[str], format_name: str, namespace: str, name: str
) -> None:
    path = f"/{format_name}/{namespace}/{name}"
    exact = [each for each in ("/*", *patterns) if re.match(expression(each), path)]
    longest = max(exact, key=lambda each: (len(each), each.endswith("$")))
    ruling = tree(*patterns).ruling(key(path))
    if ruling.is_strong:
        assert ruling.pattern == longest
    else:
        # Then a more specific one is almost it.
        assert len(ruling.pattern) >= len(longest)
        assert re.match(expression(normalised(ruling.pattern[:-1]) + ruling.pattern[-1]), normalised(path))
