"""The one door out of a sandbox: a unix socket in the worker whose bytes go to what the worker connects them with."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from hooks.builds.broker import Broker
from hooks.builds.executor import Publishing
from hooks.builds.forwarder import MAX_CONNECTIONS, serve

CONNECT_TIMEOUT_SECONDS = 10.0
REGISTRY_SOCKET, PUBLISH_SOCKET = "registry.sock", "publish.sock"

Dial = Callable[[], socket.socket]


class Relay:
    """Listens on a unix socket from construction until ``close``; each connection is carried to one of ``connect``.

    An address is fixed, and a client names none.
    """

    def __init__(
        self,
        path: Path,
        connect: Callable[[], socket.socket] | tuple[str, int],
        owner: tuple[int, int] | None,
    ) -> None:
        """Listen at ``path`` (at most 107 bytes long), usable by ``owner`` (uid, gid) alone. Raises OSError."""
        dial = connect if callable(connect) else _dial(connect)
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(str(path))
            path.chmod(0o600)
            if owner is not None:
                os.chown(path, *owner)
            self._listener.listen(MAX_CONNECTIONS)
        except OSError:
            self._listener.close()
            raise
        self._thread = threading.Thread(target=serve, args=(self._listener, dial), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Accept nothing more. Idempotent; connections that are open end with the sandbox's side of them."""
        try:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread; close() alone would not
        except OSError:
            return  # closed before
        self._listener.close()
        self._thread.join()


def _dial(address: tuple[str, int]) -> Callable[[], socket.socket]:
    def connect() -> socket.socket:
        target = socket.create_connection(address, timeout=CONNECT_TIMEOUT_SECONDS)
        target.settimeout(None)
        return target

    return connect


def open_relays(
    directory: Path,
    address: Dial | tuple[str, int],
    publishing: Publishing | None,
    owner: tuple[int, int] | None,
    *,
    mode: int = 0o600,
) -> list[Relay]:
    """The doors of one sandbox below ``directory``: to the registry, and where the build may publish. Raises OSError."""
    doors: list[tuple[str, Dial | tuple[str, int]]] = [(REGISTRY_SOCKET, address)]
    if publishing is not None:
        doors.append((PUBLISH_SOCKET, Broker(publishing, address if callable(address) else _dial(address)).connect))
    relays: list[Relay] = []
    try:
        for name, connect in doors:
            relays.append(Relay(directory / name, connect, owner))
            (directory / name).chmod(mode)
    except OSError:
        for relay in relays:
            relay.close()
        raise
    return relays
