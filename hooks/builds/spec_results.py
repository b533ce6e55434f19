"""The sections of a buildspec for what stays of a build: ``reports``, ``artifacts`` and ``cache``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

from hooks.builds.spec_model import ArtifactSpec, CacheSpec, ReportSpec
from hooks.document import DocumentReader, is_empty

MAX_REPORT_GROUPS = 20  # CodeBuild takes 5
MAX_FALLBACK_KEYS = 5
REPORT_FORMATS = (
    "JUNITXML",
    "CUCUMBERJSON",
    "NUNITXML",
    "NUNIT3XML",
    "TESTNGXML",
    "VISUALSTUDIOTRX",
    "CLOVERXML",
    "COBERTURAXML",
    "JACOCOXML",
    "SIMPLECOV",
)
CACHE_ACTIONS = ("restore", "save")

_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_FILES = ("files", "base-directory", "discard-paths")
_ARTIFACT = (*_FILES, "name", "exclude-paths", "enable-symlinks", "s3-prefix")


def read_reports(reader: DocumentReader, node: yaml.Node | None) -> tuple[ReportSpec, ...]:
    """``reports``: by report group's name or ARN."""
    groups = reader.mapping(node, "reports")
    if node is not None and len(groups) > MAX_REPORT_GROUPS:
        reader.fault(node, f"reports: at most {MAX_REPORT_GROUPS} report groups")
    return tuple(_report(reader, name, group) for name, group in groups.items())


def _report(reader: DocumentReader, name: str, node: yaml.Node) -> ReportSpec:
    where = f"reports.{name}"
    if not name.strip():
        reader.fault(node, "reports: a report group has to have a name")
    entries = reader.mapping(node, where)
    reader.known(entries, (*_FILES, "file-format"), where)
    file_format = reader.text(entries.get("file-format"), f"{where}.file-format").upper() or REPORT_FORMATS[0]
    if file_format not in REPORT_FORMATS:
        reader.fault(entries["file-format"], f"{where}.file-format: it is one of {', '.join(REPORT_FORMATS)}")
    return ReportSpec(name, *_files(reader, entries, node, where), file_format=file_format)


def read_artifacts(
    reader: DocumentReader, node: yaml.Node | None, version: str
) -> tuple[ArtifactSpec | None, dict[str, ArtifactSpec]]:
    """``artifacts``: the primary one, which may be missing where there are secondary ones, and those by identifier."""
    entries = reader.mapping(node, "artifacts")
    if node is None or not entries:
        return None, {}
    old = ("type",) if version == "0.1" else ()
    reader.known(entries, (*_ARTIFACT, "secondary-artifacts", *old), "artifacts")
    where = "artifacts.secondary-artifacts"
    secondary = {}
    for identifier, section in reader.mapping(entries.get("secondary-artifacts"), where).items():
        if not _IDENTIFIER.match(identifier):
            reader.fault(section, f"{where}: {identifier!r} is not an artifact's identifier")
        own = reader.mapping(section, f"{where}.{identifier}")
        reader.known(own, _ARTIFACT, f"{where}.{identifier}")
        secondary[identifier] = _artifact(reader, own, section, f"{where}.{identifier}")
    if is_missing(entries, "files") and secondary:
        return None, secondary
    return _artifact(reader, entries, node, "artifacts"), secondary


def _artifact(reader: DocumentReader, entries: Mapping[str, yaml.Node], node: yaml.Node, where: str) -> ArtifactSpec:
    files, base_directory, discard_paths = _files(reader, entries, node, where)
    return ArtifactSpec(
        files,
        base_directory,
        discard_paths,
        reader.texts(entries.get("exclude-paths"), f"{where}.exclude-paths"),
        reader.text(entries.get("name"), f"{where}.name"),
        reader.boolean(entries.get("enable-symlinks"), f"{where}.enable-symlinks"),
        reader.text(entries.get("s3-prefix"), f"{where}.s3-prefix"),
    )


def _files(
    reader: DocumentReader, entries: Mapping[str, yaml.Node], node: yaml.Node, where: str
) -> tuple[tuple[str, ...], str, bool]:
    """The three keys that reports and artifacts have in common."""
    files = reader.texts(entries.get("files"), f"{where}.files")
    if not files:
        reader.fault(node, f"{where}.files is missing")
    return (
        files,
        reader.text(entries.get("base-directory"), f"{where}.base-directory"),
        reader.boolean(entries.get("discard-paths"), f"{where}.discard-paths"),
    )


def read_cache(reader: DocumentReader, node: yaml.Node | None) -> CacheSpec | None:
    """``cache``; None when there is none."""
    entries = reader.mapping(node, "cache")
    if not entries:
        return None
    reader.known(entries, ("paths", "key", "fallback-keys", "action"), "cache")
    key = reader.text(entries.get("key"), "cache.key")
    fallback_keys = reader.texts(entries.get("fallback-keys"), "cache.fallback-keys")
    if len(fallback_keys) > MAX_FALLBACK_KEYS:
        reader.fault(entries["fallback-keys"], f"cache.fallback-keys: at most {MAX_FALLBACK_KEYS}")
    if fallback_keys and not key:
        reader.warn(entries["fallback-keys"], "cache.fallback-keys has no effect without cache.key")
    action = reader.text(entries.get("action"), "cache.action").lower()
    if action and action not in CACHE_ACTIONS:
        reader.fault(entries["action"], f"cache.action {action!r}: it is {' or '.join(CACHE_ACTIONS)}")
    return CacheSpec(reader.texts(entries.get("paths"), "cache.paths"), key, fallback_keys, action)


def is_missing(entries: Mapping[str, yaml.Node], name: str) -> bool:
    """Whether a key was left out, or has no value."""
    return name not in entries or is_empty(entries[name])
