"""A project as CodeBuild's document: what was applied, filled in with what holds where it said nothing. Pure."""

from __future__ import annotations

from typing import Any

from hooks.builds.project import SourceSettings, SourceType
from hooks.builds.projects import sources_of
from hooks.builds.references import shown_variable
from hooks.models.build import BuildProject


def as_document(project: BuildProject) -> dict[str, Any]:
    """The document; applied again it changes nothing. It holds no credential."""
    primary, *others = sources_of(project)
    kept = {name: value for name, value in project.document.items() if name != "sources"}
    environment = project.environment
    document: dict[str, Any] = {"name": project.name}
    if project.domain:
        document["repository"] = f"{project.domain}/{project.repository}"
    document |= kept
    document["source"] = _source(primary, project.buildspec)
    if primary.version:
        document["sourceVersion"] = primary.version
    if others:
        document["secondarySources"] = [_source(each, None) for each in others]
        document["secondarySourceVersions"] = [
            {"sourceIdentifier": each.identifier, "sourceVersion": each.version} for each in others if each.version
        ]
    document["environment"] = {
        **{name: value for name, value in environment.items() if name != "variables"},
        "environmentVariables": [
            {"name": name, **shown_variable(value)} for name, value in environment["variables"].items()
        ],
    }
    document["timeoutInMinutes"] = project.timeout_minutes
    document["queuedTimeoutInMinutes"] = project.queued_timeout_minutes
    if project.max_concurrent is not None:
        document |= {"concurrentBuildLimit": project.max_concurrent, "onLimit": project.on_limit}
    document["autoRetryLimit"] = project.auto_retry_limit
    return document


def _source(source: SourceSettings, buildspec: str | None) -> dict[str, Any]:
    shown: dict[str, Any] = {"type": source.type.value}
    if source.identifier:
        shown["sourceIdentifier"] = source.identifier
    if source.type is SourceType.GIT:
        shown |= {
            "location": source.location,
            "gitCloneDepth": source.depth,
            "gitSubmodulesConfig": {"fetchSubmodules": source.submodules},
        }
    if buildspec is not None:
        shown["buildspec"] = buildspec
    return shown
