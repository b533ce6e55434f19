"""The package formats. A further one is a folder here and a word in ``FORMATS``.

Each folder exports ``FORMAT`` (pure, cheap to import) and has a ``routes`` module with ``blueprint(services)``, which is
imported only when an application is put together.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from registry.errors import NotFound
from registry.format import Format
from registry.outward import Outward

FORMATS: tuple[str, ...] = ("pypi", "npm", "maven", "generic")


def load(name: str) -> ModuleType:
    """Import a format's package. Raises NotFound for a word that is not in ``FORMATS``."""
    # The word may come from a URL or a row: only listed ones may become a module name.
    if name not in FORMATS:
        raise NotFound("format", name)
    return importlib.import_module(f"{__name__}.{name}")


def all_formats() -> Mapping[str, Format]:
    """Every format by its name, in the order of ``FORMATS``."""
    return {name: load(name).FORMAT for name in FORMATS}


def all_outward() -> Mapping[str, Outward]:
    """The protocols of publishing to registries elsewhere, by format, of the formats that have one."""
    found = {}
    for name in FORMATS:
        if importlib.util.find_spec(f"{__name__}.{name}.outward") is not None:
            found[name] = importlib.import_module(f"{__name__}.{name}.outward").OUTWARD
    return found


def import_all() -> None:
    """Import every format with its routes: for a process whose forks will serve them."""
    for name in FORMATS:
        importlib.import_module(f"{__name__}.{name}.routes")


def blueprint(name: str, services: Any) -> Any:
    """The flask Blueprint with a format's routes. Raises NotFound for a word that is not in ``FORMATS``."""
    load(name)
    return importlib.import_module(f"{__name__}.{name}.routes").blueprint(services)
