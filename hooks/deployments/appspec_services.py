"""``appspec.yaml`` for services in containers (CodeDeploy's for ECS), in YAML or JSON: all faults at once. Pure.

It takes what people's files have: no ``version`` or 1.0, a port in quotes, names in lower case, the placeholder
``<TASK_DEFINITION>``, a hook of a template with nothing in it. What it cannot mean here (subnets, capacity providers)
has no effect, of which a warning tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from hooks.deployments.reading import entries_of, has_controls
from hooks.document import DocumentReader, compose, is_empty

DEFAULT_FILENAME = "appspec.yaml"
ENGINE_EVENTS = ("Install", "AllowTestTraffic", "AllowTraffic")
HOOK_EVENTS = ("BeforeInstall", "AfterInstall", "AfterAllowTestTraffic", "BeforeAllowTraffic", "AfterAllowTraffic")
MAX_NAME = 255

_SERVICE = "AWS::ECS::Service"
_LAMBDA = "AWS::Lambda::Function"
_TOP = ("version", "resources", "hooks")
_SERVERS_OWN = ("os", "files", "permissions", "file_exists_behavior")
_NO_EFFECT = {
    "platformversion": "PlatformVersion",
    "networkconfiguration": "NetworkConfiguration",
    "capacityproviderstrategy": "CapacityProviderStrategy",
}
_VERSION = re.compile(r"[01](?:\.0{1,3})?\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")
_CONTAINER = re.compile(r"[A-Za-z0-9_-]{1,255}\Z")
_VARIABLE = re.compile(r"[<$%{]")


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What a document says.

    ``task_definition`` is as it stands there (an ARN, ``family:7``, a placeholder, or ""). ``container_name`` and
    ``container_port`` say who answers requests. ``hooks``: lifecycle event → name of what runs in it.
    """

    task_definition: str
    container_name: str
    container_port: int
    hooks: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The family that ``task_definition`` names; "" where it is a placeholder or left out."""
        if not self.task_definition or _VARIABLE.search(self.task_definition):
            return ""
        return self.task_definition.rpartition("/")[2].partition(":")[0]


def parse_service_spec(text: str, document: str = DEFAULT_FILENAME) -> ServiceSpec:
    """Read an appspec for a service. Raises InvalidDocument with every fault and its line."""
    text = text.removeprefix("\ufeff")
    if text.lstrip().startswith("{"):
        text = text.replace("\t", " ")  # JSON may be indented by tabs, and has none within its texts
    root = compose(text, document)
    reader = DocumentReader(document)
    top = _folded(reader, root, "the appspec")
    _check_kind(reader, root, top)
    reader.check()
    _check_version(reader, top.get("version"))
    for name, node in top.items():
        if name not in _TOP:
            reader.unknown(node, f"{name} is unknown", "and is ignored")
    properties = _service(reader, root, top.get("resources"))
    task_definition = reader.text(properties.get("taskdefinition"), "TaskDefinition").strip()
    if has_controls(task_definition) or len(task_definition) > 2048:
        reader.fault(properties["taskdefinition"], "TaskDefinition is not the name of a task definition")
    container, port = _answering(reader, root, properties)
    hooks = dict(_hooks(reader, top.get("hooks")))
    reader.check()
    return ServiceSpec(task_definition, container, port, hooks, reader.warnings)


def _folded(reader: DocumentReader, node: yaml.Node | None, where: str) -> dict[str, yaml.Node]:
    """The entries of a mapping by their names in lower case."""
    found: dict[str, yaml.Node] = {}
    for name, value in reader.mapping(node, where).items():
        if name.lower() in found:
            reader.fault(value, f"{where}: {name!r} stands here twice, in other letters")
        found[name.lower()] = value
    return found


def _check_kind(reader: DocumentReader, root: yaml.Node, top: Mapping[str, yaml.Node]) -> None:
    if "resources" in top:
        return
    if set(top).intersection(_SERVERS_OWN):
        reader.fault(root, "this appspec is for servers (it has os, files …); one for a service has Resources")
    elif isinstance(root, yaml.MappingNode):
        reader.fault(
            root, "this is no appspec of deployments: it has no Resources; other programs use the name as well"
        )
    else:
        reader.fault(root, "an appspec for a service is a mapping with 'version', 'Resources' and 'Hooks'")


def _check_version(reader: DocumentReader, node: yaml.Node | None) -> None:
    if node is None:
        return
    version = reader.text(node, "version").strip()
    if not _VERSION.match(version):
        reader.fault(node, f"version {version[:40]!r} is unknown; it has to be 0.0")
    elif not version.startswith("0"):
        reader.warn(node, f"version {version} is taken for 0.0, the only one that there is")


def _service(reader: DocumentReader, root: yaml.Node, node: yaml.Node | None) -> dict[str, yaml.Node]:
    """The properties of the one service."""
    resources = list(_named(reader, node, "Resources"))
    if len(resources) != 1:
        reader.fault(node or root, "Resources has to have one entry, TargetService")
        return {}
    name, value = resources[0]
    entry = _folded(reader, value, name)
    kind = reader.text(entry.get("type"), f"{name}.Type").strip()
    if kind == _LAMBDA:
        reader.fault(value, f"this appspec is for Lambda (Type is {_LAMBDA}); functions are not deployed here")
        return {}
    if kind != _SERVICE:
        reader.fault(entry.get("type") or value, f"{name}.Type has to be {_SERVICE}")
    if name != "TargetService":
        reader.warn(value, f"CodeDeploy takes the name TargetService alone, not {name[:80]!r}")
    for key, unknown in entry.items():
        if key not in {"type", "properties"}:
            reader.unknown(unknown, f"{name}.{key} is unknown", "and is ignored")
    if "properties" not in entry:
        reader.fault(value, f"{name}.Properties is missing: which container answers, at which port?")
        return {}
    properties = _folded(reader, entry["properties"], f"{name}.Properties")
    for key, unknown in properties.items():
        if key in _NO_EFFECT:
            reader.warn(unknown, f"{_NO_EFFECT[key]} has no effect here: the container host is the group's")
        elif key not in {"taskdefinition", "loadbalancerinfo"}:
            reader.unknown(unknown, f"{name}.Properties.{key} is unknown", "and is ignored")
    return properties


def _answering(reader: DocumentReader, root: yaml.Node, properties: Mapping[str, yaml.Node]) -> tuple[str, int]:
    node = properties.get("loadbalancerinfo")
    if node is None:
        if properties:
            reader.fault(root, "LoadBalancerInfo is missing: which container answers, at which port?")
        return "", 0
    entry = _folded(reader, node, "LoadBalancerInfo")
    name = reader.text(entry.get("containername"), "ContainerName").strip()
    if not _CONTAINER.match(name):
        _refuse_value(reader, entry.get("containername") or node, "ContainerName", name, "is not a container's name")
    text = reader.text(entry.get("containerport"), "ContainerPort").strip()
    port = int(text) if _PORT.match(text) else 0
    if not 0 < port < 65536:
        _refuse_value(reader, entry.get("containerport") or node, "ContainerPort", text, "has to be 1 to 65535")
    return name, port


def _refuse_value(reader: DocumentReader, node: yaml.Node, where: str, value: str, why: str) -> None:
    if not value:
        reader.fault(node, f"{where} is missing")
    elif _VARIABLE.search(value):
        reader.fault(node, f"{where} {value[:80]!r} is a place for a value that nobody has filled in")
    else:
        reader.fault(node, f"{where} {value[:80]!r} {why}")


def _hooks(reader: DocumentReader, node: yaml.Node | None) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for event, value in _named(reader, node, "Hooks"):
        where = f"Hooks.{event[:80]}"
        name = "" if is_empty(value) else reader.text(value, where).strip()
        if not name:
            reader.warn(value, f"{where} names nothing, and nothing runs")
        elif event in ENGINE_EVENTS:
            reader.fault(value, f"{where}: no hook runs in this event, it is the engine's own")
        elif event not in HOOK_EVENTS:
            # A check that people believe in and that never runs is worse than a document that is refused.
            reader.fault(value, f"{where}: there is no such lifecycle event; there are {', '.join(HOOK_EVENTS)}")
        elif event in seen:
            reader.fault(value, f"{where} stands here twice")
        elif len(name) > MAX_NAME or has_controls(name):
            reader.fault(value, f"{where}: {name[:80]!r} is not the name of a hook")
        else:
            seen.add(event)
            yield event, name


def _named(reader: DocumentReader, node: yaml.Node | None, where: str) -> Iterator[tuple[str, yaml.Node]]:
    """The entries of a list of mappings with one name each; a single mapping is taken for such a list."""
    if isinstance(node, yaml.MappingNode):
        yield from reader.mapping(node, where).items()
        return
    for name, item in entries_of(reader, node, where):
        yield from reader.mapping(item, name).items()
