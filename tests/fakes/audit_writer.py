"""Writes audit entries as fast as it can, and says of each that it is durable: ``audit_writer.py URL ACTOR COUNT``."""

import sys
from datetime import UTC, datetime

from registry import audit
from registry.db import Database


def main(url: str, actor: str, count: int) -> None:
    db = Database(url)
    for number in range(count):
        db.retry(
            lambda session, number=number: audit.record(session, datetime.now(UTC), actor, "test.write", f"n/{number}")
        )
        print(number, flush=True)
    db.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
