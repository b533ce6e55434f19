"""Pipelines in CloudFormation templates: ``AWS::CodePipeline::Pipeline``, resolved. Pure.

The structure is CodePipeline's in PascalCase, which ``document.fields`` reads. What differs is here: a resource's name may be
its logical one, and stores stand in a list.
"""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from hooks.pipelines.document import Faults, line_of, pairs

PIPELINE = "AWS::CodePipeline::Pipeline"
_TEMPLATE = {"AWSTemplateFormatVersion", "Description", "Parameters", "Metadata", "Outputs", "Conditions", "Mappings"}


def is_template(keys: set[str], root: yaml.MappingNode) -> bool:
    """Whether a document is a template, or one resource of it; ``keys`` begin with a small letter."""
    return "resources" in keys or ("type" in keys and "properties" in keys and _type_of(root) == PIPELINE)


def pipelines_in(root: yaml.MappingNode, faults: Faults, warnings: list[str]) -> Iterator[tuple[str, yaml.Node]]:
    """(logical name, properties) of the pipelines of a template. Other resources are told of, and left alone."""
    entries = {key: value for key, value, _ in pairs(root, "the template", faults)}
    if "Resources" not in entries:
        yield from _properties("", root, faults)
        return
    for key in sorted(set(entries) - _TEMPLATE - {"Resources", "Transform"}):
        faults.add(line_of(root), f"the template: unknown key {key!r}")
    found = 0
    for name, node, line in pairs(entries["Resources"], "the template: Resources", faults):
        kind = _type_of(node) if isinstance(node, yaml.MappingNode) else ""
        if kind != PIPELINE:
            warnings.append(f"line {line}: {name} ({kind or 'no resource'}) is no pipeline, and has no effect")
            continue
        found += 1
        yield from _properties(name, node, faults)
    if not found:
        faults.add(line_of(root), f"the template: it has no {PIPELINE}")


def _properties(name: str, node: yaml.Node, faults: Faults) -> Iterator[tuple[str, yaml.Node]]:
    entries = {key: value for key, value, _ in pairs(node, "the resource", faults)}
    if "Properties" not in entries:
        faults.add(line_of(node), "the resource: Properties are missing")
        return
    yield name, entries["Properties"]


def _type_of(node: yaml.MappingNode) -> str:
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value == "Type" and isinstance(value, yaml.ScalarNode):
            return str(value.value)
    return ""
