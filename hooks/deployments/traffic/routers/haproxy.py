"""HAProxy over its runtime API: pools are backends, members their servers, a listener's shares lie in a map.

A server in forced maintenance is a free slot and no member. A member that has no slot of its name is added at run time,
under an id from ``FIRST_ID`` on: that is how it is known again, after any crash, as one that may be deleted. What the
configuration has is put into maintenance instead, because its options would be lost with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hooks.deployments.traffic.files import alone, write_whole
from hooks.deployments.traffic.router import (
    Member,
    MemberState,
    check_shares,
    checked_name,
    checked_weights,
    host_and_port,
    refuse,
    unreached,
)
from hooks.deployments.traffic.runtime_api import RuntimeApi, Server, map_of, servers_of, sessions_of, shown
from registry.upstream.guard import literal_address

FIRST_ID = 1_000_000
_TRIES = 5


class HaproxyRouter:
    """A ``TrafficRouter``.

    ``listeners``: name → the file of its map, as HAProxy's configuration names it. With ``writes_maps`` the file is
    written too, so that shares outlive a restart; ``state_file`` is what HAProxy loads servers' states from at its
    start. ``server_options`` are what servers that are added get.
    """

    def __init__(
        self,
        api: RuntimeApi,
        *,
        listeners: Mapping[str, str],
        writes_maps: bool = True,
        state_file: str = "",
        server_options: Sequence[str] = (),
    ) -> None:
        self._api = api
        self._listeners = listeners
        self._writes_maps = writes_maps
        self._state_file = Path(state_file) if state_file else None
        self._options = tuple(server_options)

    def members(self, pool: str) -> tuple[MemberState, ...]:
        """As the contract says."""
        servers = [server for server in self._servers(pool) if not server.is_in_maintenance]
        sessions = self._sessions(servers)
        found = [
            MemberState(
                name=server.name,
                address=server.address,
                is_drained=server.is_drained,
                weight=server.weight,
                sessions=sessions.get(server.name, 0),
                is_healthy=server.is_healthy,
            )
            for server in servers
        ]
        return tuple(sorted(found, key=lambda member: member.name))

    def register(self, pool: str, member: Member) -> None:
        """As the contract says. One server after the other: another process may change the same."""
        self._remove_leftovers(pool, except_name=member.name)
        for _ in range(_TRIES):
            server = self._server(pool, member.name)
            if server is not None and _serves(server, member):
                self._note_states()
                return
            self._bring(pool, member, server)
        unreached(f"member {member.name} of pool {pool} is being changed by somebody else")

    def drain(self, pool: str, name: str) -> None:
        """As the contract says."""
        server = self._server(pool, name)
        if server is not None and not (server.is_in_maintenance or server.is_drained):
            self._api.act("set", "server", f"{pool}/{name}", "state", "drain")
        self._note_states()

    def is_drained(self, pool: str, name: str) -> bool:
        """As the contract says."""
        server = self._server(pool, name)
        if server is None:
            return True
        if not (server.is_drained or server.is_in_maintenance):
            return False
        return self._sessions([server]).get(name, 0) == 0

    def deregister(self, pool: str, name: str) -> None:
        """As the contract says. What was added is deleted as soon as its connections allow it."""
        server = self._server(pool, name)
        if server is not None and not server.is_in_maintenance:
            self._api.act("set", "server", f"{pool}/{name}", "state", "maint")
        self._remove_leftovers(pool)
        self._note_states()

    def set_weights(self, pool: str, weights: Mapping[str, int]) -> None:
        """As the contract says."""
        servers = {server.name: server for server in self._servers(pool) if not server.is_in_maintenance}
        for name in checked_weights(weights):
            if name not in servers:
                refuse(f"there is no member {name} in pool {pool}")
        # Those that gain go first, so that at no moment all of them have nothing.
        for name, weight in sorted(weights.items(), key=lambda item: servers[item[0]].weight - item[1]):
            if servers[name].weight != weight:
                self._api.act("set", "server", f"{pool}/{name}", "weight", str(weight))
        self._note_states()

    def healthy(self, pool: str, name: str) -> bool | None:
        """As the contract says."""
        server = self._server(pool, name)
        return False if server is None or server.is_in_maintenance else server.is_healthy

    def shares(self, listener: str) -> Mapping[str, int]:
        """As the contract says."""
        return map_of(self._api.ask("show", "map", self._map(listener)), listener)

    def shift(self, listener: str, shares: Mapping[str, int]) -> None:
        """As the contract says."""
        file = self._map(listener)
        now = self.shares(listener)
        check_shares(self, listener, shares, set(now))
        if self._writes_maps:
            # First the file: if this ends in between, a restart brings what was wished for, and not what was before.
            text = "".join(f"{pool} {share}\n" for pool, share in sorted(shares.items()))
            _write(Path(file), lambda: text)
        for pool, share in sorted(shares.items(), key=lambda item: now[item[0]] - item[1]):
            if now[pool] != share:
                self._api.act("set", "map", file, pool, str(share))

    def _servers(self, pool: str) -> list[Server]:
        checked_name("pool", pool)
        return servers_of(self._api.ask("show", "servers", "state", pool), pool)

    def _server(self, pool: str, name: str) -> Server | None:
        checked_name("member", name)
        return next((server for server in self._servers(pool) if server.name == name), None)

    def _sessions(self, servers: Sequence[Server]) -> dict[str, int]:
        if not servers:
            return {}
        # 4: servers. -1: all of them.
        return sessions_of(self._api.ask("show", "stat", str(servers[0].backend_id), "4", "-1"))

    def _bring(self, pool: str, member: Member, server: Server | None) -> None:
        """Do what is lacking; ``register`` looks again at what has come of it."""
        place = f"{pool}/{member.name}"
        if server is None and not self._add(pool, place, member):
            return
        host, port = host_and_port(member.address)
        if server is not None and not _is_at(server, host, port):
            answer = self._api.ask("set", "server", place, "addr", host, "port", str(port))
            if "stats socket command" not in answer and not answer.startswith("No such server"):
                refuse(f"HAProxy does not give member {member.name} of pool {pool} its address: {shown(answer)}")
        if (server is None or server.id >= FIRST_ID) and "check" in self._options:
            self._api.ask("enable", "health", place)
        # It may have been deleted meanwhile by who took it for a leftover.
        answer = self._api.ask("set", "server", place, "state", "ready")
        if answer and not answer.startswith("No such server"):
            refuse(f"HAProxy does not let member {member.name} of pool {pool} take requests: {shown(answer)}")

    def _add(self, pool: str, place: str, member: Member) -> bool:
        """Make a server at run time; False if somebody else did the same at the same moment."""
        number = max([FIRST_ID, *(server.id + 1 for server in self._servers(pool))])
        answer = self._api.ask("add", "server", place, member.address, "id", str(number), *self._options)
        is_added = answer.startswith("New server registered")
        if not is_added and "already" not in answer:
            refuse(f"HAProxy does not take member {member.name} into pool {pool}: {shown(answer)}")
        return is_added

    def _remove_leftovers(self, pool: str, except_name: str = "") -> None:
        """Delete servers that were added and are in maintenance; one that is still busy stays for the next time."""
        for server in self._servers(pool):
            if server.id >= FIRST_ID and server.is_in_maintenance and server.name != except_name:
                self._api.ask("del", "server", f"{pool}/{server.name}")

    def _map(self, listener: str) -> str:
        if listener not in self._listeners:
            refuse(f"there is no listener {listener[:80]!r} in this router's settings")
        return self._listeners[listener]

    def _note_states(self) -> None:
        if self._state_file is not None:
            _write(self._state_file, lambda: self._api.ask("show", "servers", "state") + "\n")


def _serves(server: Server, member: Member) -> bool:
    is_ready = not (server.is_in_maintenance or server.is_drained)
    return is_ready and _is_at(server, *host_and_port(member.address))


def _is_at(server: Server, host: str, port: int) -> bool:
    # Compared as addresses: one may be spelled in several ways. A server whose name is not resolved is at none.
    address = literal_address(server.host)
    return address is not None and (address, server.port) == (literal_address(host), port)


def _write(path: Path, text: Callable[[], str]) -> None:
    with alone(path):
        write_whole(path, text())
