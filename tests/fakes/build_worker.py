"""A worker process that runs builds, to be killed: ``python build_worker.py DATABASE_URL WORK_DIR``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.build_jobs import build_worker

if __name__ == "__main__":
    worker = build_worker(sys.argv[1], Path(sys.argv[2]), lease_seconds=2.0)
    worker.start()
    print("running", flush=True)
    time.sleep(3600)
