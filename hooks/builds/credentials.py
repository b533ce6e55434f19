"""The credentials of git sources: sealed, bound to project, source and location, and told to nobody again."""

from __future__ import annotations

import json
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.git_address import parse_address
from hooks.builds.git_fetch import GitCredential
from hooks.builds.logs import Sealer
from hooks.builds.project import SourceSettings, SourceType
from hooks.builds.projects import sources_of
from hooks.models.build import BuildProject
from hooks.models.build_source import SourceCredential
from registry.db import table_of
from registry.errors import Invalid, NotFound
from registry.repos.sealed_fields import SealedField

AUTH_TYPES = ("PERSONAL_ACCESS_TOKEN", "BASIC_AUTH", "SSH_KEY")
_MAX_CHARACTERS = 20_000


def put_credential(
    session: Session, sealer: Sealer, project: BuildProject, identifier: str, given: GitCredential, now: datetime
) -> SourceCredential:
    """Keep what a git source is fetched with from now on. Raises NotFound for the source, and Invalid."""
    source = _git_source(project, identifier)
    check_credential(given, parse_address(source.location).scheme)
    row = session.get(SourceCredential, (project.id, identifier))
    if row is None:
        row = SourceCredential(project_id=project.id, identifier=identifier)
        session.add(row)
    row.auth_type, row.location, row.created_at = given.auth_type, source.location, now
    secret = {"username": given.username, "secret": given.secret, "known_hosts": given.known_hosts}
    row.sealed = sealer.seal(json.dumps(secret).encode(), box_context(project.id, identifier, source.location))
    session.flush()
    return row


def delete_credential(session: Session, project: BuildProject, identifier: str) -> None:
    """Forget a credential. Raises NotFound."""
    row = session.get(SourceCredential, (project.id, identifier))
    if row is None:
        raise NotFound("credential of source", identifier or "(primary)")
    session.delete(row)
    session.flush()


def open_credential(session: Session, sealer: Sealer, project_id: int, source: SourceSettings) -> GitCredential | None:
    """What ``source`` is fetched with; None without one, or where the project's is for another location.

    Raises storage.errors.Damaged or KeyUnavailable.
    """
    row = session.get(SourceCredential, (project_id, source.identifier))
    if row is None or row.location != source.location:
        return None
    opened = sealer.unseal(row.sealed, box_context(project_id, source.identifier, source.location))
    return GitCredential(row.auth_type, **json.loads(opened))


def box_context(project_id: int, identifier: str, location: str) -> str:
    """What the box of a credential is bound to."""
    return f"build-source:{project_id}:{identifier}:{location}"


def sealed_credentials() -> SealedField:
    """Where the credentials lie, for whoever rotates the server's keys."""
    table = table_of(SourceCredential)
    rows = select(table.c.project_id, table.c.identifier, table.c.location, table.c.sealed)
    return SealedField(
        "credentials of build sources",
        table,
        "sealed",
        rows,
        lambda row: box_context(row.project_id, row.identifier, row.location),
    )


def _git_source(project: BuildProject, identifier: str) -> SourceSettings:
    for source in sources_of(project):
        if source.identifier == identifier and source.type is SourceType.GIT:
            return source
    raise NotFound("git source", f"{identifier or '(primary)'} of {project.name}")


def check_credential(given: GitCredential, scheme: str) -> None:
    """Raise Invalid for a credential with which nothing is fetched from such an address."""
    if given.auth_type not in AUTH_TYPES:
        raise Invalid(f"authType must be one of {', '.join(AUTH_TYPES)}")
    fits = {"SSH_KEY": {"ssh"}}.get(given.auth_type, {"https", "http"})
    if scheme not in fits:
        raise Invalid(f"a source at {scheme}:// is not fetched with {given.auth_type}")
    if not given.secret or len(given.secret) > _MAX_CHARACTERS or len(given.known_hosts) > _MAX_CHARACTERS:
        raise Invalid(f"the credential has 1 to {_MAX_CHARACTERS} characters")
    if given.auth_type == "SSH_KEY":
        if not given.known_hosts.strip():
            raise Invalid("knownHosts is missing: the keys of the host, as in ~/.ssh/known_hosts")
    elif not given.secret.isprintable() or not given.username.isprintable() or len(given.username) > 255:
        raise Invalid("user name and token are one line each")
    if given.auth_type == "BASIC_AUTH" and not given.username:
        raise Invalid("username is missing")
