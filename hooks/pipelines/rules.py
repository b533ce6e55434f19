"""The rules between the parts of a pipeline: CodePipeline's structure rules and what each provider asks for. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hooks.pipelines.definition import (
    MAX_ACTIONS,
    MAX_ACTIONS_PER_STAGE,
    MAX_RUN_ORDER,
    MAX_STAGES,
    SLOT_KEYS,
    ActionDefinition,
    ActionType,
    ExecutionMode,
    PipelineDefinition,
    Result,
    Slot,
)
from hooks.pipelines.document import Faults
from hooks.pipelines.provider import Provider, Setting
from hooks.pipelines.variables import RESERVED_NAMESPACES, has_reference, malformed, references
from hooks.pipelines.which_packages import SETTING, check_packages, parse_packages

PUBLISHES = "PublishRepository"
"""The setting of builds that publish."""

Place = tuple[int | str, ...]
_Outputs = Mapping[ActionType, frozenset[str] | None]


@dataclass(slots=True)
class Places:
    """Where in the document each part stands: (stage, action, "configuration", key) → line."""

    _lines: dict[Place, int] = field(default_factory=dict)

    def note(self, place: Place, line: int) -> None:
        """Remember the line of a part."""
        self._lines[place] = line

    def line(self, *place: int | str) -> int:
        """The line of a part, or of the nearest part around it."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)


@dataclass(frozen=True, slots=True)
class _At:
    """An action with where it stands, in the document and in time."""

    action: ActionDefinition
    stage: int
    index: int | str
    label: str

    def certainly_after(self, other: _At) -> bool:
        """Whether ``other`` has certainly ended when this one starts: earlier stage, or lower runOrder in the same."""
        return (other.stage, other.action.run_order) < (self.stage, self.action.run_order)


def identity_of(provider: Provider) -> ActionType:
    """What an action says that is carried out by ``provider``."""
    return ActionType(provider.category, provider.owner, provider.name, provider.version)


def check_pipeline(
    definition: PipelineDefinition, providers: Sequence[Provider], places: Places, faults: Faults
) -> None:
    """Add a fault for every rule that ``definition`` breaks."""
    actions = [
        _At(action, i, j, f"action {stage.name}/{action.name}")
        for i, stage in enumerate(definition.stages)
        for j, action in enumerate(stage.actions)
    ]
    _check_stages(definition, places, faults)
    _check_sources(definition, actions, places, faults)
    _check_artifacts(actions, places, faults)
    _check_namespaces(actions, places, faults)
    known = {identity_of(provider): provider for provider in providers}
    made = {name for at in actions if at.action.type.category != "Source" for name in at.action.outputs}
    for at in actions:
        provider = known.get(at.action.type)
        if provider is not None:
            _check_provider(at, provider, places, faults)
            _check_giving_way(at, provider, definition, places, faults)
            _check_has_version(at, definition, actions, places, faults)
            _check_published(at, provider, actions, definition, places=places, faults=faults)
            if made.intersection(at.action.inputs):
                _check_of_version(at, provider.of_version, places, faults)
    outputs = {key: provider.variables for key, provider in known.items()}
    for at in actions:
        _check_references(at, definition, actions, outputs, places=places, faults=faults)
    makers = {name: at for at in reversed(actions) for name in at.action.outputs}
    for at in _rules(definition):
        _check_inputs(at, makers, places, faults)
        provider = known.get(at.action.type)
        if provider is not None:
            _check_provider(at, provider, places, faults)
        _check_references(at, definition, actions, outputs, places=places, faults=faults)
    _check_results(definition, places, faults)


def _rules(definition: PipelineDefinition) -> Iterator[_At]:
    """The rules as if they were actions: before entry ahead of all of their stage, the others behind them."""
    for i, stage in enumerate(definition.stages):
        for slot, condition in stage.conditions.items():
            order = 0 if slot is Slot.BEFORE_ENTRY else MAX_RUN_ORDER + 1
            for k, rule in enumerate(condition.rules):
                action = ActionDefinition(
                    rule.name,
                    rule.type,
                    order,
                    rule.configuration,
                    inputs=rule.inputs,
                    timeout_minutes=rule.timeout_minutes,
                )
                yield _At(action, i, f"{slot}.{k}", f"rule {stage.name}/{SLOT_KEYS[slot]}/{rule.name}")


def _check_results(definition: PipelineDefinition, places: Places, faults: Faults) -> None:
    for i, stage in enumerate(definition.stages):
        for slot, condition in stage.conditions.items():
            line, what = places.line(i, slot), f"stage {stage.name!r}: {SLOT_KEYS[slot]}"
            if condition.result is Result.ROLLBACK and definition.execution_mode is ExecutionMode.PARALLEL:
                told = "ROLLBACK needs stages that executions share: executionMode SUPERSEDED or QUEUED"
                faults.add(line, f"{what}: {told} (without the line it is PARALLEL)")
            if condition.result is Result.ROLLBACK and i == 0:
                faults.add(line, f"{what}: the source stage cannot be rolled back")
            if slot is Slot.BEFORE_ENTRY and i == 0:
                faults.add(line, f"{what}: nothing is before the first stage; no execution could say what it is about")
            if slot is not Slot.BEFORE_ENTRY and i == 0 and condition.result is Result.SKIP:
                faults.add(line, f"{what}: the source stage cannot be skipped")
            for name, count in Counter(rule.name for rule in condition.rules).items():
                if name and count > 1:
                    faults.add(line, f"{what}: the condition has the rule {name!r} twice")


def _check_inputs(at: _At, makers: Mapping[str, _At], places: Places, faults: Faults) -> None:
    for k, name in enumerate(at.action.inputs):
        line = places.line(at.stage, at.index, "input", k)
        maker = makers.get(name)
        if name in at.action.inputs[:k]:
            faults.add(line, f"{at.label}: input artifact {name!r} is there twice")
        elif maker is None:
            faults.add(line, f"{at.label}: no action makes the input artifact {name!r}")
        elif not at.certainly_after(maker):
            faults.add(line, f"{at.label}: {maker.label}, which makes {name!r}, has not certainly ended before")


def _check_stages(definition: PipelineDefinition, places: Places, faults: Faults) -> None:
    stages = definition.stages
    if not 2 <= len(stages) <= MAX_STAGES:
        faults.add(places.line(), f"pipeline: {len(stages)} stages; a pipeline has 2 to {MAX_STAGES}")
    total = sum(len(stage.actions) for stage in stages)
    if total > MAX_ACTIONS:
        faults.add(places.line(), f"pipeline: {total} actions, at most {MAX_ACTIONS} are allowed")
    seen: set[str] = set()
    for i, stage in enumerate(stages):
        if stage.name and stage.name in seen:
            faults.add(places.line(i), f"stage {stage.name!r}: another stage has this name")
        seen.add(stage.name)
        if not 1 <= len(stage.actions) <= MAX_ACTIONS_PER_STAGE:
            allowed = f"a stage has 1 to {MAX_ACTIONS_PER_STAGE}"
            faults.add(places.line(i), f"stage {stage.name!r}: {len(stage.actions)} actions; {allowed}")
        repeated = [name for name, count in Counter(action.name for action in stage.actions).items() if count > 1]
        for j, action in enumerate(stage.actions):
            if action.name and action.name in repeated:
                faults.add(places.line(i, j), f"action {stage.name}/{action.name}: the stage has this name twice")


def _check_sources(definition: PipelineDefinition, actions: Sequence[_At], places: Places, faults: Faults) -> None:
    for at in actions:
        category = at.action.type.category
        if category and (category == "Source") != (at.stage == 0):
            rule = "the first stage holds only Source actions" if at.stage == 0 else "Source actions stand only there"
            place = "in the first stage" if at.stage == 0 else "outside the first stage"
            faults.add(places.line(at.stage, at.index), f"{at.label}: {category} action {place}; {rule}")
    sources = [at for at in actions if at.stage == 0 and at.action.type.category == "Source"]
    for at in [at for at in sources if at.action.is_package_source][1:]:
        why = "an execution is about one package version"
        told = f"{at.label}: a second Source action of packages is not carried out: {why}"
        faults.add(places.line(at.stage, at.index), told)
    if definition.stages and not sources and all(at.action.type.category for at in actions if at.stage == 0):
        faults.add(places.line(0), f"stage {definition.stages[0].name!r}: the first stage needs a Source action")


def _check_artifacts(actions: Sequence[_At], places: Places, faults: Faults) -> None:
    makers: dict[str, _At] = {}
    for at in actions:
        for k, name in enumerate(at.action.outputs):
            if name and name in makers:
                line = places.line(at.stage, at.index, "output", k)
                faults.add(line, f"{at.label}: output artifact {name!r} is already made by {makers[name].label}")
            makers.setdefault(name, at)
    for at in actions:
        _check_inputs(at, makers, places, faults)


def _check_namespaces(actions: Sequence[_At], places: Places, faults: Faults) -> None:
    artifacts = {name for at in actions for name in (*at.action.inputs, *at.action.outputs)}
    seen: dict[str, str] = {}
    for at in actions:
        namespace = at.action.namespace
        if not namespace:
            continue
        line = places.line(at.stage, at.index, "namespace")
        if namespace in RESERVED_NAMESPACES:
            faults.add(line, f"{at.label}: namespace {namespace!r} is reserved")
        elif namespace in seen:
            faults.add(line, f"{at.label}: namespace {namespace!r} is already that of {seen[namespace]}")
        if namespace in artifacts:
            faults.add(line, f"{at.label}: namespace {namespace!r} is also the name of an artifact")
        seen.setdefault(namespace, at.label)


def _check_provider(at: _At, provider: Provider, places: Places, faults: Faults) -> None:
    action, line = at.action, places.line(at.stage, at.index)
    for word, names, (low, high) in (
        ("input", action.inputs, provider.inputs),
        ("output", action.outputs, provider.outputs),
    ):
        if not low <= len(names) <= high:
            allowed = f"{low}" if low == high else f"{low} to {high}"
            faults.add(line, f"{at.label}: {len(names)} {word} artifacts; {action.type.provider} has {allowed}")
    _check_names_of_inputs(at, provider, places, faults)
    if action.timeout_minutes is not None and not provider.has_timeout:
        faults.add(line, f"{at.label}: {action.type.provider} actions have no timeoutInMinutes")
    _check_settings(at, provider, places, faults)


def _check_names_of_inputs(at: _At, provider: Provider, places: Places, faults: Faults) -> None:
    action, line = at.action, places.line(at.stage, at.index)
    for key in sorted(provider.names_inputs.intersection(action.configuration)):
        named = action.configuration[key]
        if not has_reference(named) and named not in action.inputs:
            here = places.line(at.stage, at.index, "configuration", key)
            faults.add(here, f"{at.label}: configuration {key}: {named!r} is none of the input artifacts")
    primary = action.configuration.get("PrimarySource")
    if provider.setting("PrimarySource") is not None and len(action.inputs) > 1 and primary is None:
        faults.add(
            line, f"{at.label}: configuration PrimarySource is missing: it says which input artifact is the primary one"
        )
    elif primary is not None and not has_reference(primary) and primary not in action.inputs:
        faults.add(line, f"{at.label}: configuration PrimarySource: {primary!r} is none of the input artifacts")


def _check_settings(at: _At, provider: Provider, places: Places, faults: Faults) -> None:
    action, line = at.action, places.line(at.stage, at.index)
    known = ", ".join(setting.name for setting in provider.settings)
    for key, value in action.configuration.items():
        setting = provider.setting(key)
        here = places.line(at.stage, at.index, "configuration", key)
        if setting is None:
            faults.add(
                here, f"{at.label}: {action.type.provider} does not carry out the setting {key!r} (known: {known})"
            )
        else:
            fault = _value_fault(setting, value)
            if fault:
                faults.add(here, f"{at.label}: configuration {key}: {fault}")
    for key, fault in provider.check_all(action.configuration):
        here = places.line(at.stage, at.index, "configuration", key) if key else line
        faults.add(here, f"{at.label}: configuration {key}: {fault}" if key else f"{at.label}: {fault}")
    for setting in provider.settings:
        if setting.is_required and not action.configuration.get(setting.name):
            faults.add(line, f"{at.label}: configuration {setting.name} is missing")


def _value_fault(setting: Setting, value: str) -> str | None:
    if setting.is_secret:
        return None  # its reader has looked at it, and says nothing of it
    if has_reference(value) and not setting.is_json:
        return "variables are not allowed in it" if setting.is_literal else None
    return setting.check(value) if setting.check is not None else None


def _check_giving_way(
    at: _At, provider: Provider, definition: PipelineDefinition, places: Places, faults: Faults
) -> None:
    key = "ExpiresWhenSuperseded"
    if provider.setting(key) is None or at.action.configuration.get(key) != "true":
        return
    if definition.execution_mode is ExecutionMode.PARALLEL:
        here = places.line(at.stage, at.index, "configuration", key)
        told = "executions in PARALLEL do not wait behind each other; it needs executionMode SUPERSEDED or QUEUED"
        faults.add(here, f"{at.label}: configuration {key}: {told}")


def _check_has_version(
    at: _At, definition: PipelineDefinition, actions: Sequence[_At], places: Places, faults: Faults
) -> None:
    """What needs a package version is not there for nothing: the source gives it, or a build has published one before."""
    action = at.action
    if not definition.stages or not definition.sources or definition.source.is_package_source:
        return
    if not action.type.category or not all(each.type.category for each in definition.sources):
        return  # told already
    line = places.line(at.stage, at.index)
    if action.type.provider == "Promote":
        publishers = [
            other for other in actions if PUBLISHES in other.action.configuration and at.certainly_after(other)
        ]
        if not publishers:
            told = f"nothing gives it a package version: no source does, and no build before it has {PUBLISHES}"
            faults.add(line, f"{at.label}: {told}")
        if None in _named_packages(action.configuration):
            here = places.line(at.stage, at.index, "configuration", SETTING)
            faults.add(here, f"{at.label}: configuration {SETTING}: the source gives no package version")
    if action.type.provider == "Publish":
        faults.add(line, f"{at.label}: the package version of the source is what is published, and there is none")
    if (action.type.category, action.type.provider) == ("Invoke", "CodePipeline"):
        faults.add(line, f"{at.label}: another pipeline is started with a package version, and the source gives none")
    if action.type.provider == "CodeDeployToECS":
        _check_of_version(at, ("SourceRepository",), places, faults)
    if action.type.provider == "CodeDeploy":
        if not action.inputs:
            faults.add(
                line, f"{at.label}: no package version is deployed here: name the input artifact that is the bundle"
            )
        _check_of_version(at, ("Asset", "SourceRepository"), places, faults)


def _named_packages(configuration: Mapping[str, str]) -> tuple[tuple[str, str] | None, ...]:
    """What a promotion names; nothing where it names nothing, or is at fault, which is told elsewhere."""
    value = configuration.get(SETTING)
    return () if value is None or check_packages(value) is not None else parse_packages(value)


def _check_published(
    at: _At,
    provider: Provider,
    actions: Sequence[_At],
    definition: PipelineDefinition,
    *,
    places: Places,
    faults: Faults,
) -> None:
    if provider.setting(SETTING) is None:
        return
    for place in _named_packages(at.action.configuration):
        found = [
            other
            for other in actions
            if (definition.stages[other.stage].name, other.action.name) == place
            and "PublishRepository" in other.action.configuration
            and at.certainly_after(other)
        ]
        if place is not None and not found:
            here = places.line(at.stage, at.index, "configuration", SETTING)
            told = f"{place[0]}/{place[1]} is no build with a PublishRepository that has certainly ended before"
            faults.add(here, f"{at.label}: configuration {SETTING}: {told}")


def _check_of_version(at: _At, settings: Collection[str], places: Places, faults: Faults) -> None:
    for key in sorted(set(settings).intersection(at.action.configuration)):
        told = f"{at.label}: configuration {key} is about the package version, and an artifact is its input"
        faults.add(places.line(at.stage, at.index, "configuration", key), told)


def _check_references(
    at: _At,
    definition: PipelineDefinition,
    actions: Sequence[_At],
    outputs: _Outputs,
    *,
    places: Places,
    faults: Faults,
) -> None:
    for key, value in at.action.configuration.items():
        if not has_reference(value):
            continue
        line = places.line(at.stage, at.index, "configuration", key)
        where = f"{at.label}: configuration {key}"
        if at.action.type.category == "Source":
            faults.add(line, f"{where}: a Source action cannot use variables, nothing ran before it")
            continue
        if malformed(value):
            faults.add(line, f"{where}: '#{{' must begin a reference of the form #{{namespace.key}}")
        for fault in _reference_faults(value, at, definition, actions, outputs):
            faults.add(line, f"{where}: {fault}")


def _reference_faults(
    value: str,
    at: _At,
    definition: PipelineDefinition,
    actions: Sequence[_At],
    outputs: _Outputs,
) -> Iterator[str]:
    owners = {other.action.namespace: other for other in reversed(actions) if other.action.namespace}
    for namespace, key in references(value):
        told = f"#{{{namespace}.{key}}}"
        owner = owners.get(namespace)
        if namespace == "codepipeline":
            if key != "PipelineExecutionId":
                yield f"{told}: codepipeline has only PipelineExecutionId"
        elif namespace == "variables":
            if key not in {variable.name for variable in definition.variables}:
                yield f"{told}: the pipeline declares no variable {key!r}"
        elif owner is None:
            yield f"{told}: no action has the namespace {namespace!r}"
        elif not at.certainly_after(owner):
            yield f"{told}: {owner.label} has not certainly ended before"
        else:
            names = outputs.get(owner.action.type)
            if names is not None and key not in names:
                yield f"{told}: {owner.label} sets {', '.join(sorted(names)) or 'no variables'}"
