"""``appspec.yml`` for servers as a value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from hooks.deployments.acl import AclEntry

DEFAULT_FILENAME = "appspec.yml"
OTHER_FILENAME = "appspec.yaml"
DEFAULT_TIMEOUT_SECONDS = 3600
EVENT_SECONDS = 3600
"""How long all scripts of one lifecycle event may take together."""


class FileExistsBehavior(Enum):
    """What becomes of a file that lies at a destination and is not of the deployment before."""

    DISALLOW = "DISALLOW"
    OVERWRITE = "OVERWRITE"
    RETAIN = "RETAIN"


@dataclass(frozen=True, slots=True)
class FileMapping:
    """An entry of ``files``: ``source`` is a path in the bundle ("" is all of it), ``destination`` an absolute directory."""

    source: str
    destination: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class SecurityContext:
    """SELinux: ``type`` always, ``user`` and ``range`` where they are not ""."""

    type: str
    user: str = ""
    range: str = ""


@dataclass(frozen=True, slots=True)
class Permission:
    """An entry of ``permissions``. ``mode`` None, ``owner`` and ``group`` "", ``acl`` empty: left as they are."""

    object: str
    pattern: str = "**"
    excepted: tuple[str, ...] = ()
    files: bool = True
    directories: bool = True
    owner: str = ""
    group: str = ""
    mode: int | None = None
    acl: tuple[AclEntry, ...] = ()
    context: SecurityContext | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class HookScript:
    """A script of a lifecycle event; ``location`` is a path in the bundle, ``runas`` "" is the agent's own user."""

    location: str
    timeout_seconds: int = DEFAULT_TIMEOUT_SECONDS
    runas: str = ""
    sudo: bool = False
    line: int = 0


@dataclass(frozen=True, slots=True)
class AppSpec:
    """What a document says. ``file_exists_behavior`` None: whoever starts the deployment decides."""

    files: tuple[FileMapping, ...] = ()
    permissions: tuple[Permission, ...] = ()
    hooks: Mapping[str, tuple[HookScript, ...]] = field(default_factory=dict)
    file_exists_behavior: FileExistsBehavior | None = None
    warnings: tuple[str, ...] = ()
