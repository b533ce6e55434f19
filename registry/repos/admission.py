"""Letting a request in: repository, caller and the state of the name it asks for, in one query.

This is the hot read path: each index page and each file of an install comes through here, so that everything a cached
answer depends on (does the token still count, has the name changed, has the topology) is one SELECT of plain columns.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, bindparam, false, func, literal, null, select, update
from sqlalchemy.orm import Session

from registry import attempts, rulebook
from registry.access import DESCRIBE, Action, Identity, check, check_any, check_at
from registry.accounts import LAST_USED_GRAIN, Accounts, account_scope, token_identity
from registry.db import Database, table_of
from registry.errors import Denied, Invalid, NotFound, Unauthenticated, Unavailable
from registry.models import Account, Domain, PackageState, Repository, Token
from registry.names import PackageKey, PackageName, account_name
from registry.policy.actions import USUAL
from registry.policy.book import Standing
from registry.policy.evaluate import Outcome
from registry.policy.places import Place
from registry.token_shape import looks_like_token

log = logging.getLogger("entrepot.admission")


@dataclass(frozen=True, slots=True)
class Credential:
    """What the caller sent: ``secret`` is a token or a password; ``user`` is empty for a bearer token.

    ``address`` is the peer's network address, for which failed passwords are counted.
    """

    user: str
    secret: str = field(repr=False)
    address: str = "unknown"


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that may go on: for whom, in which repository, under which revisions."""

    identity: Identity | None
    domain_id: int
    domain: str
    repository_id: int
    repository: str
    topology_revision: int
    package_revision: int
    # How a caller without a credential stands before the rules: what they deny is closed to strangers as well.
    stranger: Standing | None = field(default=None, compare=False, repr=False)

    @property
    def path(self) -> str:
        """``domain/repository``, as scopes and audit entries name it."""
        return f"{self.domain}/{self.repository}"

    @property
    def actor(self) -> str:
        """The caller's name for audit entries."""
        return self.identity.name if self.identity else "anonymous"

    @property
    def sees_all(self) -> bool:
        """Whether lists of names are the same for this caller as for others: no token for certain packages is used."""
        return self.identity is None or not self.identity.is_limited_to_packages

    def sees(self, key: PackageKey) -> bool:
        """Whether the caller may know of a package here."""
        return self.identity is None or self.identity.may(Action.READ, self.path, key)

    def describes(self, key: PackageKey, permission: str = DESCRIBE) -> bool:
        """Whether more than a package's name may be told: its versions, what they say of themselves, figures.

        ``permission`` is CodeArtifact's name for it, below reading.
        """
        if self.identity is not None:
            return self.identity.may(Action.READ, self.path, key, permission=permission)
        place = Place(self.domain, self.repository, key)
        return self.stranger is None or (
            self.stranger.decide(permission, place, own=True).outcome is not Outcome.EXPLICIT_DENY
        )


_DOMAIN, _REPOSITORY, _STATE, _TOKEN, _ACCOUNT = (
    table_of(each) for each in (Domain, Repository, PackageState, Token, Account)
)
# Who calls, by a token: the same places in both statements.
_CALLER: tuple[Any, ...] = (
    _TOKEN.c.id,
    _TOKEN.c.actions,
    _TOKEN.c.repositories,
    _TOKEN.c.expires_at,
    _TOKEN.c.revoked_at,
    _TOKEN.c.last_used_at,
    _ACCOUNT.c.id,
    _ACCOUNT.c.name,
    _ACCOUNT.c.actions,
    _ACCOUNT.c.repositories,
    _ACCOUNT.c.is_disabled,
    _TOKEN.c.packages,
    _TOKEN.c.networks,
)


def _statement() -> Select[*tuple[Any, ...]]:
    # COALESCE so that an unknown name has revision 0 and its "not found" can be told from its first version.
    return (
        select(
            _DOMAIN.c.id,
            _REPOSITORY.c.id,
            _REPOSITORY.c.anonymous_read,
            _DOMAIN.c.topology_revision,
            func.coalesce(_STATE.c.revision, 0),
            *_CALLER,
            rulebook.revision(),  # the last column: of rules (policies, roles, groups), compiled once per revision
        )
        .select_from(_DOMAIN)
        .join(_REPOSITORY, _REPOSITORY.c.domain_id == _DOMAIN.c.id)
        .outerjoin(
            _STATE,
            and_(
                _STATE.c.domain_id == _DOMAIN.c.id,
                _STATE.c.format == bindparam("format"),
                _STATE.c.namespace == bindparam("namespace"),
                _STATE.c.name == bindparam("package"),
            ),
        )
        .outerjoin(_TOKEN, _TOKEN.c.digest == bindparam("digest"))
        .outerjoin(_ACCOUNT, _ACCOUNT.c.id == _TOKEN.c.account_id)
        .where(_DOMAIN.c.name == bindparam("domain"), _REPOSITORY.c.name == bindparam("repository"))
    )


_STATEMENT = _statement()


class Admissions:
    """Decides who comes in. Safe for many threads."""

    def __init__(self, db: Database, accounts: Accounts) -> None:
        self._db = db
        self._accounts = accounts

    def admit(
        self,
        credential: Credential | None,
        action: Action,
        domain: str,
        repository: str,
        *,
        format_name: str = "",
        namespace: str = "",
        package: str = "",
        permission: str = "",
        or_else: tuple[str, ...] = (),
        names_later: bool = False,
        lists: bool = False,
        address: str = "unknown",
        now: datetime,
    ) -> Admission:
        """Let the caller do ``action`` in a repository, or raise Unauthenticated, RateLimited, Denied or NotFound.

        ``permission`` is CodeArtifact's name for it; with ``or_else`` any of these and it lets in, and whoever called
        asks for the one that is wanted when that is known. With ``names_later`` a package is concerned that the request
        names in its body: who may do it to some package comes in, and is asked again when the name is known. With ``lists``
        (where ``package`` is empty) names of packages are told, of each of which ``Admission.sees`` is asked. ``address``
        is where a request without a credential comes from.

        A credential that is sent and wrong is refused even where anonymous reading is allowed: a client whose token
        ran out must hear of it. Who may not read a repository cannot tell it from a missing one: the refusal is the same.
        """
        digest, identity, stranger = "", None, None
        if credential is not None and looks_like_token(credential.secret):
            digest = self._accounts.digest(credential.secret)
        elif credential is not None:
            identity = rulebook.from_address(self._password_identity(credential, now), credential.address)
        key = PackageKey(format_name, namespace, PackageName(package)) if package else None
        place = Place(domain, repository, key, is_open=names_later, is_list=lists and not package)
        asked = {"domain": domain, "repository": repository, "digest": digest}
        asked |= {"format": format_name, "namespace": namespace, "package": package}
        with self._db.read() as session:
            row = session.execute(_STATEMENT, asked).first()
            if digest and credential is not None:
                identity = self._token_identity(session, row, digest, credential.address, now)[0]
            elif identity is None and row is not None and row[2] and action is Action.READ:
                stranger = self._check_stranger(session, place, permission, address, row[-1], now)
        if row is None:
            if identity is None or not identity.decide(Action.READ, place).allowed:
                check_at(identity, action, place, permission)
            raise NotFound("repository", f"{domain}/{repository}")
        if not (action is Action.READ and identity is None and row[2]):
            check_any(identity, action, place, (permission, *or_else))
        if credential is not None and digest and _is_older(row[10], now):
            self._note_use(row[5], credential.address, now)
        return Admission(identity, row[0], domain, row[1], repository, row[3], row[4], stranger)

    def identify(self, credential: Credential | None, now: datetime) -> Identity | None:
        """Who the caller is, where no repository is concerned. Raises Unauthenticated or RateLimited."""
        if credential is None:
            return None
        if not looks_like_token(credential.secret):
            return rulebook.from_address(self._password_identity(credential, now), credential.address)
        digest = self._accounts.digest(credential.secret)
        with self._db.read() as session:
            identity, last_used_at = self._token_identity(session, None, digest, credential.address, now)
        if identity.token_id is not None and _is_older(last_used_at, now):
            self._note_use(identity.token_id, credential.address, now)
        return identity

    def confirm(self, session: Session, admission: Admission, action: Action, key: PackageKey, now: datetime) -> None:
        """Ask again in the transaction that is about to write: what was revoked meanwhile writes nothing.

        The token's row is held until the commit, so that a revocation comes either before this or after it; the rules
        of policies and roles are those of this transaction. Raises Unauthenticated or Denied.
        """
        identity = admission.identity
        if identity is None:
            raise Unauthenticated("sign in, or send a token, to do this")
        token = None
        if identity.token_id is not None:
            token = session.execute(
                select(_TOKEN.c.revoked_at, _TOKEN.c.expires_at)
                .where(_TOKEN.c.id == identity.token_id)
                .with_for_update(read=True)
            ).first()
            if token is None or token[0] is not None or token[1] <= now:
                raise Unauthenticated("the token is unknown, expired or revoked")
        account = session.get(Account, identity.account_id)
        if account is None or account.is_disabled:
            raise Unauthenticated("the account is disabled")
        check(self._anew(session, identity, account, now), action, admission.path, key)

    def _anew(self, session: Session, identity: Identity, account: Account, now: datetime) -> Identity:
        """The identity with what the account may at this moment; the token's limits never change."""
        known = identity.standing.facts.get("aws:sourceip") if identity.standing is not None else None
        standing = self._accounts.rules.standing(
            session, account.id, name=account.name, via=identity.via, now=now, address=known
        )
        return replace(identity, scopes=(account_scope(account), *identity.scopes[1:]), standing=standing)

    def _check_stranger(
        self, session: Session, place: Place, permission: str, address: str, revision: int, now: datetime
    ) -> Standing:
        """How a stranger stands. Raises Unauthenticated where a policy denies what the repository lets everybody read."""
        rules = self._accounts.rules
        standing = rules.standing(session, None, name="", via="", now=now, at=revision, address=address)
        decision = standing.decide(permission or USUAL[Action.READ], place, own=True)
        if decision.outcome is Outcome.EXPLICIT_DENY:
            raise Unauthenticated("sign in, or send a token, to do this")
        return standing

    def _password_identity(self, credential: Credential, now: datetime) -> Identity:
        """Who signs in by password; guessing is limited as on the sign-in page, and counted together with it."""
        try:
            account_name(credential.user)
        except Invalid:
            # What no account can be called came with a cut or mistyped token: nothing to hash, nobody to protect.
            raise Unauthenticated("the token is unknown, expired or revoked") from None
        try:
            # Asked before each check, remembered passwords included: else a guess that hits one would stand out
            # between the refusals.
            with self._db.read() as session:
                attempts.check_attempt(session, credential.user, credential.address, now)
                return self._accounts.identity_by_password(session, credential.user, credential.secret, now)
        except Unauthenticated:
            with self._db.write() as session:
                attempts.note_failure(session, credential.user, credential.address, now)
            raise

    def _token_identity(
        self, session: Session, row: Sequence[Any] | None, digest: str, address: str, now: datetime
    ) -> tuple[Identity, datetime | None]:
        """Who a token stands for, and when it was last noted as used."""
        if row is None:
            row = session.execute(_TOKEN_STATEMENT, {"digest": digest}).first()
        if row is None or row[5] is None or row[9] is not None or now >= row[8] or row[15]:
            raise Unauthenticated("the token is unknown, expired or revoked")
        standing = self._accounts.rules.standing(
            session, row[11], name=row[12], via="token", now=now, at=row[-1], address=address
        )
        limits = (row[6], row[7], row[16], row[17])
        identity = token_identity(
            row[12], row[11], (row[13], row[14]), limits, standing, token_id=row[5], expires_at=row[8]
        )
        if not identity.scopes[1].is_from(address):
            raise Denied(f"this token does not count for {address}, which is in none of its networks")
        return identity, row[10]

    def _note_use(self, token_id: int, address: str, now: datetime) -> None:
        used = {"last_used_at": now, "last_used_address": address[:100]}
        try:
            with self._db.write() as session:
                session.execute(update(Token).where(Token.id == token_id).values(**used))
        except Unavailable as error:
            # Reading goes on while the database cannot be written; when a token was last used can wait.
            log.warning("the last use of token %d is not noted: %s", token_id, error)


_TOKEN_STATEMENT = (
    select(
        null(),
        null(),
        false(),
        literal(0),
        literal(0),
        *_CALLER,
        rulebook.revision(),
    )
    .join(_ACCOUNT, _ACCOUNT.c.id == _TOKEN.c.account_id)
    .where(_TOKEN.c.digest == bindparam("digest"))
)


def _is_older(last_used_at: datetime | None, now: datetime) -> bool:
    return last_used_at is None or now - last_used_at > timedelta(seconds=LAST_USED_GRAIN.total_seconds())
