"""A version's long description: sealed in its row, shown with the version, carried by promotion, kept by rotation."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from registry.models import Domain, PackageVersion
from registry.names import PackageKey, PackageName
from registry.repos import descriptions
from storage.errors import Damaged
from tests.functional.api_world import World
from tests.harness.publishing import publish
from tests.harness.server import Server

TEXT = "# Words of the author \N{LATIN SMALL LETTER A WITH DIAERESIS}\n"
VERSIONS = "/domains/default/repositories/{}/packages/pypi/demo/versions/1"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world")
    made.publish("dev", "demo", "1.0", canonical="1", description=TEXT)
    yield made
    made.close()


def boxes(world: World) -> list[bytes | None]:
    with world.db.read() as session:
        return list(session.scalars(sa.select(PackageVersion.description)))


def test_it_is_shown_with_the_version_and_not_in_lists(world: World) -> None:
    shown = world.call("GET", VERSIONS.format("dev")).json
    assert (shown["description"], shown["descriptionType"]) == (TEXT, "text/markdown")
    assert shown["metadata"] == {"license": "MIT"}
    package = world.call("GET", VERSIONS.format("dev").partition("/versions")[0])
    assert "Words of the author" not in package.text


def test_the_row_holds_a_box_and_no_text(world: World) -> None:
    (box,) = boxes(world)
    assert box is not None
    assert TEXT.encode() not in box
    assert len(box) > len(TEXT.encode())


def test_promotion_carries_it(world: World) -> None:
    assert world.call("POST", f"{VERSIONS.format('dev')}/promote", json={"target": "staging"}).status_code == 200
    assert len(boxes(world)) == 2
    shown = world.call("GET", VERSIONS.format("staging")).json
    assert (shown["description"], shown["descriptionType"]) == (TEXT, "text/markdown")


def test_it_opens_for_its_own_version_only(world: World) -> None:
    (box,) = boxes(world)
    with world.db.read() as session:
        keyring = world.services.stores.keyring(session.scalars(sa.select(Domain.id)).one())
    key = PackageKey("pypi", "", PackageName("demo"))
    assert descriptions.opened(keyring, key, "1", box, {}) == (TEXT, {})
    other = PackageKey("pypi", "", PackageName("other"))
    for wrong_key, version in ((key, "2"), (other, "1"), (other, "demo\n1")):
        with pytest.raises(Damaged):
            descriptions.opened(keyring, wrong_key, version, box, {})


def test_a_version_without_one_has_none(world: World) -> None:
    world.publish("dev", "bare", "1.0")
    assert None in boxes(world)
    shown = world.call("GET", VERSIONS.format("dev").replace("demo", "bare").replace("/1", "/1.0")).json
    assert (shown["description"], shown["descriptionType"]) == ("", "")


def test_rows_of_before_the_sealing_stay_readable(world: World) -> None:
    old = {"license": "MIT", "description": "Old words", "description_content_type": "text/x-rst"}
    with world.db.write() as session:
        session.execute(sa.update(PackageVersion).values(metadata_=old, description=None, description_type=""))
    shown = world.call("GET", VERSIONS.format("dev")).json
    assert (shown["description"], shown["descriptionType"]) == ("Old words", "text/x-rst")
    assert "description" not in shown["metadata"]


def test_it_stays_readable_when_the_keys_are_rotated(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", with_worker=False).start()
    try:
        token = server.token()
        assert publish(server, token, "demo").status_code == 200
        before = described(server, token)
        assert "A package for tests." in before
        assert server.command("keys", "rotate", "--data", str(server.data)).returncode == 0
        assert described(server, token) == before
        assert server.stop() == 0
        server.start()
        assert described(server, token) == before
        # The control: it is the sealed box that is read, and an altered one is no description.
        with sqlite3.connect(server.data / "entrepot.db") as rows:
            ((sealed,),) = rows.execute("SELECT description FROM package_version").fetchall()
            rows.execute("UPDATE package_version SET description = ?", (sealed[:-1] + bytes((sealed[-1] ^ 1,)),))
        rows.close()
        assert version_of(server, token).status_code >= 500
    finally:
        server.kill()


def version_of(server: Server, token: str) -> requests.Response:
    place = f"{server.url}/api/v1/domains/default/repositories/dev/packages/pypi/demo/versions/1.0"
    return requests.get(place, headers={"Authorization": f"Bearer {token}"}, timeout=20)


def described(server: Server, token: str) -> str:
    answer = version_of(server, token)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["description"])
