"""What a machine reads the repository with while it installs a package without a bundle: its name, and its end.

The token ends by itself after a while. That it ends with what it was given for is here: no event goes on at a target with
the token of the one before.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.access import ACCOUNT
from hooks.deployments.revisions import is_native
from hooks.models.deployment import Deployment
from registry import token_lines
from registry.models import Token

_MOST_CHARACTERS, _TOLD_APART = 100, 12


def token_name(deployment_id: str, target: str) -> str:
    """What the token of a deployment at a target is called, in as many characters as names of tokens have."""
    name = f"deployment {deployment_id} on {target}"
    if len(name) <= _MOST_CHARACTERS:
        return name
    # Two long names that begin alike must not end each other's tokens.
    told = hashlib.sha256(name.encode()).hexdigest()[:_TOLD_APART]
    return f"{name[: _MOST_CHARACTERS - _TOLD_APART - 1]} {told}"


def end_tokens(session: Session, deployment: Deployment, target: str, now: datetime) -> None:
    """An event at a target has ended: so have the tokens that were given for it. In the caller's transaction."""
    if not is_native(deployment.revision):
        return
    # By the maker as well: who may make tokens chooses their names.
    mine = select(Token.id).where(
        Token.name == token_name(deployment.id, target),
        Token.kind == "build",
        Token.created_by == ACCOUNT,
        Token.revoked_at.is_(None),
    )
    token_lines.end(session, session.scalars(mine).all(), now)
