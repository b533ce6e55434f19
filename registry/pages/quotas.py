"""Quotas of domains and repositories, set and lifted, and how often may be asked: what bounds whoever publishes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flask import Blueprint, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from registry.access import Action, Identity, check
from registry.errors import Denied, Invalid, NotFound
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.models import Domain
from registry.pages.administration import asked, sentence, text
from registry.pages.appearance import redirect_with
from registry.rates import CostClass
from registry.repos import quotas
from registry.repos.quotas import Quota, Used

MANAGE_QUOTAS = "entrepot:ManageQuotas"
PAGE_OF_REPOSITORIES = 50
_LARGEST_BYTES = 2**62
_AMOUNT = re.compile(r"([0-9]{1,12})(?:[.,]([0-9]{1,6}))?\s*([kmgt]?i?b?|bytes)\Z", re.ASCII | re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_CLASSES = {
    CostClass.READ: ("reads_per_minute", "An index, a document or a file by a package client"),
    CostClass.MANAGE: ("management_per_minute", "A page, or an operation of the API"),
    CostClass.PUBLISH: ("publishes_per_minute", "A change by a package client"),
    CostClass.SEARCH: ("searches_per_minute", "A look through many packages"),
    CostClass.MINT: ("tokens_per_minute", "A new token or sign-in link"),
}


@dataclass(frozen=True, slots=True)
class Refused:
    """What was typed for a quota, of which place, and why it was not taken."""

    place: str
    typed: str
    why: str


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    pages.add_url_rule("/quotas", "quotas", _quotas)
    pages.add_url_rule("/quotas/<domain>", "domain_quotas", _domain)
    pages.add_url_rule("/quotas/<domain>", "put_domain_quota", _put_domain, methods=["POST"])
    pages.add_url_rule("/quotas/<domain>/<repository>", "put_repository_quota", _put_repository, methods=["POST"])


def amount(typed: str) -> int | None:
    """Bytes out of ``20 GB``, ``1.5 TiB`` or ``1000000``; None, no bound, for nothing. Raises Invalid."""
    if not typed:
        return None
    found = _AMOUNT.match(typed)
    if found is None:
        raise Invalid(f"{typed[:40]!r} is no size: write 20 GB, 1.5 TiB, or a number of bytes; nothing for no limit")
    whole, part, unit = found[1], found[2] or "", found[3].lower().removesuffix("bytes")
    base = 1024 if "i" in unit else 1000
    scale = base ** _POWERS[unit[:1].strip("b")]
    size_bytes: int = (int(whole + part) * scale) // 10 ** len(part)
    if size_bytes > _LARGEST_BYTES:
        raise Invalid(f"{typed[:40]!r} is more than can be counted")
    return size_bytes


def _manages(who: Identity, domain: str, repository: str = "") -> bool:
    if repository:
        return who.may(Action.ADMIN, f"{domain}/{repository}", permission=MANAGE_QUOTAS)
    return who.may(Action.ADMIN, domain=domain, permission=MANAGE_QUOTAS)


@page
def _quotas() -> str:
    who, services = context.caller(), context.services()
    if not who.could(Action.ADMIN):
        raise Denied(f"{who.name} may not manage quotas")
    with services.db.read() as session:
        rows = session.execute(select(Domain.id, Domain.name).order_by(Domain.name)).all()
        seen = []
        for row_id, name in rows:
            repositories = [
                each for each in quotas.of_repositories(session, row_id) if _manages(who, name, each.repository)
            ]
            if repositories or _manages(who, name):
                whole = quotas.of_domain(session, row_id) if _manages(who, name) else None
                seen.append(
                    (name, whole, sum(each.quota.bytes is not None for each in repositories), len(repositories))
                )
    rates = services.rates.rates
    limits = [(cost, rates.get(cost) or 0, *_CLASSES[cost]) for cost in CostClass]
    return render_template("administration/quotas.html", domains=seen, limits=limits)


@page
def _domain(domain: str) -> str:
    return _domain_page(domain)


def _domain_page(domain: str, refused: Refused | None = None) -> str:
    who, services = context.caller(), context.services()
    with services.db.read() as session:
        row_id = session.scalar(select(Domain.id).where(Domain.name == domain))
        every = quotas.of_repositories(session, row_id) if row_id is not None else []
        repositories = [each for each in every if _manages(who, domain, each.repository)]
        if not repositories:
            # One that is not there answers as one that is somebody else's.
            check(who, Action.ADMIN, domain=domain, permission=MANAGE_QUOTAS)
        if row_id is None:
            raise NotFound("domain", domain)
        whole = quotas.of_domain(session, row_id) if _manages(who, domain) else None
    return _shown(domain, whole, repositories, refused)


def _shown(domain: str, whole: Quota | None, repositories: list[Used], refused: Refused | None) -> str:
    searched, after = asked("q", 100), asked("after", 100)
    fitting = [each for each in repositories if searched.lower() in each.repository.lower()]
    if refused is not None and "/" in refused.place:
        fitting = [each for each in repositories if each.repository == refused.place.partition("/")[2]] or fitting
    behind = [each for each in fitting if each.repository > after]
    shown = behind[:PAGE_OF_REPOSITORIES]
    return render_template(
        "administration/domain_quotas.html",
        domain=domain,
        whole=whole,
        repositories=shown,
        repository_count=len(repositories),
        searched=searched,
        after=after,
        next_after=shown[-1].repository if len(behind) > len(shown) else None,
        refused=refused or Refused("", "", ""),
        typed=_typed,
    )


def _typed(bound: int | None) -> str:
    """A quota as it would be typed; the largest unit in which it is a short number."""
    if bound is None:
        return ""
    for unit, scale in (("TB", 1000**4), ("GB", 1000**3), ("MB", 1000**2), ("kB", 1000)):
        if bound and bound % (scale // 10) == 0 and bound >= scale:
            return f"{bound / scale:g} {unit}"
    return str(bound)


@page
def _put_domain(domain: str) -> ResponseReturnValue:
    services, who = context.services(), context.caller()
    check(who, Action.ADMIN, domain=domain, permission=MANAGE_QUOTAS)
    typed = text("limit", 60)
    try:
        bound = amount(typed)
    except Invalid as error:
        return _domain_page(domain, Refused(domain, typed, sentence(error))), status_of(error)
    with services.db.write() as session:
        quotas.put_domain(session, domain, bound, who.name, services.clock())
    return redirect_with("quota-set", url_for("pages.domain_quotas", domain=domain))


@page
def _put_repository(domain: str, repository: str) -> ResponseReturnValue:
    services, who = context.services(), context.caller()
    check(who, Action.ADMIN, f"{domain}/{repository}", permission=MANAGE_QUOTAS)
    typed = text("limit", 60)
    try:
        bound = amount(typed)
    except Invalid as error:
        return _domain_page(domain, Refused(f"{domain}/{repository}", typed, sentence(error))), status_of(error)
    with services.db.write() as session:
        quotas.put_repository(session, domain, repository, bound, who.name, services.clock())
    q, after = text("q", 100) or None, text("after", 100) or None
    return redirect_with("quota-set", url_for("pages.domain_quotas", domain=domain, q=q, after=after))
