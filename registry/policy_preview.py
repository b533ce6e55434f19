"""What a policy would change before it is set: its faults with their lines, the difference, and who gains or loses what.

Decided by the function that lets requests in, on a book of rules in which the policy stands already; nothing is written.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import policies
from registry.access import Action, Identity, Scope
from registry.accounts import account_scope
from registry.errors import Invalid
from registry.models import Account, AccountGroup, Domain, Repository, RoleGrant
from registry.policy import document, places
from registry.policy.actions import CATALOGUE
from registry.policy.book import Book, Standing
from registry.policy.document import EVERYBODY, Document, Statement
from registry.policy.lines import statement_lines
from registry.policy.places import Place
from registry.policy.wildcards import matches
from registry.rulebook import load, with_policy

MOST_PEOPLE = 300
MOST_PLACES = 12
_FAULT = re.compile(r"statement (\d+)\b")
_JSON_FAULT = re.compile(r": line (\d+) column (\d+) \(char \d+\)\Z")
_NOBODY_YET = -1
ANYBODY = "anybody who is signed in"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a document, and in which line of its text (null: with all of it)."""

    line: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Effect:
    """Which actions somebody would gain and lose on a resource."""

    principal: str
    resource: str
    gains: tuple[str, ...]
    loses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """``difference`` has the lines of a unified diff. ``is_whole`` is false where not everybody could be looked at."""

    faults: tuple[Fault, ...]
    difference: tuple[str, ...]
    effects: tuple[Effect, ...]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class _Who:
    principal: str
    identity: Identity
    words: frozenset[str]


def faults_of(text: str, error: Invalid) -> tuple[Fault, ...]:
    """Why ``text`` was refused, one by one, each with its line where it has one."""
    message = str(error)
    broken = _JSON_FAULT.search(message)
    if broken is not None:
        what = message[: broken.start()].removeprefix("the body is not JSON: ")
        return (Fault(int(broken[1]), f"this is not JSON: {what} (column {broken[2]})"),)
    try:
        lines = statement_lines(text)
    except RecursionError:
        lines = []
    found = []
    for part in re.split(r"; (?=statement \d|unknown field|Sid '|Version must|Statement is)", message):
        number = _FAULT.match(part)
        is_known = number is not None and 0 < int(number[1]) <= len(lines)
        found.append(Fault(lines[int(number[1]) - 1] if number is not None and is_known else None, part))
    return tuple(found)


def seen_by(
    caller: Identity, session: Session, domain: str, repository: str | None, text: str, now: datetime
) -> Preview:
    """``preview`` as far as it concerns ``caller``: of others it tells who may explain access there.

    All accounts are looked at for who manages accounts, and for nobody else: their names are not everybody's to know.
    """
    sees_everybody = caller.decide(Action.ADMIN, Place(), "entrepot:ManageUsers").allowed
    found = preview(session, domain, repository, text, now=now, sees_everybody=sees_everybody)
    may_explain = caller.decide(Action.ADMIN, Place(domain, repository or ""), "entrepot:ExplainAccess").allowed
    return found if may_explain else replace(found, effects=())


def preview(
    session: Session, domain: str, repository: str | None, text: str, *, now: datetime, sees_everybody: bool
) -> Preview:
    """What setting ``text`` as the policy would change; without faults only. Raises NotFound.

    Looked at are those whom the old and the new policy name, who has a role in the domain, and with ``sees_everybody``
    all accounts. Conditions are decided as of now and from no known address.
    """
    present = policies.find(session, domain, repository)
    old = document.parse(policies.read(present.document)) if present is not None else Document(())
    try:
        value = policies.read(text)
        new = document.parse(value)
        names = policies.bound(session, new.principals)
    except Invalid as error:
        return Preview(faults_of(text, error), (), (), is_whole=True)
    before = load(session)
    after = with_policy(before, domain, repository or "", new, names)
    changed = [
        each for each in (*old.statements, *new.statements) if (each in old.statements) != (each in new.statements)
    ]
    people, has_all = _people(session, domain, changed, sees_everybody=sees_everybody)
    where, has_places = _places(session, domain, repository or "", changed)
    effects = _effects(before, after, people, where, _actions(changed), now) if changed else []
    shown = _difference(json.loads(present.document) if present is not None else None, value)
    return Preview((), tuple(shown), tuple(effects), is_whole=has_all and has_places)


def _difference(old: Any, new: Any) -> Iterator[str]:
    texts = ["" if value is None else json.dumps(value, indent=2, ensure_ascii=False) for value in (old, new)]
    lines = difflib.unified_diff(texts[0].splitlines(), texts[1].splitlines(), lineterm="", n=2)
    return (line for line in lines if not line.startswith(("---", "+++")))


def _actions(changed: Iterable[Statement]) -> list[str]:
    """The actions that a changed statement speaks of."""
    return [
        name
        for name in CATALOGUE
        if any(
            any(matches(pattern, name.lower()) for pattern in each.actions.patterns) != each.actions.is_negated
            for each in changed
        )
    ]


def _people(
    session: Session, domain: str, changed: Sequence[Statement], *, sees_everybody: bool
) -> tuple[list[_Who], bool]:
    named = {name for each in changed for name in each.principals.patterns if name != EVERYBODY}
    is_for_all = any(EVERYBODY in each.principals.patterns or each.principals.is_negated for each in changed)
    query = select(Account).where(Account.is_disabled.is_(False)).order_by(Account.name)
    if not sees_everybody:
        in_domain = (
            select(RoleGrant.account_id).join(Domain, Domain.id == RoleGrant.domain_id).where(Domain.name == domain)
        )
        users = [name.partition("/")[2] for name in named if name.startswith("user/")]
        query = query.where(Account.id.in_(in_domain) | Account.name.in_(users))
    accounts = session.scalars(query.limit(MOST_PEOPLE + 1)).all()
    found = [
        _Who(
            f"user/{account.name}",
            Identity(account.name, account.id, (account_scope(account),), "session"),
            frozenset({f"user#{account.id}"}),
        )
        for account in accounts[:MOST_PEOPLE]
    ]
    groups = [name.partition("/")[2] for name in named if name.startswith("group/")]
    for group_id, name in session.execute(
        select(AccountGroup.id, AccountGroup.name).where(AccountGroup.name.in_(groups))
    ):
        found.append(_nobody(f"group/{name} (a member with no other right)", f"group#{group_id}"))
    if is_for_all:
        found.append(_nobody(ANYBODY, "user#nobody"))
    return found, len(accounts) <= MOST_PEOPLE


def _nobody(shown: str, word: str) -> _Who:
    return _Who(shown, Identity(shown, _NOBODY_YET, (Scope(frozenset()),), "session"), frozenset({word}))


def _places(
    session: Session, domain: str, repository: str, changed: Sequence[Statement]
) -> tuple[dict[str, Place], bool]:
    """The place itself, of a domain its repositories as well, and what the changed statements name."""
    names = [repository]
    if not repository:
        names += session.scalars(
            select(Repository.name)
            .join(Domain, Domain.id == Repository.domain_id)
            .where(Domain.name == domain)
            .order_by(Repository.name)
            .limit(MOST_PLACES)
        )
    found = {Place(domain, name).resources[0]: Place(domain, name) for name in names}
    for pattern in (pattern for each in changed for pattern in each.resources.patterns):
        kind, _, rest = pattern.partition("/")
        parts = rest.split("/", 2)
        if kind != "package" or len(parts) < 3 or not matches(parts[0], domain):
            continue
        inside = [name for name in names if name and matches(parts[1], name)][:1]
        for name in inside:
            # A package that fits, by a name that no other pattern is likely to mean.
            path = re.sub(r"[*?]", "x", parts[2])
            path = path if path.count("/") >= 2 else path + "/x" * (2 - path.count("/"))
            try:
                found[f"package/{domain}/{name}/{parts[2]}"] = places.parse(f"package/{domain}/{name}/{path}")
            except Invalid:
                continue
    return dict(list(found.items())[:MOST_PLACES]), len(found) <= MOST_PLACES and len(names) < MOST_PLACES


def _effects(
    before: Book, after: Book, people: Sequence[_Who], where: dict[str, Place], actions: Sequence[str], now: datetime
) -> list[Effect]:
    found = []
    for who in people:
        was, would_be = _standing(before, who, now), _standing(after, who, now)
        for shown, place in where.items():
            had = {name for name in actions if was.decide(Action(CATALOGUE[name]), place, name).allowed}
            has = {name for name in actions if would_be.decide(Action(CATALOGUE[name]), place, name).allowed}
            if had != has:
                found.append(Effect(who.principal, shown, tuple(sorted(has - had)), tuple(sorted(had - has))))
    return found


def _standing(book: Book, who: _Who, now: datetime) -> Identity:
    own = who.identity
    if own.account_id == _NOBODY_YET:
        book = Book(book.revision, book.rules, {_NOBODY_YET: who.words}, book.services)
    facts: dict[str, Any] = {
        "aws:currenttime": now,
        "aws:username": own.name,
        "entrepot:via": "session",
        "entrepot:serviceaccount": own.account_id in book.services,
    }
    return replace(own, standing=Standing(book, own.account_id, facts))
