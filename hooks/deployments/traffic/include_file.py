"""The file that nginx includes and we own: pools and shares as text, and back. Pure."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hooks.deployments.traffic.router import Member, checked_name, refuse

_HEAD = "# Written by Entrepot, read back by it, and not to be edited: "
# What stands in a pool without members: nginx wants a server in each, and asks none that is down.
_NOBODY = "    server 127.0.0.1:1 down;\n"


@dataclass(frozen=True, slots=True)
class Entry:
    """A member."""

    address: str
    weight: int = 1
    is_drained: bool = False

    @property
    def takes_requests(self) -> bool:
        """A weight of 0 is not one to nginx; it is written as "down", as a drained one."""
        return not self.is_drained and self.weight > 0


@dataclass(frozen=True, slots=True)
class Table:
    """``pools``: pool → member → entry. ``shares``: listener → pool → share of 100."""

    pools: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict)
    shares: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def variable(listener: str) -> str:
    """What ``proxy_pass`` names: the pool that a request at the listener goes to."""
    return "$entrepot_" + "".join(char if char.isalnum() else "_" for char in listener)


def render(table: Table) -> str:
    """The whole file."""
    parts = [_HEAD + json.dumps(_as_json(table), sort_keys=True) + "\n"]
    for pool, members in sorted(table.pools.items()):
        servers = "".join(
            f"    server {entry.address}{f' weight={entry.weight}' if entry.takes_requests else ' down'};  # {name}\n"
            for name, entry in sorted(members.items())
        )
        parts.append(f"upstream {pool} {{\n{servers or _NOBODY}}}\n")
    for listener, shares in sorted(table.shares.items()):
        # "*" is the rest, and nginx takes no share of 0: whoever has most stands last.
        *smaller, most = sorted(((share, pool) for pool, share in shares.items() if share), key=lambda each: each[0])
        lines = "".join(f"    {share}% {pool};\n" for share, pool in smaller)
        parts.append(f'split_clients "$request_id" {variable(listener)} {{\n{lines}    * {most[1]};\n}}\n')
    return "".join(parts)


def parse(text: str) -> Table:
    """Back from ``render``; a file that is empty or not there is an empty table.

    Raises RoutingError for what ``render`` has not written: somebody else's lines would be lost with the next change.
    """
    if not text.strip():
        return Table()
    head, _, _ = text.partition("\n")
    table = None
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        table = _from_json(json.loads(head.removeprefix(_HEAD)))
    if table is None or render(table) != text:
        refuse("nginx's include file is not as Entrepot wrote it; empty it to have it written anew")
    return table


def _as_json(table: Table) -> dict[str, Any]:
    return {
        "pools": {
            pool: {
                name: {"address": entry.address, "weight": entry.weight, "drained": entry.is_drained}
                for name, entry in members.items()
            }
            for pool, members in table.pools.items()
        },
        "shares": {listener: dict(shares) for listener, shares in table.shares.items()},
    }


def _from_json(stored: Mapping[str, Any]) -> Table:
    pools = {
        checked_name("pool", pool): {
            Member(name, entry["address"]).name: Entry(entry["address"], int(entry["weight"]), bool(entry["drained"]))
            for name, entry in members.items()
        }
        for pool, members in stored["pools"].items()
    }
    shares = {
        listener: {checked_name("pool", pool): int(share) for pool, share in of.items()}
        for listener, of in stored["shares"].items()
    }
    return Table(pools, shares)
