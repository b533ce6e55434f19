"""What other packages add to these pages: entries in the bar, panels on the home and version pages, notices.

``registry`` knows nothing of what is built on it; whoever is above hands over an ``Extension`` when it is mounted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from registry.access import Identity
from registry.http import context

_EXTENSION = "entrepot_pages"


@dataclass(frozen=True, slots=True)
class Coordinate:
    """A package version in a repository, by canonical names."""

    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class NavigationEntry:
    """An entry of the bar. ``prefixes`` are the paths it is the current one for; ``count`` what waits there.

    Without ``may_see`` it is for everybody.
    """

    label: str
    icon: str
    endpoint: str
    prefixes: tuple[str, ...]
    count: Callable[[Identity], int] | None = None
    may_see: Callable[[Identity], bool] | None = None


@dataclass(frozen=True, slots=True)
class AdministrationEntry:
    """A page of the administration: what it is for in a sentence, and who may use it."""

    label: str
    icon: str
    endpoint: str
    prefixes: tuple[str, ...]
    purpose: str
    may: Callable[[Identity], bool]


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence that follows an act; ``tone`` is good, bad, busy, wait or idle."""

    tone: str
    text: str


@dataclass(frozen=True, slots=True)
class VersionTab:
    """A further page about a version, beside its own: (domain, repository, …) → its address."""

    label: str
    url: Callable[[Coordinate], str]


@dataclass(frozen=True, slots=True)
class Extension:
    """Additions of one blueprint; the panels return finished HTML, empty when there is nothing to say.

    ``navigation`` stands in the bar, ``menu`` under the name of who looks, ``administration`` among its pages;
    ``version_tabs`` are shown to whoever is signed in.
    """

    navigation: tuple[NavigationEntry, ...] = ()
    menu: tuple[NavigationEntry, ...] = ()
    administration: tuple[AdministrationEntry, ...] = ()
    home: Callable[[Identity], Markup] | None = None
    version: Callable[[Identity, Coordinate], Markup] | None = None
    version_tabs: tuple[VersionTab, ...] = ()
    notices: Mapping[str, Notice] = field(default_factory=dict)


def extend(registered: dict[str, Any], extension: Extension) -> None:
    """Add to the pages of the application whose ``extensions`` are ``registered``."""
    registered[_EXTENSION] = (*registered.get(_EXTENSION, ()), extension)


def extensions() -> tuple[Extension, ...]:
    """All additions, in the order in which they were mounted."""
    found: tuple[Extension, ...] = context.application().extensions.get(_EXTENSION, ())
    return found
