"""Origin controls: one function decides how versions of a package get into a repository, and says why.

Pure: it is given facts and a question, and gives a decision as data. Indexes, files, metadata documents, tags,
publishing, copying and what builds read all ask here, so that what one of them shows the others serve.

The rules, all of them; a BLOCK always wins over an ALLOW:

1. A package's own controls in a repository (``publish`` and ``upstream``) say whether versions may be published there,
   and whether they may come from its upstreams, repositories and external connections alike. How the first version came
   sets them (``registry.models.package.default_controls``), whoever has the right changes them.
2. The package group of the name says the same for a whole domain, by way in and repository. A name that is only a
   variation of the group's pattern may come in no way at all.
3. Where a name is claimed (published or prepared, with ``upstream: BLOCK``) anywhere in a chain, nothing from outside
   counts in the whole chain: neither what an external connection has, nor what another repository kept of it.

What is in a repository already stays there, whatever its own controls and its group say of further versions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from registry.models.package import ALLOW, BLOCK, UPSTREAM
from registry.names import PackageKey
from registry.repos.group_patterns import Mode, Restriction, Ruling


@dataclass(frozen=True, slots=True)
class Controls:
    """A package's row in a repository: its origin controls (ALLOW or BLOCK), and how its first version came."""

    publish: str
    upstream: str
    origin: str

    @property
    def claims(self) -> bool:
        """Whether they say that the name is ours here: nothing from outside may take its place, in the whole chain."""
        return self.upstream == BLOCK and (self.origin != UPSTREAM or self.publish == ALLOW)


@dataclass(frozen=True, slots=True)
class Place:
    """A repository of a chain with its direct upstreams; ``controls`` None where it knows nothing of the package."""

    id: int
    name: str
    upstreams: tuple[int, ...] = ()
    controls: Controls | None = None


@dataclass(frozen=True)
class Facts:
    """All that a decision depends on: the chain, the repository that is asked first, and the package group's word."""

    key: PackageKey
    places: tuple[Place, ...]
    ruling: Ruling

    @cached_property
    def by_id(self) -> Mapping[int, Place]:
        """The chain's repositories."""
        return {place.id: place for place in self.places}

    @cached_property
    def counting(self) -> dict[Ask, Serving]:
        """What ``serving`` found for each question."""
        return {}

    @cached_property
    def claims(self) -> tuple[Place, ...]:
        """Where the name is ours, in the order in which they are asked."""
        return tuple(place for place in self.places if place.controls is not None and place.controls.claims)

    @cached_property
    def ways(self) -> Mapping[int, Decision]:
        """For each repository of the chain, whether versions reach the first from there, or what stands in the way."""
        found: dict[int, Decision] = {self.places[0].id: _OPEN}
        barred: dict[int, Decision] = {}
        waiting = [self.places[0]]
        while waiting:
            at = waiting.pop()
            hop = _upstream(self, at, Restriction.INTERNAL_UPSTREAM)
            for upstream in (self.by_id[each] for each in at.upstreams if each in self.by_id):
                if not hop.allowed:
                    barred.setdefault(upstream.id, hop)
                elif upstream.id not in found:
                    found[upstream.id] = hop
                    waiting.append(upstream)
        behind = next(iter(barred.values()), _OPEN)
        return {place.id: found.get(place.id) or barred.get(place.id) or behind for place in self.places}


class Ask(StrEnum):
    """What is asked of a repository (the first of the facts' places).

    Reading is one question under several names: an index entry, its file, its metadata, a tag on it and a build's input
    must never be answered apart.
    """

    PUBLISH = "publish"
    COPY = "copy"
    KEEP = "keep"
    INDEX = "index"
    ASSET = "asset"
    METADATA = "metadata"
    TAG = "tag"
    BUILD_INPUT = "build input"


class Source(StrEnum):
    """How a candidate came or would come: published here or copied as such, kept from outside, or still outside."""

    PUBLISHED = "published"
    KEPT = "kept"
    EXTERNAL = "external"


class Rule(StrEnum):
    """Which rule decided."""

    OPEN = "open"
    PACKAGE_PUBLISH = "package-publish"
    PACKAGE_UPSTREAM = "package-upstream"
    CLAIMED = "claimed"
    GROUP = "group"
    VARIATION = "variation"


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed or refused, by which rule; ``place`` and ``pattern`` name whose word it was, where somebody's."""

    allowed: bool
    rule: Rule
    key: PackageKey | None = None
    place: Place | None = None
    pattern: str = ""
    restriction: Restriction | None = None
    mode: str = ""

    @property
    def text(self) -> str:
        """The decision in a sentence."""
        path = self.key.path if self.key is not None else "the package"
        where = self.place.name if self.place is not None else ""
        if self.rule is Rule.PACKAGE_PUBLISH:
            came = self.place is not None and self.place.controls is not None and self.place.controls.origin == UPSTREAM
            if came:
                return f"{path} came to {where} from an upstream, so publishing under that name is blocked"
            return f"the origin controls of {path} in {where} block publishing (publish: BLOCK)"
        if self.rule is Rule.PACKAGE_UPSTREAM:
            return f"the origin controls of {path} in {where} block its upstreams (upstream: BLOCK)"
        if self.rule is Rule.CLAIMED:
            return f"{path} is a name of {where}, whose origin controls block the outside for it (upstream: BLOCK)"
        if self.rule is Rule.GROUP:
            if self.mode == Mode.ALLOW_SPECIFIC_REPOSITORIES:
                return (
                    f"package group {self.pattern} allows {self.restriction} in certain repositories only "
                    f"({self.mode}), and {where} is none of them"
                )
            return f"package group {self.pattern} says {self.restriction}: {self.mode} for {where}"
        if self.rule is Rule.VARIATION:
            return f"{path} is a variation of package group {self.pattern}, so everything is blocked for it"
        return "nothing stands against it"


def decide(facts: Facts, ask: Ask, source: Source = Source.PUBLISHED, at: int | None = None) -> Decision:
    """Answer a question about the first of the facts' places.

    PUBLISH takes no source. COPY asks whether a version that came from ``source`` may be put there, KEEP whether one of
    the outside may stay there that comes through its own connection (EXTERNAL) or an upstream's (KEPT). All others ask
    whether what is held in repository ``at`` (PUBLISHED, KEPT), or what the external connections of ``at`` have
    (EXTERNAL), counts there.
    """
    first = facts.places[0]
    if ask is Ask.PUBLISH:
        return _publish(facts, first, Restriction.PUBLISH)
    if ask is Ask.COPY:
        # A copy is made within the domain: groups rule it as they rule internal upstreams. Whether it mixes what is
        # ours with what is others', the package's own controls say.
        if source is Source.PUBLISHED:
            return _publish(facts, first, Restriction.INTERNAL_UPSTREAM)
        return _upstream(facts, first, Restriction.INTERNAL_UPSTREAM)
    if ask is Ask.KEEP:
        is_outside = source is Source.EXTERNAL
        return _upstream(facts, first, Restriction.EXTERNAL_UPSTREAM if is_outside else Restriction.INTERNAL_UPSTREAM)
    return _counts(facts, facts.by_id[at if at is not None else first.id], source)


def _counts(facts: Facts, place: Place, source: Source) -> Decision:
    way = facts.ways[place.id]
    if not way.allowed:
        return way
    if source is Source.EXTERNAL:
        entry = _upstream(facts, place, Restriction.EXTERNAL_UPSTREAM)
        if not entry.allowed:
            return entry
    if source is not Source.PUBLISHED:
        for claim in facts.claims:
            if source is Source.EXTERNAL or claim.id != place.id:
                return Decision(allowed=False, rule=Rule.CLAIMED, key=facts.key, place=claim)
    return way


def _publish(facts: Facts, place: Place, restriction: Restriction) -> Decision:
    if place.controls is not None and place.controls.publish == BLOCK:
        return Decision(allowed=False, rule=Rule.PACKAGE_PUBLISH, key=facts.key, place=place)
    return _group(facts, place, restriction)


def _upstream(facts: Facts, place: Place, restriction: Restriction) -> Decision:
    if place.controls is not None and place.controls.upstream == BLOCK:
        return Decision(allowed=False, rule=Rule.PACKAGE_UPSTREAM, key=facts.key, place=place)
    return _group(facts, place, restriction)


_OPEN = Decision(allowed=True, rule=Rule.OPEN)


def _group(facts: Facts, place: Place, restriction: Restriction) -> Decision:
    ruling = facts.ruling
    if not ruling.is_strong:
        return Decision(allowed=False, rule=Rule.VARIATION, key=facts.key, place=place, pattern=ruling.pattern)
    found = ruling.restrictions[restriction]
    if found.allows(place.id):
        return _OPEN
    return Decision(
        allowed=False,
        rule=Rule.GROUP,
        key=facts.key,
        place=place,
        pattern=found.pattern,
        restriction=restriction,
        mode=str(found.mode),
    )


@dataclass(frozen=True, slots=True)
class Serving:
    """Of which repositories (ids) of a chain what counts: versions of ours, versions kept, external connections."""

    published: frozenset[int]
    kept: frozenset[int]
    external: frozenset[int]

    @property
    def is_closed(self) -> bool:
        """Whether nothing from outside would be taken."""
        return not self.external


def serving(facts: Facts, ask: Ask = Ask.INDEX) -> Serving:
    """All that counts for a question, decided one by one, and once."""
    if (known := facts.counting.get(ask)) is not None:
        return known
    published, kept, external = (
        frozenset(place.id for place in facts.places if decide(facts, ask, source, place.id).allowed)
        for source in (Source.PUBLISHED, Source.KEPT, Source.EXTERNAL)
    )
    facts.counting[ask] = found = Serving(published, kept, external)
    return found


def places_of(
    chain: Sequence[tuple[int, str]], upstreams: Mapping[int, tuple[int, ...]], controls: Mapping[int, Controls]
) -> tuple[Place, ...]:
    """A chain as decisions see it, from (id, name) pairs in the order in which they are asked."""
    return tuple(Place(each, name, upstreams.get(each, ()), controls.get(each)) for each, name in chain)
