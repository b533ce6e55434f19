"""Which pushes and pull requests start a pipeline: CodePipeline's ``triggers`` with ``gitConfiguration``. Pure.

Between the filters of a list it is OR, inside of one AND: everything that a filter says has to hold. Of ``includes`` and
``excludes`` one pattern is enough, and what is in both is excluded. What a forge does not tell (the files of a pull request,
mostly) does not match.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hooks.builds.push_filters import PUSH, Happening
from hooks.pipelines.sources.globs import is_covered

MAX_TRIGGERS = 50
MAX_FILTERS = 3
MAX_PATTERNS = 8
MAX_FILES = 100
"""Only so many changed files are looked at, as in CodePipeline."""
_HEADS, _TAGS = "refs/heads/", "refs/tags/"
EVENTS: Mapping[str, frozenset[str]] = {
    "OPEN": frozenset({"PULL_REQUEST_CREATED", "PULL_REQUEST_REOPENED"}),
    "UPDATED": frozenset({"PULL_REQUEST_UPDATED"}),
    "CLOSED": frozenset({"PULL_REQUEST_CLOSED", "PULL_REQUEST_MERGED"}),
}
"""CodePipeline's events of pull requests, by those that forges tell."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """``includes`` and ``excludes`` of one thing; one without includes takes all that is not excluded."""

    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()

    def takes(self, text: str) -> bool:
        """Whether a name or a path is taken."""
        if any(is_covered(pattern, text) for pattern in self.excludes):
            return False
        return not self.includes or any(is_covered(pattern, text) for pattern in self.includes)


@dataclass(frozen=True, slots=True)
class PushFilter:
    """What a push has to be; None: nothing is said of it."""

    tags: Patterns | None = None
    branches: Patterns | None = None
    file_paths: Patterns | None = None


@dataclass(frozen=True, slots=True)
class PullRequestFilter:
    """What a pull request has to be. ``branches`` are those it goes to; without ``events`` all count."""

    events: tuple[str, ...] = ()
    branches: Patterns | None = None
    file_paths: Patterns | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """What starts the pipeline by the source action ``action``. Without any filter each push to a branch does."""

    action: str
    push: tuple[PushFilter, ...] = ()
    pull_request: tuple[PullRequestFilter, ...] = ()


@dataclass(frozen=True, slots=True)
class Branches:
    """A source without triggers: pushes to its own branch start the pipeline, if it looks for changes at all."""

    branch: str
    detects: bool = True


def starts(triggers: Sequence[Trigger], own: Branches, happening: Happening) -> bool:
    """Whether ``happening`` starts the pipeline, by one of the triggers of its source; without any by its own branch."""
    if not triggers:
        return own.detects and happening.event == PUSH and happening.head_ref == f"{_HEADS}{own.branch}"
    return any(_takes(trigger, happening) for trigger in triggers)


def looks_at_files(triggers: Sequence[Trigger]) -> bool:
    """Whether any filter of pushes asks for the files that changed."""
    return any(each.file_paths is not None for trigger in triggers for each in trigger.push)


def _takes(trigger: Trigger, happening: Happening) -> bool:
    if happening.event == PUSH:
        if not trigger.push and not trigger.pull_request:
            return (happening.head_ref or "").startswith(_HEADS)
        return any(_takes_push(each, happening) for each in trigger.push)
    return any(_takes_pull(each, happening) for each in trigger.pull_request)


def _takes_push(wanted: PushFilter, happening: Happening) -> bool:
    reference = happening.head_ref or ""
    if reference.startswith(_TAGS):
        # A push of a tag starts only where tags are spoken of.
        if wanted.tags is None or wanted.branches is not None:
            return False
        if not wanted.tags.takes(reference.removeprefix(_TAGS)):
            return False
    elif wanted.tags is not None or (
        wanted.branches is not None and not wanted.branches.takes(reference.removeprefix(_HEADS))
    ):
        return False
    return _takes_files(wanted.file_paths, happening.files)


def _takes_pull(wanted: PullRequestFilter, happening: Happening) -> bool:
    if happening.event not in _known(wanted.events or tuple(EVENTS)):
        return False
    if wanted.branches is not None and not wanted.branches.takes((happening.base_ref or "").removeprefix(_HEADS)):
        return False
    return _takes_files(wanted.file_paths, happening.files)


def _takes_files(wanted: Patterns | None, files: Sequence[str] | None) -> bool:
    return wanted is None or any(wanted.takes(path) for path in (files or ())[:MAX_FILES])


def _known(events: Collection[str]) -> frozenset[str]:
    return frozenset().union(*(EVENTS[each] for each in events))


def trigger_of(model: Mapping[str, Any]) -> Trigger:
    """Back from ``dataclasses.asdict``. Raises KeyError, TypeError for another shape."""
    return Trigger(
        model["action"],
        tuple(PushFilter(**{key: _patterns(value) for key, value in each.items()}) for each in model["push"]),
        tuple(
            PullRequestFilter(tuple(each["events"]), _patterns(each["branches"]), _patterns(each["file_paths"]))
            for each in model["pull_request"]
        ),
    )


def _patterns(model: Mapping[str, Any] | None) -> Patterns | None:
    return None if model is None else Patterns(tuple(model["includes"]), tuple(model["excludes"]))
