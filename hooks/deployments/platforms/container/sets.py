"""Task sets: the containers of one deployment, found again by their labels whoever made them and whatever crashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hooks.deployments.platform import DeploymentFacts
from hooks.deployments.platforms.container.group import COLOURS, ServiceGroup
from hooks.deployments.platforms.container.host import Container, ContainerHost
from hooks.deployments.platforms.container.settings import HostSettings
from hooks.deployments.task_definition import ContainerPlan
from hooks.deployments.traffic.router import Member, address_of

PREFIX = "entrepot."
GROUP, DEPLOYMENT, KIND = f"{PREFIX}group-id", f"{PREFIX}deployment", f"{PREFIX}kind"
COLOUR, SLOT, COUNT, PORT = f"{PREFIX}colour", f"{PREFIX}slot", f"{PREFIX}count", f"{PREFIX}port"
ORIGINAL, REVISION = f"{PREFIX}original", f"{PREFIX}revision"
TASK, HOOK = "task", "hook"
_CPU_UNIT = 1024
_SECOND = 10**9


@dataclass(frozen=True, slots=True)
class TaskSet:
    """The containers of one deployment, by their slot. ``original`` is the deployment whose set they were to replace."""

    deployment: str
    colour: str
    count: int
    original: str
    revision: str
    created: int
    containers: tuple[Container, ...]

    @property
    def is_whole(self) -> bool:
        """Whether all its containers are there."""
        return len(self.containers) == self.count

    @property
    def slots(self) -> Mapping[int, Container]:
        """Slot → container."""
        return {int(container.labels[SLOT]): container for container in self.containers}

    def members(self, settings: HostSettings) -> Sequence[Member]:
        """The set as members of a pool."""
        return [
            Member(f"{self.deployment}-{slot}", address_of(settings.address, int(container.labels[PORT])))
            for slot, container in sorted(self.slots.items())
        ]


def task_sets(host: ContainerHost, group_id: str) -> Mapping[str, TaskSet]:
    """Deployment → its set, of all that a group has on a host."""
    grouped: dict[str, list[Container]] = {}
    for container in host.containers({GROUP: group_id, KIND: TASK}):
        grouped.setdefault(container.labels[DEPLOYMENT], []).append(container)
    return {deployment: _set_of(deployment, containers) for deployment, containers in grouped.items()}


def _set_of(deployment: str, containers: Sequence[Container]) -> TaskSet:
    labels = containers[0].labels
    return TaskSet(
        deployment,
        labels[COLOUR],
        int(labels[COUNT]),
        labels.get(ORIGINAL, ""),
        labels.get(REVISION, ""),
        min(container.created for container in containers),
        tuple(containers),
    )


def revision_of(revision: Mapping[str, Any]) -> str:
    """What tells one revision from another."""
    kept = {name: value for name, value in revision["appSpecContent"].items() if name != "sha256"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def other(colour: str) -> str:
    """Green of blue, and blue of green."""
    return COLOURS[1 - COLOURS.index(colour)]


def common_labels(about: DeploymentFacts, group: ServiceGroup, kind: str) -> dict[str, str]:
    """What every container of a deployment is known by."""
    return {
        KIND: kind,
        GROUP: about.group_id,
        DEPLOYMENT: about.deployment_id,
        f"{PREFIX}application": about.application,
        f"{PREFIX}group": about.group_name,
        f"{PREFIX}service": group.service,
    }


def free_port(host: ContainerHost, taken: Iterable[int]) -> int | None:
    """The lowest port of the host's range that no container of a service has; None: there is none left."""
    known = {int(container.labels[PORT]) for container in host.containers({PORT: ""})}
    known.update(taken)
    settings = host.settings
    return next((port for port in range(settings.first_port, settings.last_port + 1) if port not in known), None)


def limits_of(plan: ContainerPlan, settings: HostSettings) -> dict[str, Any]:
    """What a container may use and may not do, in the words of docker's host configuration.

    Nothing of a document gets in here but numbers within the host's own: no mounts, no privileges, no foreign network.
    """
    memory = plan.memory_bytes or settings.memory_bytes
    return {
        "network_mode": settings.network,
        "mem_limit": memory,
        "memswap_limit": memory,
        "nano_cpus": (plan.cpu_units or settings.cpu_units) * _SECOND // _CPU_UNIT,
        "pids_limit": settings.processes,
        "cap_drop": ["ALL"],
        "cap_add": list(settings.capabilities),
        "security_opt": ["no-new-privileges"],
        "privileged": False,
        "read_only": plan.is_read_only,
        "tmpfs": {place: f"rw,nosuid,nodev,size={size}" for place, size in plan.tmpfs.items()},
        "init": plan.has_init,
    }


def too_much(plan: ContainerPlan, group: ServiceGroup, settings: HostSettings) -> str:
    """Why a host does not take a task set; "" when it does."""
    if plan.memory_bytes > settings.most_memory_bytes:
        return f"memory: the host gives a container at most {settings.most_memory_bytes // 1024**2} MiB"
    if plan.cpu_units > settings.most_cpu_units:
        return f"cpu: the host gives a container at most {settings.most_cpu_units} units"
    if group.count > settings.most_containers:
        return f"desiredCount: the host runs at most {settings.most_containers} containers of a service"
    return ""


def options_of(plan: ContainerPlan) -> dict[str, Any]:
    """What runs in a container, in the words of docker's create."""
    found: dict[str, Any] = {"environment": dict(plan.environment)}
    if plan.command is not None:
        found["command"] = list(plan.command)
    if plan.entry_point is not None:
        found["entrypoint"] = list(plan.entry_point)
    if plan.working_directory:
        found["working_dir"] = plan.working_directory
    if plan.user:
        found["user"] = plan.user
    return found
