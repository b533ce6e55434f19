"""Documents read into definitions: the CodePipeline structure in camelCase or PascalCase, YAML or JSON. Pure.

All faults are found at once, each with its line. What this release cannot carry out is refused by name and never
ignored: a pipeline that silently lacks its gate is worse than none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import yaml

from hooks.pipelines.build_project import build_project
from hooks.pipelines.compute import (
    COMPUTE,
    COMPUTE_KEYS,
    compute_configuration,
    refuse_compute,
)
from hooks.pipelines.condition_reading import CONDITION_KEYS, stage_conditions
from hooks.pipelines.definition import (
    ARTIFACT,
    GIT_PROVIDERS,
    MAX_RUN_ORDER,
    MAX_VARIABLES,
    NAME,
    NAMESPACE,
    VARIABLE,
    ActionDefinition,
    ActionType,
    Declaration,
    ExecutionMode,
    PipelineDefinition,
    StageDefinition,
    VariableDefinition,
)
from hooks.pipelines.document import (
    Document,
    Faults,
    fields,
    integer_of,
    items,
    limited,
    line_of,
    matching,
    named,
    pairs,
    read_documents,
    text_of,
    whole,
)
from hooks.pipelines.four_eyes import check_four_eyes
from hooks.pipelines.location_documents import read_location
from hooks.pipelines.provider import RULE, Provider, Setting
from hooks.pipelines.rules import Places, check_pipeline, identity_of
from hooks.pipelines.templates import is_template, pipelines_in
from hooks.pipelines.trigger_documents import read_triggers
from hooks.pipelines.variables import has_reference

MASK = "****"
"""Stands for the value of a secret property in everything that is shown, and, in a document, for the one it had before."""
MAX_VALUE = 1000
LEAST_SEEN_AGAIN = 8
"""Shorter secrets may stand in a document by chance."""

Secrets = Mapping[tuple[str, str, str], str]
"""(stage, action, property) → value."""

_PIPELINE = {"name", "roleArn", "artifactStore", "artifactStores", "stages", "version", "executionMode"}
_PIPELINE |= {"pipelineType", "variables", "triggers", "tags"}
_PIPELINE_REFUSED = {
    "disableInboundStageTransitions": "use `entrepot pipeline transition`: a document that is applied again opens nothing",
    "restartExecutionOnUpdate": "an update starts nothing; start the pipeline by hand",
}
_WITHOUT_EFFECT = {
    "roleArn": "a pipeline has the rights of who applied it, and what the groups and projects it uses allow it",
    "artifactStore": "artifacts lie in their domain's encrypted store",
    "artifactStores": "artifacts lie in their domain's encrypted store, and one server has no regions",
    "tags": "pipelines have no tags",
}
_STAGE_REFUSED = {"blockers": "CodePipeline reserves them and defines no effect"}
_ACTION = {"name", "actionTypeId", "runOrder", "configuration", "inputArtifacts", "outputArtifacts", "roleArn"}
_ACTION |= {"namespace", "timeoutInMinutes", *COMPUTE_KEYS}
_ACTION_REFUSED = {"region": "one server has no regions"}


@dataclass(frozen=True, slots=True)
class Declared:
    """One document of a file: what it declares, its own text, verbatim but for secrets, and what in it has no effect.

    ``secrets`` are the values of secret properties; in text and definition ``MASK`` stands for them.
    """

    text: str
    declares: Declaration
    warnings: tuple[str, ...] = ()
    secrets: Secrets = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class _Reading:
    faults: Faults
    providers: Sequence[Provider]
    places: Places = field(default_factory=Places)
    warnings: list[str] = field(default_factory=list)
    secrets: dict[tuple[str, str, str], str] = field(default_factory=dict)
    hidden: list[yaml.Node] = field(default_factory=list)

    def provider_of(self, action_type: ActionType) -> Provider | None:
        """What carries out actions of a type, or None."""
        return next((each for each in self.providers if identity_of(each) == action_type), None)


def parse_documents(text: str, providers: Sequence[Provider], *, name: str = "pipeline document") -> list[Declared]:
    """Everything that ``text`` declares: pipelines and build projects, in order.

    Raises InvalidDocument with the faults of all documents at once.
    """
    faults = Faults(name)
    found: list[Declared] = []
    names: set[tuple[type, str]] = set()
    for document in read_documents(text, name):
        read = list(_declarations(document.root, providers, faults))
        shown = _hidden(document, [reading for _, reading in read], faults)
        for declared, reading in read:
            if (type(declared), declared.name) in names:
                faults.add(line_of(document.root), f"{declared.name!r} is declared twice in this file")
            names.add((type(declared), declared.name))
            found.append(Declared(shown, declared, tuple(reading.warnings), reading.secrets))
    faults.raise_if_any()
    return found


def _hidden(document: Document, readings: Sequence[_Reading], faults: Faults) -> str:
    """The document's text without its secrets."""
    hidden = [node for reading in readings for node in reading.hidden]
    if not hidden:
        return document.text
    text = document.masked(hidden, MASK)
    for (stage, action, name), value in (each for reading in readings for each in reading.secrets.items()):
        if len(value) >= LEAST_SEEN_AGAIN and value in text:
            told = f"action {stage}/{action}: the value of the secret property {name} stands in the document once more"
            faults.add(line_of(document.root), told)
    return text


def _declarations(
    root: yaml.Node, providers: Sequence[Provider], faults: Faults
) -> Iterator[tuple[Declaration, _Reading]]:
    """What a document declares, each with what was read beside it: one thing, or the pipelines of a template."""
    if not isinstance(root, yaml.MappingNode):
        faults.add(line_of(root), "a document must be a mapping")
        return
    reading = _Reading(faults, providers)
    keys = {key.value[:1].lower() + key.value[1:] for key, _ in root.value if isinstance(key, yaml.ScalarNode)}
    if "buildProject" in keys:
        yield build_project(fields(root, "the document", {"buildProject"}, faults)["buildProject"], faults), reading
        return
    if "definitionFrom" in keys:
        yield read_location(fields(root, "the document", {"definitionFrom"}, faults)["definitionFrom"], faults), reading
        return
    if is_template(keys, root):
        others: list[str] = []
        for name, properties in list(pipelines_in(root, faults, others)):
            of_one = _Reading(faults, providers, warnings=others)
            yield _pipeline(properties, of_one, name), of_one
            others = []
        return
    node: yaml.Node = root
    if "pipeline" in keys:
        # ``metadata`` stands beside it in GetPipeline's answer; it is output only and says nothing about the pipeline.
        node = fields(root, "the document", {"pipeline", "metadata"}, faults)["pipeline"]
    yield _pipeline(node, reading), reading


def _pipeline(node: yaml.Node, reading: _Reading, logical_name: str = "") -> PipelineDefinition:
    """A pipeline; ``logical_name`` is its name where it says none."""
    faults = reading.faults
    entries = fields(node, "pipeline", _PIPELINE, faults, refused=_PIPELINE_REFUSED)
    _check_settings(node, entries, faults)
    for key in sorted(set(_WITHOUT_EFFECT).intersection(entries)):
        reading.warnings.append(f"line {line_of(entries[key])}: {key} has no effect: {_WITHOUT_EFFECT[key]}")
    stage_nodes = items(entries.get("stages"), "pipeline: stages", faults)
    stages = tuple(_stage(stage, index, reading) for index, stage in enumerate(stage_nodes))
    git_sources = {
        action.name for stage in stages[:1] for action in stage.actions if action.type.provider in GIT_PROVIDERS
    }
    triggers, schedules = read_triggers(entries.get("triggers"), git_sources, faults)
    definition = PipelineDefinition(
        name=logical_name if logical_name and "name" not in entries else named(node, entries, "pipeline", NAME, faults),
        stages=stages,
        variables=_variables(entries.get("variables"), faults),
        execution_mode=_execution_mode(entries.get("executionMode"), faults),
        triggers=triggers,
        schedules=schedules,
    )
    reading.places.note((), line_of(entries.get("stages", node)))
    check_pipeline(definition, reading.providers, reading.places, faults)
    reading.warnings += check_four_eyes(definition, reading.places, faults)
    return definition


def _check_settings(node: yaml.Node, entries: dict[str, yaml.Node], faults: Faults) -> None:
    if "artifactStore" in entries and "artifactStores" in entries:
        faults.add(line_of(entries["artifactStores"]), "pipeline: artifactStore and artifactStores exclude each other")
    if "artifactStore" in entries:
        _artifact_store(entries["artifactStore"], faults)
    if "artifactStores" in entries and not isinstance(entries["artifactStores"], yaml.CollectionNode):
        told = "pipeline: artifactStores is a mapping of regions to stores, or a list of both"
        faults.add(line_of(entries["artifactStores"]), told)
    _check_type(entries, faults)
    if "version" in entries:
        integer_of(entries["version"], "pipeline: version", (1, 999_999_999), faults)
    if "roleArn" in entries:
        text_of(entries["roleArn"], "pipeline: roleArn", faults)
    if "stages" not in entries:
        faults.add(line_of(node), "pipeline: stages are missing")


def _execution_mode(node: yaml.Node | None, faults: Faults) -> ExecutionMode:
    # CodePipeline's default is SUPERSEDED. What has run in parallel here does so until its document says otherwise.
    if node is None:
        return ExecutionMode.PARALLEL
    mode = text_of(node, "pipeline: executionMode", faults)
    if mode not in list(ExecutionMode):
        faults.add(line_of(node), f"pipeline: executionMode must be one of {', '.join(ExecutionMode)}")
        return ExecutionMode.PARALLEL
    return ExecutionMode(mode)


def _check_type(entries: dict[str, yaml.Node], faults: Faults) -> None:
    if "pipelineType" in entries:
        kind = text_of(entries["pipelineType"], "pipeline: pipelineType", faults)
        if kind not in {"V1", "V2"}:
            faults.add(line_of(entries["pipelineType"]), "pipeline: pipelineType must be V1 or V2")
        elif kind == "V1" and "variables" in entries:
            faults.add(line_of(entries["variables"]), "pipeline: variables need pipelineType V2")


def _artifact_store(node: yaml.Node, faults: Faults) -> None:
    refused = {"encryptionKey": "artifacts are encrypted with their domain's key"}
    entries = fields(node, "artifactStore", {"type", "location"}, faults, refused=refused)
    if "type" in entries and text_of(entries["type"], "artifactStore: type", faults) != "S3":
        faults.add(line_of(entries["type"]), "artifactStore: type must be S3")


def _variables(node: yaml.Node | None, faults: Faults) -> tuple[VariableDefinition, ...]:
    found: list[VariableDefinition] = []
    for item in items(node, "pipeline: variables", faults):
        entries = fields(item, "variable", {"name", "defaultValue", "description"}, faults)
        name = named(item, entries, "variable", VARIABLE, faults)
        if name and name in {variable.name for variable in found}:
            faults.add(line_of(item), f"variable {name!r} is declared twice")
        default = description = None
        if "defaultValue" in entries:
            default = limited(entries["defaultValue"], f"variable {name!r}: defaultValue", 1000, faults, strict=True)
        if "description" in entries:
            description = limited(entries["description"], f"variable {name!r}: description", 200, faults)
        found.append(VariableDefinition(name, default, description or ""))
    if node is not None and len(found) > MAX_VARIABLES:
        faults.add(line_of(node), f"pipeline: {len(found)} variables, at most {MAX_VARIABLES} are allowed")
    return tuple(found)


def _stage(node: yaml.Node, index: int, reading: _Reading) -> StageDefinition:
    faults = reading.faults
    entries = fields(node, "stage", {"name", "actions", *CONDITION_KEYS}, faults, refused=_STAGE_REFUSED)
    name = named(node, entries, "stage", NAME, faults)
    reading.places.note((index,), line_of(node))
    nodes = items(entries.get("actions"), f"stage {name!r}: actions", faults)
    actions = tuple(_action(action, (index, j), name, reading) for j, action in enumerate(nodes))
    return StageDefinition(
        name, actions, stage_conditions(entries, index, name, reading.providers, places=reading.places, faults=faults)
    )


def _action(node: yaml.Node, place: tuple[int, int], stage: str, reading: _Reading) -> ActionDefinition:
    faults = reading.faults
    entries = fields(node, "action", _ACTION, faults, refused=_ACTION_REFUSED)
    name = named(node, entries, "action", NAME, faults)
    what = f"action {stage}/{name}"
    reading.places.note(place, line_of(node))
    if "actionTypeId" not in entries:
        faults.add(line_of(node), f"{what}: actionTypeId is missing")
    if "roleArn" in entries:
        text_of(entries["roleArn"], f"{what}: roleArn", faults)
    namespace = None
    if "namespace" in entries:
        namespace = matching(entries["namespace"], f"{what}: namespace", NAMESPACE, faults)
        reading.places.note((*place, "namespace"), line_of(entries["namespace"]))
    action_type = _action_type(entries.get("actionTypeId"), what, reading)
    if action_type.category == COMPUTE:
        configuration = compute_configuration(node, entries, what, place=place, places=reading.places, faults=faults)
    else:
        provider = reading.provider_of(action_type)
        secret = {each.name: each for each in provider.settings if each.is_secret} if provider is not None else {}
        configuration = _configuration(entries.get("configuration"), what, place, reading, secret)
        for key in secret:
            if key in configuration:
                reading.secrets[stage, name, key], configuration[key] = configuration[key], MASK
        refuse_compute(entries, what, faults)
    return ActionDefinition(
        name=name,
        type=action_type,
        run_order=whole(entries, "runOrder", what, (1, MAX_RUN_ORDER), faults) or 1,
        configuration=configuration,
        inputs=_artifacts(entries.get("inputArtifacts"), what, (*place, "input"), reading),
        outputs=_artifacts(entries.get("outputArtifacts"), what, (*place, "output"), reading),
        namespace=namespace,
        timeout_minutes=whole(entries, "timeoutInMinutes", what, (5, 86_400), faults),
    )


def _action_type(node: yaml.Node | None, what: str, reading: _Reading) -> ActionType:
    if node is None:
        return ActionType("", "", "")
    faults = reading.faults
    entries = fields(node, f"{what}: actionTypeId", {"category", "owner", "provider", "version"}, faults)
    words = {key: text_of(value, f"{what}: {key}", faults) for key, value in entries.items()}
    missing = [key for key in ("category", "provider") if key not in entries]
    if missing:
        faults.add(line_of(node), f"{what}: actionTypeId needs {' and '.join(missing)}")
        return ActionType("", "", "")
    category, provider = words["category"], words["provider"]
    version = words.get("version", "1")
    actions = [known for known in reading.providers if known.category != RULE]
    named = [each for each in actions if (each.category, each.name, each.version) == (category, provider, version)]
    found = [known for known in named if words.get("owner", known.owner) == known.owner]
    if not found:
        known = "; ".join(
            f"{each.category} / {each.owner} / {each.name}" + (f" / {each.version}" if each.version != "1" else "")
            for each in actions
        )
        asked = " / ".join([category, words.get("owner", "?"), provider, version])
        faults.add(line_of(node), f"{what}: {asked} is not carried out by this release (known, version 1: {known})")
        return ActionType("", "", "")
    return identity_of(found[0])


def _secret(node: yaml.Node, what: str, setting: Setting, reading: _Reading) -> str:
    """The value of a secret property, which no fault repeats."""
    faults = reading.faults
    if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
        faults.add(line_of(node), f"{what} must be text: write it in quotes")
        return ""
    reading.hidden.append(node)
    value = text_of(node, what, faults)
    if value == MASK:
        return value
    if has_reference(value):
        faults.add(line_of(node), f"{what}: variables are not written into a secret property")
    if not 1 <= len(value) <= MAX_VALUE:
        faults.add(line_of(node), f"{what} has {len(value)} characters; 1 to {MAX_VALUE} are allowed")
    elif setting.check is not None and (fault := setting.check(value)):
        faults.add(line_of(node), f"{what}: {fault}")
    return value


def _configuration(
    node: yaml.Node | None, what: str, place: tuple[int, int], reading: _Reading, secret: Mapping[str, Setting]
) -> dict[str, str]:
    if node is None:
        return {}
    found: dict[str, str] = {}
    for key, value, line in pairs(node, f"{what}: configuration", reading.faults):
        reading.places.note((*place, "configuration", key), line)
        where = f"{what}: configuration {key}"
        if key in secret:
            found[key] = _secret(value, where, secret[key], reading)
        else:
            found[key] = limited(value, where, MAX_VALUE, reading.faults, strict=True)
        if not 1 <= len(key) <= 50:
            reading.faults.add(line, f"{what}: a configuration key has 1 to 50 characters")
    return found


def _artifacts(node: yaml.Node | None, what: str, place: tuple[int, int, str], reading: _Reading) -> tuple[str, ...]:
    names: list[str] = []
    for item in items(node, f"{what}: artifacts", reading.faults):
        entries = fields(item, f"{what}: artifact", {"name", "files"}, reading.faults)
        name = named(item, entries, f"{what}: artifact", ARTIFACT, reading.faults)
        reading.places.note((*place, len(names)), line_of(item))
        names.append(name)
    return tuple(names)
