"""Policies of domains and repositories: put, shown and taken away, one for each, with a lock against lost changes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry import audit, json_text
from registry.errors import Conflict, Invalid, NotFound
from registry.models import Account, AccountGroup, Domain, PolicyPrincipal, Repository, ResourcePolicy
from registry.policy import document
from registry.rulebook import bump

LONGEST_DOCUMENT = 65_536


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as it stands. ``document`` is JSON text; ``revision`` goes into the next put to lose no one's change."""

    document: str
    resource_arn: str
    revision: str
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, slots=True)
class _Target:
    key: str
    domain_id: int
    repository_id: int | None
    resource: str


def get(session: Session, domain: str, repository: str | None) -> Policy:
    """The policy of a domain or of one of its repositories. Raises NotFound."""
    return _shown(_kept(session, _target(session, domain, repository)), domain, repository)


def find(session: Session, domain: str, repository: str | None) -> Policy | None:
    """The policy, or None where there is none. Raises NotFound for an unknown domain or repository."""
    row = _row(session, _target(session, domain, repository))
    return _shown(row, domain, repository) if row is not None else None


def put(
    session: Session,
    domain: str,
    repository: str | None,
    text: str,
    *,
    expected: str | None,
    actor: str,
    now: datetime,
) -> Policy:
    """Set the policy. ``expected`` is the revision it must still have; None replaces whatever is there.

    Raises Invalid with every fault of the document, also for accounts and groups that do not exist; Conflict when
    somebody else changed it.
    """
    value = read(text)
    named = document.parse(value).principals
    bump(session)  # first: it lets changes of rules through one by one, so that the revision can be compared
    target = _target(session, domain, repository)
    row = _row(session, target)
    _check_revision(row, expected)
    ids = _principals(session, named)
    if row is None:
        row = ResourcePolicy(target=target.key, domain_id=target.domain_id, repository_id=target.repository_id)
        session.add(row)
    row.document = value
    row.revision = secrets.token_urlsafe(16)
    row.updated_at, row.updated_by = now, actor
    session.flush()
    session.execute(delete(PolicyPrincipal).where(PolicyPrincipal.policy_id == row.id))
    session.add_all([PolicyPrincipal(policy_id=row.id, **{column: found}) for column, found in ids])
    audit.record(session, now, actor, "policy.put", target.resource, document=value, revision=row.revision)
    session.flush()
    return _shown(row, domain, repository)


def take_away(
    session: Session, domain: str, repository: str | None, *, expected: str | None, actor: str, now: datetime
) -> Policy:
    """Delete the policy; returns what it was. Raises NotFound, or Conflict when somebody else changed it."""
    bump(session)
    target = _target(session, domain, repository)
    row = _kept(session, target)
    _check_revision(row, expected)
    shown = _shown(row, domain, repository)
    session.delete(row)
    audit.record(session, now, actor, "policy.delete", target.resource, document=row.document)
    return shown


def read(text: str) -> Any:
    """The JSON value of a document's text. Raises Invalid."""
    if len(text) > LONGEST_DOCUMENT:
        raise Invalid(f"a policy has at most {LONGEST_DOCUMENT} characters")
    return json_text.parse(text.encode(errors="surrogatepass"))


def _target(session: Session, domain: str, repository: str | None) -> _Target:
    domain_id = session.scalar(select(Domain.id).where(Domain.name == domain))
    if domain_id is None:
        raise NotFound("domain", domain)
    if repository is None:
        return _Target(f"domain/{domain_id}", domain_id, None, f"domain/{domain}")
    found = session.scalar(
        select(Repository.id).where(Repository.domain_id == domain_id, Repository.name == repository)
    )
    if found is None:
        raise NotFound("repository", f"{domain}/{repository}")
    return _Target(f"repository/{found}", domain_id, found, f"repository/{domain}/{repository}")


def _row(session: Session, target: _Target) -> ResourcePolicy | None:
    return session.scalar(select(ResourcePolicy).where(ResourcePolicy.target == target.key))


def _kept(session: Session, target: _Target) -> ResourcePolicy:
    row = _row(session, target)
    if row is None:
        raise NotFound("policy of", target.resource)
    return row


def _check_revision(row: ResourcePolicy | None, expected: str | None) -> None:
    if expected is not None and expected != (row.revision if row is not None else None):
        raise Conflict("the policy has changed since that revision; look at it again")


def bound(session: Session, named: frozenset[str]) -> dict[str, str]:
    """Each account and group that is named as rules name it (``user/ada`` → ``user#7``).

    Raises Invalid naming all that do not exist.
    """
    kinds = {"account_id": "user", "group_id": "group"}
    return {
        name: f"{kinds[column]}#{row}"
        for name, (column, row) in zip(sorted(named), _principals(session, named), strict=True)
    }


def _principals(session: Session, named: frozenset[str]) -> list[tuple[str, int]]:
    """(column, row number) of each account and group. Raises Invalid naming all that do not exist."""
    kinds: Mapping[str, tuple[str, Any]] = {"user": ("account_id", Account), "group": ("group_id", AccountGroup)}
    found, missing = [], []
    for name in sorted(named):
        kind, _, word = name.partition("/")
        column, model = kinds[kind]
        row_id = session.scalar(select(model.id).where(model.name == word))
        if row_id is None:
            missing.append(name)
        else:
            found.append((column, row_id))
    if missing:
        raise Invalid(f"there is no {', no '.join(missing)}")
    return found


def _shown(row: ResourcePolicy, domain: str, repository: str | None) -> Policy:
    resource = f"domain/{domain}" if repository is None else f"repository/{domain}/{repository}"
    return Policy(
        json.dumps(row.document, indent=2, ensure_ascii=False), resource, row.revision, row.updated_at, row.updated_by
    )
