"""What the audit log's chain costs: publishes and an audited API change for each second, with it and without.

``python -m bench.audit_chain FOLDER [--rounds N]``, FOLDER on the disk that is to be measured. Both ways take turns, on
one server in this process, so that a busy machine slows both; without the chain, entries are inserted as they come.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy.orm import Session

from registry import audit
from registry.audit_chain import Link
from registry.db import Base, Database
from registry.models import AuditEntry
from tests import postgres
from tests.functional.api_world import START, World

AT_ONCE = 8
_numbers = itertools.count(-1, -1)


def plain(session: Session, links: Iterable[Link]) -> None:
    """What ``audit.append`` would be without a chain: rows with numbers below zero, where no chain is."""
    for link in links:
        session.add(
            AuditEntry(
                seq=next(_numbers),
                at=link.at,
                actor=link.actor,
                action=link.action,
                object=link.object,
                details=dict(link.details),
                previous_hash="0" * 64,
                hash="0" * 64,
            )
        )
    session.flush()


def per_second(unit: Callable[[int], object], count: int, *, threads: int = 1) -> float:
    """How many ``unit`` are done in a second, ``count`` in all."""
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(unit, range(count)))
    return count / (time.perf_counter() - began)


def compare(name: str, unit: Callable[[int], object], *, rounds: int, count: int, threads: int = 1) -> None:
    """Measure with the chain and without in turn, and print the medians."""
    chained, found = audit.append, {True: [], False: []}  # type: ignore[var-annotated]
    for turn in range(2 * rounds + 2):
        has_chain = turn % 2 == 0
        audit.append = chained if has_chain else plain  # type: ignore[assignment]
        speed = per_second(unit, count, threads=threads)
        if turn > 1:  # the first of each warms up
            found[has_chain].append(speed)
    audit.append = chained
    with_it, without = statistics.median(found[True]), statistics.median(found[False])
    sys.stdout.write(
        f"{name:48} {with_it:8.1f}/s with the chain, {without:8.1f}/s without ({with_it / without - 1:+.1%})" + "\n"
    )


def main() -> None:
    """Measure on SQLite, and on PostgreSQL where there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    names = itertools.count()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        world = World(Path(folder) / "data")
        compare(
            "publishes, SQLite",
            lambda _: world.publish("prod", f"p{next(names)}", "1.0"),
            rounds=given.rounds,
            count=60,
        )
        compare(
            "changes of a repository by the API, SQLite",
            lambda _: world.call("PATCH", "/domains/default/repositories/dev", json={"description": str(next(names))}),
            rounds=given.rounds,
            count=60,
        )
        world.close()
    if postgres.find_binaries() is None:
        return
    with postgres.shared().fresh_database() as url:
        db = Database(url)
        Base.metadata.create_all(db.engine)

        def write(number: int) -> None:
            with db.write() as session:
                audit.record(session, START, "ada", "asset.publish", f"default/dev/x/{number}", sha256="ab" * 32)

        for threads in (1, AT_ONCE):
            compare(
                f"entries alone, PostgreSQL, {threads} connections",
                write,
                rounds=given.rounds,
                count=400,
                threads=threads,
            )
        db.close()


if __name__ == "__main__":
    main()
