"""What an action provider declares about itself, so that a document can be checked before anything runs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

RULE = "Rule"
"""The category of rules; all others are of actions."""

MAX_RULE_MINUTES = 86_400
"""CodePipeline's longest ``timeoutInMinutes``: 60 days."""

Check = Callable[[str], str | None]
"""Takes a setting's value, returns what is wrong with it or None."""
CheckAll = Callable[[Mapping[str, str]], Sequence[tuple[str, str]]]
"""Takes all settings as written, returns (setting, what is wrong) for what is wrong between them; "" for no one of them."""


def no_faults(_configuration: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    """For settings that say nothing about each other."""
    return ()


@dataclass(frozen=True, slots=True)
class Setting:
    """A configuration key of a provider. ``check`` is applied to values that hold no ``#{…}`` reference.

    ``is_json`` marks values that are JSON documents: references are replaced inside their strings, never in their
    syntax, so that a value cannot add a member. ``is_literal`` marks settings that take no references: what a build has
    exported or a publisher has chosen must not say who may approve, or where something goes.
    """

    name: str
    is_required: bool = False
    check: Check | None = None
    is_json: bool = False
    is_literal: bool = False


@dataclass(frozen=True, slots=True)
class Provider:
    """A kind of action. ``inputs``/``outputs``: fewest and most artifacts.

    ``variables`` are the output variables it sets: None means that only a run can tell, empty that it sets none.
    ``of_version`` are settings about the package version, which say nothing of an artifact that a build has made.
    ``check_all`` looks at the settings together.
    """

    category: str
    owner: str
    name: str
    settings: tuple[Setting, ...]
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    variables: frozenset[str] | None = frozenset()
    has_timeout: bool = False
    of_version: frozenset[str] = frozenset()
    check_all: CheckAll = no_faults

    def setting(self, name: str) -> Setting | None:
        """The setting of that name, or None."""
        return next((setting for setting in self.settings if setting.name == name), None)
