"""Build projects: checked when they are saved, so that a build does not fail on what could have been said before."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hooks.builds import image_pins
from hooks.builds.batch_tasks import config_faults
from hooks.builds.compute import container_faults
from hooks.builds.executor import Network
from hooks.builds.output_settings import output_faults
from hooks.builds.project import (
    MAX_AUTO_RETRIES,
    ON_LIMIT,
    QUEUED_TIMEOUT_MINUTES,
    SourceSettings,
    SourceType,
    is_inline,
    path_fault,
    source_faults,
)
from hooks.builds.publishing import publish_faults
from hooks.builds.references import variable_fault
from hooks.builds.spec import parse_buildspec
from hooks.models.build import BuildProject
from hooks.models.build_source import BuildUpload, PushHook, SourceCredential
from registry.errors import InvalidDocument, NotFound
from registry.names import entity_name
from registry.repos.topology import find_repository

DEFAULT_TIMEOUT_MINUTES = 60
MAX_TIMEOUT_MINUTES = 2160
MAX_CONCURRENT = 100
DEFAULT_TYPES = ("process",)
RESERVED_PREFIXES = ("CODEBUILD_", "ENTREPOT_")
_CONTAINER_TYPE = re.compile(r"(?:LINUX|ARM|WINDOWS)[A-Z0-9_]*|MAC_ARM")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")
_KEPT_OF_ENVIRONMENT = ("image", "computeType", "privilegedMode")
_MAX_VALUE_CHARACTERS = 65_536
_MAX_VARIABLES = 500


@dataclass(frozen=True, slots=True)
class Settings:
    """What a project says beside its buildspec, environment and limits. The first of ``sources`` is the primary one.

    ``repository`` is (domain, name) of where the project belongs; ``document`` what is kept as it was written.
    """

    repository: tuple[str, str] | None = None
    sources: tuple[SourceSettings, ...] = (SourceSettings(),)
    document: Mapping[str, Any] = field(default_factory=dict)
    queued_timeout_minutes: int = QUEUED_TIMEOUT_MINUTES
    auto_retry_limit: int = 0
    on_limit: str = "queue"


PLAIN = Settings()


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
    settings: Settings = PLAIN,
) -> BuildProject:
    """Save a project under ``name``, all of it. ``types`` are the executors this server has.

    Raises InvalidDocument with every fault at once; nothing is saved then. The images of earlier builds are forgotten:
    what their names mean now is accepted. A credential of a source that is fetched from
    elsewhere now is forgotten.
    """
    entity_name("build project", name)
    checked, faults = check_environment(environment or {}, types)
    if not 1 <= timeout_minutes <= MAX_TIMEOUT_MINUTES:
        faults.append(f"timeout_minutes: 1 to {MAX_TIMEOUT_MINUTES}")
    if max_concurrent is not None and not 1 <= max_concurrent <= MAX_CONCURRENT:
        faults.append(f"max_concurrent: 1 to {MAX_CONCURRENT}, or left out for no limit")
    faults += buildspec_faults(buildspec) + _settings_faults(session, settings, buildspec)
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
    project.on_limit = settings.on_limit
    project.queued_timeout_minutes = settings.queued_timeout_minutes
    project.auto_retry_limit = settings.auto_retry_limit
    project.domain, project.repository = settings.repository or (None, None)
    project.document = {**settings.document, "sources": [source.as_json() for source in settings.sources]}
    project.deleted_at = None
    project.updated_at = now
    session.flush()
    _forget_credentials(session, project, settings.sources)
    image_pins.forget(session, project.id)
    return project


def buildspec_faults(buildspec: str | None) -> list[str]:
    """What is wrong with a buildspec's text, or with the path of one in the source."""
    if buildspec is None:
        return []
    if not is_inline(buildspec):
        return [fault for fault in [path_fault(buildspec)] if fault]
    try:
        parse_buildspec(buildspec)
    except InvalidDocument as error:
        return [f"buildspec: {fault}" for fault in error.faults]
    return []


def _settings_faults(session: Session, settings: Settings, buildspec: str | None) -> list[str]:
    faults = output_faults(settings.document) + config_faults(settings.document.get("buildBatchConfig") or {})
    faults += publish_faults(session, settings.document, settings.repository)
    primary = settings.sources[0]
    if settings.repository is not None:
        try:
            find_repository(session, *settings.repository)
        except NotFound as error:
            faults.append(f"repository: {error}")
    elif primary.type is not SourceType.PACKAGE:
        faults.append(f"repository is missing: a project with source type {primary.type} belongs to one")
    if primary.type is SourceType.NO_SOURCE and (buildspec is None or not is_inline(buildspec)):
        faults.append("buildspec: a project without a source needs its text")
    for source in settings.sources:
        faults += source_faults(source, f"source {source.identifier}".rstrip())
    if not 5 <= settings.queued_timeout_minutes <= QUEUED_TIMEOUT_MINUTES:
        faults.append(f"queued_timeout_minutes: 5 to {QUEUED_TIMEOUT_MINUTES}")
    if not 0 <= settings.auto_retry_limit <= MAX_AUTO_RETRIES:
        faults.append(f"auto_retry_limit: 0 to {MAX_AUTO_RETRIES}")
    if settings.on_limit not in ON_LIMIT:
        faults.append(f"on_limit: {' or '.join(ON_LIMIT)}")
    return faults


def _forget_credentials(session: Session, project: BuildProject, sources: Sequence[SourceSettings]) -> None:
    locations = {source.identifier: source.location for source in sources if source.location}
    held = session.scalars(select(SourceCredential).where(SourceCredential.project_id == project.id))
    for credential in held.all():
        if locations.get(credential.identifier) != credential.location:
            session.delete(credential)


def sources_of(project: BuildProject) -> tuple[SourceSettings, ...]:
    """The sources of a project, the primary one first."""
    stored = project.document.get("sources")
    return tuple(SourceSettings.from_json(each) for each in stored) if stored else (SourceSettings(),)


def environment_type(word: str | None, types: Collection[str]) -> str | None:
    """An executor of ``types`` for CodeBuild's ``LINUX_CONTAINER`` and its like; other words stay as they are."""
    if word is None or not _CONTAINER_TYPE.fullmatch(word):
        return word
    return "container" if "container" in types else next(iter(types), word)


def delete_project(session: Session, name: str, now: datetime) -> None:
    """Take a project away with its credentials, uploads and hooks. Its builds stay, as on CodeBuild. Raises NotFound.

    Saved again under the same name it goes on counting where it was.
    """
    project = get_project(session, name)
    for table in (SourceCredential, BuildUpload, PushHook):
        session.execute(delete(table).where(table.project_id == project.id))
    project.deleted_at = now
    session.flush()


def get_project(session: Session, name: str) -> BuildProject:
    """The project called ``name``. Raises NotFound."""
    project = session.scalar(select(BuildProject).where(BuildProject.name == name, BuildProject.deleted_at.is_(None)))
    if project is None:
        raise NotFound("build project", name)
    return project


def list_projects(session: Session) -> Sequence[BuildProject]:
    """All projects by name."""
    living = select(BuildProject).where(BuildProject.deleted_at.is_(None))
    return session.scalars(living.order_by(BuildProject.name)).all()


def check_variables(variables: Mapping[Any, Any]) -> None:
    """Check variables of a project or a start. Raises InvalidDocument."""
    faults = _variable_faults(variables)
    if faults:
        raise InvalidDocument("variables", faults)


def check_environment(environment: Mapping[str, Any], types: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """An environment as it is stored, and what is wrong with it."""
    known = {"type", "network", "variables", *_KEPT_OF_ENVIRONMENT}
    faults = [f"environment.{key} is unknown" for key in sorted(set(environment) - known, key=str)]
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
    kept = {key: environment[key] for key in _KEPT_OF_ENVIRONMENT if key in environment}
    if kind == "container":
        faults += container_faults(kept.get("image", ""), kept.get("computeType", ""))
    return {"type": kind, "network": network, "variables": dict(variables), **kept}, faults


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
