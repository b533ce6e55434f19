"""Reading ``definitionFrom:``, which says in which git repository a pipeline's definition is. Pure."""

from __future__ import annotations

import yaml

from hooks.pipelines.definition import NAME, DefinitionLocation
from hooks.pipelines.document import Faults, fields, limited, line_of, named, pairs, text_of
from hooks.pipelines.sources import git_settings

DEFAULT_PATH = ".entrepot/pipeline.yml"


def read_location(node: yaml.Node, faults: Faults) -> DefinitionLocation:
    """The settings of its source are those of a git source action."""
    entries = fields(node, "definitionFrom", {"name", "source", "path", "as"}, faults)
    name = named(node, entries, "definitionFrom", NAME, faults)
    source: dict[str, str] = {}
    if "source" not in entries:
        faults.add(line_of(node), "definitionFrom: source is missing")
    else:
        known = {setting.name: setting for setting in git_settings.OWN}
        for key, value, line in pairs(entries["source"], "definitionFrom: source", faults):
            source[key] = limited(value, f"definitionFrom: {key}", 1000, faults, strict=True)
            setting = known.get(key)
            fault = None if setting is None or setting.check is None else setting.check(source[key])
            if setting is None:
                fault = f"unknown (known: {', '.join(known)})"
            if fault:
                faults.add(line, f"definitionFrom: {key}: {fault}")
        if not source.get("BranchName"):
            faults.add(line_of(entries["source"]), "definitionFrom: BranchName is missing")
        for key, fault in git_settings.faults_of(source):
            faults.add(line_of(entries["source"]), f"definitionFrom: {key}: {fault}")
    path = text_of(entries["path"], "definitionFrom: path", faults) if "path" in entries else DEFAULT_PATH
    if path and path_fault(path):
        faults.add(line_of(entries["path"]), f"definitionFrom: {path_fault(path)}")
    account = text_of(entries["as"], "definitionFrom: as", faults) if "as" in entries else ""
    if "as" in entries and not account:
        faults.add(line_of(entries["as"]), "definitionFrom: as: an account is needed")
    return DefinitionLocation(name, source, path, account)


def path_fault(path: str) -> str:
    """What is wrong with the path of a file in a repository; empty if nothing is."""
    parts = path.split("/")
    if len(path) > 500 or not path.isprintable() or ".." in parts or "" in parts or path.startswith(("-", ":")):
        return f"path {path[:100]!r} is no path of a file within the repository"
    return ""
