"""What an archive says of itself, put in order for people. Formats give what they have; anything may be missing or odd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.pages.links import outward

_MOST_ENTRIES = 200
_LONGEST_FACT = 2000

# Key in a version's metadata → what people call it, in the order in which they look for it.
_FACTS = (
    ("requires_python", "Requires Python"),
    ("requires_engines", "Requires"),
    ("license_expression", "Licence"),
    ("license", "Licence"),
    ("author", "Author"),
    ("author_email", "Author's address"),
    ("maintainer", "Maintainer"),
    ("keywords", "Keywords"),
)
_LINKS = (
    ("home_page", "Homepage"),
    ("homepage", "Homepage"),
    ("repository_url", "Source"),
    ("download_url", "Download"),
)


@dataclass(frozen=True, slots=True)
class Description:
    """``links`` are web links only; ``requires`` what else has to be installed, as the format writes it."""

    facts: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...]
    requires: tuple[str, ...]


def describe(metadata: Mapping[str, Any]) -> Description:
    """Read a version's metadata."""
    facts: dict[str, str] = {}
    for key, label in _FACTS:
        text = _text(metadata.get(key))
        if text and label not in facts:
            # Many write a whole licence text into the field; its first line names it.
            facts[label] = text.strip().splitlines()[0][:_LONGEST_FACT] if label == "Licence" else text[:_LONGEST_FACT]
    return Description(
        facts=tuple(facts.items()),
        links=_links(metadata),
        requires=tuple(entry for entry in _entries(metadata.get("requires_dist")) if isinstance(entry, str)),
    )


def _links(metadata: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found = {url: label for key, label in _LINKS if (url := outward(metadata.get(key)))}
    named = metadata.get("project_urls")
    if isinstance(named, Mapping):
        for label, target in list(named.items())[:_MOST_ENTRIES]:
            if url := outward(target):
                found[url] = str(label)[:100]
    return tuple((label, url) for url, label in found.items())


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return ", ".join(entry for entry in _entries(value) if isinstance(entry, str))


def _entries(value: object) -> Sequence[object]:
    return value[:_MOST_ENTRIES] if isinstance(value, list | tuple) else ()
