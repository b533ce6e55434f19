"""Which wheels an installer would take, as far as it says what it runs on: pip and uv do, in their ``User-Agent``.

Only a guess, for what is had before it is asked; what is offered never depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from registry.json_text import decode
from registry.repos.resolve import OfferedFile

_LONGEST_CHARACTERS = 2000
_PLATFORMS = {"linux": "linux", "darwin": "macosx", "windows": "win"}
_CPUS = {"arm64": ("arm64", "aarch64", "universal2"), "aarch64": ("aarch64", "arm64"), "amd64": ("amd64", "x86_64")}
_ANY = "-none-any.whl"


@dataclass(frozen=True, slots=True)
class Installer:
    """``python`` as in wheel tags (``311``), ``platform`` the beginning of theirs, ``cpus`` what may stand at their end.

    ``asks_at_once`` is true of one that does not wait for an answer before its next question: reading ahead of it would
    only take the processor from its own requests.
    """

    python: str
    platform: str
    cpus: tuple[str, ...]
    asks_at_once: bool = False

    def takes(self, filename: str) -> bool:
        """Whether a wheel of that name looks like one for it."""
        parts = filename.removesuffix(".whl").split("-")
        if len(parts) < 5:
            return False
        python, abi, platform = parts[-3:]
        fits_python = f"cp{self.python}" in python.split(".") or "py3" in python.split(".") or abi == "abi3"
        return fits_python and self.platform in platform and any(cpu in platform for cpu in self.cpus)


def parse(user_agent: str) -> Installer | None:
    """What a ``User-Agent`` says, None where it does not (browsers, scripts)."""
    name, _, said = user_agent[:_LONGEST_CHARACTERS].partition(" ")
    if not said.startswith("{"):
        return None
    try:
        found = decode(said)
    except (ValueError, RecursionError):
        return None
    python = str(_in(found, "python") or "").split(".")
    platform = _PLATFORMS.get(str(_in(found, "system", "name") or "").lower())
    cpu = str(_in(found, "cpu") or "").lower()
    if len(python) < 2 or platform is None or not cpu:
        return None
    return Installer(python[0] + python[1], platform, _CPUS.get(cpu, (cpu,)), name.startswith("uv/"))


def likely(files: Sequence[OfferedFile], installer: Installer | None) -> list[OfferedFile]:
    """Of the wheels of one release those that will be asked for, the likeliest first; one of all where nothing is known."""
    pure = [file for file in files if file.filename.endswith(_ANY)]
    if pure:
        return pure[:1]
    if installer is None:
        return list(files[:1])
    fitting = [file for file in files if installer.takes(file.filename)]
    # Most machines run glibc, and a wheel for one Python is preferred to one for all.
    return sorted(fitting, key=lambda file: ("musllinux" in file.filename, "abi3" in file.filename))


def _in(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
