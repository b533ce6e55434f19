"""Variables whose values lie in the parameter store or the secrets manager: read, got, and never shown. Pure.

What gets them is a callable of the plan (``Resolver``), so that a build knows neither database nor keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from hooks.builds.masking import MIN_SECRET_LENGTH
from hooks.builds.secret_forms import leaves
from hooks.builds.spec import BuildSpec
from hooks.builds.spec_environment import split_secret_reference


class VariableType(StrEnum):
    """CodeBuild's types of environment variables (``EnvironmentVariable.type`` in its API)."""

    PLAINTEXT = "PLAINTEXT"
    PARAMETER_STORE = "PARAMETER_STORE"
    SECRETS_MANAGER = "SECRETS_MANAGER"


STATUS_CODES: Mapping[VariableType, str] = {
    VariableType.PARAMETER_STORE: "Decrypted Variables Error",
    VariableType.SECRETS_MANAGER: "Secrets Manager Error",
}
"""What the context of DOWNLOAD_SOURCE says when a value cannot be had (seen in logs of CodeBuild)."""

LONGEST_REFERENCE = 2048


@dataclass(frozen=True, slots=True)
class Reference:
    """A variable and what fills it: ``name`` is a parameter's, or ``secret-id[:json-key[:stage[:version-id]]]``."""

    variable: str
    type: VariableType
    name: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference gave. ``value`` never shows in a ``repr``; ``is_open``: it is stored as a plain text, no secret."""

    variable: str
    value: str = field(repr=False)
    is_open: bool = False


class Unresolved(Exception):
    """A value that the build cannot have: it fails. ``status_code`` is CodeBuild's word."""

    def __init__(self, type_: VariableType, message: str) -> None:
        super().__init__(message)
        self.type = type_
        self.status_code = STATUS_CODES[type_]


Resolver = Callable[[Sequence[Reference]], Sequence[Resolved]]
"""Gets all values, in order. Raises Unresolved, and ExecutorError when they cannot be had now."""


class Remembering:
    """A resolver that remembers what it gave and nobody else is to have."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._given: dict[str, None] = {}

    def __call__(self, references: Sequence[Reference]) -> Sequence[Resolved]:
        """As the resolver."""
        found = self._resolver(references)
        for each in found:
            if not each.is_open:
                self._given.update(dict.fromkeys(secrets_in(each.value)))
        return found

    @property
    def secrets(self) -> tuple[str, ...]:
        """All secrets so far, of all attempts."""
        return tuple(self._given)


def split_variables(variables: Mapping[str, Any]) -> tuple[dict[str, str], tuple[Reference, ...]]:
    """The plain ones, and the references, of stored variables: texts, and ``{"type": …, "value": …}`` for references."""
    plain: dict[str, str] = {}
    references: list[Reference] = []
    for name, value in variables.items():
        if isinstance(value, str):
            plain[name] = value
        else:
            references.append(Reference(name, VariableType(value["type"]), value["value"]))
    return plain, tuple(references)


def stored_variable(type_: str, value: str) -> str | dict[str, str]:
    """A variable of CodeBuild's ``{name, value, type}`` as it is stored; see ``split_variables``."""
    return value if type_ == VariableType.PLAINTEXT else {"type": type_, "value": value}


def shown_variable(stored: Any) -> dict[str, str]:
    """The ``value`` and ``type`` of a stored variable, as CodeBuild's documents have them."""
    if isinstance(stored, str):
        return {"value": stored, "type": VariableType.PLAINTEXT.value}
    return {"value": stored["value"], "type": stored["type"]}


def variable_fault(value: Any) -> str:
    """What is wrong with a stored reference; empty if nothing is."""
    kinds = [kind.value for kind in VariableType if kind is not VariableType.PLAINTEXT]
    if not isinstance(value, Mapping) or set(value) != {"type", "value"} or value["type"] not in kinds:
        return f"a text, or a type ({', '.join(kinds)}) with the name of a value"
    name = value["value"]
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_REFERENCE or not name.isprintable():
        return "the name of the value is missing, too long, or not printable"
    if value["type"] == VariableType.SECRETS_MANAGER:
        try:
            split_secret_reference(name)
        except ValueError as error:
            return str(error)
    return ""


def of_spec(spec: BuildSpec) -> tuple[Reference, ...]:
    """The references of a buildspec's ``env``."""
    sections = (
        (VariableType.PARAMETER_STORE, spec.parameter_store),
        (VariableType.SECRETS_MANAGER, spec.secrets_manager),
    )
    return tuple(Reference(variable, kind, name) for kind, found in sections for variable, name in found.items())


def no_store(references: Sequence[Reference]) -> Sequence[Resolved]:
    """The resolver of a place that keeps no values (a build on one's own machine). Raises Unresolved."""
    if references:
        first = references[0]
        raise Unresolved(
            first.type, f"{first.variable}: parameters and secrets are kept by a server, and there is none"
        )
    return ()


@dataclass(frozen=True, slots=True)
class Values:
    """What the references of a build gave: ``weak`` stand for the buildspec's variables, ``strong`` for overrides."""

    weak: Mapping[str, str] = field(repr=False)
    strong: Mapping[str, str] = field(repr=False)

    @property
    def names(self) -> frozenset[str]:
        """The variables that hold them: none of these is exported."""
        return frozenset(self.weak) | frozenset(self.strong)


class Teller(Protocol):
    """Where a build tells of itself."""

    def say(self, text: str) -> None:
        """Log a line."""
        ...

    def hide(self, secrets: Iterable[str]) -> None:
        """Mask these from here on."""
        ...


def resolve(
    spec: BuildSpec,
    overrides: Mapping[str, str],
    references: Sequence[Reference],
    resolver: Resolver,
    teller: Teller,
) -> Values:
    """Get the values of a build before its first phase, and hide them from all that it tells.

    What an override replaces is not asked for. Raises Unresolved and what the resolver raises.
    """
    stronger = set(overrides) | {each.variable for each in references}
    weak = tuple(each for each in of_spec(spec) if each.variable not in stronger)
    wanted = (*weak, *references)
    if not wanted:
        return Values({}, {})
    for kind, line in _LINES:
        if any(each.type is kind for each in wanted):
            teller.say(line)
    found = resolver(wanted)
    teller.hide(secret for each in found for secret in secrets_in(each.value))
    for each in found:
        if len(each.value.strip()) < MIN_SECRET_LENGTH:
            teller.say(f"Warning: the value of {each.variable} is too short to be masked")
    values = {each.variable: each.value for each in found}
    return Values(
        {each.variable: values[each.variable] for each in weak},
        {each.variable: values[each.variable] for each in references},
    )


_LINES = (
    (VariableType.PARAMETER_STORE, "Decrypting parameter store environment variables"),
    (VariableType.SECRETS_MANAGER, "Retrieving secrets manager environment variables"),
)


def secrets_in(value: str) -> tuple[str, ...]:
    """What has to be hidden of a value: itself, and the longer texts in a JSON document, which a build takes apart."""
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return (value,)
    return (value, *leaves(document)) if isinstance(document, (dict, list)) else (value,)


def json_member(text: str, key: str) -> str | None:
    """The member ``key`` of a secret that is a JSON object, as text; None where there is none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or key not in document:
        return None
    value = document[key]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
