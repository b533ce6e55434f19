"""YAML read by source text: every scalar stays as it was written, every fault has its line, all faults at once.

A schema that guesses types would turn ``python: 3.10`` into 3.1, ``0644`` into 420 and ``yes`` into True; buildspec
files in the wild rely on none of that happening. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from registry.errors import InvalidDocument

MAX_DOCUMENT_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_MERGES = 1_000
MAX_MERGE_DEPTH = 64

_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def compose(text: str, document: str) -> yaml.Node:
    """The node tree of a single YAML document of at most 256 KiB, 32 levels and 20,000 nodes.

    Raises InvalidDocument for a syntax error or a document over a limit.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_DOCUMENT_BYTES:
        raise InvalidDocument(document, [f"larger than {MAX_DOCUMENT_BYTES // 1024} KiB"])
    try:
        _measure(text, document)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        raise InvalidDocument(document, [_in_words(error, text)]) from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise InvalidDocument(document, [f"not valid YAML: {error}"]) from error
    if node is None:
        raise InvalidDocument(document, ["line 1: the document is empty"])
    return node


def _in_words(error: yaml.MarkedYAMLError, text: str) -> str:
    """A syntax error with its line, and how to mend the ones that people make most."""
    mark = error.problem_mark or error.context_mark
    words = error.problem or error.context or "not valid YAML"
    if words.startswith("but ") and error.context:
        words = f"{error.context}, {words}"
    elif error.context and error.context != words:
        words = f"{words} ({error.context})"
    if mark is None:
        return words
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "mapping values are not allowed" in words:
        words += "; put quotes around a value that holds ': ' or ends with ':'"
    elif "\t" in line[: len(line) - len(line.lstrip())]:
        words += "; indent with spaces, YAML takes no tabs"
    return f"line {mark.line + 1}: {words}"


def _measure(text: str, document: str) -> None:
    # The event stream is flat: depth is known before anything recurses over the nodes.
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or count > MAX_NODES:
            where = f"line {event.start_mark.line + 1}: " if event.start_mark else ""
            raise InvalidDocument(document, [f"{where}nested deeper than {MAX_DEPTH} or more than {MAX_NODES} values"])


class DocumentReader:
    """Takes nodes apart and collects what is wrong (``faults``) and what is merely odd (``warnings``), with lines.

    Every method gives a usable empty value after a fault, so that reading goes on and all faults are found.
    """

    def __init__(self, document: str) -> None:
        self.document = document
        self._faults: list[tuple[int, str]] = []
        self._warnings: list[tuple[int, str]] = []
        self._merges = 0
        self._merge_depth = 0
        self._is_too_deep = False
        self._name_lines: dict[int, int] = {}
        self.is_strict = False
        """Whether what is unknown is a fault rather than a warning; for the document to say."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """``line 4: …`` in the order of the lines."""
        return tuple(f"line {line}: {text}" for line, text in sorted(self._warnings))

    def fault(self, node: yaml.Node, text: str) -> None:
        """Note that the document cannot be used because of ``node``."""
        self._faults.append((node.start_mark.line + 1, text))

    def warn(self, node: yaml.Node, text: str) -> None:
        """Note something that is accepted and has no effect."""
        self._warnings.append((node.start_mark.line + 1, text))

    def check(self) -> None:
        """Raise InvalidDocument with all faults found so far, if there are any."""
        if self._faults:
            faults = [f"line {line}: {text}" for line, text in sorted(self._faults)]
            raise InvalidDocument(self.document, faults, self.warnings)

    def mapping(self, node: yaml.Node | None, where: str) -> dict[str, yaml.Node]:
        """The entries of a mapping; none for an empty value. Merge keys (``<<``) are resolved, own keys win."""
        if node is None or is_empty(node):
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.fault(node, f"{where} has to be a mapping of names to values")
            return {}
        own: dict[str, yaml.Node] = {}
        merged: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fault(key, f"{where}: a name has to be plain text")
            elif key.value == "<<" and not key.style:
                merged = self._merge(value, where) | merged
            elif key.value in own:
                self.fault(key, f"{where}: {key.value!r} stands here twice")
            else:
                own[key.value] = value
                self._name_lines[id(value)] = key.start_mark.line + 1
        return merged | own

    def _merge(self, node: yaml.Node, where: str) -> dict[str, yaml.Node]:
        # Merges of merges double with each level (the alias bomb of mappings), hence the counter.
        self._merges += 1
        if self._merges > MAX_MERGES:
            if self._merges == MAX_MERGES + 1:
                self.fault(node, f"{where}: too many merge keys")
            return {}
        # By aliases a merge reaches deeper than the text is nested, and in a circle also itself.
        if self._merge_depth == MAX_MERGE_DEPTH:
            if not self._is_too_deep:
                self.fault(node, f"{where}: merge keys lead through more than {MAX_MERGE_DEPTH} others, or in a circle")
            self._is_too_deep = True
            return {}
        self._merge_depth += 1
        try:
            return self._merged(node, where)
        finally:
            self._merge_depth -= 1

    def _merged(self, node: yaml.Node, where: str) -> dict[str, yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            result: dict[str, yaml.Node] = {}
            for item in node.value:
                result = self.mapping(item, where) | result
            return result
        return self.mapping(node, where)

    def known(self, entries: Mapping[str, yaml.Node], names: Iterable[str], where: str) -> None:
        """Warn of every entry that is none of ``names``: it is ignored, as CodeBuild does. A fault when strict."""
        allowed = frozenset(names)
        for name, node in entries.items():
            if name not in allowed:
                self.unknown(node, f"{where + '.' if where else ''}{name} is unknown", "and is ignored")

    def unknown(self, node: yaml.Node, text: str, consequence: str) -> None:
        """Warn of a name, by its value, that has no meaning here, with the ``consequence``; a fault when strict."""
        line = self._name_lines.get(id(node), node.start_mark.line + 1)
        if self.is_strict:
            self._faults.append((line, text))
        else:
            self._warnings.append((line, f"{text} {consequence}"))

    def text(self, node: yaml.Node | None, where: str, default: str = "") -> str:
        """A scalar's source text."""
        if node is None:
            return default
        if not isinstance(node, yaml.ScalarNode):
            self.fault(node, f"{where} has to be text; put quotes around it if it holds ': ' or '['")
            return default
        return str(node.value)

    def texts(self, node: yaml.Node | None, where: str) -> tuple[str, ...]:
        """A list of texts; a bare scalar is a list of one, an empty value a list of none."""
        if node is None or is_empty(node):
            return ()
        if isinstance(node, yaml.ScalarNode):
            return (str(node.value),)
        if not isinstance(node, yaml.SequenceNode):
            self.fault(node, f"{where} has to be a list of texts")
            return ()
        return tuple(self.text(item, f"{where}[{index}]") for index, item in enumerate(node.value))

    def boolean(self, node: yaml.Node | None, where: str, *, default: bool = False) -> bool:
        """yes, no, true or false in any letter case."""
        if node is None or is_empty(node):
            return default
        word = self.text(node, where).lower()
        if word not in {"yes", "no", "true", "false"}:
            self.fault(node, f"{where} has to be yes or no")
        return word in {"yes", "true"}


def is_empty(node: yaml.Node) -> bool:
    """Whether the value was left out (``key:`` with nothing, ``~`` or ``null``)."""
    return isinstance(node, yaml.ScalarNode) and not node.style and node.value in {"", "~", "null"}
