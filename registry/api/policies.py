"""Policies of domains and of repositories, in CodeArtifact's shapes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from registry import policies
from registry.access import Action
from registry.api.routes import Route
from registry.api.shapes import Length
from registry.http import context
from registry.http.auth import requires
from registry.policy_preview import Preview, seen_by


@dataclass(frozen=True, slots=True)
class PolicyView:
    """A policy. ``document`` is its JSON as text; ``revision`` goes into ``policyRevision`` of the next change."""

    resource_arn: str
    revision: str
    document: str
    updated_time: datetime
    updated_by: str


@dataclass(frozen=True, slots=True)
class PolicyAnswer:
    """What CodeArtifact answers."""

    policy: PolicyView


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """``policyDocument`` is JSON as text. With ``policyRevision``, refused (409) unless that is what is there."""

    policy_document: Annotated[str, Length(2, policies.LONGEST_DOCUMENT)]
    policy_revision: Annotated[str, Length(1, 64)] | None = None


@dataclass(frozen=True, slots=True)
class RevisionQuery:
    """With ``policyRevision``, refused (409) unless that is what is there."""

    policy_revision: Annotated[str, Length(1, 64)] | None = None


def get_domain_policy(domain: str) -> PolicyAnswer:
    """The policy of a domain."""
    return _get(domain, None)


def put_domain_policy(domain: str, body: PolicyChange) -> PolicyAnswer:
    """Set the policy of a domain. It counts from the next request on."""
    return _put(domain, None, body)


def delete_domain_policy(domain: str, query: RevisionQuery) -> PolicyAnswer:
    """Delete the policy of a domain; answers what it was."""
    return _delete(domain, None, query)


def get_repository_policy(domain: str, repository: str) -> PolicyAnswer:
    """The policy of a repository."""
    return _get(domain, repository)


def put_repository_policy(domain: str, repository: str, body: PolicyChange) -> PolicyAnswer:
    """Set the policy of a repository. It counts from the next request on."""
    return _put(domain, repository, body)


def delete_repository_policy(domain: str, repository: str, query: RevisionQuery) -> PolicyAnswer:
    """Delete the policy of a repository; answers what it was."""
    return _delete(domain, repository, query)


def preview_domain_policy(domain: str, body: PolicyChange) -> Preview:
    """What setting the policy of a domain would change; nothing is set. Faults come in the answer, with their lines.

    Who gains or loses what is told to who may explain access there.
    """
    return _preview(domain, None, body)


def preview_repository_policy(domain: str, repository: str, body: PolicyChange) -> Preview:
    """What setting the policy of a repository would change; nothing is set. Faults come in the answer, with their lines.

    Who gains or loses what is told to who may explain access there.
    """
    return _preview(domain, repository, body)


def _preview(domain: str, repository: str | None, body: PolicyChange) -> Preview:
    services, caller = context.services(), context.caller()
    with services.db.read() as session:
        return seen_by(caller, session, domain, repository, body.policy_document, services.clock())


def _get(domain: str, repository: str | None) -> PolicyAnswer:
    with context.services().db.read() as session:
        return _answer(policies.get(session, domain, repository))


def _put(domain: str, repository: str | None, body: PolicyChange) -> PolicyAnswer:
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        return _answer(
            policies.put(
                session,
                domain,
                repository,
                body.policy_document,
                expected=body.policy_revision,
                actor=caller.name,
                now=services.clock(),
            )
        )


def _delete(domain: str, repository: str | None, query: RevisionQuery) -> PolicyAnswer:
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        return _answer(
            policies.take_away(
                session,
                domain,
                repository,
                expected=query.policy_revision,
                actor=caller.name,
                now=services.clock(),
            )
        )


def _answer(found: policies.Policy) -> PolicyAnswer:
    return PolicyAnswer(
        PolicyView(found.resource_arn, found.revision, found.document, found.updated_at, found.updated_by)
    )


_DOMAIN = "/domains/<domain>/permissions/policy"
_REPOSITORY = "/domains/<domain>/repositories/<repository>/permissions/policy"


ROUTES = (
    Route(
        "GET",
        _DOMAIN,
        requires(Action.ADMIN, domain=True, permission="codeartifact:GetDomainPermissionsPolicy"),
        get_domain_policy,
        answer=PolicyAnswer,
    ),
    Route(
        "PUT",
        _DOMAIN,
        requires(Action.ADMIN, domain=True, permission="codeartifact:PutDomainPermissionsPolicy"),
        put_domain_policy,
        body=PolicyChange,
        answer=PolicyAnswer,
    ),
    Route(
        "POST",
        f"{_DOMAIN}/preview",
        requires(Action.ADMIN, domain=True, permission="codeartifact:PutDomainPermissionsPolicy"),
        preview_domain_policy,
        body=PolicyChange,
        answer=Preview,
    ),
    Route(
        "DELETE",
        _DOMAIN,
        requires(Action.ADMIN, domain=True, permission="codeartifact:DeleteDomainPermissionsPolicy"),
        delete_domain_policy,
        query=RevisionQuery,
        answer=PolicyAnswer,
    ),
    Route(
        "GET",
        _REPOSITORY,
        requires(Action.ADMIN, repository=True, permission="codeartifact:GetRepositoryPermissionsPolicy"),
        get_repository_policy,
        answer=PolicyAnswer,
    ),
    Route(
        "PUT",
        _REPOSITORY,
        requires(Action.ADMIN, repository=True, permission="codeartifact:PutRepositoryPermissionsPolicy"),
        put_repository_policy,
        body=PolicyChange,
        answer=PolicyAnswer,
    ),
    Route(
        "POST",
        f"{_REPOSITORY}/preview",
        requires(Action.ADMIN, repository=True, permission="codeartifact:PutRepositoryPermissionsPolicy"),
        preview_repository_policy,
        body=PolicyChange,
        answer=Preview,
    ),
    Route(
        "DELETE",
        _REPOSITORY,
        requires(Action.ADMIN, repository=True, permission="codeartifact:DeleteRepositoryPermissionsPolicy"),
        delete_repository_policy,
        query=RevisionQuery,
        answer=PolicyAnswer,
    ),
)
