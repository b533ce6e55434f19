"""A rotation that is killed at a chosen point: run as ``killed_rotation.py DATA POINT``.

It is the rotation of ``entrepot keys rotate``; between two of its transactions it asks or tells somebody, and the
``POINT``-th time it does so, it kills itself with SIGKILL. Ends with 0 when it came to its end before.
"""

import os
import signal
import sys
from pathlib import Path

from config import wiring
from config.settings import load
from registry.clock import system_clock
from registry.repos import key_use
from registry.repos.rotation import Work


def main(data: Path, point: int) -> None:
    settings = load(data)
    db = wiring.database(settings)
    stores = wiring.domain_stores(settings, db)
    passed = 0

    def here() -> None:
        nonlocal passed
        passed += 1
        if passed == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def wait(_seconds: float) -> bool:
        here()
        return False

    with db.read() as session:
        owners = key_use.owners(session)
    work = Work("a test", told=lambda _owner, _count: here(), wait=wait)
    wiring.rotator(stores, db, system_clock).rotate(owners, work)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
