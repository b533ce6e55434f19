"""Whether what somebody names is there, for who may know."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.errors import NotFound
from registry.models import Domain, Repository
from registry.policy.places import Place


def check_there(session: Session, place: Place) -> None:
    """Raise NotFound for a place whose domain or repository there is none of; packages need not be there.

    Ask it for who may look there only: to anybody else it would tell what there is.
    """
    if not place.domain:
        return
    domain_id = session.scalar(select(Domain.id).where(Domain.name == place.domain))
    if domain_id is None:
        raise NotFound("domain", place.domain)
    named = select(Repository.id).where(Repository.domain_id == domain_id, Repository.name == place.repository)
    if place.repository and session.scalar(named) is None:
        raise NotFound("repository", f"{place.domain}/{place.repository}")
