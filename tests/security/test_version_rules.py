"""A7, A8, A12 and G3 of versions: what is used up, frozen, taken out or under quarantine stays so, whoever asks.

In this process, so that each rule can be switched off: then the same attack has to succeed.
"""

import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from registry.models import Blob
from registry.repos import care, shelf, states, withdraw
from registry.repos.withheld import Withheld
from tests.functional.api_world import World
from tests.harness import npm_packages, packages
from tests.harness.maven import jar, pom
from tests.security.attack import form_fields

OLD = timedelta(days=15)
DEV = "/domains/default/repositories/dev"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def ask(world: World, method: str, path: str, as_: str = "publisher", **options: object) -> TestResponse:
    headers = {"Authorization": f"Bearer {world.tokens[as_]}"}
    return world.http.open(path, method=method, headers=headers, **options)


def upload(
    world: World,
    name: str,
    version: str,
    *,
    repository: str = "dev",
    build: str = "",
    as_: str = "publisher",
    **files: bytes,
) -> TestResponse:
    filename, body = packages.wheel(name, version, files={f"{name}/{path}": text for path, text in files.items()})
    filename = filename.replace("-py3", f"-{build}-py3") if build else filename
    form: dict[str, object] = dict(form_fields(filename, body, name=name, version=version))
    return ask(
        world, "POST", f"/pypi/default/{repository}/", as_, data={**form, "content": (io.BytesIO(body), filename)}
    )


def fetch(world: World, name: str, version: str, repository: str = "dev") -> TestResponse:
    return ask(world, "GET", f"/pypi/default/{repository}/files/{name}/{name}-{version}-py3-none-any.whl", "admin")


def act(world: World, what: str, name: str, version: str = "1.0", repository: str = "dev", **more: str) -> None:
    path = f"/domains/default/repositories/{repository}/packages/pypi/{name}/versions/{what}"
    answer = world.call("POST", path, json={"versions": [version], **more})
    assert answer.json["failedVersions"] == {}, answer.json


# --- A7 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["delete", "dispose"])
def test_A7_a_name_that_was_used_never_comes_back_with_other_bytes(world: World, what: str) -> None:
    assert upload(world, "used", "1.0").status_code == 200
    act(world, what, "used")
    assert upload(world, "used", "1.0", other=b"x").status_code == 400
    assert fetch(world, "used", "1.0").status_code == 404


def test_A7_nor_in_a_copy(world: World) -> None:
    upload(world, "used", "1.0")
    act(world, "copy", "used", destinationRepository="staging")
    act(world, "delete", "used", repository="staging")
    assert upload(world, "used", "1.0", repository="open", other=b"x").status_code == 200
    body = {"versions": ["1.0"], "destinationRepository": "staging", "allowOverwrite": True}
    there = "/domains/default/repositories/open/packages/pypi/used/versions/copy"
    assert world.call("POST", there, json=body).json["failedVersions"]["1.0"]["errorCode"] == "ALREADY_EXISTS"
    assert fetch(world, "used", "1.0", "staging").status_code == 404


def test_A7_without_the_tombstone_it_would(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(world, "used", "1.0")
    act(world, "delete", "used")
    monkeypatch.setattr(shelf, "retired_digest", lambda *_: None)
    assert upload(world, "used", "1.0", other=b"x").status_code == 200


# --- A8 --------------------------------------------------------------------------------------------------------------


def deploy(world: World, filename: str, body: bytes) -> TestResponse:
    return ask(world, "PUT", f"/maven/default/dev/com/acme/lib/1.0/{filename}", data=body)


def publish(world: World, version: str) -> TestResponse:
    return ask(world, "PUT", "/npm/default/dev/lib", json=npm_packages.publish_document("lib", version))


def move(world: World, version: str, as_: str = "publisher", tag: str = "latest") -> TestResponse:
    return ask(world, "PUT", f"/npm/default/dev/-/package/lib/dist-tags/{tag}", as_, json=version)


@pytest.fixture
def old(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Releases of three formats, from fifteen days ago; outside there is nobody."""
    world.account("releaser", "read", "publish", "promote")
    for node in ("pypi", "npm", "maven"):
        world.call("DELETE", f"/domains/default/repositories/public/connections/{node}/public")
    assert upload(world, "lib", "1.0").status_code == 200
    assert deploy(world, "lib-1.0.pom", pom("lib", "1.0").encode()).status_code == 201
    assert publish(world, "1.0.0").status_code == 201
    world.now += OLD
    return world


def additions(world: World) -> list[int]:
    """What a stolen token that may publish would do to an old release."""
    return [
        upload(world, "lib", "1.0", build="1").status_code,
        deploy(world, "lib-1.0-extra.jar", jar(a="b")).status_code,
    ]


def test_A8_nothing_is_added_to_an_old_release(old: World) -> None:
    assert additions(old) == [403, 403]
    refused = upload(old, "lib", "1.0", build="1")
    assert "takes no further ones" in refused.get_data(as_text=True)
    assert "takes no further ones" in refused.status  # where pip's family looks
    assert upload(old, "lib", "1.0").status_code == 200  # what is there already may be sent again
    assert upload(old, "lib", "1.1").status_code == 200


def test_A8_a_tag_goes_to_an_old_release_by_those_only_who_may_promote(old: World) -> None:
    assert publish(old, "2.0.0").status_code == 201
    assert move(old, "2.0.0", tag="next").status_code == 201
    for tag in ("latest", "stable"):
        refused = move(old, "1.0.0", tag=tag)
        assert (refused.status_code, "right to promote" in refused.json["error"]) == (403, True)
    document = ask(old, "GET", "/npm/default/dev/lib?write=true").json
    document["dist-tags"]["latest"] = "1.0.0"
    assert ask(old, "PUT", "/npm/default/dev/lib", json=document).status_code == 403
    old.tokens["releaser"] = old.token("releaser", "read", "publish", "promote")
    assert move(old, "1.0.0", "releaser").status_code == 201
    assert ask(old, "GET", "/npm/default/dev/lib").json["dist-tags"]["latest"] == "1.0.0"


def test_A8_without_the_rule_all_of_it_would_go_through(old: World, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(old, "2.0.0")
    monkeypatch.setattr(states, "is_frozen", lambda *_: False)
    assert additions(old) == [200, 201]
    assert move(old, "1.0.0").status_code == 201


# --- A12 -------------------------------------------------------------------------------------------------------------


def taken_out(world: World, what: str, name: str) -> list[int]:
    """Shared bytes: taken out of dev, read in staging, then asked for in dev again, three times over."""
    upload(world, name, "1.0")
    act(world, "copy", name, destinationRepository="staging")
    assert fetch(world, name, "1.0").status_code == 200  # whatever remembers it has seen it there
    act(world, *(("update_status", name) if what == "Archived" else (what, name)), **_target(what))
    found = []
    for _ in range(3):
        assert fetch(world, name, "1.0", "staging").status_code == 200
        found.append(fetch(world, name, "1.0").status_code)
    return found


def bodies(world: World) -> int:
    """How many bodies the database knows; what it does not know goes with the sweep, by the age of the file."""
    with world.db.read() as session:
        return session.scalar(select(func.count()).select_from(Blob)) or 0


def _target(what: str) -> dict[str, str]:
    return {"targetStatus": "Archived"} if what == "Archived" else {}


@pytest.mark.parametrize(("what", "status"), [("delete", 404), ("dispose", 404), ("Archived", 403)])
def test_A12_what_is_taken_out_here_is_not_readable_again_because_others_have_it(
    world: World, what: str, status: int
) -> None:
    assert taken_out(world, what, f"shared{status}") == [status] * 3


def test_A12_without_the_look_at_the_state_it_would_be(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Withheld, "check_served", lambda *_: None)
    assert taken_out(world, "Archived", "leaky") == [200] * 3


def test_A12_bytes_that_another_repository_has_stay_and_the_last_ones_go(world: World) -> None:
    upload(world, "shared", "1.0")
    act(world, "copy", "shared", destinationRepository="staging")

    def swept(name: str) -> int:
        world.now += timedelta(days=2)
        care.sweep(world.db, world.services.stores, older_than=world.now - timedelta(days=1), dry_run=False)
        assert list(care.check(world.db, world.services.stores, deep=True)) == []
        return fetch(world, "shared", "1.0", name).status_code

    act(world, "dispose", "shared")
    assert swept("staging") == 200
    assert bodies(world) == 2  # the wheel and its metadata
    act(world, "dispose", "shared", repository="staging")
    assert swept("staging") == 404
    assert bodies(world) == 0


# --- G3 --------------------------------------------------------------------------------------------------------------


def destroyed(world: World) -> list[int]:
    """What somebody does who has something to hide of a package that is under quarantine."""
    there = f"{DEV}/packages/pypi/suspect"
    return [
        world.call("DELETE", f"{there}/versions/1.0", as_="publisher").status_code,
        world.call("PUT", f"{there}/status", as_="publisher", json={"status": "active"}).status_code,
    ]


def test_G3_its_owner_changes_nothing_of_a_quarantined_package(world: World) -> None:
    upload(world, "suspect", "1.0")
    world.call("PUT", f"{DEV}/packages/pypi/suspect/status", json={"status": "quarantined", "reason": "reported"})
    assert destroyed(world) == [403, 403]
    assert fetch(world, "suspect", "1.0").status_code == 403
    world.call("PUT", f"{DEV}/packages/pypi/suspect/status", json={"status": "active"})
    assert fetch(world, "suspect", "1.0").status_code == 200


def test_G3_without_the_rule_the_evidence_would_be_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(world, "suspect", "1.0")
    world.call("PUT", f"{DEV}/packages/pypi/suspect/status", json={"status": "quarantined"})
    monkeypatch.setattr(withdraw, "check_not_quarantined", lambda *_: None)
    assert destroyed(world)[0] == 204
