"""A build that prints ten gigabytes: it ends, its log stays below the limit, and the server's memory with it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from hooks.builds.logs import MARKER, MAX_LOG_BYTES
from tests.build_bench import MISSING_SANDBOX
from tests.build_crowd import Builder, building_server
from tests.harness import processes

LOG_BYTES = int(float(os.environ.get("ENTREPOT_LOG_GIB", "10")) * 1024**3)
MIB = 1024**2
MOST_GROWTH_BYTES = 128 * MIB
SPEC = {
    "version": "0.2",
    "phases": {"build": {"commands": ["yes 'a line of a flood, one of very many' | head -c $BYTES"]}},
}


@pytest.mark.long
@pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
def test_a_log_of_ten_gigabytes_ends_at_its_limit(tmp_path: Path) -> None:
    with building_server(tmp_path, slots=2) as server:
        builder = Builder(server, server.token("admin"))
        builder.put_project("flood", json.dumps(SPEC))
        builder.ended([builder.start("flood", {"BYTES": "1000"})])  # what is loaded once is no growth by the flood
        assert server.process is not None
        started = time.monotonic()
        with processes.MemoryWatch(processes.descendants(server.process.pid)) as watch:
            (build,) = builder.ended([builder.start("flood", {"BYTES": str(LOG_BYTES)})], seconds=1800)
        seconds = time.monotonic() - started
        text = builder.log(build["id"])
        size = sum(path.stat().st_size for path in server.data.rglob("*") if path.is_file())
    grown = max(watch.growth_bytes.values())
    print(
        f"{LOG_BYTES / 1024**3:.1f} GiB of log in {seconds:.0f} s; kept {len(text) / MIB:.1f} MiB, data directory "
        f"{size / MIB:.0f} MiB, a process grew by {grown / MIB:.0f} MiB at the most"
    )
    assert build["status"] == "SUCCEEDED"
    assert len(text.encode()) == MAX_LOG_BYTES + len(MARKER)
    assert text.endswith("the rest is not kept\n")
    assert size < 3 * MAX_LOG_BYTES
    assert grown < MOST_GROWTH_BYTES
