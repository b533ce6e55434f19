"""HAProxy's runtime API: a command a connection, and its answers read strictly (management guide, section 9.3)."""

from __future__ import annotations

import csv
import io
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from hooks.deployments.traffic.router import address_of, refuse, unreached

MAX_ANSWER_BYTES = 8 * 1024 * 1024
FORMAT = "1"
"""The version of ``show servers state`` that is understood; HAProxy has had no other."""

# What a command is made of. A blank ends a word, ';' and a line's end end a command, '\' and quotes change both.
_WORD = re.compile(r"[A-Za-z0-9_./:@%#=,+*()\[\]-]{1,4096}\Z")
_MAP_LINE = re.compile(r"0x[0-9a-f]+ (?P<key>\S+) (?P<value>\S+)\Z")

_FORCED_MAINTENANCE = 0x01
_RESOLUTION_FAILED = 0x20
_DRAINED = 0x08
_CHECK_IS_ON = 0x02 | 0x04
_STOPPED = 0
_NO_RESULT_YET = 0


@dataclass(frozen=True, slots=True)
class Server:
    """A line of ``show servers state``, as far as it is of use here."""

    backend_id: int
    id: int
    name: str
    host: str
    port: int
    weight: int
    admin_state: int
    operational_state: int
    check_state: int
    check_result: int

    @property
    def is_in_maintenance(self) -> bool:
        """It takes nothing, as a slot in the configuration that is free."""
        return bool(self.admin_state & _FORCED_MAINTENANCE)

    @property
    def is_drained(self) -> bool:
        """It was told to take nothing new."""
        return bool(self.admin_state & _DRAINED)

    @property
    def address(self) -> str:
        """``host:port`` in the contract's spelling."""
        return address_of(self.host, self.port)

    @property
    def is_healthy(self) -> bool | None:
        """What its check says; None without a check, or before its first result."""
        if self.admin_state & _RESOLUTION_FAILED:
            return False
        if self.check_state & _CHECK_IS_ON != _CHECK_IS_ON or self.check_result == _NO_RESULT_YET:
            return None
        return self.operational_state != _STOPPED


class RuntimeApi:
    """Asks one HAProxy at its UNIX socket's path, or at ``(host, port)``; ``seconds`` is for a whole answer."""

    def __init__(self, address: str | tuple[str, int], seconds: float = 5.0) -> None:
        self._address = address
        self._seconds = seconds

    def ask(self, *words: str) -> str:
        """The answer to a command, without blank lines around it. Raises RoutingError."""
        for word in words:
            if not _WORD.match(word):
                refuse(f"{word[:80]!r} cannot be part of a command for HAProxy")
        text = self._exchange(" ".join(words))
        if text.startswith("Permission denied"):
            refuse("HAProxy denies it: the socket has to be one of 'level admin'")
        if text.startswith("Unknown command"):
            refuse(f"this HAProxy does not know '{' '.join(words[:2])}'; it has to be 2.6 or newer")
        return text

    def act(self, *words: str) -> None:
        """Carry out what answers nothing when it is done. Raises RoutingError."""
        if answer := self.ask(*words):
            refuse(f"HAProxy, asked for '{' '.join(words)}': {shown(answer)}")

    def _exchange(self, command: str) -> str:
        deadline = time.monotonic() + self._seconds
        try:
            with self._connect() as line:
                line.sendall(command.encode("ascii") + b"\n")
                answer = _read(line, deadline)
        except OSError as error:
            unreached(f"HAProxy cannot be reached at {self._where()}: {error.strerror or error}")
        # Every answer ends with a line's end: without one it was cut off, and nobody knows after what.
        if not answer.endswith(b"\n"):
            unreached(f"HAProxy at {self._where()} broke off in its answer")
        return answer.decode("utf-8", "replace").strip()

    def _connect(self) -> socket.socket:
        if isinstance(self._address, tuple):
            return socket.create_connection(self._address, self._seconds)
        line = socket.socket(socket.AF_UNIX)
        try:
            line.settimeout(self._seconds)
            line.connect(self._address)
        except OSError:
            line.close()
            raise
        return line

    def _where(self) -> str:
        return self._address if isinstance(self._address, str) else address_of(*self._address)


def _read(line: socket.socket, deadline: float) -> bytes:
    found = bytearray()
    while len(found) <= MAX_ANSWER_BYTES:
        left_seconds = deadline - time.monotonic()
        if left_seconds <= 0:
            raise TimeoutError("no whole answer in time")
        line.settimeout(left_seconds)
        piece = line.recv(65536)
        if not piece:
            return bytes(found)
        found += piece
    raise OSError(f"its answer is larger than {MAX_ANSWER_BYTES} bytes")


def shown(answer: str) -> str:
    """An answer's first line, fit to be told."""
    line = answer.splitlines()[0][:200] if answer else "no answer"
    return "".join(char if char.isprintable() else "\ufffd" for char in line)


def servers_of(answer: str, pool: str) -> list[Server]:
    """The servers of one backend out of ``show servers state``. Raises RoutingError for what is not exactly that."""
    if answer.startswith("Can't find backend"):
        refuse(f"there is no pool {pool}: HAProxy has no backend of that name")
    version, _, table = answer.partition("\n")
    head, _, rows = table.partition("\n")
    if version.strip() != FORMAT or not head.startswith("# "):
        refuse(f"HAProxy's list of servers is not understood: {shown(answer)}")
    columns = head[2:].split()
    return [_server(dict(zip(columns, _fields(row, len(columns)), strict=True))) for row in rows.splitlines() if row]


def _fields(row: str, wanted: int) -> list[str]:
    fields = row.split(" ")
    if len(fields) != wanted:
        refuse(f"HAProxy's list of servers has a line that is not understood: {shown(row)}")
    return fields


def _server(row: Mapping[str, str]) -> Server:
    try:
        return Server(
            backend_id=int(row["be_id"]),
            id=int(row["srv_id"]),
            name=row["srv_name"],
            host=row["srv_addr"],
            port=int(row["srv_port"]),
            weight=int(row["srv_uweight"]),
            admin_state=int(row["srv_admin_state"]),
            operational_state=int(row["srv_op_state"]),
            check_state=int(row["srv_check_state"]),
            check_result=int(row["srv_check_result"]),
        )
    except (KeyError, ValueError) as error:
        refuse(f"HAProxy's list of servers is not understood: {error}")


def sessions_of(answer: str) -> dict[str, int]:
    """Server → requests under way or waiting for it, out of ``show stat``. Raises RoutingError."""
    if not answer.startswith("# "):
        refuse(f"HAProxy's statistics are not understood: {shown(answer)}")
    found = {}
    for row in csv.DictReader(io.StringIO(answer[2:]), strict=True):
        try:
            found[row["svname"]] = int(row["scur"]) + int(row["qcur"] or 0)
        except (KeyError, TypeError, ValueError) as error:
            refuse(f"HAProxy's statistics are not understood: {error}")
    return found


def map_of(answer: str, listener: str) -> dict[str, int]:
    """Key → number, out of ``show map``. Raises RoutingError."""
    if answer.startswith("Unknown map"):
        refuse(f"HAProxy has no map for listener {listener}; its configuration has to name the file")
    found = {}
    for line in answer.splitlines():
        match = _MAP_LINE.match(line.strip())
        if match is None or not (match["value"].isascii() and match["value"].isdigit()):
            refuse(f"the map of listener {listener} has a line that is not a pool and its share: {shown(line)}")
        found[match["key"]] = int(match["value"][:4])
    return found
