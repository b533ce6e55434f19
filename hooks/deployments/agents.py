"""The rows of agents: made by an administrator, enrolled once, known by a key of their own. In the caller's transaction.

An agent proves who it is by its private key, which never leaves its machine: for a proof it gets a session, whose
credential opens the agents' protocol alone. No user's token opens that. A new session ends the one before; who comes with
a key but does not know the last session of it, while that is in use, is a second holder of the key (``alarm``).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import bindparam, exists, select, update
from sqlalchemy.orm import Session

from hooks.deployments.installed import forget_machine
from hooks.deployments.signed_commands import is_signed, proof_text
from hooks.deployments.traffic.router import RoutingError, host_and_port
from hooks.models.deployment import DeploymentAgent, DeploymentTarget
from registry import audit, events
from registry.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from registry.names import domain_name
from registry.token_shape import looks_like_token, new_token

ENROLMENT_LIFE = timedelta(minutes=15)
SESSION_LIFE = timedelta(hours=2)
CHALLENGE_LIFE = timedelta(minutes=1)
IN_USE = timedelta(minutes=15)
"""A session that was used so lately is somebody's."""
MOST_TAGS = 10
MANAGE = "entrepot:ManageAgents"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")
_KEY_BYTES = 32
TWO_HOLDERS = "its key is in use on two machines"
events.audited("agent.add", "agent.added", "-/agent", tells="An agent of deployments was made.")
events.audited("agent.enrol", "agent.enrolled", "-/agent", "host", tells="An agent of deployments has enrolled.")
events.audited("agent.revoke", "agent.revoked", "-/agent", tells="Nothing is taken from an agent any more.")
events.audited(
    "agent.alarm",
    "agent.alarmed",
    "-/agent",
    "reason",
    tells="Somebody should look at an agent: its key may be stolen.",
)

# One statement for each request of an agent, made once. Idle ones are answered by ``hooks.deployments.presence``.
_BY_SESSION = select(
    DeploymentAgent,
    exists().where(DeploymentTarget.agent_id == DeploymentAgent.id, DeploymentTarget.status == "InProgress"),
).where(DeploymentAgent.session_digest == bindparam("digest"))

Digest = Callable[[str], str]
"""How a secret is kept (``registry.accounts.Accounts.digest``)."""
Tag = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """What an administrator says of a machine; see ``DeploymentAgent``. ``tags`` are (key, value)."""

    tags: tuple[Tag, ...] = ()
    domains: tuple[str, ...] = ()
    zone: str = ""
    address: str = ""

    def check(self) -> None:
        """Raise Invalid for what no machine has."""
        check_tags(self.tags)
        for domain in self.domains:
            domain_name(domain)
        if len(self.zone) > 64 or not self.zone.isprintable():
            raise Invalid("a zone is a word of at most 64 characters")
        try:
            _ = self.address and host_and_port(self.address)
        except RoutingError as error:
            raise Invalid(f"{error}: where the application answers on the machine") from error


@dataclass(frozen=True, slots=True)
class NewToken:
    """A one-use token to enrol an agent with: shown now, and never again."""

    secret: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Proof:
    """What an agent sends for a session. ``previous`` is the credential of the last session that it knows, "" for none."""

    challenge: str
    boot_id: str
    nonce: str
    signature: bytes = field(repr=False)
    previous: str = field(default="", repr=False)


def check_tags(tags: Sequence[Tag]) -> None:
    """Raise Invalid for more than ten tags, a key twice, or texts that are no tags."""
    if len(tags) > MOST_TAGS:
        raise Invalid(f"a machine has at most {MOST_TAGS} tags")
    keys = [key for key, _ in tags]
    if len(set(keys)) != len(keys):
        raise Invalid("a machine has a tag of one key once")
    for key, value in tags:
        if not 0 < len(key) <= 128 or len(value) > 256 or not (key + value).isprintable():
            raise Invalid("a tag's key has 1 to 128 characters and its value at most 256, all printable")


def add(
    session: Session, name: str, place: Place, *, digest: Digest, created_by: str, now: datetime
) -> tuple[DeploymentAgent, NewToken]:
    """Make an agent that still has to enrol. Raises Invalid and Conflict."""
    if not _NAME.match(name):
        raise Invalid("an agent's name has letters, digits, '.', '-' and '_', at most 100, the first a letter or digit")
    place.check()
    if session.scalar(select(DeploymentAgent.id).where(DeploymentAgent.name == name)) is not None:
        raise Conflict(f"there is an agent called {name} already; a revoked one has to be deleted first")
    row = DeploymentAgent(
        id=uuid.uuid4().hex,
        name=name,
        tags=_stored(place.tags),
        domains=sorted(set(place.domains)),
        zone=place.zone,
        address=place.address,
        facts={},
        sequence=0,
        alarm="",
        created_by=created_by,
        created_at=now,
    )
    session.add(row)
    given = _new_enrolment(row, digest, now)
    session.flush()
    audit.record(session, now, created_by, "agent.add", f"agent/{name}", tags=row.tags, domains=row.domains)
    return row, given


def renew_enrolment(session: Session, name: str, *, digest: Digest, by: str, now: datetime) -> NewToken:
    """Another enrolment token: for one that was lost, or for a new key. Raises NotFound, Conflict."""
    row = find(session, name)
    if row.revoked_at is not None:
        raise Conflict(f"agent {name} is revoked")
    given = _new_enrolment(row, digest, now)
    audit.record(session, now, by, "agent.renew_enrolment", f"agent/{name}")
    return given


def _new_enrolment(row: DeploymentAgent, digest: Digest, now: datetime) -> NewToken:
    given = NewToken(new_token(), now + ENROLMENT_LIFE)
    row.enrolment_digest, row.enrolment_expires_at = digest(given.secret), given.expires_at
    return given


def enrol(
    session: Session, token: str, public_key: str, facts: Mapping[str, str], *, digest: Digest, now: datetime
) -> DeploymentAgent:
    """Take the public key of the agent whose token this is; the token is used up. Raises Invalid, Unauthenticated, Conflict.

    The statement that takes the token away is the arbiter: of two that come with one token, one is the agent. A key that
    it had before counts no more, nor does its session.
    """
    key_of(public_key)
    spent = session.scalar(
        update(DeploymentAgent)
        .where(
            DeploymentAgent.enrolment_digest == _digest_of(token, digest),
            DeploymentAgent.enrolment_expires_at > now,
            DeploymentAgent.revoked_at.is_(None),
        )
        .values(enrolment_digest=None, enrolment_expires_at=None)
        .returning(DeploymentAgent.id),
        execution_options={"synchronize_session": False},
    )
    if spent is None:
        raise Unauthenticated("the enrolment token is unknown, used or too old; ask for another one")
    row = session.get_one(DeploymentAgent, spent, populate_existing=True)
    others = select(DeploymentAgent.name).where(DeploymentAgent.public_key == public_key, DeploymentAgent.id != row.id)
    if session.scalar(others) is not None:
        raise Conflict("another agent has this key; let the agent make a new one")
    row.public_key, row.facts, row.enrolled_at = public_key, dict(facts), now
    row.session_digest = row.session_expires_at = row.boot_id = row.alarmed_at = row.seen_at = None
    row.alarm = ""
    forget_machine(session, row.name)
    host = str(facts.get("host", ""))
    audit.record(session, now, f"agent/{row.name}", "agent.enrol", f"agent/{row.name}", host=host)
    return row


def key_of(public_key: str) -> Ed25519PublicKey:
    """A public key as it is stored: base64 of 32 bytes. Raises Invalid."""
    try:
        raw = base64.b64decode(public_key, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid("the public key is no base64") from error
    if len(raw) != _KEY_BYTES or base64.b64encode(raw).decode("ascii") != public_key:
        raise Invalid("the public key is Ed25519's: 32 bytes in base64")
    return Ed25519PublicKey.from_public_bytes(raw)


# --- sessions


def challenge(agent_id: str, *, digest: Digest, now: datetime) -> str:
    """Something fresh for an agent to sign. It counts for a minute, and until a session was opened after it was given."""
    return _challenge(agent_id, secrets.token_urlsafe(16), int(now.timestamp() * 1_000_000), digest)


def _challenge(agent_id: str, nonce: str, moment: int, digest: Digest) -> str:
    return f"{nonce}.{moment}.{digest(f'agent challenge {agent_id} {nonce} {moment}')}"


def _issued_at(agent_id: str, text: str, digest: Digest, now: datetime) -> datetime:
    """When a challenge was given. Raises Unauthenticated for one that is not ours, another's, or too old."""
    nonce, _, rest = text.partition(".")
    moment = rest.partition(".")[0]
    if not (moment.isascii() and moment.isdigit() and len(moment) <= 16):
        raise Unauthenticated("the challenge is none of this server's")
    if not hmac.compare_digest(text.encode(), _challenge(agent_id, nonce, int(moment), digest).encode()):
        raise Unauthenticated("the challenge is none of this server's")
    issued_at = datetime.fromtimestamp(int(moment) / 1_000_000, UTC)
    if now - issued_at > CHALLENGE_LIFE:
        raise Unauthenticated("the challenge is too old; ask for another one")
    return issued_at


def open_session(
    session: Session, agent_id: str, proof: Proof, *, digest: Digest, now: datetime
) -> tuple[DeploymentAgent, str]:
    """A session for who holds the agent's key: the row, and the credential, this once. It ends the session before.

    Raises Unauthenticated, and Denied for a revoked agent.
    """
    row = session.get(DeploymentAgent, agent_id, with_for_update=True)
    issued_at = _issued_at(agent_id, proof.challenge, digest, now)
    message = proof_text(agent_id, proof.challenge, proof.boot_id, proof.nonce)
    if row is None or row.public_key is None or not is_signed(key_of(row.public_key), message, proof.signature):
        raise Unauthenticated("no agent of this server has signed that")
    if row.revoked_at is not None:
        raise Denied(f"agent {row.name} is revoked")
    started_at = _started_at(row)
    if started_at is not None and issued_at < started_at:
        raise Unauthenticated("the challenge was used, or is older than the session that there is")
    _look_for_another(session, row, proof, digest, now)
    credential = new_token()
    row.session_digest, row.session_expires_at = digest(credential), now + SESSION_LIFE
    row.boot_id = proof.boot_id
    return row, credential


def _started_at(row: DeploymentAgent) -> datetime | None:
    return None if row.session_expires_at is None else row.session_expires_at - SESSION_LIFE


def _look_for_another(session: Session, row: DeploymentAgent, proof: Proof, digest: Digest, now: datetime) -> None:
    """Set the alarm when the session before is somebody else's, who uses it.

    Who holds the key by right knows the last session, across restarts: it is written down before it is used. Only an
    answer that got lost leaves it unknown, and nobody uses that session then.
    """
    started_at = _started_at(row)
    if started_at is None or row.seen_at is None or row.boot_id == proof.boot_id:
        return
    is_known = bool(proof.previous) and _digest_of(proof.previous, digest) == row.session_digest
    was_used_lately = row.seen_at >= started_at and now - row.seen_at < IN_USE
    if is_known or not was_used_lately:
        return
    if not row.alarm:
        audit.record(session, now, f"agent/{row.name}", "agent.alarm", f"agent/{row.name}", reason=TWO_HOLDERS)
        row.alarm = TWO_HOLDERS
    row.alarmed_at = now


def authenticate(session: Session, credential: str, *, digest: Digest, now: datetime) -> tuple[DeploymentAgent, bool]:
    """The agent behind a session's credential, and whether a deployment is under way there.

    Raises Unauthenticated, and Denied for one that was revoked.
    """
    found = session.execute(_BY_SESSION, {"digest": _digest_of(credential, digest)}).one_or_none()
    if found is None or found[0].session_expires_at is None or found[0].session_expires_at <= now:
        raise Unauthenticated("the session has ended; prove anew who you are")
    if found[0].revoked_at is not None:
        raise Denied(f"agent {found[0].name} is revoked")
    return found[0], found[1]


def _digest_of(secret: str, digest: Digest) -> str:
    # What cannot be one of ours is no reason to compute anything; no row has an empty digest.
    return digest(secret) if looks_like_token(secret) else ""


# --- what administrators do


def change(
    session: Session,
    name: str,
    *,
    tags: Sequence[Tag] = (),
    untagged: Sequence[str] = (),
    domains: Sequence[str] | None = None,
    zone: str | None = None,
    address: str | None = None,
    by: str,
    now: datetime,
) -> DeploymentAgent:
    """Set ``tags`` and take away those with the keys ``untagged``; None leaves the rest as it is. Raises NotFound, Invalid."""
    row = find(session, name)
    kept = {key: value for key, value in tags_of(row) if key not in untagged} | dict(tags)
    check_tags(tags)
    place = Place(
        tuple(kept.items()),
        tuple(row.domains if domains is None else domains),
        row.zone if zone is None else zone,
        row.address if address is None else address,
    )
    place.check()
    row.tags, row.domains = _stored(place.tags), sorted(set(place.domains))
    row.zone, row.address = place.zone, place.address
    about = {"tags": row.tags, "domains": row.domains, "zone": row.zone, "address": row.address}
    audit.record(session, now, by, "agent.change", f"agent/{name}", **about)
    return row


def clear_alarm(session: Session, name: str, *, by: str, now: datetime) -> DeploymentAgent:
    """Note that somebody has looked at it. Raises NotFound."""
    row = find(session, name)
    if row.alarm:
        audit.record(session, now, by, "agent.clear_alarm", f"agent/{name}", reason=row.alarm)
        row.alarm, row.alarmed_at = "", None
    return row


def revoke(session: Session, name: str, *, by: str, now: datetime) -> DeploymentAgent:
    """End an agent: from its next request on nothing is taken from it. Raises NotFound."""
    row = find(session, name)
    if row.revoked_at is None:
        row.revoked_at = now
        row.enrolment_digest = row.enrolment_expires_at = None
        audit.record(session, now, by, "agent.revoke", f"agent/{name}")
    return row


def delete(session: Session, name: str, *, by: str, now: datetime) -> None:
    """Forget an agent, which ends it as well, and what was installed there. Raises NotFound."""
    session.delete(find(session, name))
    forget_machine(session, name)
    audit.record(session, now, by, "agent.delete", f"agent/{name}")


def find(session: Session, name: str) -> DeploymentAgent:
    """An agent by its name. Raises NotFound."""
    row = session.scalar(select(DeploymentAgent).where(DeploymentAgent.name == name))
    if row is None:
        raise NotFound("agent", name)
    return row


def tags_of(row: DeploymentAgent) -> tuple[Tag, ...]:
    """Its tags as (key, value)."""
    return tuple((tag["Key"], tag["Value"]) for tag in row.tags)


def _stored(tags: Sequence[Tag]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags)]


def state_of(row: DeploymentAgent, now: datetime, silent_seconds: float) -> str:
    """REVOKED, PENDING (not enrolled yet), ONLINE or OFFLINE (it has not asked for a while)."""
    if row.revoked_at is not None:
        return "REVOKED"
    if row.enrolled_at is None:
        return "PENDING"
    return "ONLINE" if row.seen_at is not None and now - row.seen_at < timedelta(seconds=silent_seconds) else "OFFLINE"
