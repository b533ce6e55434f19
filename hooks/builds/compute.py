"""CodeBuild's compute types and image names, in the terms of one machine."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hooks.builds.executor import Refused

GIB = 1024**3
BUILD_IMAGE = "localhost/entrepot/build-standard:latest"
# The CodeBuild user guide's "Build environment compute modes and types".
COMPUTE_TYPES: Mapping[str, tuple[int, int]] = {
    "BUILD_GENERAL1_SMALL": (3 * GIB, 2),
    "BUILD_GENERAL1_MEDIUM": (7 * GIB, 4),
    "BUILD_GENERAL1_LARGE": (15 * GIB, 8),
    "BUILD_GENERAL1_XLARGE": (70 * GIB, 36),
    "BUILD_GENERAL1_2XLARGE": (145 * GIB, 72),
    **{f"BUILD_LAMBDA_{size}GB": (size * GIB, max(1, size // 2)) for size in (1, 2, 4, 8, 10)},
}
CURATED = "aws/codebuild/*"
# Names that stand in real projects and that CodeBuild has retired: old numbers, and all images of one language.
_RETIRED = re.compile(
    r"aws/codebuild/(?:standard:[1-4]\.0|amazonlinux2-x86_64-standard:[1-3]\.0|amazonlinux2-aarch64-standard:[12]\.0"
    r"|(?![^:]*standard:).*)"
)
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,254}\Z")
_BY_ID = re.compile(r"(?:sha256:)?[0-9a-f]{12,64}\Z")


@dataclass(frozen=True, slots=True)
class Share:
    """What one build gets of the machine: bytes of memory, processors (0: as many as there are)."""

    memory_bytes: int
    processors: int


def share(compute_type: str, usual: Share, most: Share) -> tuple[Share, str]:
    """The share for a compute type ("" is ``usual``), and a line that says where ``most`` has cut it.

    Raises Refused for a name that there is not.
    """
    if not compute_type:
        return usual, ""
    if compute_type not in COMPUTE_TYPES:
        raise Refused(f"computeType {compute_type!r}: there are {', '.join(COMPUTE_TYPES)}")
    memory_bytes, processors = COMPUTE_TYPES[compute_type]
    given = Share(min(memory_bytes, most.memory_bytes), min(processors, most.processors))
    if given == Share(memory_bytes, processors):
        return given, ""
    return given, (
        f"Warning: {compute_type} is {memory_bytes // GIB} GiB and {processors} processors; "
        f"this server gives {given.memory_bytes / GIB:.4g} GiB and {given.processors}"
    )


@dataclass(frozen=True, slots=True)
class Meant:
    """An image by its full name, lines for the build's log, and whether this server's settings chose it.

    Where they did, whoever keeps the settings answers for what the name means.
    """

    image: str
    lines: Sequence[str] = ()
    is_the_servers: bool = False


@dataclass(frozen=True, slots=True)
class ImageNames:
    """Which names of images mean what. ``aliases`` is name or pattern → local image; ``allowed`` are patterns.

    ``usual`` is what a project without an image gets.
    """

    usual: str = BUILD_IMAGE
    aliases: Mapping[str, str] = field(default_factory=dict)
    allowed: Sequence[str] = ("localhost/*",)

    def resolve(self, name: str) -> Meant:
        """The image that ``name`` stands for. Raises Refused when it is not allowed."""
        if not name:
            return Meant(with_tag(self.usual), is_the_servers=True)
        # An identifier would get round the list of names.
        if not _IMAGE.match(name) or _BY_ID.match(name):
            raise Refused(f"{name!r} is not the name of an image")
        lines = []
        meant = self._alias(name)
        if meant is not None:
            if _RETIRED.fullmatch(name):
                lines.append(f"Warning: image {name} is one that CodeBuild has retired")
            lines.append(f"Image {name} is {meant} here")
        image = with_tag(meant or name)
        # What the operator has written down needs no further leave.
        if meant is None and not any(fnmatch.fnmatchcase(image, pattern) for pattern in self.allowed):
            raise Refused(
                f"image {image} is not among those that this server allows "
                f"(builds.container.allowed_images: {', '.join(self.allowed) or 'none'})"
            )
        return Meant(image, lines, is_the_servers=meant is not None)

    def _alias(self, name: str) -> str | None:
        exact = self.aliases.get(name)
        if exact is not None:
            return exact
        for pattern, image in self.aliases.items():
            if fnmatch.fnmatchcase(name, pattern):
                return image
        return self.usual if fnmatch.fnmatchcase(name, CURATED) else None


def with_tag(name: str) -> str:
    """The name with ``:latest`` where it has neither tag nor digest."""
    last = name.rpartition("/")[2]
    return name if ":" in last or "@" in name else f"{name}:latest"


def container_faults(image: str, compute_type: str) -> list[str]:
    """What is wrong with a project's image and compute type, whatever server will run it."""
    faults = []
    if image and (not _IMAGE.match(image) or _BY_ID.match(image)):
        faults.append(f"environment.image {image!r} is not the name of an image")
    if compute_type and compute_type not in COMPUTE_TYPES:
        faults.append(f"environment.computeType {compute_type!r}: one of {', '.join(COMPUTE_TYPES)}")
    return faults
