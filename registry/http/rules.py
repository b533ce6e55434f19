"""Routing rules that are as soon made as they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from werkzeug.routing import Rule

# What was parsed of a path, by all that it depends on: applications made again in one process have the same paths.
_parsed: dict[tuple[object, ...], tuple[Any, ...]] = {}


class LazyRule(Rule):
    """A rule that compiles what builds its URL when the first is built.

    Two programs for each of 150 rules were nearly all that making an application took (measured: 150 of 170 ms of
    processor time, in each web process); few of them are ever run.
    """

    def compile(self) -> None:
        """Parse the path, or take what an equal one was parsed to."""
        assert self.map is not None, "the map binds a rule before it compiles it"
        converters = frozenset(self.map.converters.items())
        key = (self.rule, self.subdomain, self.host, self.map.host_matching, self.merge_slashes, converters)
        if key not in _parsed:
            super().compile()
            _parsed[key] = (self._parts, self._trace, self._converters)
            return
        self._parts, self._trace, self._converters = _parsed[key]
        self.arguments.update(self._converters)
        self._build = self._compile_builder(append_unknown=False).__get__(self, None)
        self._build_unknown = self._compile_builder(append_unknown=True).__get__(self, None)

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        make = super()._compile_builder
        made: list[Callable[..., tuple[str, str]]] = []

        def build(rule: Rule, *names: object, **values: object) -> tuple[str, str]:
            if not made:
                made.append(make(append_unknown))
            return made[0](rule, *names, **values)

        return build
