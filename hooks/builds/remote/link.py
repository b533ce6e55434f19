"""A runner's line to its server: requests with time-outs, errors as facts, and patience while the server is away."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from json import dumps
from typing import IO, Any, TypeVar
from urllib.parse import quote

import requests

PROTOCOL = 2
LEASE_HEADER = "Entrepot-Lease"
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
BODY_SECONDS = 600.0
"""How long an answer may take to a body that the server checks before it answers."""
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0

T = TypeVar("T")


class Away(Exception):
    """No answer, or one that says to come again later."""


class LeaseGone(Exception):
    """The lease holds nothing any more (or never was this runner's): nothing of the build is taken."""


class Rejected(Exception):
    """The server will not take it, now or later: ``str()`` says why."""


class NotAdmitted(Exception):
    """The server knows no such runner, or has revoked it."""


class Unproved(NotAdmitted):
    """The credential counts no more, or never did."""


class Pause:
    """How long to wait before the next try: twice as long each time, with jitter, so that runners do not come together."""

    def __init__(self, longest_seconds: float = _LONGEST_PAUSE_SECONDS) -> None:
        self._longest_seconds = longest_seconds
        self._seconds = _FIRST_PAUSE_SECONDS

    def reset(self) -> None:
        """The next wait is a short one again."""
        self._seconds = _FIRST_PAUSE_SECONDS

    def next_seconds(self) -> float:
        """The next wait."""
        seconds = self._seconds
        self._seconds = min(seconds * 2, self._longest_seconds)
        return seconds * (0.5 + random.random() / 2)  # noqa: S311  (spreads retries, hides nothing)


class Link:
    """One server, one credential. Each thread has connections of its own."""

    def __init__(self, url: str, credential: str, program: str = "runner") -> None:
        """``url`` is the server's base address; ``program`` says whose protocol is spoken."""
        self.url = url.rstrip("/")
        self._program = program
        self._credential = credential
        self._local = threading.local()

    def use(self, credential: str) -> None:
        """Show this credential from now on."""
        self._credential = credential

    def ask(
        self,
        method: str,
        *path: str,
        json: Any = None,
        body: IO[bytes] | bytes | None = None,
        query: Mapping[str, Any] | None = None,
        lease: str = "",
        is_streamed: bool = False,
        read_seconds: float = READ_SECONDS,
    ) -> requests.Response:
        """One request below the program's part of ``/api/v1``. Raises Away, LeaseGone, Rejected, NotAdmitted."""
        address = f"{self.url}/api/v1/{self._program}" + "".join("/" + quote(part, safe="") for part in path)
        headers = {LEASE_HEADER: lease} if lease else {}
        sent: dict[str, Any] = {"data": body}
        if body is not None:
            headers["Content-Type"] = "application/octet-stream"
        elif json is not None:
            # As it is in UTF-8: the server bounds bodies by bytes, and escapes would make six of two.
            headers["Content-Type"] = "application/json"
            sent = {"data": dumps(json, ensure_ascii=False).encode(errors="replace")}
        try:
            response = self._session().request(
                method,
                address,
                **sent,
                params=query,
                headers=headers,
                timeout=(CONNECT_SECONDS, read_seconds),
                allow_redirects=False,  # the credential would go along
                stream=is_streamed,
            )
        except requests.RequestException as error:
            raise Away(f"{self.url} cannot be reached: {type(error).__name__}") from error
        if response.status_code >= 300:
            with response:
                raise _told(response)
        return response

    def _session(self) -> requests.Session:
        found: requests.Session | None = getattr(self._local, "session", None)
        if found is None:
            found = self._local.session = requests.Session()
            found.auth = self._authorize
            found.headers["User-Agent"] = f"entrepot-{self._program}"
        return found

    def _authorize(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        # A netrc entry of the host must not replace it, which an auth callable prevents.
        prepared.headers["Authorization"] = f"Bearer {self._credential}"
        return prepared


def _told(response: requests.Response) -> Exception:
    detail, code = f"the server answered {response.status_code}", ""
    if response.headers.get("Content-Type", "").startswith("application/problem+json"):
        try:
            problem = response.json()
            detail, code = str(problem["detail"]), str(problem["code"])
        except (ValueError, KeyError, TypeError):
            code = ""  # the status says what there is to say
    if response.status_code >= 500 or response.status_code in {408, 429}:
        return Away(detail)
    if code == "lease_lost":
        return LeaseGone(detail)
    if response.status_code in {401, 403}:
        return Unproved(detail) if response.status_code == 401 else NotAdmitted(detail)
    return Rejected(detail)


def patiently(attempt: Callable[[], T], give_up: Callable[[], bool], wait: Callable[[float], object] = time.sleep) -> T:
    """What ``attempt`` returns, however often the server has to be asked. Raises Away once ``give_up`` says so."""
    pause = Pause(5.0)
    while True:
        try:
            return attempt()
        except Away:
            if give_up():
                raise
        wait(pause.next_seconds())


@contextmanager
def broken_off() -> Any:
    """Turns the breaking off of an answer that is being read into Away."""
    try:
        yield
    except requests.RequestException as error:
        raise Away(f"the answer broke off: {type(error).__name__}") from error
