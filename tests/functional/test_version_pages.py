"""Versions changed on pages: what will be seen of it comes first, and what was looked at is what is changed."""

from pathlib import Path

import pytest
from werkzeug.test import Client, TestResponse

from tests.browser import reading
from tests.functional.api_world import PASSWORD, World

PACKAGE = "/packages/default/dev/pypi/acme"
CHANGE = "/versions/default/dev/pypi/acme"


@pytest.fixture
def world(tmp_path: Path):
    made = World(tmp_path)
    for version in ("1.0", "1.1"):
        made.publish("dev", "acme", version, canonical=version)
    yield made
    made.close()


def signed_in(world: World, name: str) -> Client:
    client = world.app.test_client()
    answer = client.post("/sign-in", data={"user": name, "password": PASSWORD})
    assert answer.status_code == 303, answer.get_data(as_text=True)
    return client


def fields(page: TestResponse, action: str) -> list[tuple[str, str]]:
    """What the form that posts to ``action`` would send."""
    (form,) = [
        form for form in reading.parse(page.get_data(as_text=True)).iter("form") if form.attrib.get("action") == action
    ]
    return [(field.attrib["name"], field.attrib.get("value", "")) for field in form.iter("input")]


def send(client: Client, given: list[tuple[str, str]]) -> TestResponse:
    data: dict[str, list[str]] = {}
    for name, value in given:
        data.setdefault(name, []).append(value)
    return client.post(CHANGE, data=data)


def statuses(world: World, repository: str = "dev") -> dict[str, str]:
    answer = world.call("GET", f"/domains/default/repositories/{repository}/packages/pypi/acme/versions")
    return {entry["version"]: entry["status"] for entry in answer.json["versions"]} if answer.status_code == 200 else {}


def test_versions_are_archived_after_a_look_at_what_that_means(world: World) -> None:
    admin = signed_in(world, "admin")
    page = admin.get(f"{CHANGE}?version=1.0&version=1.1&to=Archived")
    assert "Nobody gets their files" in page.get_data(as_text=True)
    assert statuses(world) == {"1.0": "Published", "1.1": "Published"}  # looking changes nothing
    done = send(admin, fields(page, CHANGE))
    assert (done.status_code, done.location) == (303, f"{PACKAGE}#versions")
    assert statuses(world) == {"1.0": "Archived", "1.1": "Archived"}
    assert "archived" in admin.get(PACKAGE).get_data(as_text=True)


def test_what_changed_since_the_look_is_left_as_it_is_and_said(world: World) -> None:
    admin = signed_in(world, "admin")
    looked = fields(admin.get(f"{CHANGE}?version=1.0&version=1.1&to=Disposed"), CHANGE)
    world.publish("dev", "acme", "1.0", canonical="1.0", suffix=".tar.gz")
    page = send(admin, looked)
    assert page.status_code == 200
    assert "the version is at revision" in page.get_data(as_text=True)
    assert statuses(world) == {"1.0": "Published", "1.1": "Disposed"}
    send(admin, fields(page, CHANGE))  # once more, of what is there now
    assert statuses(world) == {"1.0": "Disposed", "1.1": "Disposed"}


def test_versions_are_copied_by_those_who_may_promote(world: World) -> None:
    promoter = signed_in(world, "promoter")
    assert "Copy to staging" in promoter.get(PACKAGE).get_data(as_text=True)
    assert "Archive" not in promoter.get(PACKAGE).get_data(as_text=True)
    send(promoter, fields(promoter.get(f"{CHANGE}?version=1.1&to=copy:staging"), CHANGE))
    assert statuses(world, "staging") == {"1.1": "Published"}
    for to in ("Archived", "copy:prod"):
        assert promoter.get(f"{CHANGE}?version=1.1&to={to}").status_code == 403


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("to=Archived", 400),
        ("version=1.0", 400),
        ("version=1.0&to=Gone", 400),
        ("version=7.0&to=Archived", 404),
        ("version=1.0&to=copy:absent", 404),
    ],
)
def test_questions_that_make_no_sense(world: World, query: str, status: int) -> None:
    assert signed_in(world, "admin").get(f"{CHANGE}?{query}").status_code == status


def test_readers_are_offered_nothing(world: World) -> None:
    reader = signed_in(world, "reader")
    assert 'name="to"' not in reader.get(PACKAGE).get_data(as_text=True)
    assert reader.get(f"{CHANGE}?version=1.0&to=Archived").status_code == 403
