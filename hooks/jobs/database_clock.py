"""The database's own clock in SQL: leases of several machines are only comparable by one clock."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Double, ScalarSelect, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class _EpochSeconds(FunctionElement[float]):
    type = Double()
    inherit_cache = True


@compiles(_EpochSeconds, "sqlite")
def _sqlite(_element: _EpochSeconds, _compiler: Any, **_options: Any) -> str:
    # julianday keeps milliseconds; strftime('%s') would cut them, and unixepoch('subsec') is newer than 3.40.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(_EpochSeconds, "postgresql")
def _postgresql(_element: _EpochSeconds, _compiler: Any, **_options: Any) -> str:
    # clock_timestamp, not now(): a claim that waited for a lock must not start with a lease that is half over.
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


def database_now() -> ScalarSelect[float]:
    """The present moment in seconds since 1970, evaluated once per statement.

    It is a subquery because a volatile function in a comparison would keep PostgreSQL from using an index.
    """
    return select(_EpochSeconds()).scalar_subquery()
