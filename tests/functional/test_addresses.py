"""Links to files of a project's page: in full at the public address, relative for who came another way."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest

from tests.fakes.upstream import FaultyUpstream
from tests.functional.outside_world import JSON_INDEX, OutsideWorld
from tests.harness.packages import wheel

PUBLIC = "https://packages.invalid/registry"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OutsideWorld]:
    made = OutsideWorld(tmp_path, {"ENTREPOT_SERVER_PUBLIC_URL": PUBLIC})
    made.disconnect()
    with FaultyUpstream() as upstream:
        upstream.add_project("linked", dict([wheel("linked", "1.0")]))
        made.connect(upstream)
        yield made
    made.close()


def link(world: OutsideWorld, host: str, accept: str = JSON_INDEX) -> str:
    answer = world.get("pypi/default/dev/simple/linked/", Accept=accept, Host=host)
    assert answer.status_code == 200
    if accept != JSON_INDEX:
        return answer.text.partition('<a href="')[2].partition("#")[0]
    (file,) = answer.json["files"]
    return file["url"]


def test_the_page_that_was_asked_for_at_the_public_address_has_it_in_its_links(world: OutsideWorld) -> None:
    filename = "linked-1.0-py3-none-any.whl"
    for _ in range(2):  # from what was kept of the one way, nothing is told on the other
        assert link(world, "packages.invalid") == f"{PUBLIC}/pypi/default/dev/files/linked/{filename}"
        for host in ("127.0.0.1:8080", "packages.invalid:8443", "evil.invalid"):
            assert link(world, host) == f"../../files/linked/{filename}"
    for accept in ("text/html", ""):
        shown = link(world, "packages.invalid", accept)
        there = urljoin(f"{PUBLIC}/pypi/default/dev/simple/linked/", shown)
        assert there == f"{PUBLIC}/pypi/default/dev/files/linked/{filename}"


def test_without_a_public_address_links_are_relative(tmp_path: Path) -> None:
    world = OutsideWorld(tmp_path)
    world.disconnect()
    with FaultyUpstream() as upstream:
        upstream.add_project("linked", dict([wheel("linked", "1.0")]))
        world.connect(upstream)
        assert link(world, "localhost") == "../../files/linked/linked-1.0-py3-none-any.whl"
    world.close()
