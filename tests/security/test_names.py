"""A9: one name has one spelling here, whatever is written; what could be taken for another name is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import formats
from registry.errors import Invalid
from tests.functional.api_world import World

KNOWN = formats.all_formats()
LOOK_ALIKES = (
    "acm\u0435",  # a Cyrillic letter
    "\uff41cme",  # a full-width one
    "acme\u200b",
    "\u202eemca",
    "acme\u0301",
    "ac\u2044me",
    "\u2170cme",
    "acme\0",
    "acme\n",
    " acme",
    "acme ",
    "a" * 300,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("name", sorted(KNOWN))
@pytest.mark.parametrize("written", LOOK_ALIKES, ids=ascii)
def test_A9_look_alikes_are_no_names(name: str, written: str) -> None:
    """Not one of them is read as the name that it looks like, nor as one that could be shown as it."""
    asked = f"com.acme/{written}" if name == "maven" else written
    try:
        key = KNOWN[name].key(asked)
    except Invalid:
        return
    assert key.name.isascii()
    assert key.name.isprintable()
    assert key.name == written.strip() == written, "another name than was written"
    assert len(key.name) <= 255


@pytest.mark.parametrize("written", ["Foo.Bar", "foo_bar", "FOO-bar", "foo--bar", "foo._-bar"])
def test_A9_spellings_of_a_python_name_are_one_package(written: str) -> None:
    assert KNOWN["pypi"].key(written).name == "foo-bar"


@pytest.mark.parametrize(
    ("name", "written"), [("npm", "@Org/thing"), ("npm", "."), ("npm", ".."), ("npm", "-"), ("pypi", "..")]
)
def test_A9_names_that_are_none(name: str, written: str) -> None:
    """``@Org`` would stand beside ``@org``; dots and dashes are addresses of something else."""
    if written == "@Org/thing":
        try:
            assert KNOWN[name].key(written).namespace != "org"
        except Invalid:
            return
    else:
        with pytest.raises(Invalid):
            KNOWN[name].key(written)


def test_A9_another_spelling_publishes_into_the_same_package(world: World) -> None:
    world.publish("dev", "foo-bar", "1.0")
    found = world.call("GET", "/domains/default/repositories/dev/packages/pypi/Foo.Bar")
    assert found.status_code == 200
    assert found.json["name"] == "foo-bar"
