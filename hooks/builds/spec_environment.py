"""The ``env`` section of a buildspec and the users of ``run-as``. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from hooks.document import DocumentReader, is_empty

_SHELLS = {
    "bash": "/bin/bash",
    "/bin/bash": "/bin/bash",
    "/usr/bin/bash": "/bin/bash",
    "sh": "/bin/sh",
    "/bin/sh": "/bin/sh",
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?\Z|[0-9]{1,10}\Z")
_ENV = ("shell", "variables", "parameter-store", "secrets-manager", "exported-variables", "git-credential-helper")


@dataclass(frozen=True, slots=True)
class Environment:
    """What ``env`` says; the fields are those of ``BuildSpec``."""

    shell: str = "/bin/sh"
    variables: Mapping[str, str] = field(default_factory=dict)
    exported: tuple[str, ...] = ()
    parameter_store: Mapping[str, str] = field(default_factory=dict)
    secrets_manager: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SecretReference:
    """``secret-id[:json-key[:version-stage[:version-id]]]``, taken apart; what is left out is ""."""

    secret_id: str
    json_key: str = ""
    version_stage: str = ""
    version_id: str = ""


def split_secret_reference(text: str) -> SecretReference:
    """Take a value of ``env.secrets-manager`` apart; an ARN, which has seven fields itself, counts as the secret's id.

    Raises ValueError, with words for people.
    """
    fields = text.split(":")
    width = 7 if fields[0] == "arn" else 1
    if len(fields) < width or len(fields) > width + 3:
        raise ValueError("it is secret-id[:json-key[:version-stage[:version-id]]]")
    reference = SecretReference(":".join(fields[:width]), *fields[width:])
    if not fields[width - 1].strip():
        raise ValueError("the secret's id is missing")
    if reference.version_stage and reference.version_id:
        raise ValueError("give the version's stage or its id, not both")
    return reference


def read_environment(reader: DocumentReader, top: Mapping[str, yaml.Node], version: str) -> Environment:
    """``env`` of 0.2, or ``environment_variables`` of 0.1."""
    if version == "0.1":
        if "env" in top:
            reader.warn(top["env"], "env belongs to version 0.2 and is ignored; 0.1 has environment_variables")
        old = reader.mapping(top.get("environment_variables"), "environment_variables")
        reader.known(old, ("plaintext",), "environment_variables")
        return Environment(variables=read_variables(reader, old.get("plaintext"), "environment_variables.plaintext"))
    if "environment_variables" in top:
        reader.warn(top["environment_variables"], "environment_variables belongs to version 0.1; use env.variables")
    env = reader.mapping(top.get("env"), "env")
    reader.known(env, _ENV, "env")
    if "git-credential-helper" in env and reader.boolean(env["git-credential-helper"], "env.git-credential-helper"):
        reader.warn(env["git-credential-helper"], "env.git-credential-helper has no effect on this server")
    return Environment(
        _shell(reader, env.get("shell")),
        read_variables(reader, env.get("variables"), "env.variables"),
        _exported(reader, env),
        _references(reader, env.get("parameter-store"), "env.parameter-store", str),
        _references(reader, env.get("secrets-manager"), "env.secrets-manager", split_secret_reference),
    )


def read_variables(reader: DocumentReader, node: yaml.Node | None, where: str) -> dict[str, str]:
    """Texts by variable name. Names that are the build system's own are left out, with a warning."""
    return {name: text for name, text, _ in _entries(reader, node, where)}


def _entries(reader: DocumentReader, node: yaml.Node | None, where: str) -> Iterator[tuple[str, str, yaml.Node]]:
    for name, value in reader.mapping(node, where).items():
        if not _VARIABLE.match(name):
            reader.fault(value, f"{where}: {name!r} is not a variable name")
        elif name.startswith("CODEBUILD_"):
            reader.warn(value, f"{where}: {name} is reserved and is ignored")
        else:
            yield name, "" if is_empty(value) else reader.text(value, f"{where}.{name}"), value


def _references(
    reader: DocumentReader, node: yaml.Node | None, where: str, check: Callable[[str], object]
) -> dict[str, str]:
    """Names of things elsewhere by the variable they fill. ``check`` raises ValueError."""
    references: dict[str, str] = {}
    for name, text, value in _entries(reader, node, where):
        references[name] = text.strip()
        if not isinstance(value, yaml.ScalarNode):
            continue  # said already
        if not references[name]:
            reader.fault(value, f"{where}.{name} names nothing")
            continue
        try:
            check(references[name])
        except ValueError as error:
            reader.fault(value, f"{where}.{name}: {error}")
    return references


def read_user(reader: DocumentReader, node: yaml.Node | None, where: str) -> str:
    """A ``run-as``: a Linux user's name or number."""
    if node is None or is_empty(node):
        return ""
    user = reader.text(node, where)
    if user and not _USER.match(user):
        reader.fault(node, f"{where}: {user!r} is not the name of a user")
    return user


def _exported(reader: DocumentReader, env: Mapping[str, yaml.Node]) -> tuple[str, ...]:
    exported = reader.texts(env.get("exported-variables"), "env.exported-variables")
    for name in exported:
        if not _VARIABLE.match(name) or name.startswith("AWS_"):
            reader.fault(env["exported-variables"], f"env.exported-variables: {name!r} cannot be exported")
    return exported


def _shell(reader: DocumentReader, node: yaml.Node | None) -> str:
    if node is None or is_empty(node):
        return "/bin/sh"
    word = reader.text(node, "env.shell")
    if word not in _SHELLS:
        reader.fault(node, f"env.shell {word!r}: only bash and /bin/sh are there")
    return _SHELLS.get(word, "/bin/sh")
