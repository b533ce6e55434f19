"""What a machine lets its agent do: ``DIR/agent.toml``, which only root or the agent's own user may write.

This is the machine's own word against a server that is not what it was: what is not enabled here is refused, whoever has
signed it.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hooks.deployments.appspec_model import AppSpec
from hooks.deployments.signed_commands import KINDS, NATIVE

FILE = "agent.toml"
MOST_AT_ONCE = 4
USUAL = tuple(kind for kind in KINDS if kind != NATIVE)
"""Kinds whose every byte the server has signed for; what a package depends on is found when it is installed."""


class AgentFault(Exception):
    """The agent cannot be used as it is; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What is let.

    ``runas``: users that scripts may run as, beside the agent's own. ``destinations``: directories that Install may write
    below; empty: anywhere that the agent's user may. ``revisions``: kinds of revisions. ``scripts``: whether scripts run at
    all. ``check_commands``: whether a group's checks may be commands here. ``at_once``: how many deployment groups at a
    time.
    """

    runas: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    revisions: tuple[str, ...] = USUAL
    scripts: bool = True
    check_commands: bool = False
    at_once: int = MOST_AT_ONCE

    def refusal(self, spec: AppSpec, link: str) -> str:
        """Why this machine does not carry out an appspec (with ``link`` to be switched, "" for none); "" if it does."""
        scripts = [script.location for scripts in spec.hooks.values() for script in scripts]
        if scripts and not self.scripts:
            return f"scripts are switched off here, and it has {scripts[0]}"
        for place in (*(entry.destination for entry in spec.files), *([link] if link else [])):
            if self.destinations and not _is_below(place, self.destinations):
                return f"{place} is not below {', '.join(self.destinations)}"
        return ""


def _is_below(place: str, allowed: Sequence[str]) -> bool:
    """Whether a place lies below one of the directories, as it is written and where it really is."""
    if ".." in place.split("/"):
        return False
    written = any(_starts_with(os.path.normpath(place), os.path.normpath(each)) for each in allowed)
    return written and any(_starts_with(os.path.realpath(place), os.path.realpath(each)) for each in allowed)


def _starts_with(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def load(data: Path) -> AgentSettings:
    """What DIR/agent.toml says; without it nothing is let beyond the defaults. Raises AgentFault."""
    path = data / FILE
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if facts.st_uid not in {0, os.geteuid()} or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise AgentFault(f"{path} has to belong to root or to this user, and nobody else may write to it")
            found = tomllib.load(file)
    except FileNotFoundError:
        return AgentSettings()
    except (OSError, ValueError) as error:
        raise AgentFault(f"{path} cannot be read: {error}") from error
    return _checked(found, path)


def _checked(found: dict[str, Any], path: Path) -> AgentSettings:
    faults: list[str] = []
    known = [field.name for field in fields(AgentSettings)]
    faults += [f"{name}: unknown; known are {', '.join(known)}" for name in found if name not in known]
    texts: dict[str, tuple[str, ...]] = {}
    for name in ("runas", "destinations", "revisions"):
        if name not in found:
            continue
        value = found[name]
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            faults.append(f"{name}: a list of texts")
        else:
            texts[name] = tuple(value)
    bad = [each for each in texts.get("destinations", ()) if not each.startswith("/") or ".." in each.split("/")]
    faults += [f"destinations: {each!r} is no absolute directory" for each in bad]
    faults += [
        f"revisions: {each!r} is none of {', '.join(KINDS)}" for each in texts.get("revisions", ()) if each not in KINDS
    ]
    switches = {"scripts": found.get("scripts", True), "check_commands": found.get("check_commands", False)}
    faults += [f"{name}: true or false" for name, value in switches.items() if not isinstance(value, bool)]
    at_once = found.get("at_once", MOST_AT_ONCE)
    if not isinstance(at_once, int) or isinstance(at_once, bool) or not 1 <= at_once <= MOST_AT_ONCE:
        faults.append(f"at_once: a number from 1 to {MOST_AT_ONCE}")
    if faults:
        raise AgentFault("; ".join(f"{path}: {fault}" for fault in faults))
    return AgentSettings(
        texts.get("runas", ()),
        texts.get("destinations", ()),
        texts.get("revisions", USUAL),
        **switches,
        at_once=at_once,
    )
