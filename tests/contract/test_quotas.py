"""What may be published is bounded, also when many publish at once; what is refused leaves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.harness.server import Server
from tests.job_bench import BACKENDS, fresh_url

SIZE = 10_000


@pytest.fixture(scope="module", params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("quotas")
    with fresh_url(request.param, folder) as url:
        environment = {"ENTREPOT_DATABASE_URL": url} if request.param == "postgresql" else {}
        server = Server(folder / "data", with_worker=False, environment=environment).start()
        try:
            yield server
        finally:
            server.kill()


class Admin:
    """Somebody who may do all."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {server.token('admin')}"

    def put(self, package: str, version: str, *, repository: str = "dev", size: int = SIZE) -> requests.Response:
        body = f"{package} {version}".encode().ljust(size, b".")
        url = f"{self._server.url}/generic/default/{repository}/{package}/{version}/file.bin"
        return self._session.put(url, data=body, timeout=60)

    def quota(self, path: str, size: int | None) -> dict[str, int | None]:
        answer = self._session.put(
            f"{self._server.url}/api/v1/domains/default/{path}", json={"bytes": size}, timeout=60
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str) -> requests.Response:
        return self._session.get(f"{self._server.url}{path}", timeout=60)

    def promote(self, package: str, version: str) -> requests.Response:
        url = (
            f"{self._server.url}/api/v1/domains/default/repositories/dev/packages/generic/{package}/versions/{version}"
        )
        return self._session.post(f"{url}/promote", json={"target": "staging"}, timeout=60)


@pytest.fixture
def admin(server: Server) -> Admin:
    admin = Admin(server)
    for path in ("quota", "repositories/dev/quota", "repositories/staging/quota"):
        admin.quota(path, None)
    return admin


def test_a_repository_takes_what_its_quota_has_room_for(admin: Admin) -> None:
    used = admin.quota("repositories/dev/quota", None)["usedBytes"]
    assert used is not None
    admin.quota("repositories/dev/quota", used + 2 * SIZE)
    answers = [admin.put("bounded", f"{number}") for number in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 413]
    assert "the repository default/dev may hold" in answers[2].text
    assert admin.get("/generic/default/dev/bounded/2/file.bin").status_code == 404
    assert admin.get("/api/v1/domains/default/repositories/dev/packages/generic/bounded/versions/2").status_code == 404
    assert admin.get("/api/v1/domains/default/repositories/dev/quota").json()["usedBytes"] == used + 2 * SIZE
    admin.quota("repositories/dev/quota", None)
    assert admin.put("bounded", "2").status_code == 201


def test_what_is_there_already_may_come_again_and_stays_under_a_smaller_quota(admin: Admin) -> None:
    assert admin.put("kept", "1").status_code == 201
    admin.quota("repositories/dev/quota", 0)
    assert admin.put("kept", "1").status_code in {200, 201}
    assert admin.get("/generic/default/dev/kept/1/file.bin").status_code == 200
    assert admin.put("kept", "2").status_code == 413


def test_a_domain_counts_what_several_repositories_share_once(admin: Admin) -> None:
    assert admin.put("shared", "1").status_code == 201
    used = admin.quota("quota", None)["usedBytes"]
    assert used is not None
    admin.quota("quota", used)
    assert admin.promote("shared", "1").status_code == 200  # the same body
    refused = admin.put("shared", "2")
    assert refused.status_code == 413
    assert "the domain default may hold" in refused.text


def test_promotion_counts_in_the_target(admin: Admin) -> None:
    assert admin.put("promoted", "1").status_code == 201
    used = admin.quota("repositories/staging/quota", None)["usedBytes"]
    assert used is not None
    admin.quota("repositories/staging/quota", used + SIZE - 1)
    assert admin.promote("promoted", "1").status_code == 413
    assert admin.get("/generic/default/staging/promoted/1/file.bin").status_code == 404


def test_many_at_once_do_not_share_the_last_room(admin: Admin) -> None:
    used = admin.quota("repositories/dev/quota", None)["usedBytes"]
    assert used is not None
    admin.quota("repositories/dev/quota", used + 3 * SIZE)
    with ThreadPoolExecutor(8) as pool:
        found = Counter(pool.map(lambda number: admin.put(f"crowd{number}", "1").status_code, range(8)))
    assert found == {201: 3, 413: 5}
