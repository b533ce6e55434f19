"""Which versions of which artifacts an artifact runs with: Maven's mediation, as in the artifact's own build.

The nearest version of an artifact counts, of two as near the first that is named; what the artifact itself manages counts
for all that it does not name itself. Scopes are the widest of all ways that lead to it. Pure but for what reads POMs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from registry.formats.maven.effective import (
    Coordinates,
    Dependency,
    Effective,
    Poms,
    check_file_part,
    checked,
    extension_and_classifier,
)
from registry.formats.maven.pom_tree import BadPom
from registry.formats.maven.version_order import sort_key
from registry.formats.maven.version_ranges import VersionRange, is_range, parse_range

MOST_ARTIFACTS = 5_000
MOST_DEPENDENCIES = 100_000
_MOST_TRIES = 50
_MOST_MOVES = 10
_WIDEST = ("compile", "runtime", "provided", "test")
_RUNS = frozenset({"compile", "runtime"})
# Whatever these hold, they hold it themselves.
_WHOLE = frozenset({"war", "ear", "rar"})
_META = {"LATEST": "latest", "RELEASE": "release"}

Key = tuple[str, str, str, str]
Versions = Callable[[str, str], Sequence[str]]
"""All versions of an artifact that the repository lists."""


class Unsolvable(ValueError):
    """There is no set of versions; ``str()`` says for what."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that is needed at run time."""

    at: Coordinates
    extension: str
    classifier: str


@dataclass(slots=True)
class _Node:
    """What was chosen for a key. ``edges`` are the ways to others, with the scope that is written there.

    ``children`` are those that were met here first.
    """

    at: Coordinates
    dependency: Dependency
    depth: int
    exclusions: frozenset[tuple[str, str]]
    edges: list[tuple[Key, str]] = field(default_factory=list)
    children: list[Key] = field(default_factory=list)
    scope: str = "test"


@dataclass(frozen=True, slots=True)
class Collected:
    """``artifacts`` in the order of Maven's class path. ``notes`` are for a log."""

    artifacts: Sequence[Artifact]
    notes: Sequence[str]


class Collector:
    """Collects for one artifact, ``root``. Raises Unsolvable, BadPom, Lacking and what reads raise."""

    def __init__(self, poms: Poms, versions: Versions, root: Effective) -> None:
        self._poms = poms
        self._versions = versions
        self._root = root
        self._hard: dict[Key, list[VersionRange]] = {}
        self._notes: dict[str, None] = {}

    def collect(self) -> Collected:
        """All that is needed at run time, without the root."""
        for _ in range(_MOST_TRIES):
            nodes = self._chosen()
            if nodes is not None:
                return Collected(tuple(_runtime(nodes)), tuple(self._notes))
        raise Unsolvable("the ranges of versions that are wanted do not come together")

    # --- which versions

    def _chosen(self) -> dict[Key, _Node] | None:
        """What is chosen for each key; None where a range was met that something chosen is not in: once more then."""
        nodes: dict[Key, _Node] = {}
        refused: dict[Key, str] = {}
        level: list[tuple[_Node | None, Dependency]] = [(None, each) for each in self._root.dependencies]
        depth, met = 1, 0
        while level:
            met += len(level)
            if met > MOST_DEPENDENCIES:
                raise Unsolvable(f"what it needs has more than {MOST_DEPENDENCIES} dependencies altogether")
            following: list[tuple[_Node | None, Dependency]] = []
            for parent, dependency in level:
                key, fresh = self._met(nodes, refused, parent, dependency, depth)
                if key in nodes and not self._fits(key, nodes[key].at.version):
                    return None
                if fresh is not None:
                    following += [(fresh, each) for each in self._below(fresh)]
            level, depth = following, depth + 1
        for key, why in refused.items():
            if key not in nodes:
                raise Unsolvable(why)
        return nodes

    def _met(
        self, nodes: dict[Key, _Node], refused: dict[Key, str], parent: _Node | None, dependency: Dependency, depth: int
    ) -> tuple[Key, _Node | None]:
        """The key of what a dependency has led to, and its node where that is new."""
        key = dependency.key
        if key not in nodes or is_range(dependency.version):
            at = self._version_of(dependency)
            key = (at.group, at.artifact, *key[2:])
        if parent is not None:
            parent.edges.append((key, dependency.scope))
        if key in nodes or key[:2] == (self._root.at.group, self._root.at.artifact):
            return key, None
        if not self._fits(key, at.version):
            refused.setdefault(key, f"no version of {at.group}:{at.artifact} is in all ranges that are wanted of it")
            return key, None
        if parent is not None:
            exclusions = dependency.exclusions | parent.exclusions
            parent.children.append(key)
        else:
            own = self._root.managed.get(dependency.key)
            exclusions = dependency.exclusions | (own.exclusions if own is not None else frozenset())
        nodes[key] = _Node(at, dependency, depth, exclusions)
        if len(nodes) > MOST_ARTIFACTS:
            raise Unsolvable(f"it needs more than {MOST_ARTIFACTS} artifacts")
        return key, nodes[key]

    def _fits(self, key: Key, version: str) -> bool:
        return all(version in each for each in self._hard.get(key, ()))

    def _version_of(self, dependency: Dependency) -> Coordinates:
        """What is meant, with a range made a version and what has moved followed."""
        group, artifact, wanted = dependency.group, dependency.artifact, dependency.version
        called = f"{group}:{artifact}"
        if not wanted:
            raise Unsolvable(f"{called} is wanted in no version")
        check_file_part(dependency.type)
        if dependency.classifier:
            check_file_part(dependency.classifier)
        if is_range(wanted):
            wanted = self._highest(dependency)
        elif wanted in _META:
            listed = [each for each in self._listed(group, artifact) if wanted == "LATEST" or "SNAPSHOT" not in each]
            wanted = max(listed, key=sort_key, default="")
        at = checked(Coordinates(group, artifact, wanted))
        for _ in range(_MOST_MOVES):
            model = self._read(at)
            moved = model.moved_to if model is not None else None
            if moved is None or moved == at:
                return at
            self._notes[f"{at} has moved to {moved}"] = None
            at = checked(moved)
        raise Unsolvable(f"{called} moves in a circle")

    def _highest(self, dependency: Dependency) -> str:
        try:
            wanted = parse_range(dependency.version)
        except ValueError as error:
            raise Unsolvable(f"{dependency.group}:{dependency.artifact}: {error}") from error
        ranges = self._hard.setdefault(dependency.key, [])
        if wanted not in ranges:
            ranges.append(wanted)
        listed = self._listed(dependency.group, dependency.artifact)
        fitting = [each for each in listed if all(each in one for one in ranges)]
        fitting = fitting or [each for each in listed if each in wanted]
        if not fitting:
            told = f"{dependency.group}:{dependency.artifact} is wanted in {dependency.version}"
            raise Unsolvable(f"{told}, and the repository has no such version")
        return max(fitting, key=sort_key)

    def _listed(self, group: str, artifact: str) -> Sequence[str]:
        checked(Coordinates(group, artifact, "0"))
        return self._versions(group, artifact)

    # --- what they need

    def _read(self, at: Coordinates) -> Effective | None:
        try:
            found = self._poms.effective(at)
        except BadPom as error:
            # As Maven does: a POM that is none says nothing, and what it is of may do without.
            self._notes[f"warning: {error}; what it needs is not known"] = None
            return None
        if found is None:
            self._notes[f"warning: {at} has no POM in the repository; what it needs is not known"] = None
        return found

    def _below(self, node: _Node) -> Iterator[Dependency]:
        if node.dependency.type in _WHOLE or node.dependency.scope == "system":
            return
        model = self._read(node.at)
        for each in model.dependencies if model is not None else ():
            managed = self._managed(each)
            if managed.scope in {"test", "provided"} or managed.is_optional:
                continue
            if any(
                group in ("*", each.group) and artifact in ("*", each.artifact) for group, artifact in node.exclusions
            ):
                continue
            yield managed

    def _managed(self, each: Dependency) -> Dependency:
        by = self._root.managed.get(each.key)
        if by is None:
            return each
        return replace(
            each,
            version=by.version or each.version,
            scope=by.scope or each.scope,
            is_optional=each.is_optional if by.is_optional is None else by.is_optional,
            exclusions=each.exclusions | by.exclusions,
        )


# --- scopes ----------------------------------------------------------------------------------------------------------


def _widen(nodes: dict[Key, _Node]) -> None:
    """Let each node have the widest scope of all ways to it; what an artifact names itself has the scope it says."""
    for node in nodes.values():
        node.scope = (node.dependency.scope or "compile") if node.depth == 1 else "test"
    changed = True
    while changed:
        changed = False
        for parent in nodes.values():
            for key, written in parent.edges:
                child = nodes.get(key)
                if child is None or child.depth == 1:
                    continue
                scope = _derived(parent.scope, written or "compile")
                if _WIDEST.index(scope) < _WIDEST.index(child.scope):
                    child.scope, changed = scope, True


def _runtime(nodes: dict[Key, _Node]) -> Iterator[Artifact]:
    """What runs, in the order of the class path: each dependency, and what came with it, before the next one."""
    _widen(nodes)
    waiting = [key for key, node in reversed(nodes.items()) if node.depth == 1]
    while waiting:
        node = nodes[waiting.pop()]
        waiting += reversed(node.children)
        dependency = node.dependency
        if node.scope in _RUNS and dependency.type != "pom":
            yield Artifact(node.at, *extension_and_classifier(dependency.type, dependency.classifier))


def _derived(above: str, written: str) -> str:
    """Maven's ``JavaScopeDeriver``."""
    if written in {"test", "system"}:
        return "test"  # neither runs
    if above == "compile":
        return written if written in _WIDEST else "compile"
    return above if above in {"test", "runtime"} else "provided"
