"""Paths are parsed once for all applications of a process, each with the converters of its own map."""

import pytest
from werkzeug.routing import IntegerConverter, Map

from registry.http.rules import LazyRule


class Short(IntegerConverter):
    regex = "[0-9]{1,2}"


class Even(IntegerConverter):
    regex = "[02468]"


def matches(converter, path):
    rule = LazyRule("/things/<n:number>/<path:rest>", endpoint="thing")
    routes = Map([rule], converters={"n": converter}).bind("here")
    return routes.test(path)


@pytest.mark.parametrize("converter", [Short, Even])
def test_equal_paths_with_other_converters_are_other_rules(converter):
    assert matches(converter, "/things/4/a/b")
    assert matches(converter, "/things/11/a/b") is (converter is Short)


def test_what_was_parsed_before_matches_builds_and_knows_its_arguments():
    for _ in range(2):
        routes = Map(converters={"n": Short})
        routes.add(LazyRule("/things/<n:number>/<path:rest>", endpoint="thing", methods=["GET"]))
        routes.add(LazyRule("/things", endpoint="thing", defaults={"number": 1, "rest": "x"}))
        bound = routes.bind("here")
        assert bound.match("/things/12/a/b") == ("thing", {"number": 12, "rest": "a/b"})
        assert bound.build("thing", {"number": 7, "rest": "c", "page": 2}) == "/things/7/c?page=2"
        assert bound.build("thing", {"number": 1, "rest": "x"}) == "/things"
        assert [rule.arguments for rule in routes.iter_rules()] == [{"number", "rest"}] * 2
