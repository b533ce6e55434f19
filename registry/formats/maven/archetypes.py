"""``archetype-catalog.xml``: the projects that ``mvn archetype:generate`` can begin with."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

from registry.formats.maven.coordinates import base_version
from registry.formats.maven.version_order import sort_key
from registry.repos.holdings import HeldVersion

_NOT_IN_XML = dict.fromkeys(set(range(32)) - {9, 10, 13})


def render(found: Iterable[HeldVersion]) -> bytes:
    """The catalogue, by group and artifact, oldest version first; of a snapshot's builds the newest stands for all."""
    summaries = {
        (each.namespace, each.name, base_version(each.version)): each.summary
        for each in sorted(found, key=lambda each: (each.namespace, each.name, sort_key(each.version)))
    }
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<archetype-catalog>", "  <archetypes>"]
    for (group, artifact, version), summary in summaries.items():
        lines += ["    <archetype>", _element("groupId", group), _element("artifactId", artifact)]
        lines += [_element("version", version), *([_element("description", summary)] if summary else [])]
        lines.append("    </archetype>")
    return "\n".join([*lines, "  </archetypes>", "</archetype-catalog>", ""]).encode()


def _element(name: str, text: str) -> str:
    return f"      <{name}>{escape(text.translate(_NOT_IN_XML))}</{name}>"
