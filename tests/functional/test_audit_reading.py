"""Reading the audit log: by the API and on its page, filtered, in pages, and by administrators alone."""

import hashlib
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from registry import audit, audit_chain
from tests.browser import reading
from tests.functional.api_world import PASSWORD, START, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Entries 1 to 6: three of ada's, an hour apart, and three of bob's in between."""
    made = World(tmp_path / "data")
    for number in range(6):
        with made.db.write() as session:
            at = START + timedelta(hours=number)
            actor, action = ("ada", "asset.publish") if number % 2 == 0 else ("bob", "version.yank")
            audit.record(session, at, actor, action, f"default/Dev_{number}/pypi/x", note=f"<b>{number}</b>")
    yield made
    made.close()


def listed(world: World, query: str = "", status: int = 200) -> list[int]:
    answer = world.call("GET", f"/audit{query}")
    assert answer.status_code == status, answer.text
    return [item["seq"] for item in answer.json.get("items", [])]


def test_entries_are_listed_newest_first_and_filtered(world: World) -> None:
    assert listed(world) == [6, 5, 4, 3, 2, 1]
    assert listed(world, "?actor=ada") == [5, 3, 1]
    assert listed(world, "?action=version.yank") == [6, 4, 2]
    assert listed(world, "?object=default/Dev_3") == [4]
    assert listed(world, "?object=default/dev_3") == []  # objects have upper and lower case
    assert listed(world, "?object=default/%25") == []  # and no wildcards
    assert listed(world, "?since=2026-01-01T14:00:00Z&until=2026-01-01T16:00:00Z") == [4, 3]
    assert listed(world, "?since=2026-01-01T15:00:00%2B01:00&actor=bob") == [6, 4]
    for bad in ("?since=yesterday", "?after=0", "?limit=0", "?nothing=1", "?until=0001-01-01T00:00:00%2B23:00"):
        assert listed(world, bad, 400) == []


def test_entries_come_in_pages(world: World) -> None:
    seen, after = [], ""
    while after is not None:
        page = world.call("GET", f"/audit?limit=4&actor=ada{after and f'&after={after}'}").json
        seen += [item["seq"] for item in page["items"]]
        after = page["next"]
    assert seen == [5, 3, 1]
    first = world.call("GET", "/audit?limit=4").json
    assert first["next"] == 3
    assert listed(world, f"?after={first['next']}") == [2, 1]


def test_an_entry_says_who_from_where_and_its_hash_can_be_made_from_it(world: World) -> None:
    world.call("POST", "/users", json={"name": "new", "actions": ["read"]})
    (item,) = world.call("GET", "/audit?limit=1").json["items"]
    assert (item["actor"], item["action"], item["object"]) == ("admin", "user.create", "user/new")
    assert (item["via"], item["address"]) == ("token", "127.0.0.1")
    assert re.fullmatch("[0-9a-f]{16}", item["requestId"])
    rest = {name: value for name, value in item.items() if name not in {"hash", "previousHash"}}
    made = hashlib.sha256(audit_chain.canonical(rest) + bytes.fromhex(item["previousHash"])).hexdigest()
    assert made == item["hash"]


def test_a_failed_sign_in_says_from_where(world: World) -> None:
    assert world.http.get("/api/v1/whoami", auth=("reader", "a wrong one")).status_code == 401
    (item,) = world.call("GET", "/audit?limit=1").json["items"]
    assert (item["action"], item["via"], item["address"]) == ("session.refuse", None, "127.0.0.1")
    assert item["requestId"]


def test_what_no_request_does_says_so(world: World) -> None:
    world.call("POST", "/users", json={"name": "new", "actions": ["read"]})  # and nothing of it is left in the thread
    with world.db.write() as session:
        audit.record(session, START, "system", "test.round", "x")
    (item,) = world.call("GET", "/audit?limit=1").json["items"]
    assert (item["via"], item["address"], item["requestId"]) == (None, None, None)


def browser(world: World, user: str):
    client = world.app.test_client()
    assert client.post("/sign-in", data={"user": user, "password": PASSWORD}).status_code == 303
    return client


def test_the_page_is_for_administrators(world: World) -> None:
    admin, reader = browser(world, "admin"), browser(world, "reader")
    page = admin.get("/audit")
    assert page.status_code == 200
    assert reading.dangers(reading.parse(page.text)) == []
    assert "&lt;b&gt;5&lt;/b&gt;" in page.text
    assert 'href="/administration"' in admin.get("/account").text
    assert 'href="/audit"' in admin.get("/access/users").text
    assert reader.get("/audit").status_code == 403
    assert "/administration" not in reader.get("/account").text
    assert world.app.test_client().get("/audit").status_code == 303


def test_the_page_filters_and_goes_back_in_time(world: World) -> None:
    def rows(query: str = "") -> list[int]:
        answer = admin.get(f"/audit{query}")
        assert answer.status_code == 200
        return [int(number) for number in re.findall(r'<th scope="row" class="number">(\d+)</th>', answer.text)]

    admin = browser(world, "admin")  # leaves entry 7
    assert rows() == [7, 6, 5, 4, 3, 2, 1]
    assert rows("?actor=ada") == [5, 3, 1]
    assert rows("?object=default/Dev_&before=4") == [3, 2, 1]
    assert rows("?since=2026-01-01&until=2026-01-01&action=version.yank") == [6, 4, 2]
    assert rows("?since=2026-01-02") == rows("?until=2025-12-31") == []
    assert "Nothing matches" in admin.get("/audit?actor=nobody").text
    # What is no day and no number is as if it were not there.
    assert rows("?since=soon&before=x&until=2026-99-99") == [7, 6, 5, 4, 3, 2, 1]
    assert rows("?before=999999999999999999999&until=9999-12-31") == [7, 6, 5, 4, 3, 2, 1]


def test_many_entries_have_pages(world: World) -> None:
    with world.db.write() as session:
        for number in range(60):
            audit.record(session, START, "ada", "test.many", str(number))
    admin = browser(world, "admin")
    text = admin.get("/audit?action=test.many").text
    (older,) = re.findall(r'href="(/audit\?before=[^"]+)"', text)
    assert text.count('class="number"') == 50
    assert admin.get(older.replace("&amp;", "&")).text.count('class="number"') == 10
