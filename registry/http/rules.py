"""Routing rules that are as soon made as they are used."""

from __future__ import annotations

from collections.abc import Callable

from werkzeug.routing import Rule


class LazyRule(Rule):
    """A rule that compiles what builds its URL when the first is built.

    Two programs for each of 150 rules were nearly all that making an application took (measured: 150 of 170 ms of
    processor time, in each web process); few of them are ever run.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        make = super()._compile_builder
        made: list[Callable[..., tuple[str, str]]] = []

        def build(rule: Rule, *names: object, **values: object) -> tuple[str, str]:
            if not made:
                made.append(make(append_unknown))
            return made[0](rule, *names, **values)

        return build
