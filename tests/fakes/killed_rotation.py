"""A rotation that is killed at a chosen point: run as ``killed_rotation.py DATA POINT``.

It is the rotation of ``entrepot keys rotate``, in small batches; between two of its transactions it asks or tells
somebody, and the ``POINT``-th time it does so, it kills itself with SIGKILL. With ``POINT`` 0 it does so when it has
moved the first batch of a domain's bodies. Ends with 0 when it came to its end before.
"""

import os
import signal
import sys
from pathlib import Path

from config import wiring
from config.settings import load
from registry.clock import system_clock
from registry.repos import key_use, rotation
from registry.repos.key_use import Owner
from registry.repos.rotation import Work

BATCH = 50


def main(data: Path, point: int) -> None:
    settings = load(data)
    db = wiring.database(settings)
    stores = wiring.domain_stores(settings, db)
    passed = 0
    rotation.BATCH = BATCH

    def told(owner: Owner, count: int) -> None:
        if point == 0 and owner.domain_id is not None and count > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        here()

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
    work = Work("a test", told=told, wait=wait)
    wiring.rotator(stores, db, system_clock).rotate(owners, work)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
