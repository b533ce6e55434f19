"""Files of declarations read: CodeArtifact's, CodeBuild's, CodeDeploy's and CodePipeline's own documents. Pure.

A file holds YAML documents (``---`` between them) or one JSON document. What a document declares is known by its keys, so
that input of ``aws … --cli-input-yaml`` and the answers of the services can be taken as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from hooks.deployments.documents.config import PLATFORMS, SERVER, ParsedConfig, parse_config
from hooks.deployments.documents.group import ParsedGroup, parse_group
from hooks.deployments.documents.values import StrictReader, read_document
from hooks.pipelines.build_project import parse_project
from hooks.pipelines.declaration import Secrets, parse_documents
from hooks.pipelines.definition import BuildProjectDeclaration, DefinitionLocation, PipelineDefinition
from hooks.pipelines.document import Document, line_of, read_documents
from hooks.pipelines.provider import Provider
from registry.errors import Invalid, InvalidDocument
from registry.names import connection_name, domain_name, repository_name

DEFAULT_DOMAIN = "default"
MOST_UPSTREAMS = 32
MOST_CONNECTIONS = 20
LONGEST_DESCRIPTION = 500
LONGEST_URL = 2000
LONGEST_POLICY = 65_536
_ANSWERED = dict.fromkeys(
    ("policyRevision", "arn", "owner", "domainOwner", "createdTime", "administratorAccount", "status"), ""
)
_KEY = "each domain has a key of its own, which this server makes"
_TAGS = "nothing here has tags"
_CREDENTIALS = "documents hold no secrets; give it by `entrepot repo connection change`"


@dataclass(frozen=True, slots=True)
class DeclaredFile:
    """A file as it was sent: its name, for messages, and its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class DomainDeclaration:
    """A domain. ``policy`` is JSON text; "" takes a policy away, None leaves it."""

    name: str
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectionDeclaration:
    """An external connection; ``url`` None is the index that the format's own tools point at."""

    format: str
    name: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class RepositoryDeclaration:
    """A repository. What is None stays as it is; what is a list is the whole list, in its order."""

    domain: str
    name: str
    description: str | None = None
    anonymous_read: bool | None = None
    upstreams: tuple[str, ...] | None = None
    connections: tuple[ConnectionDeclaration, ...] | None = None
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class ApplicationDeclaration:
    """An application; its domain and platform never change."""

    name: str
    domain: str
    platform: str


Declaration = (
    DomainDeclaration
    | RepositoryDeclaration
    | ParsedConfig
    | ApplicationDeclaration
    | ParsedGroup
    | BuildProjectDeclaration
    | PipelineDefinition
)
KINDS: Mapping[type, str] = {
    DomainDeclaration: "domain",
    RepositoryDeclaration: "repository",
    ParsedConfig: "deployment configuration",
    ApplicationDeclaration: "application",
    ParsedGroup: "deployment group",
    BuildProjectDeclaration: "build project",
    PipelineDefinition: "pipeline",
}
"""Of each declaration its word; in the order in which they are made, because later ones name earlier ones."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One document: what it declares, its own text verbatim, and where it stands (``line`` from 1).

    ``secrets`` are what its text masks, ``warnings`` tell of what in it has no effect.
    """

    file: str
    line: int
    text: str
    declares: Declaration
    secrets: Secrets = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The word for what is declared."""
        return KINDS[type(self.declares)]

    @property
    def name(self) -> str:
        """Its whole name: ``domain/repository``, ``application/group``."""
        match self.declares:
            case RepositoryDeclaration(domain=domain, name=name):
                return f"{domain}/{name}"
            case ParsedGroup(application=application, name=name):
                return f"{application}/{name}"
            case other:
                return other.name

    def fault(self, text: str) -> str:
        """A message about it, with its place."""
        return f"{self.file}: line {self.line}: {self.kind} {self.name}: {text}"


def read_files(files: Sequence[DeclaredFile], providers: Sequence[Provider]) -> list[Declared]:
    """Everything the files declare, in the order in which it is to be made.

    Raises InvalidDocument with the faults of all files at once, each with its file and line.
    """
    faults: list[str] = []
    found: list[Declared] = []
    for file in files:
        if not _says_something(file.text):
            continue  # all of it commented out, perhaps
        try:
            documents = read_documents(file.text, file.name)
        except InvalidDocument as error:
            faults += [f"{file.name}: {fault}" for fault in error.faults]
            continue
        for document in documents:
            line = line_of(document.root)
            try:
                found.append(_declared(file.name, line, document, providers))
            except InvalidDocument as error:
                faults += [f"{file.name}: {fault}" for fault in error.faults]
    if not found and not faults:
        faults.append("nothing is declared in these files")
    seen: dict[tuple[str, str], Declared] = {}
    for each in found:
        first = seen.setdefault((each.kind, each.name), each)
        if first is not each:
            faults.append(each.fault(f"is declared in {first.file}, line {first.line}, already"))
    if faults:
        raise InvalidDocument("declarations", faults)
    order = list(KINDS)
    return sorted(found, key=lambda each: order.index(type(each.declares)))


def _declared(file: str, line: int, document: Document, providers: Sequence[Provider]) -> Declared:
    placed = _at_its_line(document.text, line)
    declares = _declaration(document.root, placed, providers)
    if not isinstance(declares, PipelineDefinition):
        return Declared(file, line, document.text, declares)
    read = parse_documents(document.text, providers)[0]
    warnings = parse_documents(placed, providers)[0].warnings
    return Declared(file, line, read.text, declares, read.secrets, warnings)


def _says_something(text: str) -> bool:
    lines = (line.strip("\ufeff \t") for line in text.splitlines())
    return any(line and not line.startswith("#") and line not in {"---", "..."} for line in lines)


def _at_its_line(text: str, line: int) -> str:
    """A document's text behind as many empty lines as let its faults name the lines of the whole file."""
    # Read by itself it is the same document, whose root begins on another line.
    return "\n" * (line - line_of(read_documents(text, "")[0].root)) + text


def _declaration(root: yaml.Node, text: str, providers: Sequence[Provider]) -> Declaration:
    if not isinstance(root, yaml.MappingNode):
        raise InvalidDocument("", [f"line {line_of(root)}: a document has to be a mapping of names to values"])
    keys = {key.value[:1].lower() + key.value[1:] for key, _ in root.value if isinstance(key, yaml.ScalarNode)}
    if "name" in keys and keys & {"source", "buildspec", "environment"} and not keys & {"pipeline", "stages"}:
        return parse_project(text, "")
    for key, read in _READERS:
        if key in keys:
            return read(text, providers)
    known = "pipeline, buildProject, deploymentGroupName, deploymentConfigName, applicationName, repository or domain"
    raise InvalidDocument("", [f"line {line_of(root)}: what is this? A document here has {known}"])


def _pipeline(text: str, providers: Sequence[Provider]) -> Declaration:
    declares = parse_documents(text, providers)[0].declares
    if isinstance(declares, DefinitionLocation):
        raise InvalidDocument("", ["line 1: where a pipeline comes from is said by `entrepot pipeline apply`"])
    return declares


def _group(text: str, _providers: Sequence[Provider]) -> Declaration:
    parsed = parse_group(text)
    if not parsed.application or not parsed.name:
        raise InvalidDocument("", [f"{_first(text)}: applicationName and deploymentGroupName are needed here"])
    return parsed


def _config(text: str, _providers: Sequence[Provider]) -> Declaration:
    return parse_config(text)


def _application(text: str, _providers: Sequence[Provider]) -> Declaration:
    reader, root = read_document(text, "application")
    ignored = dict.fromkeys(("applicationId", "createTime", "linkedToGitHub"), "")
    entries = reader.fields(
        root, "", ("applicationName", "computePlatform", "domain"), refused={"tags": _TAGS}, ignored=ignored
    )
    if "applicationName" not in entries:
        reader.fault(root, "applicationName is missing")
    name = reader.name(entries.get("applicationName"), "applicationName")
    platform = reader.word(entries.get("computePlatform"), "computePlatform", PLATFORMS, SERVER)
    domain = _name(reader, entries.get("domain"), "domain", domain_name) or DEFAULT_DOMAIN
    reader.check()
    return ApplicationDeclaration(name, domain, platform)


def _repository(text: str, _providers: Sequence[Provider]) -> Declaration:
    reader, root = read_document(text, "repository")
    known = (
        "domain",
        "repository",
        "description",
        "upstreams",
        "externalConnections",
        "anonymousRead",
        "policyDocument",
    )
    entries = reader.fields(root, "", known, refused={"tags": _TAGS}, ignored=_ANSWERED)
    description, is_open = entries.get("description"), entries.get("anonymousRead")
    made = RepositoryDeclaration(
        domain=_name(reader, entries.get("domain"), "domain", domain_name) or DEFAULT_DOMAIN,
        name=_needed(reader, root, entries, "repository", repository_name),
        description=None if description is None else reader.limited(description, "description", LONGEST_DESCRIPTION),
        anonymous_read=None if is_open is None else reader.boolean(is_open, "anonymousRead"),
        upstreams=_upstreams(reader, entries.get("upstreams")),
        connections=_connections(reader, entries.get("externalConnections")),
        policy=_policy(reader, entries.get("policyDocument")),
    )
    reader.check()
    return made


def _domain(text: str, _providers: Sequence[Provider]) -> Declaration:
    reader, root = read_document(text, "domain")
    entries = reader.fields(
        root, "", ("domain", "policyDocument"), refused={"tags": _TAGS}, ignored=_ANSWERED | {"encryptionKey": _KEY}
    )
    name = _needed(reader, root, entries, "domain", domain_name)
    policy = _policy(reader, entries.get("policyDocument"))
    reader.check()
    return DomainDeclaration(name, policy)


_READERS: Sequence[tuple[str, Callable[[str, Sequence[Provider]], Declaration]]] = (
    ("pipeline", _pipeline),
    ("stages", _pipeline),
    ("buildProject", _pipeline),
    ("deploymentGroupName", _group),
    ("deploymentConfigName", _config),
    ("applicationName", _application),
    ("repository", _repository),
    ("domain", _domain),
)
"""By which key a document is known; the first that is there counts (a group names its configuration and application)."""


def _upstreams(reader: StrictReader, node: yaml.Node | None) -> tuple[str, ...] | None:
    if node is None:
        return None
    found: list[str] = []
    for where, entry in reader.listed(node, "upstreams", MOST_UPSTREAMS):
        name = entry
        if isinstance(entry, yaml.MappingNode):
            name = reader.fields(entry, where, ("repositoryName",)).get("repositoryName", entry)
        text = _name(reader, name, where, repository_name)
        if text and text in found:
            reader.fault(entry, f"{where}: {text} stands here twice")
        found.append(text)
    return tuple(found)


def _connections(reader: StrictReader, node: yaml.Node | None) -> tuple[ConnectionDeclaration, ...] | None:
    if node is None:
        return None
    found: list[ConnectionDeclaration] = []
    for where, entry in reader.listed(node, "externalConnections", MOST_CONNECTIONS):
        entries = reader.fields(entry, where, ("format", "name", "url"), refused={"credential": _CREDENTIALS})
        if "format" not in entries:
            reader.fault(entry, f"{where}.format is missing")
        url = reader.limited(entries.get("url"), f"{where}.url", LONGEST_URL)
        made = ConnectionDeclaration(
            reader.limited(entries.get("format"), f"{where}.format", 50),
            _name(reader, entries.get("name"), f"{where}.name", connection_name) or "public",
            url or None,
        )
        if any((each.format, each.name) == (made.format, made.name) for each in found):
            reader.fault(entry, f"{where}: {made.format} has a connection {made.name} here already")
        found.append(made)
    return tuple(found)


def _policy(reader: StrictReader, node: yaml.Node | None) -> str | None:
    """A policy's JSON text: written as text, as the services' own input has it, or as a mapping."""
    if node is None:
        return None
    if isinstance(node, yaml.ScalarNode):
        return reader.text(node, "policyDocument")[: LONGEST_POLICY + 1]
    value: Any = reader.plain(node, "policyDocument")
    return json.dumps(value) if value else ""


def _name(reader: StrictReader, node: yaml.Node | None, where: str, checked: Callable[[str], str]) -> str:
    if node is None:
        return ""
    if not isinstance(node, yaml.ScalarNode):
        return reader.text(node, where)
    try:
        return checked(reader.text(node, where))
    except Invalid as error:
        reader.fault(node, f"{where}: {error.rule}")
        return ""


def _needed(
    reader: StrictReader, root: yaml.Node, entries: Mapping[str, yaml.Node], key: str, checked: Callable[[str], str]
) -> str:
    if key not in entries:
        reader.fault(root, f"{key} is missing")
    return _name(reader, entries.get(key), key, checked)


def _first(text: str) -> str:
    return f"line {text.count(chr(10), 0, len(text) - len(text.lstrip())) + 1}"
