"""A7: many publish one name at once; exactly one wins, on both databases, and nobody sees an error of the server."""

import os
from collections.abc import Callable

import pytest
import requests

from tests.harness import packages
from tests.harness.server import Server
from tests.security.attack import BOUNDARY, at_once, form_fields, multipart

CLIENTS, ROUNDS = 16, 20 if os.environ.get("ENTREPOT_CAMPAIGN") == "long" else 8
pytestmark = pytest.mark.campaign


def publication(
    site: tuple[Server, str], name: str, version: str, files: dict[str, bytes]
) -> Callable[[], requests.Response]:
    """A client with a connection of its own that publishes a wheel; ``files`` make its bytes differ."""
    server, token = site
    filename, body = packages.wheel(name, version, files=files)
    form = multipart(form_fields(filename, body, name=name, version=version), [("content", filename.encode(), body)])
    headers = {"Authorization": f"Bearer {token}", "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    url = f"{server.url}/pypi/default/staging/"
    return lambda: requests.post(url, data=form, headers=headers, timeout=60)


def served(site: tuple[Server, str], name: str) -> list[dict[str, object]]:
    server, token = site
    answer = requests.get(
        f"{server.index('staging')}{name}/",
        headers={"Authorization": f"Bearer {token}", "Accept": "application/vnd.pypi.simple.v1+json"},
        timeout=20,
    )
    return list(answer.json()["files"])


def test_one_name_with_different_bytes_has_one_winner(site: tuple[Server, str]) -> None:
    for turn in range(ROUNDS):
        name = f"racer-{turn}"
        answers = at_once(*(publication(site, name, "1.0", {"x": str(number).encode()}) for number in range(CLIENTS)))
        statuses = [answer.status_code for answer in answers]
        assert sorted(statuses) == [200] + [400] * (CLIENTS - 1), [(a.status_code, a.reason) for a in answers]
        assert {a.reason.startswith("File already exists") for a in answers if a.status_code == 400} == {True}
        # What is served is what the winner sent.
        winner = statuses.index(200)
        (file,) = served(site, name)
        body = packages.wheel(name, "1.0", files={"x": str(winner).encode()})[1]
        assert file["hashes"] == {"sha256": packages.sha256(body)}
    _assert_losers_left_nothing(site[0])


def _assert_losers_left_nothing(server: Server) -> None:
    assert server.fsck() == ""
    swept = server.command("sweep", "--data", str(server.data), "--grace-hours", "0", "--dry-run")
    assert swept.stdout.startswith("0 bodies"), swept.stdout + swept.stderr
    assert "Traceback" not in server.log_text()


def test_one_name_with_the_same_bytes_suits_everybody(site: tuple[Server, str]) -> None:
    for turn in range(ROUNDS // 4):
        name = f"twin-{turn}"
        answers = at_once(*(publication(site, name, "1.0", {"x": b"same"}) for _ in range(CLIENTS)))
        assert [answer.status_code for answer in answers] == [200] * CLIENTS, [answer.reason for answer in answers]
        assert len(served(site, name)) == 1


def test_first_publishes_into_a_new_package_all_count(site: tuple[Server, str]) -> None:
    for turn in range(ROUNDS // 4):
        name = f"fresh-{turn}"
        answers = at_once(*(publication(site, name, f"1.{number}", {}) for number in range(CLIENTS)))
        assert [answer.status_code for answer in answers] == [200] * CLIENTS, [answer.reason for answer in answers]
        assert len(served(site, name)) == CLIENTS


# --- states and copies -----------------------------------------------------------------------------------------------


def act(site: tuple[Server, str], name: str, what: str, **body: object) -> Callable[[], requests.Response]:
    """A client that does something to version 1.0 of a package in staging."""
    server, token = site
    url = f"{server.url}/api/v1/domains/default/repositories/staging/packages/pypi/{name}/versions/{what}"
    sent = {"versions": ["1.0"], **body}
    return lambda: requests.post(url, json=sent, headers={"Authorization": f"Bearer {token}"}, timeout=60)


def addition(site: tuple[Server, str], name: str, build: int) -> Callable[[], requests.Response]:
    """A client that adds a further file to version 1.0 of a package in staging."""
    server, token = site
    filename, body = packages.wheel(name, "1.0", files={"build": str(build).encode()})
    filename = filename.replace("-py3", f"-{build}-py3")
    form = multipart(form_fields(filename, body, name=name, version="1.0"), [("content", filename.encode(), body)])
    headers = {"Authorization": f"Bearer {token}", "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return lambda: requests.post(f"{server.url}/pypi/default/staging/", data=form, headers=headers, timeout=60)


def test_A7_publishing_and_disposing_of_one_version_come_one_after_the_other(site: tuple[Server, str]) -> None:
    for turn in range(4):
        name = f"disposed-{turn}"
        assert publication(site, name, "1.0", {})().status_code == 200
        copies = [act(site, name, "copy", destinationRepository="prod") for _ in range(4)]
        archives = [act(site, name, "update_status", targetStatus="Archived", expectedStatus="Published")] * 2
        answers = at_once(
            *(addition(site, name, build) for build in range(1, 7)), *copies, *archives, act(site, name, "dispose")
        )
        assert {answer.status_code for answer in answers} <= {200, 403}, [(a.status_code, a.text) for a in answers]
        # Whoever came after it was refused, whoever came before it is gone: no file belongs to the version any more.
        (entry,) = requests.get(
            f"{site[0].url}/api/v1/domains/default/repositories/staging/packages/pypi/{name}/versions",
            auth=("x", site[1]),
            timeout=20,
        ).json()["versions"]
        assert entry["status"] == "Disposed"
    assert site[0].fsck() == ""  # I3 among them: a version that was disposed of has no file
    assert "Traceback" not in site[0].log_text()


def test_A7_thirty_two_copies_at_once_make_one(site: tuple[Server, str]) -> None:
    assert publication(site, "copied", "1.0", {})().status_code == 200
    answers = at_once(*(act(site, "copied", "copy", destinationRepository="prod") for _ in range(32)))
    outcomes = {str(answer.json()["successfulVersions"]) for answer in answers}
    assert (len(outcomes), "Published" in outcomes.pop()) == (1, True), [answer.text for answer in answers]
    server, token = site
    url = f"{server.url}/api/v1/domains/default/repositories/prod/packages/pypi/copied/versions/1.0/assets"
    assert len(requests.get(url, auth=("x", token), timeout=20).json()["assets"]) == 1
    assert server.fsck() == ""
