"""Build projects: checked when they are saved, so that a build does not fail on what could have been said before."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.executor import Network
from hooks.builds.references import variable_fault
from hooks.builds.spec import parse_buildspec
from hooks.models.build import BuildProject
from registry.errors import InvalidDocument, NotFound
from registry.names import entity_name

DEFAULT_TIMEOUT_MINUTES = 60
MAX_TIMEOUT_MINUTES = 2160
MAX_CONCURRENT = 100
DEFAULT_TYPES = ("process",)
RESERVED_PREFIXES = ("CODEBUILD_", "ENTREPOT_")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")
_MAX_VALUE_CHARACTERS = 65_536
_MAX_VARIABLES = 500


def create_or_update_project(
    session: Session,
    *,
    name: str,
    now: datetime,
    buildspec: str | None = None,
    environment: Mapping[str, Any] | None = None,
    timeout_minutes: int = DEFAULT_TIMEOUT_MINUTES,
    max_concurrent: int | None = None,
    types: Collection[str] = DEFAULT_TYPES,
) -> BuildProject:
    """Save a project under ``name``, all of it. ``types`` are the executors this server has.

    Raises InvalidDocument with every fault at once; nothing is saved then.
    """
    entity_name("build project", name)
    checked, faults = _check_environment(environment or {}, types)
    if not 1 <= timeout_minutes <= MAX_TIMEOUT_MINUTES:
        faults.append(f"timeout_minutes: 1 to {MAX_TIMEOUT_MINUTES}")
    if max_concurrent is not None and not 1 <= max_concurrent <= MAX_CONCURRENT:
        faults.append(f"max_concurrent: 1 to {MAX_CONCURRENT}, or left out for no limit")
    if buildspec is not None:
        try:
            parse_buildspec(buildspec)
        except InvalidDocument as error:
            faults += [f"buildspec: {fault}" for fault in error.faults]
    if faults:
        raise InvalidDocument(f"build project {name}", faults)
    project = session.scalar(select(BuildProject).where(BuildProject.name == name).with_for_update())
    if project is None:
        project = BuildProject(name=name, created_at=now, last_number=0)
        session.add(project)
    project.buildspec = buildspec
    project.environment = checked
    project.timeout_minutes = timeout_minutes
    project.max_concurrent = max_concurrent
    project.updated_at = now
    session.flush()
    return project


def get_project(session: Session, name: str) -> BuildProject:
    """The project called ``name``. Raises NotFound."""
    project = session.scalar(select(BuildProject).where(BuildProject.name == name))
    if project is None:
        raise NotFound("build project", name)
    return project


def list_projects(session: Session) -> Sequence[BuildProject]:
    """All projects by name."""
    return session.scalars(select(BuildProject).order_by(BuildProject.name)).all()


def check_variables(variables: Mapping[Any, Any]) -> None:
    """Check variables of a project or a start. Raises InvalidDocument."""
    faults = _variable_faults(variables)
    if faults:
        raise InvalidDocument("variables", faults)


def _check_environment(environment: Mapping[str, Any], types: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    faults = [
        f"environment.{key} is unknown" for key in sorted(set(environment) - {"type", "network", "variables"}, key=str)
    ]
    kind = environment.get("type", next(iter(types), ""))
    if kind not in types:
        faults.append(f"environment.type {kind!r}: this server has {', '.join(types) or 'none'}")
    network = environment.get("network", Network.REGISTRY.value)
    if network not in list(Network):
        faults.append(f"environment.network {network!r}: {' or '.join(Network)}")
    variables = environment.get("variables", {})
    if isinstance(variables, Mapping):
        faults += _variable_faults(variables)
    else:
        faults.append("environment.variables has to be a mapping of names to texts")
        variables = {}
    return {"type": kind, "network": network, "variables": dict(variables)}, faults


def _variable_faults(variables: Mapping[Any, Any]) -> list[str]:
    faults = []
    if len(variables) > _MAX_VARIABLES:
        faults.append(f"variables: at most {_MAX_VARIABLES}")
    for name, value in variables.items():
        if not isinstance(name, str) or not _VARIABLE.match(name):
            faults.append(f"variables: {name!r} is not a variable name")
        elif name.startswith(RESERVED_PREFIXES):
            faults.append(f"variables: {name} is reserved")
        elif isinstance(value, Mapping):
            faults += [f"variables: {name}: {fault}" for fault in [variable_fault(value)] if fault]
        elif not isinstance(value, str) or "\0" in value or len(value) > _MAX_VALUE_CHARACTERS:
            faults.append(f"variables: {name} has to be a text of at most {_MAX_VALUE_CHARACTERS} characters")
    return faults
