"""F5, F6: a caller that asks too often is told to wait, by all web processes, and nobody else is."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import requests

from tests.harness.server import Server

LIMIT = 40
WEB_PROCESSES = 4
ENVIRONMENT = {
    "ENTREPOT_LIMITS_READS_PER_MINUTE": str(LIMIT),
    "ENTREPOT_LIMITS_SEARCHES_PER_MINUTE": "3",
    "ENTREPOT_LIMITS_TOKENS_PER_MINUTE": "2",
}


def test_F6_four_web_processes_let_no_more_through_than_one(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", with_worker=False, web_processes=WEB_PROCESSES, environment=ENVIRONMENT).start()
    try:
        token = server.token("admin")
        answers: list[requests.Response] = []
        began = int(time.time()) // 60
        for _ in range(2 * LIMIT + 20):  # a new connection each, so that all processes are asked
            answers.append(requests.get(f"{server.url}/pypi/default/dev/simple/", auth=("x", token), timeout=30))
        minutes = int(time.time()) // 60 - began + 1  # one may end between two of them: then there are two allowances
        found = Counter(answer.status_code for answer in answers)
        assert set(found) == {200, 429}
        assert found[200] <= minutes * LIMIT
        # A process takes two at a time, and the system need not give it another connection for the second.
        assert found[200] >= LIMIT - WEB_PROCESSES
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert "requests of the class 'read' in a minute" in refused.reason  # what pip and twine print
        other = server.token("admin", "read")
        assert requests.get(f"{server.url}/pypi/default/dev/simple/", auth=("x", other), timeout=30).status_code in {
            200,
            429,
        }
    finally:
        server.kill()


def test_F5_searches_and_new_tokens_have_limits_of_their_own(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", with_worker=False, web_processes=1, environment=ENVIRONMENT).start()
    try:
        bearer = {"Authorization": f"Bearer {server.token('admin')}"}
        packages = f"{server.url}/api/v1/domains/default/repositories/dev/packages"
        searches = Counter(
            requests.get(packages, params={"search": "a"}, headers=bearer, timeout=30).status_code for _ in range(8)
        )
        assert set(searches) == {200, 429}
        assert requests.get(packages, headers=bearer, timeout=30).status_code == 200  # a list is no search
        made = [
            requests.post(
                f"{server.url}/api/v1/tokens",
                json={"name": "t", "actions": ["read"], "ttlSeconds": 3600},
                headers=bearer,
                timeout=30,
            )
            for _ in range(6)
        ]
        assert {answer.status_code for answer in made} == {201, 429}, made[0].text
        refused = next(answer for answer in made if answer.status_code == 429)
        assert refused.json()["code"] == "rate_limited"
        assert "Retry-After" in refused.headers
    finally:
        server.kill()
