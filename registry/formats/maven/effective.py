"""What a POM says together with its parents: the direct dependencies of an artifact, and the versions that it manages.

Maven's model builder, as far as dependencies go: inheritance, profiles that are on by themselves, properties, imported
dependency management, and management of the direct dependencies. Nothing of a build is looked at: plugins and extensions
are code. POMs of others come through ``Read``, and from nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from xml.etree.ElementTree import Element

from registry.errors import Invalid
from registry.formats.maven.coordinates import check_artifact, check_group, check_version
from registry.formats.maven.pom_tree import BadPom, Machine, active_profiles, child, name_of, said, text_of, tree

_MOST_PARENTS = 30
_MOST_TEXT = 20_000
_MOST_FILLED_IN = 4_000_000
_DEEPEST_PROPERTY = 20
_EXPRESSION = re.compile(r"\$\{([^{}$]{1,300})\}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~!=@-]{0,200}\Z")


class Lacking(ValueError):
    """A POM needs another one that the repository does not have: without it nothing is known of the dependencies."""


@dataclass(frozen=True, slots=True)
class Coordinates:
    """An artifact's version."""

    group: str
    artifact: str
    version: str

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


Read = Callable[[Coordinates], bytes | None]
"""The POM of an artifact's version; None where the repository has none."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """A dependency as it is written: ``version`` may be a range. ``exclusions`` are (group, artifact), each perhaps ``*``."""

    group: str
    artifact: str
    version: str = ""
    type: str = "jar"
    classifier: str = ""
    scope: str = ""
    is_optional: bool | None = None
    exclusions: frozenset[tuple[str, str]] = frozenset()

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What management is by, and what there is one version of."""
        return (self.group, self.artifact, *extension_and_classifier(self.type, self.classifier))


@dataclass(frozen=True, slots=True)
class Effective:
    """An artifact's own dependencies, ready, and what it manages. ``moved_to`` is where it has gone, if it says so."""

    at: Coordinates
    packaging: str
    dependencies: tuple[Dependency, ...]
    managed: Mapping[tuple[str, str, str, str], Dependency]
    moved_to: Coordinates | None = None


@dataclass(slots=True)
class _Model:
    """A POM, as written, with what it inherits merged into it one after the other."""

    single: dict[str, str]
    parent: Coordinates | None
    properties: dict[str, str] = field(default_factory=dict)
    dependencies: dict[tuple[str, ...], Dependency] = field(default_factory=dict)
    managed: dict[tuple[str, ...], Dependency] = field(default_factory=dict)
    relocation: tuple[str, ...] = ()


_TYPES = {
    "test-jar": ("jar", "tests"),
    "ejb-client": ("jar", "client"),
    "java-source": ("jar", "sources"),
    "javadoc": ("jar", "javadoc"),
    **dict.fromkeys(("ejb", "maven-plugin", "bundle", "eclipse-plugin"), ("jar", "")),
}


def extension_and_classifier(kind: str, classifier: str) -> tuple[str, str]:
    """What a dependency's ``type`` means for the name of its file."""
    extension, usual = _TYPES.get(kind, (kind, ""))
    return extension, classifier or usual


class Poms:
    """Reads POMs, each once. Raises BadPom, Lacking, and what ``read`` raises."""

    def __init__(self, read: Read, machine: Machine) -> None:
        self._read = read
        self._machine = machine
        self._known: dict[Coordinates, Effective | None] = {}
        self._raw: dict[Coordinates, _Model | None] = {}

    def effective(self, at: Coordinates) -> Effective | None:
        """An artifact's POM made whole; None where there is none."""
        if at not in self._known:
            self._known[at] = self._made(at, ())
        return self._known[at]

    def _model(self, at: Coordinates) -> _Model | None:
        if at not in self._raw:
            body = self._read(checked(at))
            self._raw[at] = None if body is None else _parsed(body, self._machine, str(at))
        found = self._raw[at]
        return None if found is None else replace(
            found, properties=dict(found.properties), dependencies=dict(found.dependencies), managed=dict(found.managed)
        )  # fmt: skip

    def _made(self, at: Coordinates, importing: tuple[Coordinates, ...]) -> Effective | None:
        model = self._model(at)
        if model is None:
            return None
        ancestor = model.parent
        seen = {at}
        while ancestor is not None:
            above = self._model(ancestor)
            if above is None:
                raise Lacking(f"{at}: its parent {ancestor} is not in the repository")
            if ancestor in seen or len(seen) > _MOST_PARENTS:
                raise BadPom(f"{at} has a circle of parents, or more than {_MOST_PARENTS}")
            seen.add(ancestor)
            _inherit(model, above)
            ancestor = above.parent
        values = _Values(model, at)
        managed: dict[tuple[str, str, str, str], Dependency] = {}
        imports = []
        for each in map(values.of, model.managed.values()):
            if each.scope == "import" and each.type == "pom":
                imports.append(Coordinates(each.group, each.artifact, each.version))
            else:
                managed.setdefault(each.key, each)
        for wanted in imports:
            for key, entry in self._imported(wanted, (*importing, at)).items():
                managed.setdefault(key, entry)
        dependencies: dict[tuple[str, str, str, str], Dependency] = {}
        for each in map(values.of, model.dependencies.values()):
            dependencies[each.key] = _managed(each, managed.get(each.key))
        return Effective(
            at,
            values.text(model.single.get("packaging") or "jar"),
            tuple(dependencies.values()),
            managed,
            values.moved(model.relocation),
        )

    def _imported(
        self, at: Coordinates, importing: tuple[Coordinates, ...]
    ) -> Mapping[tuple[str, str, str, str], Dependency]:
        if at in importing or len(importing) > _MOST_PARENTS:
            raise BadPom(f"{importing[0]} imports in a circle, or more than {_MOST_PARENTS} POMs one through the other")
        if at not in self._known:
            self._known[at] = self._made(at, importing)
        found = self._known[at]
        if found is None:
            raise Lacking(f"{importing[-1]} imports the dependency management of {at}, which is not in the repository")
        return found.managed


def checked(at: Coordinates) -> Coordinates:
    """The same coordinates. Raises BadPom for what is none, which could lead to another place."""
    try:
        check_group(at.group)
        check_artifact(at.artifact)
        check_version(at.version)
    except Invalid as error:
        raise BadPom(f"{str(at)[:200]!a} is no artifact: {error}") from error
    return at


def check_file_part(text: str) -> None:
    """Raise BadPom for what is no classifier and no extension."""
    if not _PART.match(text):
        raise BadPom(f"{text[:100]!a} is no classifier and no type")


# --- one POM ---------------------------------------------------------------------------------------------------------


def _parsed(body: bytes, machine: Machine, called: str) -> _Model:
    root = tree(body, called)
    if name_of(root) != "project":
        raise BadPom(f"{called}: its POM's root is not <project>")
    single = {name_of(each): text_of(each) for each in root if not len(each)}
    parent = child(root, "parent")
    above = None
    if parent is not None:
        above = Coordinates(*(said(parent, name) for name in ("groupId", "artifactId", "version")))
        single.setdefault("groupId", above.group)
        single.setdefault("version", above.version)
        single["parent.groupId"], single["parent.version"] = above.group, above.version
        single["parent.artifactId"] = above.artifact
    model = _Model(single, above)
    moved = child(child(root, "distributionManagement"), "relocation")
    if moved is not None:
        model.relocation = tuple(said(moved, name) for name in ("groupId", "artifactId", "version"))
    for part in (root, *active_profiles(root, machine)):
        model.properties |= {name_of(each): text_of(each) for each in child(part, "properties") or ()}
        _put(model.dependencies, _dependencies(part))
        _put(model.managed, _dependencies(child(part, "dependencyManagement")))
    return model


def _put(into: dict[tuple[str, ...], Dependency], found: Iterable[Dependency]) -> None:
    """Later ones count, at the place of the earlier ones."""
    for each in found:
        into[(each.group, each.artifact, each.type, each.classifier)] = each


def _dependencies(part: Element | None) -> Iterator[Dependency]:
    for each in child(part, "dependencies") or ():
        optional = said(each, "optional")
        yield Dependency(
            said(each, "groupId"),
            said(each, "artifactId"),
            said(each, "version"),
            said(each, "type") or "jar",
            said(each, "classifier"),
            said(each, "scope"),
            optional == "true" if optional else None,
            frozenset(
                (said(one, "groupId"), said(one, "artifactId")) for one in child(each, "exclusions") or ()
            ),
        )  # fmt: skip


def _inherit(model: _Model, above: _Model) -> None:
    for name in ("groupId", "version"):
        model.single.setdefault(name, above.single.get(name, ""))
    model.properties = {**above.properties, **model.properties}
    for own, theirs in ((model.dependencies, above.dependencies), (model.managed, above.managed)):
        for key, each in theirs.items():
            own.setdefault(key, each)


# --- values ----------------------------------------------------------------------------------------------------------


class _Values:
    """What ``${…}`` stands for in a model."""

    def __init__(self, model: _Model, at: Coordinates) -> None:
        single = model.single
        own = {"groupId": single.get("groupId", ""), "artifactId": single.get("artifactId", "")}
        own |= {"version": single.get("version", ""), "packaging": single.get("packaging", "jar")}
        own |= {name: text for name, text in single.items() if name.startswith("parent.")}
        self._known = {f"{prefix}.{name}": text for prefix in ("project", "pom") for name, text in own.items()}
        self._known = {
            **{name: own[name] for name in ("groupId", "artifactId", "version")},
            **model.properties,
            **self._known,
        }
        self._at = at
        self._left = _MOST_FILLED_IN
        self.text = lru_cache(maxsize=None)(self._text)

    def _text(self, text: str, depth: int = 0) -> str:
        if "${" not in text:
            return text
        if depth > _DEEPEST_PROPERTY or len(text) > _MOST_TEXT:
            raise BadPom(f"{self._at}: the properties in {text[:100]!a} lead to no end")
        room = _MOST_TEXT - len(text)

        def value(each: re.Match[str]) -> str:
            nonlocal room
            known = self._known.get(each[1].strip(), each[0])
            room -= len(known) - len(each[0])
            if room < 0:
                # While it is made: a short text that names a long property often would be larger than the memory.
                raise BadPom(f"{self._at}: {text[:100]!a} stands for more than {_MOST_TEXT} characters")
            return known

        found = _EXPRESSION.sub(value, text)
        self._left -= len(found)
        if self._left < 0:
            raise BadPom(f"{self._at}: its properties stand for more than {_MOST_FILLED_IN} characters")
        return found if found == text else self._text(found, depth + 1)

    def moved(self, said: tuple[str, ...]) -> Coordinates | None:
        """Where the artifact has gone; what is not said stays as it is."""
        at = self._at
        own = (at.group, at.artifact, at.version)
        return Coordinates(*(self.text(new) or old for new, old in zip(said, own, strict=True))) if said else None

    def of(self, each: Dependency) -> Dependency:
        """A dependency with its properties filled in."""
        return replace(
            each,
            group=self.text(each.group),
            artifact=self.text(each.artifact),
            version=self.text(each.version),
            type=self.text(each.type),
            classifier=self.text(each.classifier),
            scope=self.text(each.scope),
        )


def _managed(each: Dependency, by: Dependency | None) -> Dependency:
    """A direct dependency with what it leaves to the management of its own POM."""
    if by is None:
        return each
    return replace(
        each,
        version=each.version or by.version,
        scope=each.scope or by.scope,
        is_optional=by.is_optional if each.is_optional is None else each.is_optional,
        exclusions=each.exclusions or by.exclusions,
    )
