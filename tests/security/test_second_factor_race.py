"""D11: two first clicks on "Set it up" at once, on PostgreSQL, where both may look before either writes."""

import html
import itertools
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyotp
import pytest

from config import wiring
from config.settings import load
from registry.db import Base
from registry.names import DomainName
from registry.repos import shelf, topology
from tests import postgres
from tests.functional.api_world import START, World, _account, template
from tests.harness.identity import Browser

pytestmark = pytest.mark.skipif(postgres.find_binaries() is None, reason="there is no PostgreSQL on this machine")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with postgres.shared().fresh_database() as url:
        environment = {"ENTREPOT_DATABASE_URL": url}
        empty = wiring.database(load(tmp_path, environment))
        Base.metadata.create_all(empty.engine)
        empty.close()
        shutil.copytree(template(), tmp_path, dirs_exist_ok=True)
        services = wiring.services(load(tmp_path, environment), lambda: START)
        with services.db.write() as session:
            domain = topology.create_domain(session, DomainName("default"), START)
            services.stores.new_key(session, domain.id, START)
        services.db.close()
        made = World(tmp_path, environment)
        _account(made.services, "ada", ("admin",), None)
        yield made
        made.close()


def clicks(world: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Two browsers that have both seen that there is nothing yet; what each is shown."""
    browsers = [Browser(world), Browser(world)]
    for browser in browsers:
        assert browser.sign_in("ada").status_code == 303
    both, asked, real = threading.Barrier(2), itertools.count(), pyotp.random_base32

    def together() -> str:
        if next(asked) < 2:  # who looks again goes on alone
            both.wait(20)
        return real()

    def click(browser: Browser) -> tuple[int, str]:
        try:
            answer = browser.post("/account/second-factor")
        except Exception:
            return 500, ""
        seed = re.search(r'data-copy="([A-Z2-7 ]{16,})"', answer.text)
        return answer.status_code, html.unescape(seed[1]) if seed else ""

    monkeypatch.setattr(pyotp, "random_base32", together)
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(click, browsers))


def test_D11_two_first_clicks_show_one_seed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, seed), (second, other) = clicks(world, monkeypatch)
    assert (first, second) == (200, 200)
    assert seed == other != ""


def test_D11_without_looking_again_one_of_them_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    monkeypatch.setattr(shelf, "settle", lambda db, unit: db.retry(unit))
    assert sorted(status for status, _ in clicks(world, monkeypatch))[1] >= 500
