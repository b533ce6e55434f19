"""How often somebody may ask in a minute, by what it costs: counted for all processes and machines together.

The count is a row in the database. A row written for each request would cost more than most requests: a process takes
a twentieth of the limit at a time, and spends it in memory. Up to a fiftieth is spent before the first row is written,
so that who asks now and then costs no write at all. Of all that is asked in a minute, what is let through exceeds the
limit by a fiftieth of it for each process at the most, and by nothing where the limit is less than fifty.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from registry.db import Database
from registry.errors import RateLimited, Unavailable
from registry.models import RateUse

log = logging.getLogger("entrepot.rates")

WINDOW_SECONDS = 60
_MOST_CALLERS = 10_000
_KEPT_MINUTES = 60


class CostClass(StrEnum):
    """What requests cost, from the cheapest to the dearest."""

    READ = "read"
    """An index, a document or a file by a package client."""
    MANAGE = "manage"
    """A page or an operation of the API."""
    PUBLISH = "publish"
    """A change by a package client."""
    SEARCH = "search"
    """A look through many packages."""
    MINT = "mint"
    """A new credential."""


Rates = Mapping[CostClass, int]
"""Requests a minute by class; a class that is missing, or has 0, is not limited."""


@dataclass(slots=True)
class _Window:
    """What this process may still let through in a minute. ``is_free`` until the database has been told of it."""

    minute: int
    granted: int
    used: int = 0
    is_free: bool = True
    is_spent: bool = False


class RateLimits:
    """Counts what callers cost. Safe for many threads and processes."""

    def __init__(self, db: Database, rates: Rates) -> None:
        self._db = db
        self._rates = rates
        self._lock = threading.Lock()
        self._claiming = threading.Lock()
        self._windows: OrderedDict[tuple[str, CostClass], _Window] = OrderedDict()
        self._purged_minute = 0

    @property
    def rates(self) -> Rates:
        """The limits that hold."""
        return self._rates

    def spend(self, cost: CostClass, principal: str, now: datetime) -> None:
        """Let one request through. Raises RateLimited, until the minute is over, when there were too many."""
        limit = self._rates.get(cost, 0)
        if limit <= 0:
            return
        minute = int(now.timestamp()) // WINDOW_SECONDS
        window = self._window(cost, principal, minute, limit)
        if self._take(window):
            return
        with self._claiming:
            if self._take(window):  # another thread has claimed some
                return
            if not window.is_spent:
                self._claim(window, cost, principal, limit)
        if not self._take(window):
            left = WINDOW_SECONDS - int(now.timestamp()) % WINDOW_SECONDS
            raise RateLimited(f"more than {limit} requests of the class {cost.value!r} in a minute", left)

    def _window(self, cost: CostClass, principal: str, minute: int, limit: int) -> _Window:
        key = (principal, cost)
        with self._lock:
            window = self._windows.get(key)
            if window is None or window.minute != minute:
                window = self._windows[key] = _Window(minute, granted=limit // 50)
                while len(self._windows) > _MOST_CALLERS:
                    self._windows.popitem(last=False)
            self._windows.move_to_end(key)
        return window

    def _take(self, window: _Window) -> bool:
        with self._lock:
            if window.used >= window.granted:
                return False
            window.used += 1
            return True

    def _claim(self, window: _Window, cost: CostClass, principal: str, limit: int) -> None:
        """Take a part of what is left in the database; what was spent before it was asked counts first."""
        owed = window.used if window.is_free else 0
        wanted = owed + max(1, limit // 20)

        def unit(session: Session) -> int:
            row = session.get(RateUse, (principal, cost.value), with_for_update=True)
            if row is None:
                row = RateUse(principal=principal, cost_class=cost.value, minute=window.minute, used=0)
                session.add(row)
            elif row.minute < window.minute:
                row.minute, row.used = window.minute, 0
            granted = max(0, min(wanted, limit - row.used))
            row.used += granted
            return granted

        try:
            self._purge(window.minute)
            granted = self._settled(unit)
        except Unavailable as error:
            # Who counts must not be who takes the server down: reading goes on without the database being written.
            log.warning("requests of %s are not counted: %s", principal, error)
            granted = wanted
        with self._lock:
            window.is_free = False
            window.granted += granted - owed
            window.is_spent = granted < wanted

    def _settled(self, unit: Callable[[Session], int]) -> int:
        try:
            return self._db.retry(unit)
        except IntegrityError:
            return self._db.retry(unit)  # another process made the row first, and now it is there

    def _purge(self, minute: int) -> None:
        if minute - self._purged_minute < _KEPT_MINUTES:
            return
        self._purged_minute = minute
        with self._db.write() as session:
            session.execute(delete(RateUse).where(RateUse.minute < minute - _KEPT_MINUTES))


def principal_of(account_id: int | None, address: str) -> str:
    """Whom a request counts for: the account, or a stranger's address (of IPv6 the network that one customer has)."""
    if account_id is not None:
        return f"user/{account_id}"
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return f"address/{address}"[:100]
    if parsed.version == 6:
        return f"address/{ipaddress.ip_network((parsed, 64), strict=False)}"
    return f"address/{parsed}"
