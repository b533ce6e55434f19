"""D1, D3: a build, its log and what it published are for those who may look into what it builds, by every door."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hooks.api import builds as api
from hooks.builds import report_reading
from hooks.builds.logs import LogStore
from hooks.builds.projects import create_or_update_project
from hooks.builds.records import start_build
from hooks.builds.source import PackageSource
from hooks.pages import builds as pages
from tests.functional.api_world import World

SAID = b"a word that only readers hear\n"
SOURCES = {
    "of a package": PackageSource("default", "dev", "pypi", "closed", "1.0", ()),
    "of a repository": PackageSource("default", "dev", "", "", "main", ()),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.close()


@pytest.fixture(scope="module", params=SOURCES)
def build_id(world: World, request: pytest.FixtureRequest) -> str:
    """A build with a log."""
    with world.db.write() as session:
        create_or_update_project(session, name="p", now=world.now)
        build = start_build(session, project="p", source=SOURCES[request.param], initiator="ann", now=world.now)
        LogStore(world.services.stores.server_keyring()).append_now(session, build.id, SAID)
        build.status, build.ended_at = "SUCCEEDED", world.now
    return build.id


API = ("", "/log", "/log?download=1", "/log/stream", "/log/search?q=word", "/artifacts", "/reports")
PAGES = ("", "/live", "/log", "/log/stream", "/log.txt")


def whole(answer: Any) -> Any:
    """An answer that is read to its end: of logs that are followed only so many are open at a time."""
    answer.get_data()
    answer.close()
    return answer


def by_api(world: World, who: str, build_id: str, rest: str) -> Any:
    return whole(world.call("GET", f"/builds/{build_id}{rest}", as_=who))


def by_page(world: World, who: str, build_id: str, rest: str) -> Any:
    client = world.app.test_client()
    with world.db.write() as session:
        from registry.accounts import find_account

        secret = world.services.accounts.open_session(session, find_account(session, who).id, world.now)
    client.set_cookie("entrepot_session", secret)
    return whole(client.get(f"/builds/{build_id}{rest}"))


DOORS = [(by_api, rest) for rest in API] + [(by_page, rest) for rest in PAGES]


@pytest.mark.parametrize(("door", "rest"), DOORS)
def test_D3_who_may_not_look_into_what_is_built_finds_no_build(
    world: World, build_id: str, door: Callable[..., Any], rest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = door(world, "reader", build_id, rest)
    assert shown.status_code == 200, shown.text
    refused = door(world, "stranger", build_id, rest)
    assert refused.status_code == 404
    assert SAID.decode().strip() not in refused.text
    # The refusal is that of a build which never was.
    nowhere = door(world, "stranger", "0" * 8 + build_id[8:], rest)
    assert nowhere.status_code == 404
    # The control: without the question everybody gets in.
    monkeypatch.setattr(api, "may_see_build", lambda *_: True)
    monkeypatch.setattr(pages, "may_see_build", lambda *_: True)
    monkeypatch.setattr(report_reading, "may_see_build", lambda *_: True)
    assert door(world, "stranger", build_id, rest).status_code == 200


def test_D3_a_list_of_builds_has_none_that_is_not_for_these_eyes(world: World, build_id: str) -> None:
    listed = world.call("GET", "/builds", as_="reader").json["items"]
    assert build_id in {each["id"] for each in listed}
    assert world.call("GET", "/builds", as_="stranger").json["items"] == []
