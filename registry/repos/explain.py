"""What a repository would serve of a package, from where, and why not from elsewhere: the decisions, told.

Nothing is asked of any upstream: what external connections have shows when a client asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from registry.names import PackageKey
from registry.repos.held import Row, facts_of, published_versions, read_rows
from registry.repos.origins import Ask, Decision, Facts, Place, Source, decide, serving
from registry.repos.topology import Node, Topology


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision: by which rule, and in a sentence."""

    allowed: bool
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExplainedConnection:
    """An external connection of the package's format, and whether what it has counts."""

    name: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class ExplainedRepository:
    """A repository of the chain: its own origin controls (null: it knows nothing of the package), and what counts of it.

    ``published`` is about versions published or copied there, ``kept`` about those it kept of the outside.
    """

    repository: str
    publish: str | None
    upstream: str | None
    published: Answer
    kept: Answer
    connections: tuple[ExplainedConnection, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version in one repository; ``is_served`` says that it is the one that clients get."""

    version: str
    repository: str
    origin: str
    is_served: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """All decisions about a package in a repository.

    ``package_group`` and ``association_type`` are the group it belongs to and how closely (STRONG or WEAK).
    ``asks_outside`` says whether external connections are asked for it. ``versions`` is what rows hold, newest first.
    """

    repository: str
    format: str
    namespace: str
    package: str
    package_group: str
    association_type: str
    publish: Answer
    asks_outside: bool
    repositories: tuple[ExplainedRepository, ...]
    versions: tuple[Candidate, ...]


def explain(
    session: Session,
    topology: Topology,
    repository_id: int,
    key: PackageKey,
    *,
    sort_key: Callable[[str], Any],
    may_read: Callable[[str], bool],
    version: str | None = None,
) -> Explanation:
    """Tell every decision about a package, and of each version (or of the one named) what becomes of it.

    Of repositories (by name) that the caller may not read, no version is told that is not served here.
    """
    chain = topology.chain(repository_id)
    rows = read_rows(session, chain, key, None)
    facts = facts_of(topology, chain, key, rows)
    candidates = _candidates(facts, chain, rows, sort_key)
    wanted = None if version is None else sort_key(version)
    return Explanation(
        chain[0].name,
        key.format,
        key.namespace,
        key.name,
        facts.ruling.pattern,
        "STRONG" if facts.ruling.is_strong else "WEAK",
        _answer(decide(facts, Ask.PUBLISH)),
        any(
            connection.format == key.format and decide(facts, Ask.INDEX, Source.EXTERNAL, node.id).allowed
            for node in chain
            for connection in node.connections
        ),
        tuple(_repository(facts, node) for node in chain),
        tuple(
            each
            for each in candidates
            if (wanted is None or sort_key(each.version) == wanted) and (each.is_served or may_read(each.repository))
        ),
    )


def _answer(decision: Decision) -> Answer:
    return Answer(decision.allowed, str(decision.rule), decision.text)


def _repository(facts: Facts, node: Node) -> ExplainedRepository:
    place: Place = facts.by_id[node.id]
    outside = _answer(decide(facts, Ask.INDEX, Source.EXTERNAL, node.id))
    return ExplainedRepository(
        node.name,
        place.controls.publish if place.controls is not None else None,
        place.controls.upstream if place.controls is not None else None,
        _answer(decide(facts, Ask.INDEX, Source.PUBLISHED, node.id)),
        _answer(decide(facts, Ask.INDEX, Source.KEPT, node.id)),
        tuple(
            ExplainedConnection(connection.name, outside)
            for connection in node.connections
            if connection.format == facts.key.format
        ),
    )


def _candidates(
    facts: Facts, chain: Sequence[Node], rows: Sequence[Row], sort_key: Callable[[str], Any]
) -> list[Candidate]:
    ours = published_versions(rows, serving(facts), sort_key)
    found: list[Candidate] = []
    served: list[tuple[Any, str]] = []
    for version, node, is_published in _held(chain, rows):
        decision = decide(facts, Ask.INDEX, Source.PUBLISHED if is_published else Source.KEPT, node.id)
        rank, reason, is_served = sort_key(version), decision.text, decision.allowed
        if is_served and not is_published and ours.have(rank):
            is_served, reason = False, "this version is published here: files from outside are none of its"
        elif is_served:
            first = next((name for known, name in served if known == rank), None)
            if first is not None:
                is_served, reason = False, f"{first} is asked first; of this one, only further files are added"
            served.append((rank, node.name))
        found.append(Candidate(version, node.name, "published" if is_published else "upstream", is_served, reason))
    return sorted(found, key=lambda each: sort_key(each.version), reverse=True)


def _held(chain: Sequence[Node], rows: Sequence[Row]) -> Iterator[tuple[str, Node, bool]]:
    """Each version of each repository once, in the order in which they are asked."""
    for node in chain:
        versions = {
            row.file.version: row.is_published
            for row in rows
            if row.package_repository_id == node.id and row.file is not None
        }
        for version, is_published in versions.items():
            yield version, node, is_published
