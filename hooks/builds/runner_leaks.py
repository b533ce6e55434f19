"""Credentials of runners where they must not be: what ends one that is found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds import runners
from hooks.builds.runners import EndToken
from hooks.models.runner import BuildRunner
from registry.leaks import Other

_CREDENTIAL, _REGISTRATION = "runner", "runner-registration"


class RunnerCredentials:
    """Implements ``registry.leaks.Keeper``. A lease's token opens nothing without the credential of its runner."""

    def __init__(self, end_token: EndToken) -> None:
        """``end_token`` ends a token of a build's by its id."""
        self._end_token = end_token

    def live(self, session: Session, digests: Collection[str], now: datetime) -> Sequence[Other]:
        """Credentials, and registration tokens that nobody has used, of runners that are not revoked."""
        wanted = list(digests)
        mine = BuildRunner.credential_digest.in_(wanted) | BuildRunner.registration_digest.in_(wanted)
        found = []
        for row in session.scalars(select(BuildRunner).where(mine, BuildRunner.revoked_at.is_(None))):
            if row.credential_digest in digests:
                found.append(_other(row, row.credential_digest, _CREDENTIAL, f"runner {row.name}"))
            unused = row.registration_expires_at is not None and row.registration_expires_at > now
            if unused and row.registration_digest in digests:
                found.append(_other(row, row.registration_digest, _REGISTRATION, f"registration of runner {row.name}"))
        return found

    def end(self, session: Session, found: Other, now: datetime, by: str) -> None:
        """Revoke the runner; a registration token alone ends, and its runner goes on."""
        name = found.path.partition("/")[2]
        if found.kind == _CREDENTIAL:
            runners.revoke(session, name, by=by, now=now, end_token=self._end_token)
        else:
            row = runners.find(session, name)
            row.registration_digest = row.registration_expires_at = None


def _other(row: BuildRunner, digest: str | None, kind: str, name: str) -> Other:
    return Other(digest or "", kind, name, row.created_by, f"runner/{row.name}")
