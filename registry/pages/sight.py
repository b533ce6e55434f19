"""What who looks at the pages may see and do, asked of the one evaluator: signed in or not, by repository and by package."""

from __future__ import annotations

from dataclasses import dataclass

from flask import request
from sqlalchemy.orm import Session

from registry.access import DESCRIBE, Action, Identity, check, place_of
from registry.errors import Denied, Invalid, Unauthenticated
from registry.http import context
from registry.names import PackageKey
from registry.policy.actions import USUAL
from registry.policy.book import Standing
from registry.policy.evaluate import Outcome
from registry.repos.browse import RepositorySummary

DISPOSE = "codeartifact:DisposePackageVersions"
DELETE, SET_STATUS = "codeartifact:DeletePackageVersions", "codeartifact:UpdatePackageVersionsStatus"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks: an account, or nobody that is known, of whom ``standing`` says what policies deny."""

    identity: Identity | None
    standing: Standing | None

    def reads(self, summary: RepositorySummary, key: PackageKey | None = None, permission: str = "") -> bool:
        """Whether the repository, or more than the name of one package of it, may be shown.

        A repository that anybody may read is open to who signed in as well; what a policy denies is closed to both.
        """
        who = self.identity
        if who is not None and who.may(Action.READ, summary.path, key, permission=permission):
            return True
        if not summary.anonymous_read:
            return False
        if self.standing is None:
            return True
        decision = self.standing.decide(permission or USUAL["read"], place_of(summary.path, "", key), own=True)
        return decision.outcome is not Outcome.EXPLICIT_DENY

    def describes(self, summary: RepositorySummary, key: PackageKey) -> bool:
        """Whether versions, descriptions and figures of a package of a readable repository may be shown."""
        return self.reads(summary, key, DESCRIBE)

    def refuse(self, summary: RepositorySummary) -> None:
        """Raise Unauthenticated for nobody, and Denied for somebody who may not."""
        if self.identity is None:
            raise Unauthenticated("sign in to see this page")
        raise Denied(f"{self.identity.name} may not {Action.READ.value} {summary.path}")


def viewer(session: Session) -> Viewer:
    """Who looks, with the rules of this moment."""
    who, services = context.identity(), context.services()
    if who is not None:
        return Viewer(who, who.standing)
    address = request.remote_addr or "unknown"
    rules = services.accounts.rules
    return Viewer(None, rules.standing(session, None, name="", via="", now=services.clock(), address=address))


def named(format_name: str, name: str) -> PackageKey | None:
    """The package that an address names, None where nothing can have that name: then there is nothing to guard."""
    known = context.services().formats.get(format_name)
    try:
        return known.key(name) if known is not None else None
    except Invalid:
        return None


def may(domain: str, repository: str, key: PackageKey | None, permission: str) -> bool:
    """Whether who looks may do to a package what CodeArtifact calls ``permission``, below publishing."""
    who = context.identity()
    return who is not None and who.may(Action.PUBLISH, f"{domain}/{repository}", key, permission=permission)


def check_may(domain: str, repository: str, key: PackageKey | None, permission: str) -> None:
    """Raise Unauthenticated or Denied unless ``may``."""
    check(context.identity(), Action.PUBLISH, f"{domain}/{repository}", key, permission=permission)
