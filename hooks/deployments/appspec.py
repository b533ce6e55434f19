"""``appspec.yml`` for servers (AWS CodeDeploy's document): all faults at once, each with its line. Pure.

Scalars count as they are written, so that ``mode: 0644`` means what it says; CodeDeploy's agent reads it as a number
in octal and sets 0420, of which a warning tells.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence

import yaml

from hooks.deployments.appspec_model import (
    DEFAULT_FILENAME,
    DEFAULT_TIMEOUT_SECONDS,
    EVENT_SECONDS,
    AppSpec,
    FileExistsBehavior,
    FileMapping,
    HookScript,
)
from hooks.deployments.appspec_permissions import USER, read_permissions
from hooks.deployments.lifecycle import ENGINE_EVENTS, SCRIPTABLE_EVENTS
from hooks.deployments.reading import absolute, entries_of, has_controls
from hooks.document import DocumentReader, compose, is_empty

_TOP = ("version", "os", "files", "file_exists_behavior", "permissions", "hooks")
_NUMBER = re.compile(r"[0-9]{1,6}\Z")
_DRIVE = re.compile(r"[A-Za-z]:")
_VERSION = re.compile(r"0(?:\.0{1,3})?\Z")


def parse_appspec(text: str, document: str = DEFAULT_FILENAME, *, events: Sequence[str] = ()) -> AppSpec:
    """Read an appspec for servers. ``events`` are names of lifecycle events beyond CodeDeploy's that have a meaning.

    Raises InvalidDocument with every fault and its line.
    """
    root = compose(text.removeprefix("\ufeff"), document)
    reader = DocumentReader(document)
    if not isinstance(root, yaml.MappingNode):
        reader.fault(root, "an appspec is a mapping with 'version', 'os', 'files' and 'hooks'")
        reader.check()
    top = reader.mapping(root, "the appspec")
    if not _is_for_servers(reader, root, top):
        reader.check()
    _version(reader, root, top)
    _os(reader, root, top)
    reader.known({name: node for name, node in top.items() if name.lower() != "resources"}, _TOP, "")
    files = tuple(_files(reader, top.get("files")))
    permissions = tuple(read_permissions(reader, top.get("permissions")))
    hooks = _hooks(reader, top.get("hooks"), events)
    behavior = _behavior(reader, top.get("file_exists_behavior"))
    if not files and not hooks:
        reader.warn(root, "there are neither files nor hooks; the deployment does nothing")
    reader.check()
    return AppSpec(files, permissions, hooks, behavior, reader.warnings)


def _is_for_servers(reader: DocumentReader, root: yaml.Node, top: Mapping[str, yaml.Node]) -> bool:
    resources = next((node for name, node in top.items() if name.lower() == "resources"), None)
    if resources is not None and "os" not in top:
        reader.fault(
            resources, "this appspec is for ECS or Lambda (it has Resources); one for servers has os, files and hooks"
        )
        return False
    if not set(top).intersection(_TOP):
        reader.fault(
            root, "this is no appspec of deployments: it has none of version, os, files, permissions and hooks"
        )
        return False
    return True


def _version(reader: DocumentReader, root: yaml.Node, top: Mapping[str, yaml.Node]) -> None:
    node = top.get("version")
    if node is None:
        reader.fault(root, "version is missing; it has to be 0.0")
        return
    version = reader.text(node, "version")
    if not _VERSION.match(version):
        reader.fault(node, f"version {version!r} is unknown; it has to be 0.0")
    elif isinstance(node, yaml.ScalarNode) and (node.style or version != "0.0"):
        reader.warn(node, "CodeDeploy's agent takes version: 0.0 alone, without quotes")


def _os(reader: DocumentReader, root: yaml.Node, top: Mapping[str, yaml.Node]) -> None:
    node = top.get("os")
    if node is None or is_empty(node):
        reader.fault(node or root, "os is missing; it has to be linux")
        return
    system = reader.text(node, "os")
    if system == "windows":
        reader.fault(node, "os windows: deployments to Windows machines are not carried out here, only to linux")
    elif system != "linux":
        reader.fault(node, f"os {system!r} is unknown; it has to be linux, in lower case")


def _behavior(reader: DocumentReader, node: yaml.Node | None) -> FileExistsBehavior | None:
    if node is None or is_empty(node):
        return None
    word = reader.text(node, "file_exists_behavior")
    try:
        return FileExistsBehavior(word)
    except ValueError:
        reader.fault(node, f"file_exists_behavior {word!r} has to be DISALLOW, OVERWRITE or RETAIN, in upper case")
        return None


def _files(reader: DocumentReader, node: yaml.Node | None) -> Iterator[FileMapping]:
    for where, item in entries_of(reader, node, "files"):
        entry = reader.mapping(item, where)
        if not entry:
            reader.fault(item, f"{where} needs a source and a destination")
            continue
        reader.known(entry, ("source", "destination"), where)
        source = _source(reader, entry.get("source"), item, where)
        destination = _destination(reader, entry.get("destination"), item, where)
        if source is not None and destination:
            yield FileMapping(source, destination, item.start_mark.line + 1)


def _source(reader: DocumentReader, node: yaml.Node | None, item: yaml.Node, where: str) -> str | None:
    text = reader.text(node, f"{where}.source").strip()
    if not text:
        reader.fault(node or item, f"{where}.source is missing")
        return None
    if has_controls(text) or ".." in text.split("/"):
        reader.fault(node or item, f"{where}.source {text!r} has to be a path within the bundle, without '..'")
        return None
    return posixpath.normpath(f"/{text}").lstrip("/")


def _destination(reader: DocumentReader, node: yaml.Node | None, item: yaml.Node, where: str) -> str:
    text = reader.text(node, f"{where}.destination").strip()
    if not text:
        reader.fault(node or item, f"{where}.destination is missing")
        return ""
    if _DRIVE.match(text) or "\\" in text:
        reader.fault(node or item, f"{where}.destination {text!r} is a path of Windows; os is linux")
        return ""
    return absolute(reader, text, node or item, f"{where}.destination")


# --- hooks


def _hooks(reader: DocumentReader, node: yaml.Node | None, events: Sequence[str]) -> dict[str, tuple[HookScript, ...]]:
    hooks: dict[str, tuple[HookScript, ...]] = {}
    for event, value in reader.mapping(node, "hooks").items():
        where = f"hooks.{event}"
        if event in ENGINE_EVENTS and event not in events:
            reader.unknown(value, f"{where}: no scripts run in this event, it is the engine's own", "and it is ignored")
            continue
        if event not in SCRIPTABLE_EVENTS and event not in events:
            reader.unknown(value, f"{where}: there is no lifecycle event of this name", "and it never runs")
        read = list(_scripts(reader, value, where))
        scripts = tuple(script for script, _ in read)
        total = sum(script.timeout_seconds for script, has_timeout in read if has_timeout)
        if total > EVENT_SECONDS:
            note = f"{where}: its scripts may take {total} s together; the event ends after {EVENT_SECONDS} s"
            reader.warn(value, note)
        if scripts:
            hooks[event] = scripts
    return hooks


def _scripts(reader: DocumentReader, node: yaml.Node, where: str) -> Iterator[tuple[HookScript, bool]]:
    """Each script, and whether it says how long it may take."""
    for name, item in entries_of(reader, node, where):
        entry = reader.mapping(item, name)
        reader.known(entry, ("location", "timeout", "runas", "sudo"), name)
        location = _location(reader, entry.get("location"), item, name)
        runas = reader.text(entry.get("runas"), f"{name}.runas").strip()
        if runas and not USER.match(runas):
            reader.fault(entry["runas"], f"{name}.runas: {runas!r} is not the name of a user")
        script = HookScript(
            location,
            _timeout(reader, entry.get("timeout"), f"{name}.timeout"),
            runas,
            reader.boolean(entry.get("sudo"), f"{name}.sudo"),
            item.start_mark.line + 1,
        )
        yield script, "timeout" in entry


def _location(reader: DocumentReader, node: yaml.Node | None, item: yaml.Node, where: str) -> str:
    text = reader.text(node, f"{where}.location").strip()
    if not text:
        reader.fault(node or item, f"{where}.location is missing: which script of the bundle is it?")
    elif has_controls(text) or ".." in text.split("/"):
        reader.fault(node or item, f"{where}.location {text!r} has to be a path within the bundle, without '..'")
    elif "\\" in text:
        reader.fault(node or item, f"{where}.location {text!r} is a path of Windows; write / between its parts")
    else:
        return posixpath.normpath(f"/{text}").lstrip("/")
    return ""


def _timeout(reader: DocumentReader, node: yaml.Node | None, where: str) -> int:
    if node is None or is_empty(node):
        return DEFAULT_TIMEOUT_SECONDS
    text = reader.text(node, where).strip()
    if not _NUMBER.match(text) or int(text) == 0:
        reader.fault(node, f"{where} {text!r} has to be a whole number of seconds, 1 or more")
        return DEFAULT_TIMEOUT_SECONDS
    return int(text)
