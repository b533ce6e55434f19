"""Does a package version match a pipeline's source action? Pure: values in, yes or no out.

Patterns cover the whole value, know ``*`` and ``?`` only, and compare character by character: no regular expression
of a user's is ever run, nothing matches by being contained in something longer, and no letter case is folded.
"""

from __future__ import annotations

from dataclasses import dataclass

from hooks.pipelines.definition import PipelineDefinition

DEFAULT_DOMAIN = "default"
DEFAULT_SETTLE_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """A package version as patterns see it; ``name`` is canonical, behind its namespace (``scope/name``) if any."""

    domain: str
    repository: str
    format: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class PackageFilter:
    """What a source action takes. ``domain`` and ``format`` are exact, the others patterns."""

    domain: str
    repository: str
    format: str
    name: str
    version: str
    settle_seconds: int

    def matches(self, candidate: Candidate) -> bool:
        """Whether ``candidate`` is one of those this filter takes."""
        if (self.domain, self.format) != (candidate.domain, candidate.format):
            return False
        return (
            glob_matches(self.repository, candidate.repository)
            and glob_matches(self.name, candidate.name)
            and glob_matches(self.version, candidate.version)
        )


def filter_of(definition: PipelineDefinition) -> PackageFilter | None:
    """The filter of a definition's source action; None where no package version is what it takes."""
    if not definition.source.is_package_source:
        return None
    configuration = definition.source.configuration
    return PackageFilter(
        domain=configuration.get("Domain", DEFAULT_DOMAIN),
        repository=configuration["Repository"],
        format=configuration["Format"],
        name=configuration["Name"],
        version=configuration.get("Version", "*"),
        settle_seconds=int(configuration.get("SettleSeconds", DEFAULT_SETTLE_SECONDS)),
    )


def glob_matches(pattern: str, text: str) -> bool:
    """Whether ``pattern`` covers the whole of ``text``. Time: at most the product of their lengths."""
    if not text.isprintable():
        return False  # ``1.0\\n`` is no version, whatever the pattern
    at = star_text = 0
    star = -1
    position = 0
    while position < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, star_text = at, position
            at += 1
        elif at < len(pattern) and pattern[at] in {"?", text[position]}:
            at += 1
            position += 1
        elif star >= 0:
            star_text += 1
            position = star_text
            at = star + 1
        else:
            return False
    return not pattern[at:].strip("*")
