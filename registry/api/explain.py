"""Why something is allowed or not."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from typing import Annotated

from registry import explaining
from registry.access import Action
from registry.api.routes import Route
from registry.api.shapes import Length
from registry.errors import Denied, Invalid
from registry.existence import check_there
from registry.http import context
from registry.http.auth import signed_in_api


@dataclass(frozen=True, slots=True)
class AccessQuery:
    """``who`` may do ``what`` ``where``? Who: ``user/NAME``, ``group/NAME`` or ``anonymous``; what: an action's name.

    ``where`` is ``server``, ``DOMAIN``, ``DOMAIN/REPOSITORY`` or a resource's ARN; ``sourceIp`` the address asked from.
    """

    who: Annotated[str, Length(1, 100)]
    what: Annotated[str, Length(1, 100)]
    where: Annotated[str, Length(1, 500)]
    source_ip: Annotated[str, Length(0, 60)] = ""


def explain_access(query: AccessQuery) -> explaining.AccessExplanation:
    """Whether somebody may do something, and what decided.

    Anybody may ask about themselves; of others, and with the rules that were looked at, those who may explain access there.
    Where there is no such domain or repository, that is said to who may explain access or read there; to others the
    answer is the same as if it were there.
    """
    services, caller = context.services(), context.caller()
    _check_address(query.source_ip)
    permission, place = explaining.permission_of(query.what), explaining.place_named(query.where)
    may_see = caller.decide(Action.ADMIN, place, "entrepot:ExplainAccess").allowed
    if not may_see and query.who not in {caller.name, f"user/{caller.name}"}:
        raise Denied(f"{caller.name} may not ask what {query.who} may do there")
    may_know = may_see or caller.decide(Action.READ, place).allowed
    with services.db.read() as session:
        if may_know:
            check_there(session, place)
        found = explaining.explain(
            session, services.accounts, query.who, permission, place, address=query.source_ip, now=services.clock()
        )
    return found if may_see else replace(found, looked_at=())


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_address(text or "::")
    except ValueError as error:
        # Without this, what is no address would count as one that lies in no network.
        raise Invalid(f"sourceIp {text!r} is no IP address, as 192.0.2.7 and 2001:db8::7 are") from error


ROUTES = (
    Route(
        "GET", "/explain/access", signed_in_api, explain_access, query=AccessQuery, answer=explaining.AccessExplanation
    ),
)
