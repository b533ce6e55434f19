"""What an installation consists of: places on the machine, and the steps that are taken there. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from hooks.deployments.acl import AclEntry
from hooks.deployments.appspec_model import SecurityContext


class Kind(Enum):
    """What lies at a place."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "neither file nor directory"


@dataclass(frozen=True, slots=True)
class Place:
    """A name below ``root``, an absolute directory. No link that leads out of ``root`` is followed on the way."""

    root: str
    parts: tuple[str, ...]

    @property
    def path(self) -> str:
        """The absolute path."""
        return f"{self.root.rstrip('/')}/{'/'.join(self.parts)}"

    @staticmethod
    def of(path: str) -> Place:
        """An absolute path's place: its name in its directory."""
        directory, _, name = path.rstrip("/").rpartition("/")
        return Place(directory or "/", (name,))


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Make a directory."""

    place: Place


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy a file or a link of the bundle; ``replaces`` says that something lies there which goes."""

    source: str
    place: Place
    kind: Kind = Kind.FILE
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class SetMode:
    """chmod."""

    place: Place
    mode: int


@dataclass(frozen=True, slots=True)
class SetAcl:
    """Replace the access control list by these entries and what the mode says."""

    place: Place
    entries: tuple[AclEntry, ...]


@dataclass(frozen=True, slots=True)
class SetContext:
    """Tell SELinux of a context, and label the file."""

    place: Place
    context: SecurityContext


@dataclass(frozen=True, slots=True)
class SetOwner:
    """chown; "" leaves the owner or the group. ``special``: set-user-id and set-group-id bits that the document sets."""

    place: Place
    owner: str
    group: str
    special: int = 0


Step = MakeDirectory | Copy | SetMode | SetAcl | SetContext | SetOwner


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why the installation cannot be made at a place (an absolute path)."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """Steps in their order. With ``conflicts`` nothing is to be done. ``retained`` paths are left as they are."""

    steps: tuple[Step, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    retained: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def created(self) -> tuple[str, ...]:
        """Paths that are new. Names of files are bytes: what is no text in them is a surrogate, as with ``os``."""
        return tuple(
            step.place.path
            for step in self.steps
            if isinstance(step, MakeDirectory) or (isinstance(step, Copy) and not step.replaces)
        )

    @property
    def overwritten(self) -> tuple[str, ...]:
        """Paths whose file goes for another one."""
        return tuple(step.place.path for step in self.steps if isinstance(step, Copy) and step.replaces)
