"""ECS's task definition, as far as one container of a host can be what it says. Pure.

What would open the host (privileges, mounts, its network) is refused, and so is everything that is not done here: a
container that silently lacks what its document asks for is found out in production.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_TEXTS = 1000
MAX_TEXT = 32 * 1024
RESERVED_LABEL = "entrepot."

_IMAGE = re.compile(r"(?:[a-z0-9][A-Za-z0-9._:/-]{0,254}@)?sha256:[0-9a-f]{64}\Z")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}\Z")
_NUMBER = re.compile(r"[0-9]{1,9}\Z")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?\Z")
_PATH = re.compile(r"/[^\x00-\x1f\x7f:,]{0,254}\Z")

# What describe-task-definition tells besides, and what only AWS can carry out and nobody misses here.
_TOLD = frozenset(
    (
        "taskDefinitionArn",
        "revision",
        "status",
        "requiresAttributes",
        "compatibilities",
        "requiresCompatibilities",
        "registeredAt",
        "registeredBy",
        "deregisteredAt",
        "executionRoleArn",
        "taskRoleArn",
        "tags",
        "runtimePlatform",
    )
)
_TASK = frozenset(
    (
        "family",
        "containerDefinitions",
        "cpu",
        "memory",
        "networkMode",
    )
)
_CONTAINER = frozenset(
    (
        "name",
        "image",
        "command",
        "entryPoint",
        "workingDirectory",
        "user",
        "environment",
        "memory",
        "memoryReservation",
        "cpu",
        "essential",
        "portMappings",
        "healthCheck",
        "readonlyRootFilesystem",
        "stopTimeout",
        "dockerLabels",
        "linuxParameters",
        "interactive",
        "pseudoTerminal",
        "logConfiguration",
    )
)
_WHY = {
    "privileged": "a container has no privileges here",
    "mountPoints": "nothing of the host is mounted",
    "volumesFrom": "nothing of the host is mounted",
    "volumes": "nothing of the host is mounted",
    "secrets": "secrets are not resolved here",
    "links": "containers are not linked",
    "dockerSecurityOptions": "the host sets them",
    "pidMode": "a container has its own processes",
    "ipcMode": "a container has its own memory",
}


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A command in the container that ends with 0 when it is well. Times in seconds."""

    command: tuple[str, ...]
    interval: int = 30
    timeout: int = 5
    retries: int = 3
    start_period: int = 0


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """A container to be. ``memory_bytes`` and ``cpu_units`` (1024 are one processor) 0: the host's usual ones.

    ``image`` is named by a digest. ``tmpfs``: place → size in bytes.
    """

    name: str
    image: str
    command: tuple[str, ...] | None = None
    entry_point: tuple[str, ...] | None = None
    working_directory: str = ""
    user: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int = 0
    cpu_units: int = 0
    ports: tuple[int, ...] = ()
    health: HealthCheck | None = None
    is_read_only: bool = False
    stop_seconds: int = 30
    has_init: bool = False
    tmpfs: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """What is run as a service."""

    family: str
    container: ContainerPlan


def read_task_definition(document: object) -> tuple[TaskDefinition | None, tuple[str, ...]]:
    """A task definition and no faults, or None and all of them."""
    reader = _Reader()
    task = reader.mapping(document, "taskDefinition")
    reader.only(task, _TASK | _TOLD, "taskDefinition")
    family = reader.matching(task.get("family"), _NAME, "taskDefinition.family", "letters, digits, '_' and '-'")
    if task.get("networkMode") not in (None, "bridge", "awsvpc"):
        reader.fault(f"taskDefinition.networkMode is bridge or awsvpc, not {str(task['networkMode'])[:40]!r}")
    definitions = task.get("containerDefinitions")
    if not isinstance(definitions, list) or len(definitions) != 1:
        reader.fault("taskDefinition.containerDefinitions has to be a list of one container; no others run beside it")
        return None, tuple(reader.faults)
    container = _container(reader, definitions[0], task)
    return (None if reader.faults else TaskDefinition(family, container)), tuple(reader.faults)


def _container(reader: _Reader, document: object, task: Mapping[str, Any]) -> ContainerPlan:
    where = "containerDefinitions[0]"
    given = reader.mapping(document, where)
    reader.only(given, _CONTAINER, where)
    memory = given.get("memory") or given.get("memoryReservation") or task.get("memory")
    return ContainerPlan(
        name=reader.matching(given.get("name"), _NAME, f"{where}.name", "letters, digits, '_' and '-'"),
        image=reader.matching(
            given.get("image"), _IMAGE, f"{where}.image", "named by its digest: NAME@sha256:… or sha256:…"
        ),
        command=reader.texts(given.get("command"), f"{where}.command"),
        entry_point=reader.texts(given.get("entryPoint"), f"{where}.entryPoint"),
        working_directory=reader.optional(given, "workingDirectory", _PATH, where, "an absolute path"),
        user=reader.optional(given, "user", _USER, where, "a user, or user:group"),
        environment=_environment(reader, given.get("environment"), f"{where}.environment"),
        memory_bytes=reader.number(memory, f"{where}.memory", 4, 2**20, default=0) * 2**20,
        cpu_units=reader.number(given.get("cpu") or task.get("cpu"), f"{where}.cpu", 1, 2**18, default=0),
        ports=_ports(reader, given.get("portMappings"), f"{where}.portMappings"),
        health=_health(reader, given.get("healthCheck"), f"{where}.healthCheck"),
        is_read_only=reader.flag(given.get("readonlyRootFilesystem"), f"{where}.readonlyRootFilesystem"),
        stop_seconds=reader.number(given.get("stopTimeout"), f"{where}.stopTimeout", 1, 120, default=30),
        labels=_labels(reader, given.get("dockerLabels"), f"{where}.dockerLabels"),
        **_linux(reader, given.get("linuxParameters"), f"{where}.linuxParameters"),
    )


def _environment(reader: _Reader, document: object, where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for index, item in enumerate(reader.items(document, where)):
        place = f"{where}[{index}]"
        entry = reader.mapping(item, place)
        reader.only(entry, frozenset({"name", "value"}), place)
        name = reader.matching(entry.get("name"), _VARIABLE, f"{place}.name", "the name of a variable")
        if name in found:
            reader.fault(f"{place}.name {name!r} stands there twice")
        found[name] = reader.text(entry.get("value", ""), f"{place}.value")
    return found


def _ports(reader: _Reader, document: object, where: str) -> tuple[int, ...]:
    found = []
    for index, item in enumerate(reader.items(document, where)):
        place = f"{where}[{index}]"
        entry = reader.mapping(item, place)
        reader.only(entry, frozenset({"containerPort", "hostPort", "protocol", "name", "appProtocol"}), place)
        port = reader.number(entry.get("containerPort"), f"{place}.containerPort", 1, 65535)
        if entry.get("hostPort") not in (None, 0, port, str(port)):
            reader.fault(f"{place}.hostPort is left out: two task sets run side by side, each at ports of its own")
        if entry.get("protocol") not in (None, "tcp"):
            reader.fault(f"{place}.protocol is tcp")
        found.append(port)
    return tuple(found)


def _health(reader: _Reader, document: object, where: str) -> HealthCheck | None:
    if document is None:
        return None
    given = reader.mapping(document, where)
    reader.only(given, frozenset({"command", "interval", "timeout", "retries", "startPeriod"}), where)
    command = reader.texts(given.get("command"), f"{where}.command") or ()
    if command == ("NONE",):
        return None
    if len(command) < 2 or command[0] not in {"CMD", "CMD-SHELL"} or (command[0] == "CMD-SHELL" and len(command) > 2):
        reader.fault(f'{where}.command is ["CMD", program, …] or ["CMD-SHELL", line]')
        return None
    return HealthCheck(
        command[1:] if command[0] == "CMD" else ("/bin/sh", "-c", command[1]),
        reader.number(given.get("interval"), f"{where}.interval", 1, 300, default=30),
        reader.number(given.get("timeout"), f"{where}.timeout", 1, 60, default=5),
        reader.number(given.get("retries"), f"{where}.retries", 1, 10, default=3),
        reader.number(given.get("startPeriod"), f"{where}.startPeriod", 0, 300, default=0),
    )


def _linux(reader: _Reader, document: object, where: str) -> dict[str, Any]:
    given = reader.mapping({} if document is None else document, where)
    reader.only(given, frozenset({"initProcessEnabled", "tmpfs", "capabilities"}), where)
    capabilities = reader.mapping(given.get("capabilities") or {}, f"{where}.capabilities")
    if capabilities.get("add"):
        reader.fault(f"{where}.capabilities.add: a container has no capabilities here")
    tmpfs = {}
    for index, item in enumerate(reader.items(given.get("tmpfs"), f"{where}.tmpfs")):
        place = f"{where}.tmpfs[{index}]"
        entry = reader.mapping(item, place)
        reader.only(entry, frozenset({"containerPath", "size"}), place)
        path = reader.matching(entry.get("containerPath"), _PATH, f"{place}.containerPath", "an absolute path")
        tmpfs[path] = reader.number(entry.get("size"), f"{place}.size", 1, 2**20) * 2**20
    return {
        "has_init": reader.flag(given.get("initProcessEnabled"), f"{where}.initProcessEnabled"),
        "tmpfs": tmpfs,
    }


def _labels(reader: _Reader, document: object, where: str) -> dict[str, str]:
    found = {}
    for name, value in reader.mapping({} if document is None else document, where).items():
        if name.startswith(RESERVED_LABEL):
            reader.fault(f"{where}: labels {RESERVED_LABEL}… are the server's own")
        found[reader.text(name, where)] = reader.text(value, f"{where}.{name[:80]}")
    return found


class _Reader:
    """Takes JSON apart; after a fault there is a usable value, so that all faults are found."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def fault(self, text: str) -> None:
        self.faults.append(text)

    def mapping(self, value: object, where: str) -> dict[str, Any]:
        if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
            return dict(value)
        self.fault(f"{where} has to be a mapping of names to values")
        return {}

    def only(self, given: Mapping[str, Any], known: frozenset[str], where: str) -> None:
        for name, value in given.items():
            # describe-task-definition writes empty lists for what nobody asked for.
            if name not in known and value not in (None, False, "", 0, [], {}):
                self.fault(f"{where}.{name[:80]} is refused: {_WHY.get(name, 'it has no effect here')}")

    def items(self, value: object, where: str) -> Sequence[object]:
        if value is None:
            return ()
        if isinstance(value, list) and len(value) <= MAX_TEXTS:
            return value
        self.fault(f"{where} has to be a list of at most {MAX_TEXTS} entries")
        return ()

    def text(self, value: object, where: str) -> str:
        if isinstance(value, str) and len(value) <= MAX_TEXT and "\0" not in value:
            return value
        self.fault(f"{where} has to be text of at most {MAX_TEXT} characters")
        return ""

    def texts(self, value: object, where: str) -> tuple[str, ...] | None:
        """None where it is left out: the image's own."""
        if value is None or value == []:
            return None
        return tuple(self.text(item, f"{where}[{index}]") for index, item in enumerate(self.items(value, where)))

    def matching(self, value: object, pattern: re.Pattern[str], where: str, what: str) -> str:
        if isinstance(value, str) and pattern.match(value):
            return value
        self.fault(f"{where} {'is missing' if value is None else repr(str(value)[:120])}; it has to be {what}")
        return ""

    def optional(self, given: Mapping[str, Any], name: str, pattern: re.Pattern[str], where: str, what: str) -> str:
        value = given.get(name)
        return "" if value in (None, "") else self.matching(value, pattern, f"{where}.{name}", what)

    def number(self, value: object, where: str, least: int, most: int, *, default: int | None = None) -> int:
        if value is None and default is not None:
            return default
        is_number = (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, str) and _NUMBER.match(value)
        )
        if is_number and least <= int(str(value)) <= most:
            return int(str(value))
        self.fault(f"{where} has to be a whole number, {least} to {most}")
        return default or least

    def flag(self, value: object, where: str) -> bool:
        if value is None or isinstance(value, bool):
            return bool(value)
        self.fault(f"{where} has to be true or false")
        return False
