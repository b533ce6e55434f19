"""Whose account somebody of an identity provider has: by issuer and subject, which are given to nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import audit, groups
from registry.accounts import Accounts
from registry.errors import Denied, Invalid
from registry.models import Account, ExternalIdentity
from registry.names import account_name
from registry.oidc.provider import Provider


def arrive(
    session: Session, accounts: Accounts, provider: Provider, claims: Mapping[str, Any], now: datetime
) -> Account:
    """The account of who came from a provider, made or bound as far as the settings allow, its groups brought up to date.

    Raises Denied with what an administrator can do about it.
    """
    check_email(provider, claims)
    account = bound(session, provider, claims)
    if account is None:
        account = _new(session, accounts, provider, claims, now)
    if account.is_disabled:
        raise Denied("this account is disabled; an administrator can enable it")
    take_groups(session, account, provider, claims, now)
    return account


def bound(session: Session, provider: Provider, claims: Mapping[str, Any]) -> Account | None:
    """The account that is bound to the token's subject, if any."""
    return session.scalar(
        select(Account)
        .join(ExternalIdentity, ExternalIdentity.account_id == Account.id)
        .where(ExternalIdentity.issuer == provider.issuer, ExternalIdentity.subject == claims["sub"])
    )


def bind(session: Session, account: Account, provider: Provider, claims: Mapping[str, Any], now: datetime) -> None:
    """Bind an account to the token's subject. Raises Denied when the subject is somebody else's here."""
    present = bound(session, provider, claims)
    if present is not None and present.id != account.id:
        raise Denied("this person of the identity provider has another account here")
    if present is None:
        session.add(
            ExternalIdentity(issuer=provider.issuer, subject=claims["sub"], account_id=account.id, created_at=now)
        )
        audit.record(session, now, account.name, "identity.bind", f"user/{account.name}", provider=provider.name)
    take_groups(session, account, provider, claims, now)


def check_email(provider: Provider, claims: Mapping[str, Any]) -> None:
    """Refuse who has no verified address in one of the allowed domains, where there are such. Raises Denied."""
    if not provider.email_domains:
        return
    email = claims.get("email")
    domain = email.rpartition("@")[2].lower() if isinstance(email, str) and claims.get("email_verified") is True else ""
    if domain not in provider.email_domains:
        raise Denied("only people with a verified e-mail address in certain domains may sign in here")


def take_groups(
    session: Session, account: Account, provider: Provider, claims: Mapping[str, Any], now: datetime
) -> None:
    """Make the account's memberships what the provider says at this moment; silence means none."""
    if not provider.groups_claim:
        return
    said = claims.get(provider.groups_claim)
    values = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    names = {provider.groups[value] for value in values if isinstance(value, str) and value in provider.groups}
    groups.sync(session, account, provider.source, names, now)


def identities(session: Session, account_id: int, issuers: Mapping[str, str]) -> list[str]:
    """The names of the providers an account is bound to; ``issuers`` gives a provider's name by its issuer."""
    found = session.scalars(select(ExternalIdentity.issuer).where(ExternalIdentity.account_id == account_id))
    return sorted({issuers[issuer] for issuer in found if issuer in issuers})


def _new(session: Session, accounts: Accounts, provider: Provider, claims: Mapping[str, Any], now: datetime) -> Account:
    name = _name(provider, claims)
    account = session.scalar(select(Account).where(Account.name == name))
    if account is not None and not provider.match_existing:
        raise Denied(
            f"there is a user {name} already: sign in as usual and connect the account on its page, or ask an administrator"
        )
    if account is None and not provider.create_users:
        raise Denied(f"there is no user {name} here; an administrator can make one")
    if account is None:
        account = accounts.create(session, name, actions=provider.new_user_actions, now=now)
        audit.record(
            session, now, provider.source, "user.create", f"user/{name}", actions=list(provider.new_user_actions)
        )
    bind(session, account, provider, claims, now)
    return account


def _name(provider: Provider, claims: Mapping[str, Any]) -> str:
    said = claims.get(provider.user_claim)
    if not isinstance(said, str):
        raise Denied(f"the identity provider does not say {provider.user_claim}, which accounts are named by")
    if provider.user_claim == "email":
        if claims.get("email_verified") is not True:
            raise Denied("the identity provider has not verified the e-mail address")
        said = said.rpartition("@")[0]
    try:
        return account_name(said.lower())
    except Invalid as error:
        raise Denied(f"no account can be called as the identity provider says: {error}") from error
