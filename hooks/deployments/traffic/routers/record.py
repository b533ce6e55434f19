"""A router that routes nothing: it keeps what it is told in a JSON file, for trying a group's document out, and for tests.

The file can be edited meanwhile: ``"sessions"`` of a member are the requests that it still has, ``"healthy"`` what a
check would say of it, and ``"unreachable": true`` at the top makes every call fail as if nobody were there.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hooks.deployments.traffic.files import alone, write_whole
from hooks.deployments.traffic.router import (
    Member,
    MemberState,
    check_shares,
    checked_name,
    checked_weights,
    refuse,
    unreached,
)


class RecordRouter:
    """A ``TrafficRouter``. ``listeners``: name → its pools, the first of which has everything in the beginning."""

    def __init__(self, file: str, *, pools: Sequence[str], listeners: Mapping[str, Sequence[str]]) -> None:
        self._file = Path(file)
        self._pools = tuple(pools)
        self._listeners = listeners

    def members(self, pool: str) -> tuple[MemberState, ...]:
        """As the contract says."""
        return tuple(
            MemberState(
                name=name,
                address=entry["address"],
                is_drained=entry["drained"],
                weight=entry["weight"],
                sessions=entry.get("sessions", 0),
                is_healthy=entry.get("healthy"),
            )
            for name, entry in sorted(self._pool(self._read(), pool).items())
        )

    def register(self, pool: str, member: Member) -> None:
        """As the contract says."""
        with self._changed() as kept:
            entry = self._pool(kept, pool).setdefault(member.name, {"weight": 1})
            entry.update(address=member.address, drained=False)

    def drain(self, pool: str, name: str) -> None:
        """As the contract says."""
        with self._changed() as kept:
            if entry := self._pool(kept, pool).get(checked_name("member", name)):
                entry["drained"] = True

    def is_drained(self, pool: str, name: str) -> bool:
        """As the contract says."""
        entry = self._pool(self._read(), pool).get(checked_name("member", name))
        return entry is None or (entry["drained"] and not entry.get("sessions", 0))

    def deregister(self, pool: str, name: str) -> None:
        """As the contract says."""
        with self._changed() as kept:
            self._pool(kept, pool).pop(checked_name("member", name), None)

    def set_weights(self, pool: str, weights: Mapping[str, int]) -> None:
        """As the contract says."""
        checked_weights(weights)
        with self._changed() as kept:
            entries = self._pool(kept, pool)
            for name, weight in weights.items():
                if name not in entries:
                    refuse(f"there is no member {name} in pool {pool}")
                entries[name]["weight"] = weight

    def healthy(self, pool: str, name: str) -> bool | None:
        """As the contract says."""
        entry = self._pool(self._read(), pool).get(checked_name("member", name))
        return False if entry is None else entry.get("healthy")

    def shares(self, listener: str) -> Mapping[str, int]:
        """As the contract says."""
        return dict(self._shares(self._read(), listener))

    def shift(self, listener: str, shares: Mapping[str, int]) -> None:
        """As the contract says."""
        check_shares(self, listener, shares, set(self.shares(listener)))
        with self._changed() as kept:
            kept.setdefault("shares", {})[listener] = dict(shares)

    def _pool(self, kept: dict[str, Any], pool: str) -> dict[str, dict[str, Any]]:
        if pool not in self._pools:
            refuse(f"there is no pool {pool[:80]!r} in this router's settings")
        found: dict[str, dict[str, Any]] = kept.setdefault("pools", {}).setdefault(pool, {})
        return found

    def _shares(self, kept: Mapping[str, Any], listener: str) -> Mapping[str, int]:
        if listener not in self._listeners:
            refuse(f"there is no listener {listener[:80]!r} in this router's settings")
        first, *others = self._listeners[listener]
        found: Mapping[str, int] = kept.get("shares", {}).get(listener, {first: 100, **dict.fromkeys(others, 0)})
        return found

    def _read(self) -> dict[str, Any]:
        try:
            kept = json.loads(self._file.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            unreached(f"{self._file} cannot be read: {error}")
        if not isinstance(kept, dict):
            refuse(f"{self._file} does not hold what a router of the type record writes")
        if kept.get("unreachable"):
            unreached(f"{self._file} says that nobody is there")
        return kept

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        """The file's contents, to be changed, and written if they were."""
        with alone(self._file):
            kept = self._read()
            before = json.dumps(kept)
            yield kept
            if json.dumps(kept) != before:
                write_whole(self._file, json.dumps(kept, indent=2) + "\n")
