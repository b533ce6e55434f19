"""Events: what happened in the registry. Recorded in the transaction in which it happened; this module is their reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy.orm import Session

from registry.models.event import Event

COORDINATES = ("domain", "repository", "format", "namespace", "name", "version")
"""The fields that say where something happened, in every event that has them: what filters and rights look at."""


@dataclass(frozen=True, slots=True)
class AssetPublished:
    """A file was published (or promoted) and is visible from now on. One event per file."""

    kind: ClassVar[str] = "asset.published"
    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str
    filename: str
    sha256: str
    published_by: str
    promoted_from: str | None = None


@dataclass(frozen=True, slots=True)
class VersionYanked:
    """A version was yanked (``reason`` set) or put back (``reason`` null)."""

    kind: ClassVar[str] = "version.yanked"
    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str
    reason: str | None
    by: str


@dataclass(frozen=True, slots=True)
class VersionDeleted:
    """A version was taken out of a repository with all its files."""

    kind: ClassVar[str] = "version.deleted"
    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str
    by: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Any other event: its ``kind`` is in the catalogue, ``data`` names where it happened by ``COORDINATES``."""

    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VersionStatusChanged:
    """A version went from one state to another: Published, Unlisted, Archived or Disposed."""

    kind: ClassVar[str] = "version.status"
    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str
    previous: str
    status: str
    by: str


@dataclass(frozen=True, slots=True)
class TokenLeaked:
    """A live token was found where it must not be (``place``, in words), and was revoked with all made with it.

    ``token_id`` is 0 for a credential that is no account's token (a runner's). ``by`` came upon it: ``scan`` for what was
    sent here, ``build`` for a build's log, ``report`` for a scanner outside.
    """

    kind: ClassVar[str] = "token.leaked"
    user: str
    token_id: int
    token_name: str
    last_four: str
    token_kind: str
    place: str
    by: str


TypedEvent = AssetPublished | VersionYanked | VersionDeleted | VersionStatusChanged | TokenLeaked
AnyEvent = TypedEvent | Noted
KINDS: Mapping[str, type[TypedEvent]] = {
    cls.kind: cls for cls in (AssetPublished, VersionYanked, VersionDeleted, VersionStatusChanged, TokenLeaked)
}
CATALOGUE: dict[str, str] = {kind: (cls.__doc__ or "").partition("\n")[0] for kind, cls in KINDS.items()}
"""Every kind of event with what it tells; ``declare`` adds to it."""


def declare(kind: str, tells: str) -> str:
    """Add a kind (dotted, lower case) to the catalogue, once, where it is used; gives it back for ``note``."""
    CATALOGUE[kind] = tells
    return kind


def record(session: Session, event: TypedEvent, now: datetime) -> None:
    """Add ``event`` to the outbox, in the caller's transaction."""
    session.add(Event(kind=event.kind, payload=asdict(event), occurred_at=now))


def note(session: Session, kind: str, now: datetime, **data: Any) -> None:
    """Add an event of a declared kind to the outbox, in the caller's transaction. ``data`` is JSON without secrets.

    Raises ValueError for a kind that is not in the catalogue.
    """
    if kind not in CATALOGUE or kind in KINDS:
        raise ValueError(f"{kind!r} is not a declared kind of event")
    session.add(Event(kind=kind, payload=data, occurred_at=now))


def parse(kind: str, payload: Mapping[str, Any]) -> AnyEvent:
    """The event of a stored row. Raises KeyError for an unknown kind, TypeError for another shape."""
    if kind in KINDS:
        return KINDS[kind](**payload)
    _ = CATALOGUE[kind]
    return Noted(kind, dict(payload))


# --- what is an event because it is in the audit log -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Told:
    kind: str
    shape: str  # what the parts of the entry's object are; ``package`` takes all between its neighbours, so do patterns
    details: tuple[str, ...]


_AUDITED: dict[str, _Told] = {}


def audited(action: str, kind: str, shape: str, *details: str, tells: str) -> None:
    """Make an event of ``kind`` of every audit entry with ``action``: one line for each kind of change.

    ``shape`` names the parts of the entry's object: ``domain/repository/format/package/version``, with ``-`` for parts
    that say nothing; ``a|b`` for objects of two lengths. ``pattern`` takes all that is left. ``details`` are those of the
    entry's details that the event carries.
    """
    _AUDITED[action] = _Told(declare(kind, tells), shape, details)


def follow(session: Session, now: datetime, actor: str, action: str, obj: str, details: Mapping[str, Any]) -> None:
    """Add the event that an audit entry stands for, if it does; called with every entry, in its transaction."""
    told = _AUDITED.get(action)
    if told is not None:
        chosen = {name: details[name] for name in told.details if name in details}
        note(session, told.kind, now, **{**_place(told.shape, obj), **chosen, "by": actor})


def _place(shape: str, obj: str) -> dict[str, str]:
    parts = obj.split("/")
    shapes = [each.split("/") for each in shape.split("|")]
    names = next((each for each in shapes if len(each) == len(parts)), shapes[0])
    if names[-1] == "pattern":
        start = len(names) - 1
        parts[start:] = ["/" + "/".join(parts[start:])]
    elif "package" in names:
        # A name with its namespace (``@scope/name``) has as many parts as are left over.
        at = names.index("package")
        length = max(1, len(parts) - len(names) + 1)
        *namespace, name = parts[at : at + length] or [""]
        names[at : at + 1] = ["namespace", "name"]
        parts[at : at + length] = ["/".join(namespace), name]
    if len(names) != len(parts):
        return {"object": obj}  # without a place it is told to administrators of the whole server only
    return {name: part for name, part in zip(names, parts, strict=True) if name != "-"}


_VERSION = "domain/repository/format/package/version"
_PACKAGE = "domain/repository/format/package"
_CONNECTION = "domain/repository/format/connection"
_GROUP = "domain/-/pattern"
_POLICY = "-/domain|-/domain/repository"
audited("version.promote", "version.copied", _VERSION, "source", tells="A version was copied from another repository.")
audited("version.finish", "version.finished", _VERSION, tells="A version is whole: all of its files have come.")
audited("version.deprecate", "version.deprecated", _VERSION, "warning", tells="A version's warning was set or removed.")
audited("package.status", "package.status-changed", _PACKAGE, "status", "reason", tells="A package's status changed.")
audited("package.tag", "package.tag-changed", _PACKAGE, "tag", "version", tells="A tag of a package was moved.")
audited("version.reopen", "version.reopened", _VERSION, "until", "reason", tells="A version takes files again.")
audited("version.overwrite", "version.overwritten", _VERSION, "status", tells="A copy took the place of a version.")
audited("package.delete", "package.deleted", _PACKAGE, "versions", tells="A package was taken out with all versions.")
audited("package.origin", "package.origin-changed", _PACKAGE, "publish", "upstream", tells="Origin controls changed.")
audited("package-group.create", "package-group.created", _GROUP, tells="A package group was made.")
audited("package-group.update", "package-group.changed", _GROUP, tells="A package group's description changed.")
audited("package-group.delete", "package-group.deleted", _GROUP, tells="A package group was removed.")
audited(
    "package-group.origin-configuration",
    "package-group.origin-changed",
    _GROUP,
    "restrictions",
    "repositories",
    tells="What a package group lets in changed.",
)
audited("policy.put", "policy.changed", _POLICY, "revision", tells="A policy was set.")
audited("policy.delete", "policy.deleted", _POLICY, tells="A policy was removed.")
audited("role.grant", "role.granted", "principal_kind/principal", "role", "where", tells="A role was granted.")
audited("role.revoke", "role.revoked", "principal_kind/principal", "role", "where", tells="A role was taken away.")
audited("domain.create", "domain.created", "domain", tells="A domain was made.")
audited("domain.delete", "domain.deleted", "domain", "packages", tells="A domain was removed.")
audited("domain.quota", "domain.quota-changed", "domain", "bytes", tells="A domain's quota changed.")
audited("keys.rotate", "domain.key-rotated", "domain", tells="A domain got a new key.")
audited("keys.destroy", "domain.key-destroyed", "domain", "key", tells="A retired key of a domain was destroyed.")
audited(
    "keys.shred", "domain.shredded", "domain", "blobs", tells="A domain's keys were destroyed with what they sealed."
)
audited("repository.create", "repository.created", "domain/repository", tells="A repository was made.")
audited("repository.change", "repository.changed", "domain/repository", tells="A repository's settings changed.")
audited("repository.delete", "repository.deleted", "domain/repository", "packages", tells="A repository was removed.")
audited("repository.quota", "repository.quota-changed", "domain/repository", "bytes", tells="A quota changed.")
audited("connection.create", "connection.created", _CONNECTION, tells="An external connection was added.")
audited("connection.change", "connection.changed", _CONNECTION, tells="An external connection was changed.")
audited("connection.remove", "connection.removed", _CONNECTION, tells="An external connection was removed.")
audited("user.create", "user.created", "-/user", tells="An account was made.")
audited("user.change", "user.changed", "-/user", tells="An account's rights were changed.")
audited("user.delete", "user.deleted", "-/user", tells="An account was deleted.")
audited("user.disable", "user.disabled", "-/user", tells="An account is let in no more.")
audited("user.enable", "user.enabled", "-/user", tells="A disabled account is let in again.")
audited("second-factor.reset", "user.second-factor-reset", "-/user", tells="An account's second factor was taken away.")
audited("user.set-password", "user.password-changed", "-/user", tells="An account's password was set.")
audited("token.issue", "token.issued", "-/user/-/token", tells="A token was made.")
audited("token.create", "token.issued", "-/user/-/token", tells="A token was made.")
audited("token.revoke", "token.revoked", "-/user/-/token", tells="A token was revoked.")
audited("group.create", "group.created", "-/group", tells="A group of accounts was made.")
audited("group.delete", "group.deleted", "-/group", tells="A group of accounts was removed.")
audited("group.add-member", "group.member-added", "-/group", "user", tells="An account was put in a group.")
audited("group.remove-member", "group.member-removed", "-/group", "user", tells="An account was taken out of a group.")
CONNECTION_HEALTH_CHANGED = declare(
    "connection.health-changed", "An external connection began to fail, or works again."
)
SIGN_IN_LOCKED = declare("sign-in.locked", "An account name or an address has to wait after failed sign-ins.")
