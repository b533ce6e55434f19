"""What a POM says: whose it is, and what people and the package page want to know. Inherited values are not looked up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

from registry.errors import Invalid
from registry.formats.maven.xml_reader import BadXml, Path, read_texts

LIMIT_BYTES = 8 * 1024 * 1024
DESCRIPTION_TYPE = "text/plain"
_MOST_ENTRIES = 200
_ROOT = ("project",)
_DEPENDENCY = (*_ROOT, "dependencies", "dependency")
_LICENSE = (*_ROOT, "licenses", "license")
_DEVELOPER = (*_ROOT, "developers", "developer")
_PREFIX = (*_ROOT, "build", "plugins", "plugin", "configuration", "goalPrefix")
_SINGLE = ("groupId", "artifactId", "version", "packaging", "name", "description", "url")
_WANTED = frozenset(
    {
        *((*_ROOT, name) for name in _SINGLE),
        *((*_ROOT, "parent", name) for name in ("groupId", "artifactId", "version")),
        (*_ROOT, "scm", "url"),
        (*_ROOT, "issueManagement", "url"),
        (*_ROOT, "organization", "name"),
        (*_ROOT, "inceptionYear"),
        _LICENSE,
        (*_LICENSE, "name"),
        _DEVELOPER,
        (*_DEVELOPER, "name"),
        _DEPENDENCY,
        *((*_DEPENDENCY, name) for name in ("groupId", "artifactId", "version", "scope", "optional", "type")),
        _PREFIX,
    }
)


@dataclass(frozen=True, slots=True)
class Pom:
    """A POM. ``group`` and ``version`` are the parent's where it has none of its own; expressions are as written."""

    group: str
    artifact: str
    version: str
    packaging: str
    summary: str
    description: str
    metadata: dict[str, Any]


def read_pom(body: BinaryIO) -> Pom:
    """Read a POM. Raises Invalid naming the broken rule."""
    try:
        texts = list(read_texts(body, _WANTED, limit_bytes=LIMIT_BYTES))
    except BadXml as error:
        raise Invalid(f"the POM cannot be read: {error}") from error
    if texts[-1][0] != _ROOT:
        raise Invalid("the POM cannot be read: its root is not <project>")
    single: dict[Path, str] = {}
    for path, text in texts:
        single.setdefault(path, text)

    def said(*path: str) -> str:
        return single.get((*_ROOT, *path), "")

    packaging = said("packaging") or "jar"
    description = said("description")
    return Pom(
        group=said("groupId") or said("parent", "groupId"),
        artifact=said("artifactId"),
        version=said("version") or said("parent", "version"),
        packaging=packaging,
        summary=" ".join((description or said("name")).split())[:500],
        description=description,
        metadata=_metadata(texts, single, packaging),
    )


def check_pom(pom: Pom, group: str, artifact: str, version: str) -> None:
    """Raise Invalid unless the POM is of the artifact at whose path it lies. What is an expression is not compared."""
    for what, said, expected in (
        ("groupId", pom.group, group),
        ("artifactId", pom.artifact, artifact),
        ("version", pom.version, version),
    ):
        if said != expected and "${" not in said:
            raise Invalid(f"the POM's {what} is {ascii(said)[:100]}, but its path says {expected!r}")


def _metadata(texts: Iterable[tuple[Path, str]], single: dict[Path, str], packaging: str) -> dict[str, Any]:
    """The shape that pages read, and what the format itself looks up later."""

    def said(*path: str) -> str:
        return single.get((*_ROOT, *path), "")

    texts = list(texts)
    found: dict[str, Any] = {
        "packaging": packaging,
        "title": said("name"),
        "license": _each(texts, (*_LICENSE, "name")),
        "author": said("organization", "name") or _each(texts, (*_DEVELOPER, "name")),
        "home_page": said("url"),
        "repository_url": said("scm", "url"),
        "project_urls": {"Issues": url} if (url := said("issueManagement", "url")) else {},
        "requires_dist": list(_dependencies(texts)),
        "goal_prefix": single.get(_PREFIX, ""),
    }
    return {key: value for key, value in found.items() if value}


def _dependencies(texts: Iterable[tuple[Path, str]]) -> Iterable[str]:
    """Each as ``group:artifact:version``, with the scope where it is not the usual one."""
    current: dict[str, str] = {}
    count = 0
    for path, text in texts:
        if path == _DEPENDENCY:
            parts = [current.get(name, "") for name in ("groupId", "artifactId", "version")]
            notes = [current["scope"]] if current.get("scope", "compile") != "compile" else []
            notes += ["optional"] if current.get("optional") == "true" else []
            current = {}
            count += 1
            if count <= _MOST_ENTRIES:
                yield ":".join(part for part in parts if part) + (f" ({', '.join(notes)})" if notes else "")
        elif path[:-1] == _DEPENDENCY:
            current[path[-1]] = text[:300]


def _each(texts: Iterable[tuple[Path, str]], wanted: Path) -> list[str]:
    return [text[:500] for path, text in texts if path == wanted and text][:_MOST_ENTRIES]
