"""Who may do what, in the words of ``npm access``: as roles, policies and the accounts' own rights decide it at this moment."""

from __future__ import annotations

from flask import Response
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from registry.access import ANY_PACKAGE, About, Action, Identity
from registry.accounts import account_scope
from registry.errors import Denied, Invalid
from registry.formats.npm import names
from registry.formats.npm.bodies import answer
from registry.formats.npm.elsewhere import RIGHTS
from registry.formats.npm.offers import packument_of
from registry.http import context
from registry.models import Account, Asset, Package, Repository
from registry.names import PackageKey, PackageName, account_name
from registry.repos import shelf
from registry.services import Services

READ, WRITE = "read", "write"


def visibility(services: Services, name: str) -> Response:
    """``npm access get status``: a package is public where anybody may read the repository."""
    _check_there(services, names.package_key(name))
    with services.db.read() as session:
        is_open = session.scalar(
            select(Repository.anonymous_read).where(Repository.id == context.admission().repository_id)
        )
    return answer({"public": bool(is_open)})


def collaborators(services: Services, name: str) -> Response:
    """``npm access list collaborators``: the accounts that may publish and read this package here, however they may.

    For those who may publish here themselves. Raises Denied for others, and NotFound.
    """
    admission = context.admission()
    key = names.package_key(name)
    if not context.caller().may(Action.PUBLISH, admission.path, key):
        raise Denied(f"who may publish in {admission.path} is told to those who may do so themselves")
    _check_there(services, key)
    with services.db.read() as session:
        accounts = session.scalars(select(Account).where(Account.is_disabled.is_(False)).order_by(Account.name)).all()
        everybody = [_identity(services, session, account) for account in accounts]
    rights = {who.name: _right(who, admission.path, key) for who in everybody}
    return answer({account: right for account, right in rights.items() if right is not None})


def packages(services: Services, user: str) -> Response:
    """``npm access list packages``: what the repository holds, and what an account may do with it.

    Nothing can be added to a package that came from an upstream. Raises Denied for anybody but oneself and
    administrators.
    """
    admission, caller = context.admission(), context.caller()
    is_self = account_name(user) == caller.name
    if not is_self and not caller.may(Action.ADMIN):
        raise Denied("what another account may do is told to administrators only")
    with services.db.read() as session:
        account = session.scalar(select(Account).where(Account.name == account_name(user)))
        if account is None:
            raise Invalid(f"there is no account {account_name(user)}, and {RIGHTS}")
        # With a token that may less than its account, this is what the token may.
        who = caller if is_self else _identity(services, session, account)
        if account.is_disabled or _right(who, admission.path, ANY_PACKAGE) is None:
            return answer({})
        held = session.execute(
            select(Package.namespace, Package.name, Package.display_name, Package.origin)
            .where(
                Package.repository_id == admission.repository_id,
                Package.format == names.FORMAT_NAME,
                exists().where(Asset.package_id == Package.id),
            )
            .order_by(Package.namespace, Package.name)
        ).all()
    told: dict[str, str] = {}
    for namespace, name, display, origin in held:
        key = PackageKey(names.FORMAT_NAME, namespace, PackageName(name))
        if right := _right(who, admission.path, key):
            told[display] = right if origin == shelf.PUBLISHED else READ
    return answer(told)


def _identity(services: Services, session: Session, account: Account) -> Identity:
    """An account as it would call with a token of its own that says everything."""
    bare = Identity(account.name, account.id, (account_scope(account),), "token")
    return services.accounts.rules.with_rules(session, bare, services.clock())


def _right(who: Identity, path: str, package: About) -> str | None:
    if who.may(Action.PUBLISH, path, package):
        return WRITE
    return READ if who.may(Action.READ, path, package) else None


def _check_there(services: Services, key: PackageKey) -> None:
    """Raise NotFound for a package that the repository does not offer."""
    packument_of(services, services.resolver.offer(context.admission(), key))
