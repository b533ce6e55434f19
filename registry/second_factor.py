"""The second factor: an authenticator app (RFC 6238), and codes on paper for when it is lost.

A code counts once. The UPDATE that notes its time step decides, so that of two simultaneous uses exactly one wins;
spaces that apps show within a code are taken away before it is looked at, and nothing else is: a code that could be
written in two ways could be used twice.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pyotp
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from registry import audit
from registry.accounts import Accounts
from registry.errors import Conflict, Invalid, NotFound, Unauthenticated
from registry.models import Account, RecoveryCode, Totp

STEP_SECONDS = 30
NEIGHBOURS = 1
"""Steps before and after the present one whose codes count: clocks of telephones are off by some seconds."""
RECOVERY_CODES = 10
APP = "authenticator app"
PAPER = "recovery code"
_DIGITS = 6
# Without i, l, o and u: what is read off paper must not be guessed at. 16 of these are 80 random bits.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RECOVERY_CHARACTERS = 16
_SPACES = {ord(space): None for space in " \t\u00a0-"}


class Sealer(Protocol):
    """Encrypts small things at rest, bound to a context."""

    def seal(self, data: bytes, context: str) -> bytes:
        """Encrypt and authenticate."""
        ...

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """Undo ``seal``. Raises StorageError."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """Whether an account has a second factor, and how many recovery codes are left."""

    confirmed_at: datetime | None
    codes_left: int

    @property
    def is_on(self) -> bool:
        """Whether it is asked for."""
        return self.confirmed_at is not None


def state_of(session: Session, account_id: int) -> State:
    """The state of an account's second factor."""
    confirmed_at = session.scalar(select(Totp.confirmed_at).where(Totp.account_id == account_id))
    left = session.scalar(
        select(func.count())
        .select_from(RecoveryCode)
        .where(RecoveryCode.account_id == account_id, RecoveryCode.used_at.is_(None))
    )
    return State(confirmed_at, left or 0)


def begin(session: Session, account_id: int, sealer: Sealer, now: datetime) -> str:
    """A seed for a new app (base32), kept until it is confirmed; one that waits is given again.

    Raises Conflict when the account has a second factor.
    """
    row = session.get(Totp, account_id)
    if row is not None and row.confirmed_at is not None:
        raise Conflict("there is a second factor already; remove it first")
    if row is not None:
        return _seed(row, sealer)
    seed = pyotp.random_base32()
    session.add(Totp(account_id=account_id, sealed=sealer.seal(seed.encode(), box_context(account_id)), created_at=now))
    return seed


def address_of(seed: str, account: str, issuer: str) -> str:
    """The ``otpauth:`` address that apps read from a picture."""
    return pyotp.TOTP(seed).provisioning_uri(name=account, issuer_name=issuer)


def confirm(
    session: Session, accounts: Accounts, account_id: int, code: str, sealer: Sealer, now: datetime
) -> list[str]:
    """Switch the second factor on by a code of the new app; returns the recovery codes, which are never told again.

    Raises NotFound when nothing was begun, Conflict when it is on already, Unauthenticated for a wrong code.
    """
    # Held: of two confirmations at once the second one must see the first, and not make its recovery codes void.
    row = session.get(Totp, account_id, with_for_update=True)
    if row is None:
        raise NotFound("second factor", "to confirm")
    if row.confirmed_at is not None:
        raise Conflict("there is a second factor already")
    _take_app_code(session, row, code, sealer, now)
    row.confirmed_at = now
    name = session.get_one(Account, account_id).name
    audit.record(session, now, name, "second-factor.set-up", f"user/{name}")
    return _new_codes(session, accounts, account_id, now)


def take(session: Session, accounts: Accounts, account_id: int, code: str, sealer: Sealer, now: datetime) -> str:
    """Spend a code of the app, or a recovery code; returns which it was.

    Raises Unauthenticated, the same for a wrong, an old and a spent one.
    """
    row = session.get(Totp, account_id)
    plain = code.translate(_SPACES)
    if row is None or row.confirmed_at is None:
        raise _refusal()
    if len(plain) == _RECOVERY_CHARACTERS:
        _take_recovery_code(session, accounts, account_id, plain, now)
        return PAPER
    _take_app_code(session, row, code, sealer, now)
    return APP


def new_recovery_codes(session: Session, accounts: Accounts, account_id: int, now: datetime) -> list[str]:
    """Ten new recovery codes in the place of the old ones. Raises NotFound without a second factor."""
    if not state_of(session, account_id).is_on:
        raise NotFound("second factor", "of this account")
    name = session.get_one(Account, account_id).name
    audit.record(session, now, name, "second-factor.new-recovery-codes", f"user/{name}")
    return _new_codes(session, accounts, account_id, now)


def remove(
    session: Session, account: Account, actor: str, now: datetime, *, action: str = "second-factor.remove"
) -> bool:
    """Take an account's second factor away; says whether there was one."""
    session.execute(delete(RecoveryCode).where(RecoveryCode.account_id == account.id))
    gone = session.execute(delete(Totp).where(Totp.account_id == account.id))
    had = bool(gone.rowcount)  # type: ignore[attr-defined]
    if had:
        audit.record(session, now, actor, action, f"user/{account.name}")
    return had


def is_recovery_code(text: str) -> bool:
    """Whether ``text`` is written as one of our recovery codes."""
    groups = text.split("-")
    return len(groups) == 4 and all(len(group) == 4 and set(group) <= set(_ALPHABET) for group in groups)


def _take_app_code(session: Session, row: Totp, code: str, sealer: Sealer, now: datetime) -> None:
    plain = code.translate(_SPACES)
    # ``isdigit`` alone is true for digits of other scripts, too.
    if len(plain) != _DIGITS or not plain.isascii() or not plain.isdigit():
        raise _refusal()
    app = pyotp.TOTP(_seed(row, sealer))
    present = int(now.timestamp()) // STEP_SECONDS
    for step in range(present - NEIGHBOURS, present + NEIGHBOURS + 1):
        if hmac.compare_digest(app.generate_otp(step), plain) and _note_step(session, row.account_id, step):
            return
    raise _refusal()


def _note_step(session: Session, account_id: int, step: int) -> bool:
    noted = session.execute(
        update(Totp)
        .where(Totp.account_id == account_id, func.coalesce(Totp.last_step, -1) < step)
        .values(last_step=step)
        .execution_options(synchronize_session=False)
    )
    return noted.rowcount == 1  # type: ignore[attr-defined, no-any-return]


def _take_recovery_code(session: Session, accounts: Accounts, account_id: int, plain: str, now: datetime) -> None:
    spent = session.execute(
        update(RecoveryCode)
        .where(
            RecoveryCode.digest == _digest(accounts, account_id, plain.lower()),
            RecoveryCode.account_id == account_id,
            RecoveryCode.used_at.is_(None),
        )
        .values(used_at=now)
    )
    if spent.rowcount != 1:  # type: ignore[attr-defined]
        raise _refusal()
    name = session.get_one(Account, account_id).name
    audit.record(session, now, name, "second-factor.use-recovery-code", f"user/{name}")


def _new_codes(session: Session, accounts: Accounts, account_id: int, now: datetime) -> list[str]:
    session.execute(delete(RecoveryCode).where(RecoveryCode.account_id == account_id))
    plain = ["".join(secrets.choice(_ALPHABET) for _ in range(_RECOVERY_CHARACTERS)) for _ in range(RECOVERY_CODES)]
    session.execute(
        insert(RecoveryCode),
        [
            {"digest": _digest(accounts, account_id, code), "account_id": account_id, "created_at": now}
            for code in plain
        ],
    )
    return ["-".join(code[start : start + 4] for start in range(0, _RECOVERY_CHARACTERS, 4)) for code in plain]


def _digest(accounts: Accounts, account_id: int, plain: str) -> str:
    return accounts.digest(f"recovery-code/{account_id}/{plain}")


def _seed(row: Totp, sealer: Sealer) -> str:
    return sealer.unseal(row.sealed, box_context(row.account_id)).decode()


def box_context(account_id: int) -> str:
    """What the box of a seed is bound to."""
    # Moved to another account's row, a seed does not open.
    return f"second-factor/{account_id}"


def _refusal() -> Unauthenticated:
    return Unauthenticated("the code is wrong, or was used already")


def check_download(text: str) -> str:
    """Recovery codes as they were shown, one a line, for a file. Raises Invalid for anything else."""
    codes = text.split()
    if not 0 < len(codes) <= RECOVERY_CODES or not all(map(is_recovery_code, codes)):
        raise Invalid("these are no recovery codes")
    return "\n".join(codes) + "\n"
