"""May somebody do something somewhere, and why? Asked with the same function that lets requests in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.access import Action, Identity
from registry.accounts import Accounts, account_scope, find_account
from registry.errors import Invalid, NotFound
from registry.models import AccountGroup, Domain, Repository
from registry.policy import evaluate, places
from registry.policy.actions import CATALOGUE, USUAL, known
from registry.policy.book import Standing
from registry.policy.evaluate import Decision, Outcome, Question
from registry.policy.explain import Looked, looked_at
from registry.policy.places import Place
from registry.rulebook import at_address, from_address

ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class AccessExplanation:
    """The answer. ``decision`` is IAM's word; ``decided_by`` the statement, role or right that decided, as a sentence.

    ``looked_at`` are all rules that stand over the place.
    """

    principal: str
    permission: str
    resource: str
    allowed: bool
    decision: str
    decided_by: str
    looked_at: tuple[Looked, ...]


def permission_of(text: str) -> str:
    """The action that is meant: by its name, or by a coarse word for its usual one. Raises Invalid."""
    found = known(text) or USUAL.get(text) or known(f"codeartifact:{text}") or known(f"entrepot:{text}")
    if found is None:
        raise Invalid(f"no action is called {text[:80]!r}; it is one of CodeArtifact's, or {', '.join(USUAL)}")
    return found


def explain(
    session: Session, accounts: Accounts, who: str, permission: str, place: Place, *, address: str, now: datetime
) -> AccessExplanation:
    """Decide for ``user/NAME`` (or ``NAME``), ``group/NAME`` (a member who has nothing else) or ``anonymous``.

    Accounts are looked at as if they were signed in: a token may narrow it further. Raises NotFound.
    """
    kind, slash, name = who.partition("/")
    standing = at_address(accounts.rules.standing(session, None, name="", via="", now=now), address)
    principals: frozenset[str] = frozenset()
    if who == ANONYMOUS:
        decision = _stranger(session, standing, permission, place)
    elif kind == "group" and slash:
        group_id = session.scalar(select(AccountGroup.id).where(AccountGroup.name == name))
        if group_id is None:
            raise NotFound("group", name)
        principals = frozenset({f"group#{group_id}"})
        question = Question(principals, permission.lower(), place)
        decision = evaluate.decide(evaluate.select(standing.book.standing_at(place), question), standing.facts)
    else:
        account = find_account(session, name if kind == "user" and slash else who)
        who = f"user/{account.name}"
        bare = Identity(account.name, account.id, (account_scope(account),), "session")
        identity = from_address(accounts.rules.with_rules(session, bare, now), address)
        standing = identity.standing or standing
        principals = standing.book.principals(account.id)
        decision = identity.decide(Action(CATALOGUE[permission]), place, permission)
        if account.is_disabled:
            decision = Decision(Outcome.IMPLICIT_DENY, note="the account is disabled")
    question = Question(principals, permission.lower(), place)
    looked = looked_at(standing.book.standing_at(place), question, standing.facts, decision)
    return AccessExplanation(
        who, permission, place.resources[0], decision.allowed, decision.outcome.value, _reason(decision), looked
    )


def _stranger(session: Session, standing: Standing, permission: str, place: Place) -> Decision:
    """Anonymous callers read what a repository's own setting opens, and what no policy denies them."""
    is_open = session.scalar(
        select(Repository.anonymous_read)
        .join(Domain, Domain.id == Repository.domain_id)
        .where(Domain.name == place.domain, Repository.name == place.repository)
    )
    if not is_open or CATALOGUE[permission] != Action.READ.value:
        return Decision(Outcome.IMPLICIT_DENY, note="anonymous callers may read open repositories only")
    found = standing.decide(permission, place, own=True)
    return Decision(found.outcome, found.by, "the repository lets everybody read it") if found.allowed else found


def place_named(text: str) -> Place:
    """A place as people write it. Raises Invalid."""
    return places.parse(text)


def _reason(decision: Decision) -> str:
    if decision.by is None:
        return decision.note or "no statement, role or right allows it"
    statement = decision.by.statement
    effect = "Allow" if statement.allows else "Deny"
    return (
        f"{effect} {statement.sid!r} in the {decision.by.source}"
        if statement.sid
        else f"{effect} by the {decision.by.source}"
    )
