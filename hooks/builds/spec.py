"""``buildspec.yml``, versions 0.1 and 0.2 (AWS CodeBuild's document), as a value. Pure.

What this release does not carry out is never dropped silently: where a build without it would be wrong it is a fault
(batch, secrets from elsewhere), otherwise a warning that the build's log repeats.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import yaml

from hooks.builds.document import DocumentReader, compose, is_empty

DEFAULT_FILENAME = "buildspec.yml"
PHASES = ("install", "pre_build", "build", "post_build")
MAX_RETRIES = 100
DEFAULT_RETRIES = 3

_SHELLS = {
    "bash": "/bin/bash",
    "/bin/bash": "/bin/bash",
    "/usr/bin/bash": "/bin/bash",
    "sh": "/bin/sh",
    "/bin/sh": "/bin/sh",
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_RETRY = re.compile(r"RETRY(?:-(\d{1,3}))?(?:-(.+))?\Z", re.DOTALL | re.IGNORECASE)
_NOT_CARRIED_OUT = ("reports", "cache", "proxy")
_TOP = ("version", "run-as", "env", "environment_variables", "batch", "phases", "artifacts", *_NOT_CARRIED_OUT)
_ENV = ("shell", "variables", "parameter-store", "secrets-manager", "exported-variables", "git-credential-helper")
_ARTIFACTS = ("files", "name", "base-directory", "discard-paths", "exclude-paths", "type")
_OTHER_ARTIFACTS = ("secondary-artifacts", "s3-prefix", "enable-symlinks")


class OnFailure(StrEnum):
    """What follows when a phase fails; without one the transition table of ``hooks.builds.run`` decides."""

    ABORT = "ABORT"
    CONTINUE = "CONTINUE"
    RETRY = "RETRY"


@dataclass(frozen=True, slots=True)
class FailureRule:
    """``on-failure``: RETRY starts the whole build anew, up to ``retries`` times, and then ends it like ABORT."""

    action: OnFailure
    retries: int = 0


@dataclass(frozen=True, slots=True)
class PhaseSpec:
    """One phase. ``finally_commands`` run after ``commands`` even when one of those failed."""

    commands: tuple[str, ...] = ()
    finally_commands: tuple[str, ...] = ()
    on_failure: FailureRule | None = None


@dataclass(frozen=True, slots=True)
class ArtifactSpec:
    """The primary artifact: glob patterns relative to ``base_directory`` (itself relative to the source)."""

    files: tuple[str, ...]
    base_directory: str = ""
    discard_paths: bool = False
    exclude_paths: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """A build's document. ``carries_state``: variables and the directory live on from command to command (0.2)."""

    version: str
    shell: str = "/bin/sh"
    variables: Mapping[str, str] = field(default_factory=dict)
    exported_variables: tuple[str, ...] = ()
    phases: Mapping[str, PhaseSpec] = field(default_factory=dict)
    artifacts: ArtifactSpec | None = None
    warnings: tuple[str, ...] = ()

    @property
    def carries_state(self) -> bool:
        """False for 0.1, where every command gets a shell of its own with nothing carried over."""
        return self.version == "0.2"

    def phase(self, name: str) -> PhaseSpec:
        """The phase called ``name`` (``build``); an empty one when the document leaves it out."""
        return self.phases.get(name, PhaseSpec())


def parse_buildspec(text: str, document: str = DEFAULT_FILENAME) -> BuildSpec:
    """Read a buildspec. Raises InvalidDocument with every fault and its line."""
    root = compose(text, document)
    reader = DocumentReader(document)
    if not isinstance(root, yaml.MappingNode):
        reader.fault(root, "a buildspec is a mapping with 'version' and 'phases'")
        reader.check()
    top = reader.mapping(root, "the buildspec")
    version = _version(reader, root, top)
    _note_unknown(reader, top)
    variables, shell, exported = _environment(reader, top, version)
    phases = _phases(reader, top.get("phases"))
    artifacts = _artifacts(reader, top.get("artifacts"))
    if "phases" not in top:
        reader.warn(root, "there are no phases; the build does nothing")
    reader.check()
    return BuildSpec(version, shell, variables, exported, phases, artifacts, reader.warnings)


def _version(reader: DocumentReader, root: yaml.Node, top: Mapping[str, yaml.Node]) -> str:
    if "version" not in top:
        reader.fault(root, "version is missing; it has to be 0.2 (or 0.1)")
        return "0.2"
    version = reader.text(top["version"], "version")
    if version not in {"0.1", "0.2"}:
        reader.fault(top["version"], f"version {version!r} is unknown; it has to be 0.2 (or 0.1)")
    return version


def _note_unknown(reader: DocumentReader, top: Mapping[str, yaml.Node]) -> None:
    for name in PHASES:
        if name in top:
            reader.warn(top[name], f"{name} stands outside of phases and is ignored; indent it below 'phases:'")
    reader.known({name: node for name, node in top.items() if name not in PHASES}, _TOP, "")
    if "batch" in top:
        reader.fault(top["batch"], "batch builds are not carried out by this server; remove the batch section")
    for name in _NOT_CARRIED_OUT:
        if name in top:
            reader.warn(top[name], f"{name} is not carried out by this server; the section has no effect")
    if "run-as" in top:
        _note_run_as(reader, top["run-as"], "run-as")


def _note_run_as(reader: DocumentReader, node: yaml.Node, where: str) -> None:
    user = reader.text(node, where)
    reader.warn(node, f"{where}: {user} has no effect; the sandbox has one user without privileges")


def _environment(
    reader: DocumentReader, top: Mapping[str, yaml.Node], version: str
) -> tuple[dict[str, str], str, tuple[str, ...]]:
    if version == "0.1":
        if "env" in top:
            reader.warn(top["env"], "env belongs to version 0.2 and is ignored; 0.1 has environment_variables")
        old = reader.mapping(top.get("environment_variables"), "environment_variables")
        reader.known(old, ("plaintext",), "environment_variables")
        return _variables(reader, old.get("plaintext"), "environment_variables.plaintext"), "/bin/sh", ()
    if "environment_variables" in top:
        reader.warn(top["environment_variables"], "environment_variables belongs to version 0.1; use env.variables")
    env = reader.mapping(top.get("env"), "env")
    reader.known(env, _ENV, "env")
    for name in ("parameter-store", "secrets-manager"):
        if name in env and not is_empty(env[name]):
            reader.fault(env[name], f"env.{name} is not available on this server, and the build would lack its values")
    if "git-credential-helper" in env and reader.boolean(env["git-credential-helper"], "env.git-credential-helper"):
        reader.warn(env["git-credential-helper"], "env.git-credential-helper has no effect on this server")
    exported = reader.texts(env.get("exported-variables"), "env.exported-variables")
    for name in exported:
        if not _VARIABLE.match(name) or name.startswith("AWS_"):
            reader.fault(env["exported-variables"], f"env.exported-variables: {name!r} cannot be exported")
    return _variables(reader, env.get("variables"), "env.variables"), _shell(reader, env.get("shell")), exported


def _variables(reader: DocumentReader, node: yaml.Node | None, where: str) -> dict[str, str]:
    variables: dict[str, str] = {}
    for name, value in reader.mapping(node, where).items():
        if not _VARIABLE.match(name):
            reader.fault(value, f"{where}: {name!r} is not a variable name")
        elif name.startswith("CODEBUILD_"):
            reader.warn(value, f"{where}: {name} is reserved and is ignored")
        else:
            variables[name] = "" if is_empty(value) else reader.text(value, f"{where}.{name}")
    return variables


def _shell(reader: DocumentReader, node: yaml.Node | None) -> str:
    if node is None or is_empty(node):
        return "/bin/sh"
    word = reader.text(node, "env.shell")
    if word not in _SHELLS:
        reader.fault(node, f"env.shell {word!r}: only bash and /bin/sh are there")
    return _SHELLS.get(word, "/bin/sh")


def _phases(reader: DocumentReader, node: yaml.Node | None) -> dict[str, PhaseSpec]:
    entries = reader.mapping(node, "phases")
    reader.known(entries, PHASES, "phases")
    return {name: _phase(reader, name, entries[name]) for name in PHASES if name in entries}


def _phase(reader: DocumentReader, name: str, node: yaml.Node) -> PhaseSpec:
    where = f"phases.{name}"
    entries = reader.mapping(node, where)
    known = ["commands", "finally", "on-failure", "run-as"]
    if name == "install":
        known.append("runtime-versions")
    reader.known(entries, known, where)
    if "run-as" in entries:
        _note_run_as(reader, entries["run-as"], f"{where}.run-as")
    has_runtimes = name == "install" and "runtime-versions" in entries
    if has_runtimes:
        reader.warn(
            entries["runtime-versions"],
            f"{where}.runtime-versions is not carried out here; the build uses the runtimes of its machine",
        )
    if "commands" not in entries and not has_runtimes:
        reader.fault(node, f"{where}.commands is missing")
    return PhaseSpec(
        _commands(reader, entries.get("commands"), f"{where}.commands"),
        _commands(reader, entries.get("finally"), f"{where}.finally"),
        _failure_rule(reader, entries.get("on-failure"), f"{where}.on-failure"),
    )


def _commands(reader: DocumentReader, node: yaml.Node | None, where: str) -> tuple[str, ...]:
    if not isinstance(node, yaml.SequenceNode):
        return tuple(text for text in reader.texts(node, where) if text.strip())
    commands: list[str] = []
    for index, item in enumerate(node.value):
        if isinstance(item, yaml.ScalarNode) and item.value.strip():
            commands.append(item.value)
        elif isinstance(item, yaml.ScalarNode):
            reader.warn(item, f"{where}[{index}] is empty")
        else:
            reader.fault(
                item,
                f"{where}[{index}] is not text: YAML reads ': ' as a mapping; put quotes around the whole command",
            )
    return tuple(commands)


def _failure_rule(reader: DocumentReader, node: yaml.Node | None, where: str) -> FailureRule | None:
    if node is None or is_empty(node):
        return None
    word = reader.text(node, where)
    if word.upper() in {"ABORT", "CONTINUE"}:
        return FailureRule(OnFailure(word.upper()))
    match = _RETRY.match(word)
    if match is None:
        reader.fault(node, f"{where} {word!r}: it is ABORT, CONTINUE, RETRY or RETRY-<number>")
        return None
    retries = DEFAULT_RETRIES if match[1] is None else int(match[1])
    if retries > MAX_RETRIES:
        reader.fault(node, f"{where}: at most {MAX_RETRIES} retries")
    if match[2] not in {None, ".*"}:
        # A stranger's pattern, matched in the worker, could keep it busy for ever.
        reader.fault(node, f"{where}: RETRY with a pattern is not carried out by this server; use RETRY-<number>")
    return FailureRule(OnFailure.RETRY, retries)


def _artifacts(reader: DocumentReader, node: yaml.Node | None) -> ArtifactSpec | None:
    entries = reader.mapping(node, "artifacts")
    if not entries:
        return None
    for name in _OTHER_ARTIFACTS:
        if name in entries:
            reader.warn(entries[name], f"artifacts.{name} is not carried out by this server; it has no effect")
    reader.known(entries, (*_ARTIFACTS, *_OTHER_ARTIFACTS), "artifacts")
    files = reader.texts(entries.get("files"), "artifacts.files")
    if not files:
        if "secondary-artifacts" in entries:
            return None
        reader.fault(next(iter(entries.values())), "artifacts.files is missing")
    return ArtifactSpec(
        files,
        reader.text(entries.get("base-directory"), "artifacts.base-directory"),
        reader.boolean(entries.get("discard-paths"), "artifacts.discard-paths"),
        reader.texts(entries.get("exclude-paths"), "artifacts.exclude-paths"),
        reader.text(entries.get("name"), "artifacts.name"),
    )
