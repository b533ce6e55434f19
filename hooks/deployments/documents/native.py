"""``nativePackage`` of a deployment group: where a package that is deployed without a bundle goes, and its scripts. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from hooks.deployments.appspec_model import EVENT_SECONDS
from hooks.deployments.documents.choices import read_link
from hooks.deployments.documents.values import StrictReader, read_document
from hooks.deployments.lifecycle import SCRIPTABLE_EVENTS

MOST_SCRIPT_CHARACTERS = 16_000
"""Of all scripts of a group together: they go to the agents in every command."""
MOST_WORDS = 100
# It stands in the first lines of scripts, where a blank would end it and a long one is cut off.
_LINK = re.compile(r"[A-Za-z0-9._+@/-]{1,100}\Z")
_USER = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,31}\Z")


@dataclass(frozen=True, slots=True)
class NativeScript:
    """What runs in a lifecycle event: the text of a script, or words of a command line (``text`` is "" then)."""

    text: str
    words: tuple[str, ...]
    timeout_seconds: int
    runas: str


@dataclass(frozen=True, slots=True)
class NativeDocument:
    """What ``nativePackage`` says. ``link`` leads to the environment of the version that counts.

    ``runs_package_code`` lets packages' own code run while they are installed (install scripts, builds from source).
    """

    link: str
    hooks: Mapping[str, NativeScript]
    runs_package_code: bool = False


def read_native(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, Any]:
    """The document as it is kept. Faults are the reader's."""
    entries = reader.fields(node, where, {"link", "hooks", "runPackageCode"})
    found: dict[str, Any] = {"link": _link(reader, entries.get("link"), node, f"{where}.link")}
    hooks: dict[str, Any] = {}
    for event, value in reader.mapping(entries.get("hooks"), f"{where}.hooks").items():
        path = f"{where}.hooks.{event}"
        if event not in SCRIPTABLE_EVENTS:
            reader.fault(value, f"{path}: no script runs there; known are {', '.join(SCRIPTABLE_EVENTS)}")
        else:
            hooks[event] = _script(reader, value, path)
    if hooks:
        found["hooks"] = hooks
    if "runPackageCode" in entries:
        found["runPackageCode"] = reader.boolean(entries["runPackageCode"], f"{where}.runPackageCode")
    if len(json.dumps(hooks)) > MOST_SCRIPT_CHARACTERS:
        reader.fault(node, f"{where}.hooks: all scripts together have at most {MOST_SCRIPT_CHARACTERS} characters")
    return found


def parse_native(document: Mapping[str, Any]) -> NativeDocument:
    """What ``read_native`` has made, read again by who acts on it. Raises InvalidDocument with all faults."""
    reader, root = read_document(json.dumps(document), "nativePackage")
    found = read_native(reader, root, "nativePackage")
    reader.check()
    hooks = {
        event: NativeScript(
            value["run"] if isinstance(value["run"], str) else "",
            () if isinstance(value["run"], str) else tuple(value["run"]),
            value.get("timeout", EVENT_SECONDS),
            value.get("runas", ""),
        )
        for event, value in found.get("hooks", {}).items()
    }
    return NativeDocument(found["link"], hooks, found.get("runPackageCode", False))


def _link(reader: StrictReader, node: yaml.Node | None, above: yaml.Node, where: str) -> str:
    if node is None:
        reader.fault(above, f"{where} is missing: the link that leads to the installed version")
        return ""
    text = read_link(reader, node, where)
    if text and not _LINK.match(text):
        reader.fault(node, f"{where} has at most 100 of letters, digits and . _ + @ - /")
    return text


def _script(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        return {"run": _run(reader, node, where)}
    entries = reader.fields(node, where, {"run", "timeout", "runas"})
    if "run" not in entries:
        reader.fault(node, f"{where}.run is missing: the text of a script, or a list of words")
        return {"run": ""}
    found: dict[str, Any] = {"run": _run(reader, entries["run"], f"{where}.run")}
    if "timeout" in entries:
        found["timeout"] = reader.whole(entries["timeout"], f"{where}.timeout", (1, int(EVENT_SECONDS)))
    if "runas" in entries:
        found["runas"] = reader.text(entries["runas"], f"{where}.runas")
        if not _USER.match(found["runas"]):
            reader.fault(entries["runas"], f"{where}.runas is no name of a user")
    return found


def _run(reader: StrictReader, node: yaml.Node, where: str) -> str | list[str]:
    if isinstance(node, yaml.SequenceNode):
        words = [reader.limited(item, path, 4096) for path, item in reader.listed(node, where, MOST_WORDS)]
        if not words or not words[0]:
            reader.fault(node, f"{where} is empty: a program and its arguments")
        return words
    text = reader.text(node, where)
    if not text.strip():
        reader.fault(node, f"{where} is empty: the text of a script, or a list of words")
    return text
