"""CodeDeploy's CreateDeployment, with our revisions beside its own: what somebody asks to have deployed. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from hooks.deployments.documents.choices import (
    FILE_EXISTS,
    OURS,
    read_alarms,
    read_ours,
    read_rollback,
    read_selection,
)
from hooks.deployments.documents.tags import read_names
from hooks.deployments.documents.values import StrictReader, read_document
from hooks.deployments.lifecycle import SCRIPTABLE_EVENTS

LONGEST_DESCRIPTION = 256
MOST_CONTENT = 100_000
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_FLAGS = ("ignoreApplicationStopFailures", "updateOutdatedInstancesOnly")
_KNOWN = (
    "applicationName",
    "deploymentGroupName",
    "revision",
    "deploymentConfigName",
    "description",
    "targetInstances",
    "autoRollbackConfiguration",
    "fileExistsBehavior",
    "overrideAlarmConfiguration",
    "clientRequestToken",
    "targets",
    "skipEvents",
    *_FLAGS,
    *OURS,
)
_ELSEWHERE = {
    "S3": "upload the bundle (entrepot deploy push), or deploy a package version of this server",
    "GitHub": "have it built here and deploy the build's artifact, or upload the bundle (entrepot deploy push)",
}
_PACKAGE = ("domain", "repository", "format", "namespace", "name", "version", "asset", "sha256")


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """What CreateDeployment says, before anything is looked up. ``revision`` None: the group's last good one.

    ``options`` have CodeDeploy's names, and ours: ``targets`` (only these), ``maxConcurrent``, ``guidedFailure``,
    ``skipEvents``, ``bakeTimeInMinutes``.
    """

    application: str
    group: str
    revision: Mapping[str, Any] | None
    config_name: str | None = None
    description: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    request_token: str | None = None


def parse_request(text: str) -> ParsedRequest:
    """Read a CreateDeployment, YAML or JSON. Raises InvalidDocument with all faults, each with its line."""
    reader, root = read_document(text, "deployment")
    entries = reader.fields(root, "", _KNOWN)
    for key in ("applicationName", "deploymentGroupName"):
        if key not in entries:
            reader.fault(root, f"{key} is missing")
    application = reader.name(entries.get("applicationName"), "applicationName")
    group = reader.name(entries.get("deploymentGroupName"), "deploymentGroupName")
    config = entries.get("deploymentConfigName")
    token = entries.get("clientRequestToken")
    description = reader.limited(entries.get("description"), "description", LONGEST_DESCRIPTION)
    parsed = ParsedRequest(
        application,
        group,
        _revision(reader, entries["revision"]) if "revision" in entries else None,
        None if config is None else reader.name(config, "deploymentConfigName"),
        description,
        _options(reader, entries),
        None if token is None else reader.limited(token, "clientRequestToken", 64, 1),
    )
    reader.check()
    return parsed


def _options(reader: StrictReader, entries: dict[str, yaml.Node]) -> dict[str, Any]:
    found: dict[str, Any] = {key: reader.boolean(entries[key], key) for key in _FLAGS if key in entries}
    if "fileExistsBehavior" in entries:
        found["fileExistsBehavior"] = reader.word(
            entries["fileExistsBehavior"], "fileExistsBehavior", FILE_EXISTS, "DISALLOW"
        )
    for key, read in (
        ("targetInstances", read_selection),
        ("autoRollbackConfiguration", read_rollback),
        ("overrideAlarmConfiguration", read_alarms),
    ):
        if key in entries:
            found[key] = read(reader, entries[key], key)
    if "targets" in entries:
        found["targets"] = read_names(reader, entries["targets"], "targets")
    if "skipEvents" in entries:
        listed = reader.listed(entries["skipEvents"], "skipEvents", len(SCRIPTABLE_EVENTS))
        found["skipEvents"] = [reader.word(item, path, SCRIPTABLE_EVENTS) for path, item in listed]
    return found | read_ours(reader, entries)


# --- revisions -------------------------------------------------------------------------------------------------------


def _revision(reader: StrictReader, node: yaml.Node) -> dict[str, Any]:
    parts = ("package", "buildArtifact", "upload", "appSpecContent", "string")
    foreign = {"s3Location": "", "gitHubLocation": ""}
    entries = reader.fields(node, "revision", {"revisionType", *parts}, ignored=foreign)
    kind = reader.text(entries.get("revisionType"), "revision.revisionType")
    if kind in _ELSEWHERE:
        reader.fault(node, f"revision: {kind} revisions are not fetched; {_ELSEWHERE[kind]}")
        return {}
    readers = {
        "Package": ("package", _package),
        "BuildArtifact": ("buildArtifact", _artifact),
        "Upload": ("upload", _upload),
        "AppSpecContent": ("appSpecContent", _content),
        "String": ("string", _content),
    }
    if kind not in readers:
        reader.fault(node, f"revision.revisionType is one of {', '.join(readers)}")
        return {}
    part, read = readers[kind]
    others = sorted(set(entries) - {part, "revisionType"})
    if part not in entries or others:
        reader.fault(
            node, f"revision: a {kind} revision has {part}" + (f", and no {', '.join(others)}" if others else "")
        )
        return {}
    if kind == "String":
        kind, where = "AppSpecContent", "revision.string"
        return {"revisionType": kind, "appSpecContent": read(reader, entries[part], where)}
    return {"revisionType": kind, part: read(reader, entries[part], f"revision.{part}")}


def _texts(
    reader: StrictReader, node: yaml.Node, where: str, known: tuple[str, ...], needed: tuple[str, ...]
) -> dict[str, str]:
    entries = reader.fields(node, where, known)
    for key in needed:
        if key not in entries:
            reader.fault(node, f"{where}.{key} is missing")
    found = {key: reader.limited(value, f"{where}.{key}", 1000, 1) for key, value in entries.items()}
    if "sha256" in found and not _SHA256.match(found["sha256"]):
        reader.fault(node, f"{where}.sha256 is a SHA-256: 64 digits and letters a to f")
    return found


def _package(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, str]:
    return _texts(reader, node, where, _PACKAGE, ("repository", "format", "name", "version"))


def _artifact(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, str]:
    return _texts(reader, node, where, ("buildId", "identifier", "sha256"), ("buildId",))


def _upload(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, str]:
    return _texts(reader, node, where, ("id", "sha256", "bundleType"), ("id",))


def _content(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, Any]:
    entries = reader.fields(node, where, {"content", "sha256", "taskDefinition"})
    found: dict[str, Any] = {"content": reader.text(entries.get("content"), f"{where}.content")}
    if not 1 <= len(found["content"]) <= MOST_CONTENT:
        reader.fault(node, f"{where}.content is the text of an appspec, at most {MOST_CONTENT} characters")
    if "sha256" in entries:
        found["sha256"] = reader.limited(entries["sha256"], f"{where}.sha256", 64, 64)
    if "taskDefinition" in entries:
        found["taskDefinition"] = reader.plain(entries["taskDefinition"], f"{where}.taskDefinition")
    return found
