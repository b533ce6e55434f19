"""The rules that hold now: policies, roles and groups read from their rows, compiled once for each change.

Whatever changes them says so with ``bump`` in its transaction; a request learns the count in the query that lets it in,
so that a change counts on the very next request of every process, and nobody pays for rules that did not change.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ScalarSelect, func, insert, select, update
from sqlalchemy.orm import Session

from registry.access import Identity
from registry.db import table_of
from registry.models import (
    AccessState,
    Account,
    AccountGroup,
    Domain,
    GroupMember,
    PolicyPrincipal,
    Repository,
    ResourcePolicy,
    RoleGrant,
)
from registry.policy import document
from registry.policy.book import Book, Standing
from registry.policy.document import EVERYBODY, Document, Statement, Terms
from registry.policy.evaluate import Rule
from registry.policy.roles import rule_of

_STATE = table_of(AccessState)
Rules = dict[tuple[str, str], list[Rule]]


def revision() -> ScalarSelect[int]:
    """The count of changes, as a column of another statement."""
    return select(func.coalesce(func.max(_STATE.c.revision), 0)).scalar_subquery()


def bump(session: Session) -> None:
    """Say that rules change, in the transaction of the change and before it.

    The row is locked until the transaction ends: changes of rules come one after the other on every database.
    """
    counted = session.execute(update(AccessState).where(AccessState.id == 1).values(revision=AccessState.revision + 1))
    if counted.rowcount == 0:  # type: ignore[attr-defined]
        session.execute(insert(AccessState).values(id=1, revision=1))


def hold(session: Session) -> None:
    """Let no change of rules in until the transaction ends; nothing is changed by it."""
    session.execute(select(AccessState.id).where(AccessState.id == 1).with_for_update())


class Rulebooks:
    """The last book, per process. Safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: Book | None = None

    def current(self, session: Session, known_revision: int | None = None) -> Book:
        """The book of this moment; ``known_revision`` saves the question which one that is."""
        asked = session.scalar(select(revision())) if known_revision is None else known_revision
        with self._lock:
            known = self._known
        if known is not None and known.revision == asked:
            return known
        loaded = load(session)
        with self._lock:
            self._known = loaded
        return loaded

    def standing(
        self,
        session: Session,
        account_id: int | None,
        *,
        name: str,
        via: str,
        now: datetime,
        at: int | None = None,
        address: str | None = None,
    ) -> Standing:
        """How a caller stands: the rules as they are, and what is known of the request. ``at`` is the known revision."""
        book = self.current(session, at)
        facts: dict[str, Any] = {"aws:currenttime": now}
        if address is not None:
            facts["aws:sourceip"] = address
        if account_id is not None:
            facts["aws:username"] = name
            facts["entrepot:via"] = via
            facts["entrepot:serviceaccount"] = account_id in book.services
        return Standing(book, account_id, facts)

    def with_rules(self, session: Session, identity: Identity, now: datetime, at: int | None = None) -> Identity:
        """The identity, standing before the rules of this moment."""
        found = self.standing(session, identity.account_id, name=identity.name, via=identity.via, now=now, at=at)
        return replace(identity, standing=found)


def from_address(identity: Identity, address: str) -> Identity:
    """The identity, with the network address that it calls from."""
    standing = identity.standing
    if standing is None:
        return identity
    return replace(identity, standing=at_address(standing, address))


def at_address(standing: Standing, address: str) -> Standing:
    """The standing, with the network address that the request comes from."""
    return replace(standing, facts={**standing.facts, "aws:sourceip": address})


def load(session: Session) -> Book:
    """Compile all rules. The revision is read first: what is compiled is never older than it says."""
    count = session.scalar(select(revision())) or 0
    rules: Rules = defaultdict(list)
    _add_policies(session, rules)
    _add_roles(session, rules)
    groups: dict[int, set[str]] = defaultdict(set)
    for account_id, group_id in session.execute(select(GroupMember.account_id, GroupMember.group_id)):
        groups[account_id].add(f"group#{group_id}")
    services = session.scalars(select(Account.id).where(Account.is_service))
    return Book(
        count,
        {place: tuple(found) for place, found in rules.items()},
        {account_id: frozenset(found) for account_id, found in groups.items()},
        frozenset(services),
    )


def _add_policies(session: Session, rules: Rules) -> None:
    bound: dict[int, dict[str, str]] = defaultdict(dict)
    for policy_id, account_id, account, group_id, group in session.execute(
        select(PolicyPrincipal.policy_id, Account.id, Account.name, AccountGroup.id, AccountGroup.name)
        .outerjoin(Account, Account.id == PolicyPrincipal.account_id)
        .outerjoin(AccountGroup, AccountGroup.id == PolicyPrincipal.group_id)
    ):
        name, key = (f"user/{account}", f"user#{account_id}") if account else (f"group/{group}", f"group#{group_id}")
        bound[policy_id][name] = key
    for policy_id, text, domain, repository in session.execute(
        select(ResourcePolicy.id, ResourcePolicy.document, Domain.name, Repository.name)
        .join(Domain, Domain.id == ResourcePolicy.domain_id)
        .outerjoin(Repository, Repository.id == ResourcePolicy.repository_id)
        .order_by(ResourcePolicy.id)
    ):
        source = _source(domain, repository or "")
        for statement in document.parse(text).statements:
            rules[domain, repository or ""].append(Rule(_bound(statement, bound[policy_id]), source))


def with_policy(book: Book, domain: str, repository: str, parsed: Document | None, bound: Mapping[str, str]) -> Book:
    """The book as it would be with this policy of a domain (``repository`` empty) or a repository; None: without one.

    ``bound`` gives each account and group that the policy names as rules name it (``user/ada`` → ``user#7``).
    """
    source = _source(domain, repository)
    kept = [rule for rule in book.rules.get((domain, repository), ()) if rule.source != source]
    statements = parsed.statements if parsed is not None else ()
    made = [Rule(_bound(statement, bound), source) for statement in statements]
    rules = {**book.rules, (domain, repository): (*kept, *made)}
    return Book(book.revision, rules, book.groups, book.services)


def _source(domain: str, repository: str) -> str:
    return f"policy of repository {domain}/{repository}" if repository else f"policy of domain {domain}"


def _bound(statement: Statement, bound: Mapping[str, str]) -> Statement:
    names = statement.principals
    kept = tuple(name if name == EVERYBODY else bound[name] for name in names.patterns if name in {EVERYBODY, *bound})
    return replace(statement, principals=Terms(kept, names.is_negated))


def _add_roles(session: Session, rules: Rules) -> None:
    for grant, account, group, domain, repository in session.execute(_GRANTS):
        rules[domain or "", ""].append(_rule(grant, account, group, domain or "", repository or grant.pattern))


def _rule(grant: RoleGrant, account: str | None, group: str | None, domain: str, where: str) -> Rule:
    shown = f"user/{account}" if account is not None else f"group/{group}"
    principal = f"user#{grant.account_id}" if grant.account_id is not None else f"group#{grant.group_id}"
    return rule_of(grant.role, principal, shown, domain, where)


_GRANTS = (
    select(RoleGrant, Account.name, AccountGroup.name, Domain.name, Repository.name)
    .outerjoin(Account, Account.id == RoleGrant.account_id)
    .outerjoin(AccountGroup, AccountGroup.id == RoleGrant.group_id)
    .outerjoin(Domain, Domain.id == RoleGrant.domain_id)
    .outerjoin(Repository, Repository.id == RoleGrant.repository_id)
    .order_by(RoleGrant.id)
)


def grants(session: Session) -> Iterable[Sequence[Any]]:
    """All granted roles (``RoleGrant``), with the names of the account, group, domain and repository, or None."""
    return session.execute(_GRANTS)
