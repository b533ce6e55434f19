"""Fixtures everybody uses: a real server on a fresh data directory, and a real browser."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from argon2 import PasswordHasher

from registry import accounts
from tests.harness.podman import MISSING_ENGINE, Podman, podman_service
from tests.harness.server import Server
from tests.harness.statements import share_statements

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # A name that browsers do not take for this machine, so that its pages are no secure context.
    "--host-resolver-rules=MAP entrepot.test 127.0.0.1",
)

# Files are handed out one by one to several processes. These take longest and come first, the longest of all in front,
# so that no process is left alone with one of them at the end.
LONGEST_FIRST = (
    "security/test_confusion.py",
    "clients/test_maven.py",
    "faults/test_server_life.py",
    "clients/test_tour.py",
    "functional/test_api.py",
    "functional/test_build_jobs.py",
    "clients/test_npm.py",
    "functional/test_pages.py",
    "security/test_sign_in.py",
    "functional/test_first_start.py",
    "browser/test_walk.py",
    "functional/test_pipeline_engine.py",
    "functional/test_pages_entrance.py",
    "security/test_interface_document.py",
    "functional/test_agents.py",
    "functional/test_visibility_server.py",
    "functional/test_hooks_api.py",
    "security/test_audit_log.py",
    "security/test_key_rotation.py",
    "faults/test_database_away.py",
    "faults/test_kill_campaign.py",
    "functional/test_postgres_server.py",
    "faults/test_job_storm.py",
    "clients/test_upstream.py",
    "security/test_races.py",
    "security/test_package_rights.py",
    "functional/test_cold_files.py",
    "clients/test_python_installers.py",
    "browser/test_live.py",
    "contract/test_executors.py",
    "clients/test_publish_and_install.py",
    "functional/test_deployment_showcase.py",
    "faults/test_forced_rollbacks.py",
    "functional/test_build_run.py",
    "faults/test_upstream_matrix.py",
    "contract/test_job_worker.py",
    "contract/test_job_queue.py",
    "faults/test_disk_full.py",
    "security/test_hostile_uploads.py",
    "functional/test_responses.py",
    "functional/test_health.py",
    "clients/test_version_states.py",
    "security/test_oidc.py",
    "contract/test_webhook_delivery.py",
)
TESTS = Path(__file__).parent

gc.disable()  # Next to nothing of what collecting makes is garbage, and every process collects all tests.

# In these processes a password is hashed in no time; servers that are started hash them as they do for people.
STRONG = accounts._hasher
accounts._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
share_statements()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first; within a file, and among the others, the order stays. Leave out what is ``long``."""
    if os.environ.get("ENTREPOT_CAMPAIGN") != "long":
        left_out = {item for item in items if item.get_closest_marker("long")}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    places = {str(TESTS / name): place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(str(item.path), len(places)))


def pytest_collection_finish() -> None:
    """Leave the tests themselves, and all they import, out of every later look for garbage.

    They are millions of objects that stay. Making an application took twice as long for the looks at them (measured).
    Until here there was no look at all: see above.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_runtest_setup() -> None:
    """Begin each test with a machine's usual umask: commands that keep files to themselves, run in here, leave theirs."""
    os.umask(0o022)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running server with its worker."""
    running = Server(tmp_path / "data").start()
    yield running
    running.kill()


@pytest.fixture
def registry_server(tmp_path: Path) -> Iterator[Server]:
    """A running server without a worker: the registry alone."""
    running = Server(tmp_path / "data", with_worker=False).start()
    yield running
    running.kill()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A real Chromium. One for the whole process: Playwright refuses a second event loop beside a running one."""
    from playwright.sync_api import expect, sync_playwright

    if not Path(CHROMIUM).exists():
        pytest.skip("there is no Chromium on this machine")
    expect.set_options(timeout=30_000)  # a busy machine is slow, and no fault of the pages
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """A container engine of our own, started when the first test wants it."""
    if MISSING_ENGINE:
        pytest.skip(MISSING_ENGINE)
    with podman_service() as service:
        yield service
