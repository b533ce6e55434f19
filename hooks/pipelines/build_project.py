"""CodeBuild's project document, and its shorthand, read into a declaration. Pure.

All faults are found at once, each with its line. What changes what is built and cannot be carried out here is refused;
what has no meaning on a server of one's own (roles, keys, where logs go) is accepted with a warning.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import yaml

from hooks.builds.batch_tasks import MAX_TIMEOUT_MINUTES
from hooks.builds.output_settings import LAYER_CACHE, LAYER_WARNING
from hooks.builds.project import (
    MAX_AUTO_RETRIES,
    MAX_DEPTH,
    MAX_SECONDARY_SOURCES,
    ON_LIMIT,
    SPELLINGS,
    SourceSettings,
    SourceType,
    source_faults,
)
from hooks.builds.references import VariableType, stored_variable
from hooks.builds.spec_batch import MAX_TASKS
from hooks.pipelines.definition import NAME, BuildProjectDeclaration
from hooks.pipelines.document import (
    Faults,
    fields,
    items,
    limited,
    line_of,
    named,
    pairs,
    read_documents,
    text_of,
    whole,
)

LONGEST_DESCRIPTION = 255
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_]{1,128}\Z")
_REPOSITORY = re.compile(r"(?:([a-z0-9][a-z0-9-]{0,49})/)?([A-Za-z0-9][A-Za-z0-9._-]{0,99})\Z")
_KNOWN = {"name", "description", "buildspec", "buildSpec", "repository", "source", "secondarySources"}
_KNOWN |= {"sourceVersion", "secondarySourceVersions", "artifacts", "secondaryArtifacts", "cache", "environment"}
_KNOWN |= {"timeoutInMinutes", "queuedTimeoutInMinutes", "concurrentBuildLimit", "onLimit", "autoRetryLimit"}
_KNOWN |= {"badgeEnabled", "tags", "publishRepository", "buildBatchConfig"}
_WITHOUT_EFFECT = {
    "serviceRole": "a build has a token of its own, which reads the project's repository",
    "encryptionKey": "what builds leave is encrypted with the server's keys",
    "logsConfig": "logs are kept by this server",
    "projectVisibility": "who may read the repository sees its builds",
}
_ANSWERED = {"arn", "created", "lastModified", "webhook", "badge", "publicProjectAlias", "resourceAccessRole"}
"""What BatchGetProjects answers with, and nobody declares: such an answer can be applied as it is."""
_REFUSED = {
    "vpcConfig": "a build reaches its registry, or nothing",
    "fileSystemLocations": "builds mount no file systems",
}
_SOURCE = {"type", "location", "gitCloneDepth", "buildspec", "buildSpec", "gitSubmodulesConfig", "sourceIdentifier"}
_SOURCE |= {"auth", "reportBuildStatus", "buildStatusConfig", "insecureSsl"}
_ENVIRONMENT = {"type", "image", "computeType", "privilegedMode", "environmentVariables", "variables", "network"}
_ENVIRONMENT |= {"imagePullCredentialsType"}
_ENVIRONMENT_REFUSED = {
    "certificate": "the registry is the only address a build reaches",
    "registryCredential": "images come with the executor's own credentials",
    "fleet": "there are no fleets; workers take builds as they are free",
    "dockerServer": "there are no Docker servers beside the executor",
    "computeConfiguration": "the limits of a build are the worker's",
}
_ARTIFACTS = {"type", "location", "path", "namespaceType", "name", "packaging", "overrideArtifactName"}
_ARTIFACTS |= {"encryptionDisabled", "artifactIdentifier", "bucketOwnerAccess"}
_BATCH = {"serviceRole", "combineArtifacts", "restrictions", "timeoutInMins", "batchReportMode"}
_CACHE = {"type", "location", "modes", "cacheNamespace"}
_BOOLEAN = "tag:yaml.org,2002:bool"


def parse_project(text: str, name: str) -> BuildProjectDeclaration:
    """The one project in a YAML or JSON text: CodeBuild's document, or what stands under ``buildProject:``.

    Without a name in it, it is called ``name``. Raises InvalidDocument with all faults.
    """
    faults = Faults("build project")
    documents = read_documents(text, "build project")
    if len(documents) > 1:
        faults.add(line_of(documents[1].root), "one project at a time; several are applied as a pipeline document")
    root = documents[0].root
    if isinstance(root, yaml.MappingNode) and len(root.value) == 1:
        key, value = root.value[0]
        if isinstance(key, yaml.ScalarNode) and key.value.lower() in {"buildproject", "project"}:
            root = value
    declared = build_project(root, faults, name=name)
    faults.raise_if_any()
    return declared


def build_project(node: yaml.Node, faults: Faults, *, name: str = "") -> BuildProjectDeclaration:
    """Read the mapping ``node``, called ``name`` if it has none. What it gives after a fault is not to be used."""
    ignored = {*_WITHOUT_EFFECT, *_ANSWERED}
    entries = fields(node, "buildProject", _KNOWN | ignored, faults, refused=_REFUSED)
    environment = _environment(entries, faults)
    sources, source_spec = _sources(node, entries, faults)
    spec = entries.get("buildspec", entries.get("buildSpec", source_spec))
    network = environment.get("network")
    kind = environment.get("type")
    limit = entries.get("onLimit")
    document = _kept(entries, faults)
    return BuildProjectDeclaration(
        name=name if name and "name" not in entries else named(node, entries, "buildProject", NAME, faults),
        buildspec=None if spec is None else text_of(spec, "buildProject: buildspec", faults),
        variables=_variables(environment, faults),
        network=None if network is None else text_of(network, "buildProject: network", faults),
        timeout_minutes=whole(entries, "timeoutInMinutes", "buildProject", (5, 2160), faults),
        max_concurrent=whole(entries, "concurrentBuildLimit", "buildProject", (1, 100), faults),
        repository=_repository(entries.get("repository"), faults),
        sources=sources,
        environment_type=None if kind is None else text_of(kind, "buildProject: environment type", faults),
        environment=_kept_environment(environment, faults),
        document=document,
        queued_timeout_minutes=whole(entries, "queuedTimeoutInMinutes", "buildProject", (5, 480), faults),
        auto_retry_limit=whole(entries, "autoRetryLimit", "buildProject", (0, MAX_AUTO_RETRIES), faults),
        on_limit=None if limit is None else _one_of(limit, "buildProject: onLimit", ON_LIMIT, faults),
        warnings=(
            *(f"{key} has no effect here: {why}" for key, why in _WITHOUT_EFFECT.items() if key in entries),
            *((LAYER_WARNING,) if LAYER_CACHE in (document.get("cache", {}).get("modes") or ()) else ()),
        ),
    )


# --- sources ---------------------------------------------------------------------------------------------------------


def _sources(
    node: yaml.Node, entries: Mapping[str, yaml.Node], faults: Faults
) -> tuple[tuple[SourceSettings, ...], yaml.Node | None]:
    """The primary source and the others, and the buildspec that stands in the primary one."""
    found, spec = SourceSettings(), None
    if "source" in entries:
        found, spec = _source(entries["source"], "source", faults)
        if found.identifier:
            faults.add(line_of(entries["source"]), "source: only secondary sources have a sourceIdentifier")
    if "sourceVersion" in entries:
        found = replace(found, version=_version(entries["sourceVersion"], "sourceVersion", faults))
    others = _secondary_sources(node, entries, faults)
    for source in (found, *others):
        where = f"secondary source {source.identifier!r}" if source.identifier else "source"
        for fault in source_faults(source, where):
            faults.add(line_of(entries.get("source", node)), fault)
    return (found, *others), spec


def _secondary_sources(node: yaml.Node, entries: Mapping[str, yaml.Node], faults: Faults) -> list[SourceSettings]:
    versions = _secondary_versions(entries.get("secondarySourceVersions"), faults)
    others: list[SourceSettings] = []
    for item in items(entries.get("secondarySources"), "buildProject: secondarySources", faults):
        source, own_spec = _source(item, "secondary source", faults)
        if own_spec is not None:
            faults.add(line_of(own_spec), "secondary source: the buildspec is the primary source's")
        if not _IDENTIFIER.match(source.identifier):
            faults.add(line_of(item), "secondary source: needs a sourceIdentifier of letters, digits and '_'")
        if source.type is not SourceType.GIT:
            faults.add(line_of(item), "secondary source: only git sources can be secondary")
        if source.identifier in {other.identifier for other in others}:
            faults.add(line_of(item), f"secondary source {source.identifier!r} is there twice")
        others.append(replace(source, version=versions.pop(source.identifier, "")))
    if len(others) > MAX_SECONDARY_SOURCES:
        faults.add(line_of(node), f"buildProject: at most {MAX_SECONDARY_SOURCES} secondary sources")
    for identifier in versions:
        line = line_of(entries["secondarySourceVersions"])
        faults.add(line, f"secondarySourceVersions: there is no secondary source {identifier!r}")
    return others


def _source(node: yaml.Node, what: str, faults: Faults) -> tuple[SourceSettings, yaml.Node | None]:
    entries = fields(node, what, _SOURCE, faults)
    kind = SourceType.PACKAGE
    if "type" in entries:
        word = text_of(entries["type"], f"{what}: type", faults)
        if word not in SPELLINGS:
            known = ", ".join(sorted(SPELLINGS))
            more = "; a zip is uploaded with each start (type UPLOAD)" if word == "S3" else ""
            faults.add(line_of(entries["type"]), f"{what}: type {word!r} is not carried out (known: {known}){more}")
        kind = SPELLINGS.get(word, kind)
    if "auth" in entries:
        why = "a document holds no credential; give it with 'entrepot build project credential'"
        faults.add(line_of(entries["auth"]), f"{what}: 'auth' is not carried out: {why}")
    for key in ("reportBuildStatus", "insecureSsl"):
        if key in entries and _boolean(entries[key], f"{what}: {key}", faults):
            faults.add(line_of(entries[key]), f"{what}: {key} is not carried out")
    depth = whole(entries, "gitCloneDepth", what, (0, MAX_DEPTH), faults)
    submodules = False
    if "gitSubmodulesConfig" in entries:
        config = fields(entries["gitSubmodulesConfig"], f"{what}: gitSubmodulesConfig", {"fetchSubmodules"}, faults)
        if "fetchSubmodules" in config:
            submodules = _boolean(config["fetchSubmodules"], f"{what}: fetchSubmodules", faults)
    texts = {
        key: text_of(entries[name], f"{what}: {name}", faults) if name in entries else ""
        for key, name in (("location", "location"), ("identifier", "sourceIdentifier"))
    }
    source = SourceSettings(kind, depth=1 if depth is None else depth, submodules=submodules, **texts)
    return source, entries.get("buildspec", entries.get("buildSpec"))


def _version(node: yaml.Node, what: str, faults: Faults) -> str:
    return limited(node, what, 300, faults)


def _secondary_versions(node: yaml.Node | None, faults: Faults) -> dict[str, str]:
    found: dict[str, str] = {}
    what = "secondarySourceVersions"
    for item in items(node, f"buildProject: {what}", faults):
        entries = fields(item, what, {"sourceIdentifier", "sourceVersion"}, faults)
        if {"sourceIdentifier", "sourceVersion"} - set(entries):
            faults.add(line_of(item), f"{what}: each needs a sourceIdentifier and a sourceVersion")
            continue
        identifier = text_of(entries["sourceIdentifier"], f"{what}: sourceIdentifier", faults)
        found[identifier] = _version(entries["sourceVersion"], f"{what}: sourceVersion", faults)
    return found


def _repository(node: yaml.Node | None, faults: Faults, what: str = "repository") -> tuple[str, str] | None:
    if node is None:
        return None
    match = _REPOSITORY.match(text_of(node, f"buildProject: {what}", faults))
    if match is None:
        faults.add(line_of(node), f"buildProject: {what} is written NAME or DOMAIN/NAME")
        return None
    return match[1] or "default", match[2]


# --- environment and the rest ----------------------------------------------------------------------------------------


def _environment(entries: Mapping[str, yaml.Node], faults: Faults) -> dict[str, yaml.Node]:
    if "environment" not in entries:
        return {}
    what = "buildProject: environment"
    return fields(entries["environment"], what, _ENVIRONMENT, faults, refused=_ENVIRONMENT_REFUSED)


def _kept_environment(environment: Mapping[str, yaml.Node], faults: Faults) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key in ("image", "computeType"):
        if key in environment:
            kept[key] = limited(environment[key], f"environment: {key}", 500, faults)
    if "privilegedMode" in environment and _boolean(environment["privilegedMode"], "privilegedMode", faults):
        kept["privilegedMode"] = True
    return kept


def _variables(environment: Mapping[str, yaml.Node], faults: Faults) -> dict[str, Any]:
    """A mapping of names to texts, or CodeBuild's list of {name, value, type}."""
    node = environment.get("environmentVariables", environment.get("variables"))
    if "environmentVariables" in environment and "variables" in environment:
        faults.add(
            line_of(environment["variables"]), "environment: variables and environmentVariables exclude each other"
        )
    found: dict[str, Any] = {}
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            entries = fields(item, "environment variable", {"name", "value", "type"}, faults)
            name = named(item, entries, "environment variable", _ENVIRONMENT_NAME, faults)
            kind = text_of(entries["type"], "type", faults) if "type" in entries else VariableType.PLAINTEXT
            if kind not in list(VariableType):
                faults.add(line_of(item), f"environment variable {name!r}: type {kind!r} is none of CodeBuild's")
                continue
            if name in found:
                faults.add(line_of(item), f"environment variable {name!r} is there twice")
            text = text_of(entries["value"], "value", faults, strict=True) if "value" in entries else ""
            found[name] = stored_variable(kind, text)
    elif node is not None:
        for name, value, line in pairs(node, "environment variables", faults):
            if not _ENVIRONMENT_NAME.match(name):
                faults.add(line, f"environment variable {name!r}: letters, digits and '_', no digit first")
            found[name] = text_of(value, f"environment variable {name}", faults, strict=True)
    return found


def _kept(entries: Mapping[str, yaml.Node], faults: Faults) -> dict[str, Any]:
    """What has no column of its own, in CodeBuild's shape."""
    kept: dict[str, Any] = {}
    if "description" in entries:
        kept["description"] = limited(entries["description"], "buildProject: description", LONGEST_DESCRIPTION, faults)
    if "publishRepository" in entries:
        target = _repository(entries["publishRepository"], faults, "publishRepository")
        kept["publishRepository"] = "/".join(target) if target else ""
    if "badgeEnabled" in entries:
        kept["badgeEnabled"] = _boolean(entries["badgeEnabled"], "buildProject: badgeEnabled", faults)
    if "buildBatchConfig" in entries:
        kept["buildBatchConfig"] = _batch_config(entries["buildBatchConfig"], faults)
    for key, known in (("artifacts", _ARTIFACTS), ("cache", _CACHE)):
        if key in entries:
            kept[key] = _plain_fields(entries[key], f"buildProject: {key}", known, faults)
    for key, known in (("secondaryArtifacts", _ARTIFACTS), ("tags", {"key", "value"})):
        if key in entries:
            listed = items(entries[key], f"buildProject: {key}", faults)
            kept[key] = [_plain_fields(item, f"buildProject: {key}", known, faults) for item in listed]
    return kept


def _batch_config(node: yaml.Node, faults: Faults) -> dict[str, Any]:
    """CodeBuild's ProjectBuildBatchConfig; its role has no effect: no build can start builds."""
    what = "buildBatchConfig"
    entries = fields(node, what, _BATCH, faults)
    kept: dict[str, Any] = {}
    if "combineArtifacts" in entries:
        kept["combineArtifacts"] = _boolean(entries["combineArtifacts"], f"{what}: combineArtifacts", faults)
    if "batchReportMode" in entries:
        kept["batchReportMode"] = text_of(entries["batchReportMode"], f"{what}: batchReportMode", faults)
    minutes = whole(entries, "timeoutInMins", what, (5, MAX_TIMEOUT_MINUTES), faults)
    if minutes is not None:
        kept["timeoutInMins"] = minutes
    if "restrictions" in entries:
        refused = {"fleetsAllowed": "there are no fleets; workers take builds as they are free"}
        known = {"maximumBuildsAllowed", "computeTypesAllowed"}
        inner = fields(entries["restrictions"], f"{what}: restrictions", known, faults, refused=refused)
        restrictions: dict[str, Any] = {}
        most = whole(inner, "maximumBuildsAllowed", f"{what}: restrictions", (1, MAX_TASKS), faults)
        if most is not None:
            restrictions["maximumBuildsAllowed"] = most
        if "computeTypesAllowed" in inner:
            listed = items(inner["computeTypesAllowed"], f"{what}: computeTypesAllowed", faults)
            restrictions["computeTypesAllowed"] = [text_of(each, "computeTypesAllowed", faults) for each in listed]
        kept["restrictions"] = restrictions
    return kept


def _plain_fields(node: yaml.Node, what: str, known: Collection[str], faults: Faults) -> dict[str, Any]:
    return {key: _plain(value, f"{what}: {key}", faults) for key, value in fields(node, what, known, faults).items()}


def _plain(node: yaml.Node, what: str, faults: Faults) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, what, faults) for item in node.value]
    if node.tag == _BOOLEAN:
        return _boolean(node, what, faults)
    return limited(node, what, 1000, faults)


def _boolean(node: yaml.Node, what: str, faults: Faults) -> bool:
    word = text_of(node, what, faults).lower()
    if word not in {"true", "false", "yes", "no"}:
        faults.add(line_of(node), f"{what} must be true or false")
    return word in {"true", "yes"}


def _one_of(node: yaml.Node, what: str, words: Collection[str], faults: Faults) -> str:
    word = text_of(node, what, faults)
    if word not in words:
        faults.add(line_of(node), f"{what} must be {' or '.join(words)}")
    return word
