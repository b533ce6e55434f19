"""Routers out of the settings: a table ``[deployments.routers.NAME]`` for each, by its type. Documents know names alone.

Sockets, files and commands are the operator's: whoever may change a deployment group could otherwise have the server
write to any file, or run any program.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hooks.deployments.traffic.nginx_process import NginxProcess
from hooks.deployments.traffic.router import RoutingError, TrafficRouter, checked_name, host_and_port
from hooks.deployments.traffic.routers.haproxy import HaproxyRouter
from hooks.deployments.traffic.routers.nginx import NginxRouter
from hooks.deployments.traffic.routers.record import RecordRouter
from hooks.deployments.traffic.runtime_api import RuntimeApi

log = logging.getLogger("entrepot.deployments")

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}\Z")
_SERVER_OPTION = re.compile(r"[A-Za-z0-9_./:@%=,+*-]{1,200}\Z")


class Options:
    """A router's table, taken apart. Every method raises ValueError, which names the option."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._left = {key: value for key, value in table.items() if key != "type"}

    def text(self, name: str, default: str | None = None) -> str:
        """A text; without a default it has to be there."""
        value = self._left.pop(name, default)
        if not isinstance(value, str) or (not value and default is None) or not value.isprintable():
            raise ValueError(f"{name} is missing" if value is None else f"{name}: {value!r} is not text on one line")
        return value

    def path(self, name: str, default: str | None = None) -> str:
        """An absolute path, or the default."""
        value = self.text(name, default)
        if value != default and not value.startswith("/"):
            raise ValueError(f"{name}: {value!r} is not an absolute path")
        return value

    def switch(self, name: str, *, default: bool) -> bool:
        """A boolean."""
        value = self._left.pop(name, default)
        if isinstance(value, bool):
            return value
        raise ValueError(f"{name}: {value!r} is neither true nor false")

    def texts(self, name: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """A list of texts, which holds something unless the default does not; without a default it has to be there."""
        value = self._left.pop(name, None if default is None else list(default))
        if not isinstance(value, list) or not all(isinstance(item, str) and item.isprintable() for item in value):
            raise ValueError(f"{name} is missing" if value is None else f"{name}: {value!r} is not a list of texts")
        if not value and default != ():
            raise ValueError(f"{name} is empty")
        return tuple(value)

    def table(self, name: str) -> Mapping[str, Any]:
        """A table by names; empty when it is not there."""
        value = self._left.pop(name, {})
        if isinstance(value, dict):
            for key in value:
                _named("listener", key)
            return value
        raise ValueError(f"{name} is a table")

    def end(self) -> None:
        """Refuse what nobody has asked for."""
        if self._left:
            raise ValueError(f"{min(self._left)} is not a setting")


def _haproxy(options: Options) -> TrafficRouter:
    socket = options.text("socket")
    listeners = options.table("listeners")
    writes_maps = options.switch("writes_maps", default=True)
    for name, file in listeners.items():
        if not isinstance(file, str) or not _SERVER_OPTION.match(file):
            raise ValueError(f"listeners.{name}: {file!r} is not the file of a map")
        if writes_maps and not file.startswith("/"):
            raise ValueError(f"listeners.{name}: {file!r} is not an absolute path; without one, writes_maps is false")
    server_options = options.texts("server_options", ())
    if odd := [word for word in server_options if not _SERVER_OPTION.match(word)]:
        raise ValueError(f"server_options: {odd[0]!r} is not one word of a server's line")
    return HaproxyRouter(
        RuntimeApi(socket if socket.startswith("/") else _address(socket)),
        listeners=listeners,
        writes_maps=writes_maps,
        state_file=options.path("state_file", ""),
        server_options=server_options,
    )


def _nginx(options: Options) -> TrafficRouter:
    file = options.path("file")
    process = NginxProcess(
        pid_file=options.path("pid_file", "/run/nginx.pid"),
        test=options.texts("test", ("nginx", "-t", "-q")),
        reload=options.texts("reload", ()),
    )
    pools = _pools(options)
    return NginxRouter(process, file=file, pools=pools, listeners=_listeners(options, pools))


def _record(options: Options) -> TrafficRouter:
    file, pools = options.path("file"), _pools(options)
    return RecordRouter(file, pools=pools, listeners=_listeners(options, pools))


TYPES: Mapping[str, Callable[[Options], TrafficRouter]] = {"haproxy": _haproxy, "nginx": _nginx, "record": _record}
"""Every type of router there is."""


def routers(tables: Mapping[str, Mapping[str, Any]]) -> Mapping[str, TrafficRouter]:
    """The routers of the settings by name."""
    return {name: _router(table) for name, table in tables.items()}


def prepare(known: Mapping[str, TrafficRouter]) -> None:
    """Have nginx find the file that its configuration includes. What cannot be done is logged, and stops nothing."""
    for name, router in known.items():
        if isinstance(router, NginxRouter):
            try:
                router.prepare()
            except RoutingError as error:
                log.warning("the router %s is not ready: %s", name, error)


def read(tables: Any, faults: list[str]) -> dict[str, dict[str, Any]]:
    """The tables of ``deployments.routers``; what is wrong with them is added to ``faults``. Opens nothing."""
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        faults.append("deployments.routers holds a section for each router: [deployments.routers.NAME]")
        return {}
    for name, table in sorted(tables.items()):
        if not _NAME.match(name):
            faults.append(f"[deployments.routers.{name}]: a name has 1 to 63 of a-z, 0-9 and '-', a letter first")
            continue
        try:
            _router(table)
        except ValueError as error:
            faults.append(f"deployments.routers.{name}.{error}")
    return tables


def _router(table: Mapping[str, Any]) -> TrafficRouter:
    kind = table.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        raise ValueError(f"type is one of {', '.join(sorted(TYPES))}")
    options = Options(table)
    router = TYPES[kind](options)
    options.end()
    return router


def _pools(options: Options) -> tuple[str, ...]:
    pools = options.texts("pools")
    for pool in pools:
        _named("pool", pool)
    return pools


def _listeners(options: Options, pools: Sequence[str]) -> Mapping[str, Sequence[str]]:
    listeners = options.table("listeners")
    for name, of in listeners.items():
        if not isinstance(of, list) or not of or not all(pool in pools for pool in of) or len(set(of)) < len(of):
            raise ValueError(f"listeners.{name}: {of!r} is not a list of this router's pools")
    return listeners


def _address(text: str) -> tuple[str, int]:
    try:
        return host_and_port(text)
    except RoutingError as error:
        raise ValueError(f"socket: a path, or {error}") from None


def _named(kind: str, name: str) -> None:
    try:
        checked_name(kind, name)
    except RoutingError as error:
        raise ValueError(str(error)) from None
