"""Hosts of services in containers out of the settings: a table ``[deployments.container_hosts.NAME]`` for each.

Documents know a host's name alone: whoever may use its API is as good as root there.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from hooks.deployments.platforms.container.settings import HostSettings

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}\Z")
_KINDS: Mapping[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "tuple[str, ...]": (list,)}


def read(tables: Any, faults: list[str]) -> dict[str, HostSettings]:
    """The tables of ``deployments.container_hosts``; what is wrong with them is added to ``faults``. Opens nothing."""
    where = "deployments.container_hosts"
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        faults.append(f"{where} holds a section for each host: [{where}.NAME]")
        return {}
    found = {}
    for name, table in sorted(tables.items()):
        if not _NAME.match(name):
            faults.append(f"[{where}.{name}]: a name has 1 to 63 of a-z, 0-9 and '-', a letter first")
            continue
        wrong = list(_wrong(table))
        if not wrong:
            given: dict[str, Any] = {
                key: tuple(value) if type(value) is list else value for key, value in table.items()
            }
            settings = HostSettings(**given)
            wrong = list(settings.faults())
            found[name] = settings
        faults.extend(f"{where}.{name}.{fault}" for fault in wrong)
    return found


def _wrong(table: Mapping[str, Any]) -> list[str]:
    fields = {field.name: str(field.type) for field in dataclasses.fields(HostSettings)}
    faults = [f"{key} is not a setting" for key in sorted(table.keys() - fields.keys())]
    if "api" not in table:
        faults.append("api is missing: unix:///PATH or tcp://HOST:PORT")
    for key in sorted(table.keys() & fields.keys()):
        value = table[key]
        if type(value) not in _KINDS[fields[key]] or (isinstance(value, list) and not all(map(_is_text, value))):
            faults.append(f"{key} is not {_WORDS[fields[key]]}")
    return faults


_WORDS = {"str": "text", "int": "a whole number", "bool": "true or false", "tuple[str, ...]": "a list of texts"}


def _is_text(value: object) -> bool:
    return isinstance(value, str)
