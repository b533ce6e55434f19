"""What a Compute action says beside its configuration (CodePipeline "Commands action reference"). Pure.

It is kept with the configuration, as JSON under names that nobody writes there: so it is resolved, shown and pinned alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from hooks.pipelines.document import Faults, fields, items, limited, line_of, text_of, whole
from hooks.pipelines.rules import Places
from hooks.pipelines.variables import has_reference

COMPUTE = "Compute"
MAX_COMMANDS = 50
MAX_OUTPUT_VARIABLES = 15
MAX_VARIABLES = 10
MAX_FILES = 10
MAX_MINUTES = 2160
"""A build's longest time."""
COMMANDS, OUTPUT_VARIABLES, ENVIRONMENT, FILES = "Commands", "OutputVariables", "EnvironmentVariables", "OutputFiles"
COMPUTE_KEYS = ("commands", "outputVariables", "environmentVariables")
_ELSEWHERE = {
    "commands": "commands belong in a build project's buildspec, run by a Build action, or in a Compute action",
    "outputVariables": "a build hands on what its buildspec lists under exported-variables",
    "environmentVariables": "use the EnvironmentVariables setting of the CodeBuild provider",
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def refuse_compute(entries: Mapping[str, yaml.Node], what: str, faults: Faults) -> None:
    """Add a fault for each thing that only a Compute action has."""
    for key, why in _ELSEWHERE.items():
        if key in entries and entries[key].value and entries[key].tag != "tag:yaml.org,2002:null":
            faults.add(line_of(entries[key]), f"{what}: {key!r} is not carried out by this release: {why}")
    for item, _ in _outputs(entries):
        faults.add(
            line_of(item), f"{what}: artifact: 'files' is for Compute actions; a buildspec chooses them otherwise"
        )


def compute_configuration(
    node: yaml.Node,
    entries: Mapping[str, yaml.Node],
    what: str,
    *,
    place: tuple[int, int],
    places: Places,
    faults: Faults,
) -> dict[str, str]:
    """The commands with their variables and files as settings: JSON lists."""
    if "configuration" in entries and entries["configuration"].value:
        told = "a Compute action has no configuration; commands and variables stand beside the name"
        faults.add(line_of(entries["configuration"]), f"{what}: {told}")
    if "commands" not in entries:
        faults.add(line_of(node), f"{what}: commands are missing")
    whole(dict(entries), "timeoutInMinutes", what, (5, MAX_MINUTES), faults)
    found = {
        COMMANDS: commands_of(entries.get("commands"), f"{what}: commands", faults),
        OUTPUT_VARIABLES: _names(entries.get("outputVariables"), f"{what}: outputVariables", faults),
        ENVIRONMENT: _environment(entries.get("environmentVariables"), f"{what}: environmentVariables", faults),
        FILES: _files(entries, what, faults),
    }
    for key, name in ((COMMANDS, "commands"), (ENVIRONMENT, "environmentVariables")):
        if name in entries:
            places.note((*place, "configuration", key), line_of(entries[name]))
    return {key: json.dumps(value, ensure_ascii=False, sort_keys=True) for key, value in found.items() if value}


def commands_of(node: yaml.Node | None, what: str, faults: Faults) -> list[str]:
    """The commands of a list, each one line of text without variables."""
    found = []
    for item in _listed(node, what, MAX_COMMANDS, faults):
        text = limited(item, what, 4096, faults)
        if not text.strip() or any(ord(character) < 32 and character != "\t" for character in text):
            faults.add(line_of(item), f"{what}: a command is one line of text")
        if has_reference(text):
            # Whoever publishes may have a say in a variable's value, and the shell takes all of it for commands.
            why = "variables are not written into commands; give them to it by environmentVariables"
            faults.add(line_of(item), f"{what}: {why}")
        found.append(text)
    return found


def _names(node: yaml.Node | None, what: str, faults: Faults) -> list[str]:
    found: list[str] = []
    for item in _listed(node, what, MAX_OUTPUT_VARIABLES, faults):
        name = text_of(item, what, faults)
        if not _VARIABLE.match(name) or name in found:
            faults.add(line_of(item), f"{what}: {name[:120]!r} is there twice, or no name of an environment variable")
        found.append(name)
    return found


def _environment(node: yaml.Node | None, what: str, faults: Faults) -> list[dict[str, str]]:
    found = []
    for item in _listed(node, what, MAX_VARIABLES, faults):
        entries = fields(item, what, {"name", "value", "type"}, faults)
        found.append(
            {key: limited(value, f"{what}: {key}", 1000, faults, strict=True) for key, value in entries.items()}
        )
    return found


def _files(entries: Mapping[str, yaml.Node], what: str, faults: Faults) -> list[str]:
    found: list[str] = []
    for _, node in _outputs(entries):
        listed = _listed(node, f"{what}: files", MAX_FILES, faults)
        found += [limited(item, f"{what}: files", 1000, faults) for item in listed]
    if items(entries.get("outputArtifacts"), f"{what}: artifacts", faults) and not found:
        faults.add(line_of(entries["outputArtifacts"]), f"{what}: an output artifact needs its files")
    return found


def _outputs(entries: Mapping[str, yaml.Node]) -> list[tuple[yaml.Node, yaml.Node]]:
    """(artifact, its files) of those output artifacts that say files."""
    node = entries.get("outputArtifacts")
    found = []
    for item in node.value if isinstance(node, yaml.SequenceNode) else ():
        for key, value in item.value if isinstance(item, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value.lower() == "files" and value.value:
                found.append((item, value))
    return found


def _listed(node: yaml.Node | None, what: str, most: int, faults: Faults) -> list[Any]:
    found = items(node, what, faults)
    if len(found) > most:
        faults.add(line_of(found[most]), f"{what}: {len(found)} of them, at most {most} are allowed")
    return found[:most]
