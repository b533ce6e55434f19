"""The section ``permissions`` of ``appspec.yml``. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import yaml

from hooks.deployments.acl import AclEntry, parse_entry
from hooks.deployments.appspec_model import Permission, SecurityContext
from hooks.deployments.reading import absolute, entries_of, has_controls
from hooks.document import DocumentReader, is_empty

USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?\Z|[0-9]{1,10}\Z")

_KEYS = ("object", "pattern", "except", "owner", "group", "mode", "acls", "context", "type")
_MODE = re.compile(r"[0-7]{1,4}\Z")
_CONTEXT_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z")
_RANGE = re.compile(r"s[0-9]{1,4}(?:-s[0-9]{1,4})?(?::c[0-9]{1,4}(?:[.,]c[0-9]{1,4}){0,64})?\Z")
_MOST_CATEGORY = 1023


def read_permissions(reader: DocumentReader, node: yaml.Node | None) -> Iterator[Permission]:
    """The entries that can be used; faults are noted."""
    for where, item in entries_of(reader, node, "permissions"):
        entry = reader.mapping(item, where)
        reader.known(entry, _KEYS, where)
        text = reader.text(entry.get("object"), f"{where}.object").strip()
        if not text:
            reader.fault(entry.get("object", item), f"{where}.object is missing")
            continue
        files, directories = _types(reader, entry, where)
        permission = Permission(
            absolute(reader, text, entry["object"], f"{where}.object"),
            _pattern(reader, entry, where),
            reader.texts(entry.get("except"), f"{where}.except"),
            files,
            directories,
            _account(reader, entry.get("owner"), f"{where}.owner"),
            _account(reader, entry.get("group"), f"{where}.group"),
            _mode(reader, entry.get("mode"), f"{where}.mode"),
            tuple(_acl(reader, entry.get("acls"), f"{where}.acls")),
            _context(reader, entry.get("context"), f"{where}.context"),
            item.start_mark.line + 1,
        )
        if not set(entry).intersection(("owner", "group", "mode", "acls", "context")):
            reader.warn(item, f"{where} says nothing that could be set: owner, group, mode, acls or context")
        yield permission


def _pattern(reader: DocumentReader, entry: Mapping[str, yaml.Node], where: str) -> str:
    node = entry.get("pattern")
    pattern = "**" if node is None or is_empty(node) else reader.text(node, f"{where}.pattern")
    if "/" in pattern or has_controls(pattern):
        reader.warn(
            entry["pattern"], f"{where}.pattern {pattern!r} matches nothing: it is compared with names, not paths"
        )
    return pattern


def _types(reader: DocumentReader, entry: Mapping[str, yaml.Node], where: str) -> tuple[bool, bool]:
    types = reader.texts(entry.get("type"), f"{where}.type")
    for name in types:
        if name not in {"file", "directory"}:
            reader.fault(entry["type"], f"{where}.type {name!r} has to be file or directory")
    return not types or "file" in types, not types or "directory" in types


def _account(reader: DocumentReader, node: yaml.Node | None, where: str) -> str:
    if node is None or is_empty(node):
        return ""
    name = reader.text(node, where).strip()
    if name and not USER.match(name):
        reader.fault(node, f"{where}: {name!r} is not the name of an account")
        return ""
    return name


def _mode(reader: DocumentReader, node: yaml.Node | None, where: str) -> int | None:
    if node is None or is_empty(node):
        return None
    text = reader.text(node, where).strip()
    if not _MODE.match(text):
        reader.fault(node, f"{where} {text!r} has to be one to four octal digits, like 0644 or 755")
        return None
    if isinstance(node, yaml.ScalarNode) and not node.style and text.startswith("0") and len(text) > 1:
        decimal = str(int(text, 8))
        theirs = f"sets {decimal.zfill(4)}" if _MODE.match(decimal) else f"refuses it as {decimal}"
        reader.warn(node, f"{where} {text} is taken as it stands; CodeDeploy's agent {theirs}, unless it is in quotes")
    return int(text, 8)


def _acl(reader: DocumentReader, node: yaml.Node | None, where: str) -> Iterator[AclEntry]:
    seen: set[tuple[bool, str, str]] = set()
    for index, text in enumerate(reader.texts(node, where)):
        try:
            entry = parse_entry(text)
        except ValueError as error:
            reader.fault(node or yaml.ScalarNode("", ""), f"{where}[{index}] {text!r}: {error}")
            continue
        if entry.name and not USER.match(entry.name):
            reader.fault(
                node or yaml.ScalarNode("", ""), f"{where}[{index}]: {entry.name!r} is not the name of an account"
            )
        key = (entry.is_default, entry.kind, entry.name)
        if key in seen:
            reader.fault(node or yaml.ScalarNode("", ""), f"{where}[{index}] {text!r} stands there twice")
        seen.add(key)
        yield entry


def _context(reader: DocumentReader, node: yaml.Node | None, where: str) -> SecurityContext | None:
    if node is None or is_empty(node):
        return None
    entry = reader.mapping(node, where)
    reader.known(entry, ("name", "user", "type", "range", "role"), where)
    words = {name: reader.text(value, f"{where}.{name}").strip() for name, value in entry.items()}
    if words.get("role"):
        reader.fault(entry["role"], f"{where}.role: roles are not supported")
    if not words.get("type"):
        reader.fault(node, f"{where}.type is missing")
        return None
    if words.get("name") and words.get("user") and words["name"] != words["user"]:
        reader.fault(node, f"{where} has a name and another user; both mean the SELinux user")
    user = words.get("name") or words.get("user") or ""
    if words.get("user") and not words.get("name"):
        reader.warn(
            entry["user"], f"{where}.user counts here; CodeDeploy's agent reads the SELinux user from name alone"
        )
    for name, word in (("type", words["type"]), ("user", user)):
        if word and not _CONTEXT_WORD.match(word):
            reader.fault(node, f"{where}.{name} {word!r} is not a name of SELinux")
    return SecurityContext(words["type"], user, _range(reader, entry.get("range"), f"{where}.range"))


def _range(reader: DocumentReader, node: yaml.Node | None, where: str) -> str:
    if node is None or is_empty(node):
        return ""
    text = reader.text(node, where).strip()
    numbers = [int(word) for word in re.findall(r"c([0-9]{1,4})", text)]
    if not _RANGE.match(text) or any(number > _MOST_CATEGORY for number in numbers):
        reader.fault(node, f"{where} {text!r} has to be like s0, s0-s1 or s0:c0.c3,c7")
        return ""
    return text
