"""F5, F7, B7, D15: whatever is sent to the API, no answer is a failure of the server, or one that is not documented.

schemathesis makes the requests from the interface document: bounds and beyond them, wrong types, odd texts everywhere.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.harness.server import Server

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# Made-up requests are thousands in a minute, and small numbers among them are tokens' ids: the one in use is not.
ENVIRONMENT = {
    "ENTREPOT_LIMITS_MANAGEMENT_PER_MINUTE": "0",
    "ENTREPOT_LIMITS_TOKENS_PER_MINUTE": "0",
    "ENTREPOT_LIMITS_SEARCHES_PER_MINUTE": "0",
}
TOKENS_BEFORE = 12
LONG = os.environ.get("ENTREPOT_CAMPAIGN") == "long"
LEAST_REQUESTS = 3000 if LONG else 200


def failures_of(said: str) -> str:
    """What schemathesis says of failures, and its summary: its lists of warnings are longer than both."""
    _, _, failures = said.partition("FAILURES")
    return failures.partition("WARNINGS")[0][:8000] + said[-1500:]


def test_no_request_brings_an_answer_that_is_not_documented(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", with_worker=False, environment=ENVIRONMENT).start()
    try:
        token = [server.token("admin") for _ in range(TOKENS_BEFORE)][-1]
        command = [
            str(Path(sys.executable).parent / "schemathesis"),
            "run",
            f"{server.url}/api/v1/openapi.json",
            *("--header", f"Authorization: Bearer {token}"),
            *("--checks", CHECKS),
            *("--phases", "coverage,fuzzing" if LONG else "fuzzing"),
            *("--max-examples", "20" if LONG else "2"),
            *("--request-timeout", "60"),
            "--generation-deterministic",
            *("--exclude-operation-id", "revokeTokens"),  # it ends all of one's tokens, also that of who asks
            "--continue-on-failure",
            "--no-color",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path, check=False)
        made = re.search(r"(\d+) generated", done.stdout)
        assert done.returncode == 0, failures_of(done.stdout) + done.stderr[-2000:]
        assert made is not None
        assert int(made[1]) > LEAST_REQUESTS
        assert "Traceback" not in server.log_text()
    finally:
        server.kill()
