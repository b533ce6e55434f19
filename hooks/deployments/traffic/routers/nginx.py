"""nginx by a file that it includes and we own: written whole, tested by nginx, then taken up by a reload.

The file says how things are, so that a restart of nginx forgets nothing. ``FILE.applied`` is what nginx has taken up for
certain: what a crash left between writing and reloading is seen by the two being different, and done again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hooks.deployments.traffic.files import alone, write_whole
from hooks.deployments.traffic.include_file import Entry, Table, parse, render
from hooks.deployments.traffic.nginx_process import NginxProcess
from hooks.deployments.traffic.router import (
    Member,
    MemberState,
    check_shares,
    checked_name,
    checked_weights,
    refuse,
    unreached,
)

Pools = dict[str, dict[str, Entry]]


class NginxRouter:
    """A ``TrafficRouter``. ``listeners``: name → its pools, the first of which has everything in the beginning.

    nginx tells neither sessions nor health: they are None. A member is drained when no worker from before a reload runs
    any more.
    """

    def __init__(
        self, process: NginxProcess, *, file: str, pools: Sequence[str], listeners: Mapping[str, Sequence[str]]
    ) -> None:
        self._process = process
        self._file = Path(file)
        self._applied = self._file.with_name(self._file.name + ".applied")
        self._pools = tuple(pools)
        self._listeners = listeners

    def prepare(self) -> None:
        """Bring the file in line with the settings, for nginx to find its pools and variables at the next start.

        nginx itself is told at the next change.
        """
        with alone(self._file):
            text = render(self._table())
            if text != _text(self._file):
                write_whole(self._file, text)

    def members(self, pool: str) -> tuple[MemberState, ...]:
        """As the contract says."""
        return tuple(
            MemberState(name, entry.address, entry.is_drained, entry.weight, sessions=None, is_healthy=None)
            for name, entry in sorted(self._entries(self._table(), pool).items())
        )

    def register(self, pool: str, member: Member) -> None:
        """As the contract says."""

        def change(pools: Pools) -> None:
            entry = pools[pool].get(member.name, Entry(member.address))
            pools[pool][member.name] = dataclasses.replace(entry, address=member.address, is_drained=False)

        self._change(pool, change)

    def drain(self, pool: str, name: str) -> None:
        """As the contract says."""
        checked_name("member", name)

        def change(pools: Pools) -> None:
            if name in pools[pool]:
                pools[pool][name] = dataclasses.replace(pools[pool][name], is_drained=True)

        self._change(pool, change)

    def is_drained(self, pool: str, name: str) -> bool:
        """As the contract says."""
        entry = self._entries(self._table(), pool).get(checked_name("member", name))
        if (entry is not None and not entry.is_drained) or _text(self._file) != _text(self._applied):
            return False
        return not self._process.has_ending_workers()

    def deregister(self, pool: str, name: str) -> None:
        """As the contract says."""
        checked_name("member", name)
        self._change(pool, lambda pools: pools[pool].pop(name, None))

    def set_weights(self, pool: str, weights: Mapping[str, int]) -> None:
        """As the contract says."""
        checked_weights(weights)

        def change(pools: Pools) -> None:
            for name, weight in weights.items():
                if name not in pools[pool]:
                    refuse(f"there is no member {name} in pool {pool}")
                pools[pool][name] = dataclasses.replace(pools[pool][name], weight=weight)

        self._change(pool, change)

    def healthy(self, pool: str, name: str) -> bool | None:
        """As the contract says: nginx has no check of its own."""
        return None if checked_name("member", name) in self._entries(self._table(), pool) else False

    def shares(self, listener: str) -> Mapping[str, int]:
        """As the contract says."""
        if listener not in self._listeners:
            refuse(f"there is no listener {listener[:80]!r} in this router's settings")
        return dict(self._table().shares[listener])

    def shift(self, listener: str, shares: Mapping[str, int]) -> None:
        """As the contract says."""
        check_shares(self, listener, shares, set(self.shares(listener)))
        with alone(self._file):
            table = self._table()
            self._apply(dataclasses.replace(table, shares={**table.shares, listener: dict(shares)}))

    def _entries(self, table: Table, pool: str) -> Mapping[str, Entry]:
        if pool not in self._pools:
            refuse(f"there is no pool {pool[:80]!r} in this router's settings")
        return table.pools[pool]

    def _table(self) -> Table:
        """What the file says, of the pools and listeners that the settings know."""
        kept = parse(_text(self._file))
        shares = {}
        for listener, (first, *others) in self._listeners.items():
            found = kept.shares.get(listener, {})
            beginning = {first: 100, **dict.fromkeys(others, 0)}
            shares[listener] = found if set(found) == set(beginning) else beginning
        return Table({pool: dict(kept.pools.get(pool, {})) for pool in self._pools}, shares)

    def _change(self, pool: str, change: Callable[[Pools], object]) -> None:
        with alone(self._file):
            table = self._table()
            self._entries(table, pool)
            pools = {name: dict(members) for name, members in table.pools.items()}
            change(pools)
            self._apply(dataclasses.replace(table, pools=pools))

    def _apply(self, table: Table) -> None:
        """Make nginx serve by ``table``; nothing happens where it does already."""
        text, applied = render(table), _text(self._applied)
        if text == _text(self._file) == applied:
            return
        write_whole(self._file, text)
        if fault := self._process.test():
            write_whole(self._file, applied)
            refuse(f"nginx does not take the change, which was undone: {fault}")
        self._process.reload()
        write_whole(self._applied, text)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        unreached(f"{path} cannot be read: {error}")
