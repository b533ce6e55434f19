"""The one decision: a table of what everybody relies on, and any chain against a naive reading of the rules."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.names import PackageKey, PackageName
from registry.repos.group_patterns import Effective, Mode, Restriction, Ruling
from registry.repos.origins import Ask, Controls, Facts, Place, Rule, Source, decide, serving

KEY = PackageKey("generic", "", PackageName("corp-lib"))
OURS = Controls("ALLOW", "BLOCK", "published")
THEIRS = Controls("BLOCK", "ALLOW", "upstream")
BOTH = Controls("ALLOW", "ALLOW", "published")
PREPARED = Controls("ALLOW", "BLOCK", "prepared")
FROZEN = Controls("BLOCK", "BLOCK", "upstream")
READING = (Ask.INDEX, Ask.ASSET, Ask.METADATA, Ask.TAG, Ask.BUILD_INPUT)


def ruling(is_strong: bool = True, **modes: Mode) -> Ruling:
    return Ruling(
        "/*",
        is_strong,
        {each: Effective(modes.get(str(each), Mode.ALLOW), "/*", frozenset({1})) for each in Restriction},
    )


def chain(*controls: Controls | None, says: Ruling | None = None) -> Facts:
    """Repository 1 asks 2, that asks 3, and so on; the last one has what is outside."""
    places = tuple(
        Place(number, f"r{number}", (number + 1,) if number < len(controls) else (), each)
        for number, each in enumerate(controls, 1)
    )
    return Facts(KEY, places, says or ruling())


def rule(facts: Facts, ask: Ask, source: Source = Source.PUBLISHED, at: int | None = None) -> Rule | None:
    """None for allowed, else the rule that refused."""
    decision = decide(facts, ask, source, at)
    assert decision.text
    return None if decision.allowed else decision.rule


@pytest.mark.parametrize(
    ("facts", "ask", "source", "at", "refused_by"),
    [
        # A name nobody knows comes from outside, and may be published.
        (chain(None, None), Ask.INDEX, Source.EXTERNAL, 2, None),
        (chain(None, None), Ask.PUBLISH, Source.PUBLISHED, None, None),
        # A published name hides the outside along its chain, and what was kept of it elsewhere.
        (chain(OURS, None), Ask.INDEX, Source.EXTERNAL, 2, Rule.PACKAGE_UPSTREAM),
        (chain(None, OURS, None), Ask.INDEX, Source.EXTERNAL, 3, Rule.PACKAGE_UPSTREAM),
        (chain(None, OURS), Ask.INDEX, Source.EXTERNAL, 1, Rule.CLAIMED),
        (chain(THEIRS, OURS), Ask.ASSET, Source.KEPT, 1, Rule.CLAIMED),
        (chain(None, OURS), Ask.ASSET, Source.PUBLISHED, 2, None),
        # A prepared one does so before anything is published.
        (chain(PREPARED, None), Ask.INDEX, Source.EXTERNAL, 2, Rule.PACKAGE_UPSTREAM),
        (chain(PREPARED, None), Ask.PUBLISH, Source.PUBLISHED, None, None),
        # A name from outside is not published, and stays what it is.
        (chain(THEIRS, THEIRS), Ask.PUBLISH, Source.PUBLISHED, None, Rule.PACKAGE_PUBLISH),
        (chain(THEIRS, THEIRS), Ask.INDEX, Source.EXTERNAL, 2, None),
        (chain(THEIRS, THEIRS), Ask.INDEX, Source.KEPT, 2, None),
        # Both allowed: both count.
        (chain(BOTH, None), Ask.INDEX, Source.EXTERNAL, 2, None),
        (chain(BOTH, None), Ask.PUBLISH, Source.PUBLISHED, None, None),
        (chain(BOTH, OURS), Ask.INDEX, Source.EXTERNAL, 1, Rule.CLAIMED),
        # Closed by hand: nothing new, what is there stays.
        (chain(FROZEN, None), Ask.INDEX, Source.EXTERNAL, 2, Rule.PACKAGE_UPSTREAM),
        (chain(FROZEN, None), Ask.ASSET, Source.KEPT, 1, None),
        (chain(FROZEN, None), Ask.KEEP, Source.EXTERNAL, None, Rule.PACKAGE_UPSTREAM),
        # Package groups: every way in by itself, and never one open that the package closes.
        (chain(None, says=ruling(PUBLISH=Mode.BLOCK)), Ask.PUBLISH, Source.PUBLISHED, None, Rule.GROUP),
        (chain(BOTH, None, says=ruling(EXTERNAL_UPSTREAM=Mode.BLOCK)), Ask.INDEX, Source.EXTERNAL, 2, Rule.GROUP),
        (chain(None, BOTH, says=ruling(INTERNAL_UPSTREAM=Mode.BLOCK)), Ask.INDEX, Source.PUBLISHED, 2, Rule.GROUP),
        (chain(BOTH, None, says=ruling(INTERNAL_UPSTREAM=Mode.BLOCK)), Ask.INDEX, Source.PUBLISHED, 1, None),
        (chain(OURS, None, says=ruling(EXTERNAL_UPSTREAM=Mode.ALLOW)), Ask.INDEX, Source.EXTERNAL, 2, Rule.PACKAGE_UPSTREAM),
        # Copies come from within the domain.
        (chain(OURS, says=ruling(PUBLISH=Mode.BLOCK)), Ask.COPY, Source.PUBLISHED, None, None),
        (chain(OURS, says=ruling(INTERNAL_UPSTREAM=Mode.BLOCK)), Ask.COPY, Source.PUBLISHED, None, Rule.GROUP),
        (chain(OURS), Ask.COPY, Source.KEPT, None, Rule.PACKAGE_UPSTREAM),
        (chain(THEIRS), Ask.COPY, Source.PUBLISHED, None, Rule.PACKAGE_PUBLISH),
        # A variation of a guarded name comes in no way.
        (chain(None, None, says=ruling(is_strong=False)), Ask.INDEX, Source.EXTERNAL, 2, Rule.VARIATION),
        (chain(None, says=ruling(is_strong=False)), Ask.PUBLISH, Source.PUBLISHED, None, Rule.VARIATION),
    ],
)  # fmt: skip
def test_the_table(facts: Facts, ask: Ask, source: Source, at: int | None, refused_by: Rule | None) -> None:
    assert rule(facts, ask, source, at) == refused_by


SPECIFIC = Mode.ALLOW_SPECIFIC_REPOSITORIES
CONTROLS = st.one_of(
    st.none(),
    st.builds(
        Controls,
        st.sampled_from(["ALLOW", "BLOCK"]),
        st.sampled_from(["ALLOW", "BLOCK"]),
        st.sampled_from(["published", "upstream", "prepared"]),
    ),
)
RULINGS = st.builds(
    lambda is_strong, modes: Ruling(
        "/*", is_strong, {each: Effective(mode, "/*", frozenset({1, 3})) for each, mode in zip(Restriction, modes, strict=True)}
    ),
    st.booleans(),
    st.tuples(*[st.sampled_from([Mode.ALLOW, Mode.BLOCK, SPECIFIC])] * 3),
)  # fmt: skip


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    """Up to five repositories in any graph without circles in which the first reaches all."""
    count = draw(st.integers(1, 5))
    links: dict[int, set[int]] = {number: set() for number in range(1, count + 1)}
    for number in range(2, count + 1):
        links[draw(st.integers(1, number - 1))].add(number)
        links[draw(st.integers(1, number - 1))].add(number)
    return Facts(
        KEY,
        tuple(Place(each, f"r{each}", tuple(sorted(links[each])), draw(CONTROLS)) for each in range(1, count + 1)),
        draw(RULINGS),
    )


def routes(known: Facts, at: int) -> Iterator[list[int]]:
    """All ways from the first repository down to one, each by the repositories it goes through."""
    if at == known.places[0].id:
        yield []
    for above in known.places:
        if at in above.upstreams:
            yield from ([*way, above.id] for way in routes(known, above.id))


def may(known: Facts, way_in: Restriction, repository: int) -> bool:
    """What package and group together say of one way into one repository: the stricter of both."""
    group = known.ruling.restrictions[way_in]
    of_group = group.mode is Mode.ALLOW or (group.mode is SPECIFIC and repository in group.repositories)
    own = known.by_id[repository].controls
    word = "ALLOW" if own is None else own.publish if way_in is Restriction.PUBLISH else own.upstream
    return known.ruling.is_strong and of_group and word == "ALLOW"


@settings(max_examples=150, deadline=None)
@given(facts())
def test_any_chain_against_the_rules_read_naively(known: Facts) -> None:
    assert decide(known, Ask.PUBLISH).allowed == may(known, Restriction.PUBLISH, 1)
    ours = {
        place.id
        for place in known.places
        if (own := place.controls) is not None
        and own.upstream == "BLOCK"
        and (own.origin in ("published", "prepared") or own.publish == "ALLOW")
    }
    for place in known.places:
        reaches = any(
            all(may(known, Restriction.INTERNAL_UPSTREAM, through) for through in way)
            for way in routes(known, place.id)
        )
        expected = {
            Source.PUBLISHED: reaches,
            Source.KEPT: reaches and not ours - {place.id},
            Source.EXTERNAL: reaches and not ours and may(known, Restriction.EXTERNAL_UPSTREAM, place.id),
        }
        for ask in READING:
            assert {source: decide(known, ask, source, place.id).allowed for source in Source} == expected
    counts = serving(known)
    assert counts.is_closed == (not counts.external)
    assert (counts.published | counts.kept | counts.external) <= set(known.by_id)
