"""``buildspec.yml``, versions 0.1 and 0.2 (AWS CodeBuild's document), as a value. Pure.

Everything of the grammar is read here, whether or not this server carries it out (``hooks.builds.lacking`` says what it
does not). What is unknown is ignored with a warning, as CodeBuild ignores it; ``strict: true``, our own extension, makes
a fault of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

from hooks.builds.patterns import pattern_fault
from hooks.builds.spec_batch import read_batch
from hooks.builds.spec_environment import (
    Environment,
    SecretReference,
    read_environment,
    read_user,
    split_secret_reference,
)
from hooks.builds.spec_model import (
    PHASES,
    ArtifactSpec,
    BatchEnvironment,
    BatchMatrix,
    BatchSpec,
    BatchTask,
    BuildSpec,
    CacheSpec,
    FailureRule,
    OnFailure,
    PhaseSpec,
    ReportSpec,
)
from hooks.builds.spec_results import read_artifacts, read_cache, read_reports
from hooks.document import DocumentReader, compose, is_empty

__all__ = [
    "DEFAULT_FILENAME",
    "PHASES",
    "RUNTIMES",
    "ArtifactSpec",
    "BatchEnvironment",
    "BatchMatrix",
    "BatchSpec",
    "BatchTask",
    "BuildSpec",
    "CacheSpec",
    "FailureRule",
    "OnFailure",
    "PhaseSpec",
    "ReportSpec",
    "SecretReference",
    "parse_buildspec",
    "split_secret_reference",
]

DEFAULT_FILENAME = "buildspec.yml"
MAX_RETRIES = 100
DEFAULT_RETRIES = 3
MAX_PATTERN_CHARACTERS = 1000
RUNTIMES = ("android", "docker", "dotnet", "golang", "java", "nodejs", "php", "python", "ruby", "rust")

_RETRY = re.compile(r"RETRY(?:-([0-9]+))?(?:-(.+))?\Z", re.DOTALL | re.IGNORECASE)
_RUNTIME_VERSION = re.compile(r"[A-Za-z0-9._+-]{1,64}\Z|\$\{?[A-Za-z_][A-Za-z0-9_]*\}?\Z")
_TOP = (
    "version",
    "strict",
    "run-as",
    "env",
    "environment_variables",
    "proxy",
    "batch",
    "phases",
    "reports",
    "artifacts",
    "cache",
)


def parse_buildspec(text: str, document: str = DEFAULT_FILENAME) -> BuildSpec:
    """Read a buildspec. Raises InvalidDocument with every fault and its line."""
    root = compose(text, document)
    reader = DocumentReader(document)
    if not isinstance(root, yaml.MappingNode):
        reader.fault(root, "a buildspec is a mapping with 'version' and 'phases'")
        reader.check()
    top = reader.mapping(root, "the buildspec")
    reader.is_strict = reader.boolean(top.get("strict"), "strict")
    version = _version(reader, root, top)
    _note_unknown(reader, top)
    environment = read_environment(reader, top, version)
    if "phases" not in top:
        reader.warn(root, "there are no phases; the build does nothing")
    spec = _spec(reader, top, version, environment)
    reader.check()
    return spec


def _spec(reader: DocumentReader, top: Mapping[str, yaml.Node], version: str, environment: Environment) -> BuildSpec:
    phases, runtimes = _phases(reader, top.get("phases"))
    artifacts, secondary_artifacts = read_artifacts(reader, top.get("artifacts"), version)
    run_as = read_user(reader, top.get("run-as"), "run-as")
    reports = read_reports(reader, top.get("reports"))
    cache = read_cache(reader, top.get("cache"))
    batch = read_batch(reader, top.get("batch"))
    return BuildSpec(
        version,
        environment.shell,
        environment.variables,
        environment.exported,
        phases,
        artifacts,
        reader.warnings,
        run_as,
        runtimes,
        environment.parameter_store,
        environment.secrets_manager,
        secondary_artifacts,
        reports,
        cache,
        batch,
        reader.is_strict,
    )


def _version(reader: DocumentReader, root: yaml.Node, top: Mapping[str, yaml.Node]) -> str:
    if "version" not in top:
        reader.fault(root, "version is missing; it has to be 0.2 (or 0.1)")
        return "0.2"
    version = reader.text(top["version"], "version")
    if version not in {"0.1", "0.2"}:
        reader.fault(top["version"], f"version {version!r} is unknown; it has to be 0.2 (or 0.1)")
        return "0.2"
    return version


def _note_unknown(reader: DocumentReader, top: Mapping[str, yaml.Node]) -> None:
    for name in PHASES:
        if name in top:
            reader.unknown(top[name], f"{name} stands outside of phases", "and is ignored; indent it below 'phases:'")
    reader.known({name: node for name, node in top.items() if name not in PHASES}, _TOP, "")
    proxy = reader.mapping(top.get("proxy"), "proxy")
    reader.known(proxy, ("upload-artifacts", "logs"), "proxy")
    wishes = [reader.boolean(proxy.get(name), f"proxy.{name}") for name in ("upload-artifacts", "logs")]
    if any(wishes):
        reader.warn(top["proxy"], "proxy has no effect: a build reaches nothing through a proxy here")


def _phases(reader: DocumentReader, node: yaml.Node | None) -> tuple[dict[str, PhaseSpec], dict[str, str]]:
    entries = reader.mapping(node, "phases")
    reader.known(entries, PHASES, "phases")
    phases: dict[str, PhaseSpec] = {}
    runtimes: dict[str, str] = {}
    for name in PHASES:
        if name in entries:
            own = reader.mapping(entries[name], f"phases.{name}")
            phases[name] = _phase(reader, name, own, entries[name])
            if name == "install":
                runtimes = _runtimes(reader, own.get("runtime-versions"))
    return phases, runtimes


def _phase(reader: DocumentReader, name: str, entries: Mapping[str, yaml.Node], node: yaml.Node) -> PhaseSpec:
    where = f"phases.{name}"
    known = ["commands", "finally", "on-failure", "run-as"]
    if name == "install":
        known.append("runtime-versions")
    reader.known(entries, known, where)
    # CodeBuild's papers want commands; documents with a lone `finally` are in the world, and run.
    enough = {"commands", "finally", "runtime-versions"} if name == "install" else {"commands", "finally"}
    if not enough & entries.keys():
        reader.fault(node, f"{where}.commands is missing")
    return PhaseSpec(
        _commands(reader, entries.get("commands"), f"{where}.commands"),
        _commands(reader, entries.get("finally"), f"{where}.finally"),
        _failure_rule(reader, entries.get("on-failure"), f"{where}.on-failure"),
        read_user(reader, entries.get("run-as"), f"{where}.run-as"),
    )


def _runtimes(reader: DocumentReader, node: yaml.Node | None) -> dict[str, str]:
    where = "phases.install.runtime-versions"
    runtimes: dict[str, str] = {}
    for name, value in reader.mapping(node, where).items():
        if name not in RUNTIMES:
            reader.fault(value, f"{where}: {name!r} is unknown; the runtimes are {', '.join(RUNTIMES)}")
            continue
        runtimes[name] = reader.text(value, f"{where}.{name}")
        if isinstance(value, yaml.ScalarNode) and not _RUNTIME_VERSION.match(runtimes[name]):
            reader.fault(value, f"{where}.{name}: {runtimes[name]!r} is not a version; 3.12, 3.x, latest or $NAME are")
    return runtimes


def _commands(reader: DocumentReader, node: yaml.Node | None, where: str) -> tuple[str, ...]:
    if not isinstance(node, yaml.SequenceNode):
        return tuple(text for text in reader.texts(node, where) if text.strip())
    commands: list[str] = []
    for index, item in enumerate(node.value):
        if isinstance(item, yaml.ScalarNode) and item.value.strip():
            commands.append(item.value)
        elif isinstance(item, yaml.ScalarNode):
            reader.warn(item, f"{where}[{index}] is empty")
        elif isinstance(item, yaml.MappingNode):
            reader.fault(
                item,
                f"{where}[{index}] is not text: YAML reads ': ' as a mapping; put quotes around the whole command",
            )
        else:
            reader.fault(item, f"{where}[{index}] is not text but a list; write its commands one by one")
    return tuple(commands)


def _failure_rule(reader: DocumentReader, node: yaml.Node | None, where: str) -> FailureRule | None:
    if node is None or is_empty(node):
        return None
    word = reader.text(node, where)
    if word.upper() in {"ABORT", "CONTINUE"}:
        return FailureRule(OnFailure(word.upper()))
    match = _RETRY.match(word)
    if match is None:
        reader.fault(
            node, f"{where} {word!r}: it is ABORT, CONTINUE, RETRY, RETRY-<number> or RETRY-<number>-<pattern>"
        )
        return None
    retries = DEFAULT_RETRIES if match[1] is None else int(match[1][:9])
    if retries > MAX_RETRIES:
        reader.fault(node, f"{where}: at most {MAX_RETRIES} retries")
    pattern = match[2] or ""
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        reader.fault(node, f"{where}: a pattern has at most {MAX_PATTERN_CHARACTERS} characters")
    elif (reason := pattern_fault(pattern)) is not None:
        reader.fault(node, f"{where}: {pattern!r} is not a regular expression that RE2 takes: {reason}")
    return FailureRule(OnFailure.RETRY, retries, "" if pattern == ".*" else pattern)
