"""A real Chromium before a real server; whatever it complains about fails the test."""

import fcntl
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.browser.site import PASSWORD, Site, build, fill

AXE = Path(__file__).parents[2] / ".cache" / "axe"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = f"{Path(__file__).parent}/"
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.browser)


class Silent(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass


@dataclass
class Visit:
    """A site under an address, with what the browser complained about so far."""

    site: Site
    url: str
    found: dict[str, int]
    complaints: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> Page:
        page.on(
            "console",
            lambda said: (
                self.complaints.append(f"{page.url}: {said.text}") if said.type in {"error", "warning"} else None
            ),
        )
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on(
            "dialog", lambda dialog: (self.complaints.append(f"{page.url}: dialog {dialog.message}"), dialog.dismiss())
        )
        page.on(
            "request",
            lambda asked: (
                self.complaints.append(f"{page.url}: asks {asked.url}") if self._is_foreign(asked.url) else None
            ),
        )
        return page

    def _is_foreign(self, url: str) -> bool:
        return not re.match(rf"(http://(127\.0\.0\.1|entrepot\.test):{self.url.rpartition(':')[2]}/|data:|about:)", url)

    def sign_in(self, page: Page, name: str = "ada", url: str = "") -> Page:
        page.goto(f"{url or self.url}/sign-in")
        page.get_by_label("User name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/")
        return page

    def paths(self) -> list[str]:
        builds = [self.site.build_of(self.found[key]) for key in ("failed", "running")]
        reports = [self.site.report_of(self.found["failed"], f"tests-{group}") for group in ("unit", "cover")]
        return [
            "/",
            "/search?q=acme",
            "/repositories/default/dev",
            "/repositories/default/staging",
            "/packages/default/dev/pypi/acme-billing",
            "/packages/default/dev/pypi/acme-billing/-/2.4.0",
            "/versions/default/dev/pypi/acme-billing?version=2.4.0&to=Archived",
            "/account",
            "/audit",
            "/administration",
            "/access/users",
            "/access/users/mel",
            "/access/groups",
            "/access/groups/ops",
            "/access",
            "/access/policy/default/dev?who=user/mel&what=codeartifact:ReadFromRepository",
            "/domains/default/new-repository",
            "/repositories/default/dev/settings",
            "/quotas",
            "/quotas/default",
            "/keys",
            "/runners",
            "/destinations",
            "/destinations?name=partners",
            "/agents",
            "/account/tokens",
            "/account/password",
            "/account/second-factor",
            "/design",
            "/deployments",
            "/environments",
            "/board",
            "/figures",
            "/packages/default/dev/pypi/acme-billing/-/2.4.0/life",
            "/agents/web-1",
            "/applications/shop/groups/web/provenance",
            "/applications/shop",
            "/applications/shop/groups/web",
            "/applications/shop/deploy",
            *(f"/deployments/{deployment}" for deployment in self.site.deployments()),
            f"/deployments/{self.site.deployments()[1]}/targets/{self.site.target_of(self.site.deployments()[1])}",
            "/pipelines",
            "/pipelines/release",
            "/approvals",
            "/webhooks",
            "/webhooks/1",
            "/webhooks/1/deliveries/msg_1",
            "/secrets",
            "/secrets/1",
            "/account/notifications",
            *(f"/executions/{number}" for number in self.found.values()),
            *(f"/builds/{number}" for number in builds),
            f"/builds/{builds[0]}?q=test",
            f"/build-batches/{self.site.batch()}",
            "/report-groups",
            "/report-groups/tests-unit",
            "/report-groups/tests-cover",
            f"/report-groups/tests-unit/test-cases/{self.site.failed_case()}",
            *(f"/reports/{number}" for number in reports),
        ]


def serve(folder: Path) -> Iterator[Visit]:
    site = build(folder)
    found = fill(site)
    server = make_server("127.0.0.1", 0, site.app, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    visit = Visit(site, f"http://127.0.0.1:{server.server_port}", found)
    yield visit
    server.shutdown()
    thread.join()
    server.server_close()
    site.world.close()
    assert visit.complaints == []


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[Visit]:
    """A site that the test may change."""
    yield from serve(tmp_path)


@pytest.fixture(scope="module")
def calm_visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """A site that tests only look at."""
    yield from serve(tmp_path_factory.mktemp("calm"))


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a window of a fresh browser profile; the keywords are those of Playwright's ``new_context``."""
    contexts: list[BrowserContext] = []

    def opened(visit: Visit, **options: object) -> Page:
        contexts.append(chromium.new_context(**options))
        contexts[-1].set_default_timeout(60_000)
        return visit.watch(contexts[-1].new_page())

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The accessibility checker's source, kept in the folder for caches; never part of the product."""
    script = AXE / "node_modules" / "axe-core" / "axe.min.js"
    AXE.mkdir(parents=True, exist_ok=True)
    with (AXE / "lock").open("w") as lock:  # the tests run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not script.exists():
            fetch_axe()
    return script.read_text()


def fetch_axe() -> None:
    npm = shutil.which("npm")
    assert npm is not None, "there is no npm to fetch axe-core with: tools/system-packages test installs it"
    command = [npm, "install", "--prefix", str(AXE), "--no-audit", "--no-fund", "axe-core@4"]
    if subprocess.run(command, capture_output=True, timeout=120, check=False).returncode != 0:
        pytest.skip("axe-core could not be fetched")
