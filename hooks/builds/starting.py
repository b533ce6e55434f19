"""Starting what a project says: its own source with a start's overrides (CodeBuild's StartBuild)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hooks.builds.git_address import version_fault
from hooks.builds.project import SourceSettings, SourceType, is_inline
from hooks.builds.projects import buildspec_faults, get_project, sources_of
from hooks.builds.records import Options, start_build
from hooks.builds.source import PackageSource
from hooks.builds.uploads import find_upload
from hooks.models.build import Build, BuildProject
from registry.errors import InvalidDocument


@dataclass(frozen=True, slots=True)
class Asked:
    """What a start asks for; None leaves it to the project.

    ``upload`` is an uploaded zip instead of the project's source, ``package`` the version that a project without a source
    of its own builds. ``secondary_versions`` is source identifier → version.
    ``variables`` are texts, and references as ``hooks.builds.references`` stores them.
    """

    source_version: str | None = None
    secondary_versions: Mapping[str, str] = field(default_factory=dict)
    depth: int | None = None
    upload: str | None = None
    package: PackageSource | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    options: Options = field(default_factory=Options)


def place_of(project: BuildProject) -> tuple[str, str] | None:
    """(domain, repository) of where a project belongs; None for one that goes with the version it is given."""
    return (project.domain, project.repository) if project.domain and project.repository else None


def start_project(session: Session, name: str, asked: Asked, *, initiator: str, now: datetime) -> Build:
    """Start a build of a project's own source. Raises NotFound, InvalidDocument with all faults, and Conflict.

    Whoever starts it may publish where the project does (``project_rights.check_publishes``), or did when making the hook
    that starts it.
    """
    return start_build(
        session,
        project=name,
        source=source_of_start(session, name, asked, now),
        initiator=initiator,
        now=now,
        variables=asked.variables,
        options=asked.options,
        publishes=True,
    )


def source_of_start(session: Session, name: str, asked: Asked, now: datetime) -> PackageSource:
    """What a start of the project builds. Raises NotFound, and InvalidDocument with all faults of the start."""
    project = get_project(session, name)
    faults = _faults(project, asked)
    if faults:
        raise InvalidDocument(f"start of {name}", faults)
    source = asked.package or _source(session, project, asked, now)
    others = sources_of(project)[1:]
    versions = asked.secondary_versions
    inputs = tuple(replace(each, version=versions.get(each.identifier, each.version)) for each in others)
    return replace(source, inputs=(*source.inputs, *inputs))


def _source(session: Session, project: BuildProject, asked: Asked, now: datetime) -> PackageSource:
    domain, repository = place_of(project) or ("", "")
    primary = sources_of(project)[0]
    inputs: tuple[SourceSettings, ...] = ()
    if asked.upload is not None:
        upload = find_upload(session, project, asked.upload, now)
        inputs = (SourceSettings(SourceType.UPLOAD, location=upload.id, version=upload.sha256),)
    elif primary.type is SourceType.GIT:
        version = primary.version if asked.source_version is None else asked.source_version
        inputs = (replace(primary, version=version, depth=primary.depth if asked.depth is None else asked.depth),)
    version = inputs[0].version if inputs else ""
    return PackageSource(domain, repository, "", "", version[:255], (), inputs=inputs)


def _faults(project: BuildProject, asked: Asked) -> list[str]:
    primary, *others = sources_of(project)
    faults = buildspec_faults(asked.options.buildspec)
    if primary.type is SourceType.PACKAGE and asked.package is None and asked.upload is None:
        faults.append("package is missing: the project builds the package version that it is started for")
    if primary.type is not SourceType.PACKAGE and asked.package is not None:
        faults.append(f"package: the project builds its own source ({primary.type})")
    if primary.type is SourceType.UPLOAD and asked.upload is None:
        faults.append("sourceUpload is missing: the project builds what is uploaded for each start")
    if asked.upload is not None and place_of(project) is None:
        faults.append("sourceUpload: the project belongs to no repository; say which in its document")
    if asked.upload is not None and asked.package is not None:
        faults.append("sourceUpload and package exclude each other")
    spec = asked.options.buildspec if asked.options.buildspec is not None else project.buildspec
    is_without = primary.type is SourceType.NO_SOURCE and asked.upload is None
    if is_without and (spec is None or not is_inline(spec)):
        faults.append("buildspecOverride: a build without a source needs its text")
    return faults + _version_faults(primary, others, asked)


def _version_faults(primary: SourceSettings, others: Sequence[SourceSettings], asked: Asked) -> list[str]:
    faults = []
    if asked.source_version is not None:
        if primary.type is not SourceType.GIT or asked.upload is not None:
            faults.append("sourceVersion: only a git source has one")
        elif version_fault(asked.source_version):
            faults.append(f"sourceVersion: {version_fault(asked.source_version)}")
    known = {each.identifier for each in others}
    for identifier, version in asked.secondary_versions.items():
        if identifier not in known:
            faults.append(f"secondarySourcesVersionOverride: there is no secondary source {identifier!r}")
        elif version_fault(version):
            faults.append(f"secondarySourcesVersionOverride: {version_fault(version)}")
    return faults
