"""B7, D16: text that one of the databases cannot hold, or that means something in a query, is refused or taken literally."""

import re
from collections.abc import Iterator

import pytest
import requests

from tests.harness import packages
from tests.harness.server import Server
from tests.security.attack import BOUNDARY, form_fields, multipart

QUERIES = (
    "/search?q={}", "/repositories/default/staging?q={}", "/repositories/default/staging?format={}", "/sign-in?next={}",
    "/packages/default/staging/pypi/text?all={}", "/pipelines/release?before={}",
    "/api/v1/users?after={}", "/api/v1/tokens?user={}", "/api/v1/builds?after={}", "/api/v1/repositories?after={}",
    "/api/v1/domains/default/repositories/staging/packages?search={}",
    "/api/v1/domains/default/repositories/staging/packages?after=pypi%2F{}", "/pypi/default/staging/simple/text/?format={}",
)  # fmt: skip
ODD = (
    "%00",
    "a%00b",
    "%ff",
    "%ed%a0%80",
    "%27",
    "%22",
    "%25",
    "_",
    "%5c",
    "%27%20OR%201=1%20--",
    "%00%27",
    "%f0%9f%92%a9",
    "%e2%80%ae",
)


@pytest.fixture
def browser(site: tuple[Server, str]) -> Iterator[requests.Session]:
    """Signed in as administrator; its token is sent along for the interface."""
    server, token = site
    link = server.command("user", "login-link", "admin", "--data", str(server.data)).stdout.strip()
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"
        session.get(f"{server.url}/setup?{link.partition('?')[2]}", timeout=20)
        session.post(f"{server.url}/setup", timeout=20, allow_redirects=False)
        yield session


def test_odd_text_in_queries_is_no_error_of_the_server(site: tuple[Server, str], browser: requests.Session) -> None:
    server, _ = site
    statuses = {}
    for query in QUERIES:
        for text in ODD:
            statuses[query, text] = browser.get(
                server.url + query.format(text), timeout=20, allow_redirects=False
            ).status_code
    assert {status for status in statuses.values() if status >= 500} == set(), statuses
    assert {statuses[query, "%00"] for query in QUERIES[:3]} == {400}
    assert statuses["/search?q={}", "%27"] == 200  # the control
    assert "Traceback" not in server.log_text()


def test_odd_text_in_forms_is_no_error_of_the_server(site: tuple[Server, str], browser: requests.Session) -> None:
    server, _ = site
    page = browser.get(f"{server.url}/account/tokens", timeout=20).text
    (csrf,) = set(re.findall(r'name="csrf_token" value="([^"]+)"', page))
    for text, status in (("a\0b", 400), ("a'; DROP TABLE token; --", 200)):
        forms = {
            "/account/tokens": {"name": text, "actions": "read", "life_days": "30"},
            "/sign-in": {"user": text, "password": "x" * 12},
        }
        answers = {
            path: browser.post(server.url + path, data={"csrf_token": csrf, **form}, timeout=20).status_code
            for path, form in forms.items()
        }
        assert answers == {"/account/tokens": status, "/sign-in": 400 if status == 400 else 403}
    assert "DROP TABLE" in browser.get(f"{server.url}/account/tokens", timeout=20).text
    assert "Traceback" not in server.log_text()


def test_a_readme_with_a_nul_is_taken_or_refused_alike(site: tuple[Server, str]) -> None:
    server, token = site
    filename, body = packages.wheel("text", "1.0")
    form = multipart(
        [*form_fields(filename, body, name="text"), ("description", "a\0b \U0001f4a9"), ("summary", "c\0d")],
        [("content", filename.encode(), body)],
    )
    headers = {"Authorization": f"Bearer {token}", "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    answer = requests.post(f"{server.url}/pypi/default/staging/", data=form, headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    assert (
        requests.get(f"{server.url}/pypi/default/staging/simple/text/", headers=headers, timeout=20).status_code == 200
    )
