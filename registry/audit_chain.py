"""The audit log's chain, as values: what is hashed, what a line of an export says, and whether entries follow each other.

``hash = SHA-256(canonical JSON of the entry ‖ previous_hash)``: an entry that is changed, moved or taken out breaks the
chain at its place. Pure, so that an export is checked on a machine that has nothing but the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from registry.errors import Invalid

START = "0" * 64
"""What the first entry has as its previous hash."""


@dataclass(frozen=True, slots=True)
class Link:
    """One entry. ``hash`` and ``previous_hash`` are SHA-256 in lower-case hexadecimal; ``at`` is in UTC.

    ``via`` says how the actor proved who they are, ``address`` where the request came from; both and ``request_id``
    are None for what no request asked for.
    """

    seq: int
    at: datetime
    actor: str
    action: str
    object: str
    details: Mapping[str, Any] = field(default_factory=dict)
    via: str | None = None
    address: str | None = None
    request_id: str | None = None
    previous_hash: str = START
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Vouched:
    """What a checkpoint says: at ``at`` the entry ``seq`` had this hash."""

    seq: int
    hash: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """``fault`` is None for a sound chain, else why entry ``bad_seq`` is the first that is wrong.

    ``first`` and ``last`` are the sequence numbers of the sound part (0 when there is none), ``head`` its last hash.
    ``outside`` counts checkpoints about entries that a part of the log does not hold.
    """

    first: int
    last: int
    head: str
    outside: int = 0
    bad_seq: int = 0
    fault: str | None = None


def canonical(value: Any) -> bytes:
    """JSON in the one form that is hashed: sorted keys, no white space, ASCII. Raises ValueError for NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def moment(at: datetime) -> str:
    """A moment as it is hashed: RFC 3339 in UTC with microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def hash_of(link: Link) -> str:
    """The hash that ``link`` has to have; its own ``hash`` plays no part in it."""
    return hashlib.sha256(canonical(_content(link)) + bytes.fromhex(link.previous_hash)).hexdigest()


def line(link: Link) -> str:
    """One line of an export: canonical JSON of the entry with both hashes, and no line end."""
    return canonical(
        {**_content(link), "hash": link.hash, "previousHash": link.previous_hash},
    ).decode("ascii")


def parse_line(text: str) -> Link:
    """A line of an export. Raises Invalid for anything that ``line`` does not write."""
    try:
        found = json.loads(text)
        link = Link(
            seq=int(found["seq"]),
            at=datetime.fromisoformat(found["at"]),
            actor=found["actor"],
            action=found["action"],
            object=found["object"],
            details=found["details"],
            via=found["via"],
            address=found["address"],
            request_id=found["requestId"],
            previous_hash=found["previousHash"],
            hash=found["hash"],
        )
        is_exact = line(link) == text.rstrip("\r\n")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Invalid("this is no line of an exported audit log") from error
    if not is_exact:
        # What the line says and the hash does not cover (a second key of one name, a field more) must not pass.
        raise Invalid("this line of an audit log is not in the form in which it was exported")
    return link


def verify(links: Iterable[Link], vouched: Iterable[Vouched] = (), *, is_part: bool = False) -> Verdict:
    """Follow the chain and compare it with the checkpoints; stops at the first entry that is wrong.

    A whole log begins with entry 1 and reaches every checkpoint. A part of one (``is_part``) may begin and end
    anywhere; what it begins with is believed.
    """
    known = sorted(vouched, key=lambda point: point.seq)
    at_seq: dict[int, list[Vouched]] = {}
    for point in known:
        at_seq.setdefault(point.seq, []).append(point)
    first, last, head = 0, 0, START
    for link in links:
        if is_part and first == 0:
            last, head = link.seq - 1, link.previous_hash
        fault = _fault_of(link, last, head, at_seq.get(link.seq, ()))
        if fault is not None:
            return Verdict(first, last, head, bad_seq=last + 1, fault=fault)
        first, last, head = first or link.seq, link.seq, link.hash
    outside = [point for point in known if not first <= point.seq <= last]
    if outside and not is_part:
        point = outside[-1]
        fault = (
            f"the log ends with entry {last}, but a checkpoint of {moment(point.at)} vouches for entry {point.seq}: "
            "entries at the end were taken away"
        )
        return Verdict(first, last, head, bad_seq=last + 1, fault=fault)
    return Verdict(first, last, head, outside=len(outside))


def _fault_of(link: Link, last: int, head: str, vouched: Iterable[Vouched]) -> str | None:
    if link.seq != last + 1:
        return f"entry {last + 1} is missing, and entry {link.seq} stands in its place"
    if link.previous_hash != head:
        return f"entry {link.seq} does not follow {f'entry {last}' if last else 'the beginning'}: its previous hash differs"
    if not _is_own_hash(link):
        return f"entry {link.seq} says something else than what its hash was made of"
    for point in vouched:
        if point.hash != link.hash:
            return (
                f"entry {link.seq} is not the one that a checkpoint of {moment(point.at)} vouches for: "
                "it, or entries before it, were written anew"
            )
    return None


def _is_own_hash(link: Link) -> bool:
    try:
        return hash_of(link) == link.hash
    except (TypeError, ValueError, AttributeError):
        return False  # somebody put a value there that no entry can have


def _content(link: Link) -> dict[str, Any]:
    return {
        "seq": link.seq,
        "at": moment(link.at),
        "actor": link.actor,
        "via": link.via,
        "address": link.address,
        "requestId": link.request_id,
        "action": link.action,
        "object": link.object,
        "details": link.details,
    }
