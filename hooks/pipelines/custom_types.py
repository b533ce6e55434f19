"""Custom action types: what workers of their own carry out (CodePipeline's CreateCustomActionType)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hooks.models.action_job import ActionTypeWorker, CustomActionType
from hooks.pipelines.definition import ActionType
from hooks.pipelines.provider import Check, Provider, Setting
from registry import audit, events
from registry.errors import Conflict, Invalid, NotFound
from registry.models import Account

OWNER = "Custom"
CATEGORIES = ("Build", "Test", "Deploy", "Invoke", "Approval")
"""CodePipeline's without Source (an execution is about the one version that it was started with) and Compute."""
TYPES = ("String", "Number", "Boolean")
MOST_PROPERTIES, MOST_ARTIFACTS, MOST_WORKERS, MOST_TYPES = 10, 5, 100, 500
MOST_QUERY_CHARACTERS = 50

_PROVIDER = re.compile(r"[0-9A-Za-z_-]{1,35}\Z")
_VERSION = re.compile(r"[0-9A-Za-z_-]{1,9}\Z")
_PROPERTY = re.compile(r"[A-Za-z0-9_.@-]{1,50}\Z")
_QUERY = re.compile(rf"[a-zA-Z0-9_-]{{1,{MOST_QUERY_CHARACTERS}}}\Z")
_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?\Z")
_PLACE = re.compile(r"\{(?:Config:[A-Za-z0-9_.@-]{1,50}|ExternalExecutionId)\}")

_SHAPE = "-/action-type"
events.audited("action_type.create", "action-type.created", _SHAPE, tells="A custom action type was made.")
events.audited("action_type.delete", "action-type.deleted", _SHAPE, tells="A custom action type was removed.")


@dataclass(frozen=True, slots=True)
class ConfigurationProperty:
    """A setting of actions of the type (ActionConfigurationProperty). A ``secret`` one is told to workers alone.

    ``queryable``: PollForJobs can ask for the jobs that have one value of it. ``key`` is kept, and has no effect.
    """

    name: str
    required: bool
    key: bool
    secret: bool
    queryable: bool = False
    description: str = ""
    type: str = "String"


@dataclass(frozen=True, slots=True)
class ArtifactDetails:
    """How many artifacts an action of the type has at least and at most (ActionTypeArtifactDetails)."""

    minimum_count: int
    maximum_count: int


@dataclass(frozen=True, slots=True)
class TypeSettings:
    """Addresses for people (ActionTypeSettings); ``{Config:NAME}`` and ``{ExternalExecutionId}`` stand for values."""

    third_party_configuration_url: str = ""
    entity_url_template: str = ""
    execution_url_template: str = ""
    revision_url_template: str = ""


@dataclass(frozen=True, slots=True)
class CustomType:
    """A custom action type. ``workers`` are the accounts that may serve it, beside the server's administrators."""

    category: str
    provider: str
    version: str
    input_artifact_details: ArtifactDetails
    output_artifact_details: ArtifactDetails
    configuration_properties: tuple[ConfigurationProperty, ...] = ()
    settings: TypeSettings = field(default_factory=TypeSettings)
    workers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How people name it: ``Category/Provider/Version``."""
        return f"{self.category}/{self.provider}/{self.version}"

    @property
    def queryable(self) -> str:
        """The name of the queryable property, "" for none."""
        return next((each.name for each in self.configuration_properties if each.queryable), "")

    @property
    def secrets(self) -> frozenset[str]:
        """The names of the secret properties."""
        return frozenset(each.name for each in self.configuration_properties if each.secret)


def create(
    session: Session, wanted: CustomType, reserved: Collection[tuple[str, str]], *, actor: str, now: datetime
) -> CustomActionType:
    """Make a type. ``reserved`` are (category, provider) of the server's own.

    Raises Invalid with the first fault, NotFound for a worker, and Conflict for a category, provider and version that there
    is, or was.
    """
    _check(wanted)
    if (wanted.category, wanted.provider) in reserved:
        raise Conflict(f"{wanted.category}/{wanted.provider} is carried out by the server itself; take another name")
    if session.scalar(_named(wanted.category, wanted.provider, wanted.version)) is not None:
        raise Conflict(f"{wanted.name} is there already, or was once; give it another version")
    if len(list_types(session)) >= MOST_TYPES:
        raise Conflict(f"there are {MOST_TYPES} custom action types already; delete some first")
    accounts = session.scalars(select(Account).where(Account.name.in_(wanted.workers)))
    known = {account.name: account.id for account in accounts}
    for worker in wanted.workers:
        if worker not in known:
            raise NotFound("account", worker)
    document = asdict(wanted)
    for key in ("category", "provider", "version", "workers"):
        del document[key]
    row = CustomActionType(
        category=wanted.category,
        provider=wanted.provider,
        version=wanted.version,
        document=document,
        created_by=actor,
        created_at=now,
    )
    session.add(row)
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"{wanted.name} was made meanwhile") from error
    session.add_all([ActionTypeWorker(action_type_id=row.id, account_id=known[each]) for each in wanted.workers])
    session.flush()
    audit.record(
        session,
        now,
        actor,
        "action_type.create",
        f"action-type/{wanted.category}:{wanted.provider}:{wanted.version}",
        workers=list(wanted.workers),
    )
    return row


def list_types(session: Session) -> Sequence[CustomActionType]:
    """The types that there are, by category, provider and version."""
    rows = session.scalars(select(CustomActionType).where(CustomActionType.deleted_at.is_(None)))
    return sorted(rows, key=lambda row: (row.category, row.provider, row.version))


def delete(session: Session, category: str, provider: str, version: str, *, actor: str, now: datetime) -> None:
    """Mark a type as deleted: nobody gets its jobs any more, and its version is not used again. Raises NotFound."""
    row = find(session, category, provider, version)
    row.deleted_at = now
    audit.record(session, now, actor, "action_type.delete", f"action-type/{category}:{provider}:{version}")


def find(session: Session, category: str, provider: str, version: str) -> CustomActionType:
    """The type of that name. Raises NotFound."""
    row = session.scalar(_named(category, provider, version))
    if row is None or row.deleted_at is not None:
        raise NotFound("action type", f"{category}/{provider}/{version}"[:100])
    return row


def workers_of(session: Session, row: CustomActionType) -> tuple[str, ...]:
    """The accounts that may serve a type, by name."""
    of_type = select(Account.name).join(ActionTypeWorker, ActionTypeWorker.account_id == Account.id)
    return tuple(sorted(session.scalars(of_type.where(ActionTypeWorker.action_type_id == row.id))))


def type_of(row: CustomActionType, workers: tuple[str, ...] = ()) -> CustomType:
    """A row as a value."""
    document = row.document
    return CustomType(
        row.category,
        row.provider,
        row.version,
        ArtifactDetails(**document["input_artifact_details"]),
        ArtifactDetails(**document["output_artifact_details"]),
        tuple(ConfigurationProperty(**each) for each in document["configuration_properties"]),
        TypeSettings(**document["settings"]),
        workers,
    )


def action_type_of(row: CustomActionType) -> ActionType:
    """What a pipeline's ``actionTypeId`` says for it."""
    return ActionType(row.category, OWNER, row.provider, row.version)


def providers(session: Session) -> tuple[Provider, ...]:
    """What documents may say of actions of custom types."""
    return tuple(_provider(type_of(row)) for row in list_types(session))


def _provider(custom: CustomType) -> Provider:
    return Provider(
        custom.category,
        OWNER,
        custom.provider,
        tuple(
            Setting(each.name, is_required=each.required, check=_check_of(each), is_secret=each.secret)
            for each in custom.configuration_properties
        ),
        inputs=(custom.input_artifact_details.minimum_count, custom.input_artifact_details.maximum_count),
        outputs=(custom.output_artifact_details.minimum_count, custom.output_artifact_details.maximum_count),
        variables=None,
        has_timeout=True,
        version=custom.version,
    )


def check_query_value(value: str) -> str | None:
    """What is wrong with the value of a queryable property, or None."""
    rule = f"a queryable property's value has 1 to {MOST_QUERY_CHARACTERS} letters, digits, '_' and '-'"
    return None if _QUERY.match(value) else rule


def _check_of(each: ConfigurationProperty) -> Check | None:
    # What a check says may be shown: it never repeats the value, which may be a secret one.
    if each.queryable:
        return check_query_value
    if each.type == "Number":
        return lambda value: None if _NUMBER.match(value) else "it is no number"
    if each.type == "Boolean":
        return lambda value: None if value in {"true", "false"} else "it is neither 'true' nor 'false'"
    return None


def _check(wanted: CustomType) -> None:
    if wanted.category not in CATEGORIES:
        raise Invalid(f"category is one of {', '.join(CATEGORIES)}")
    if not _PROVIDER.match(wanted.provider):
        raise Invalid("provider has 1 to 35 letters, digits, '_' and '-'")
    if not _VERSION.match(wanted.version):
        raise Invalid("version has 1 to 9 letters, digits, '_' and '-'")
    for what, details in (("input", wanted.input_artifact_details), ("output", wanted.output_artifact_details)):
        if not 0 <= details.minimum_count <= details.maximum_count <= MOST_ARTIFACTS:
            raise Invalid(f"{what}ArtifactDetails: 0 ≤ minimumCount ≤ maximumCount ≤ {MOST_ARTIFACTS}")
    if len(wanted.workers) > MOST_WORKERS or len(set(wanted.workers)) != len(wanted.workers):
        raise Invalid(f"workers: at most {MOST_WORKERS} accounts, each once")
    _check_properties(wanted.configuration_properties)
    for name, template in asdict(wanted.settings).items():
        _check_template(name, template)


def _check_properties(properties: Sequence[ConfigurationProperty]) -> None:
    if len(properties) > MOST_PROPERTIES:
        raise Invalid(f"configurationProperties: at most {MOST_PROPERTIES} are allowed")
    names = [each.name for each in properties]
    for each in properties:
        if not _PROPERTY.match(each.name) or names.count(each.name) > 1:
            raise Invalid(f"configurationProperties: {each.name[:60]!r} is no name of a property, or is there twice")
        if each.type not in TYPES:
            raise Invalid(f"property {each.name}: type is one of {', '.join(TYPES)}")
        if len(each.description) > 160:
            raise Invalid(f"property {each.name}: the description has at most 160 characters")
        if each.queryable and (each.secret or not each.required):
            raise Invalid(f"property {each.name}: a queryable property is required, and not secret")
    if sum(each.queryable for each in properties) > 1:
        raise Invalid("configurationProperties: at most one is queryable")


def _check_template(name: str, template: str) -> None:
    if not template:
        return
    bare = _PLACE.sub("", template)
    # Shown as a link: anything but these schemes could run in a browser. The host is no value of a pipeline's.
    try:
        parts = urlsplit(template)
        is_web = parts.scheme in {"http", "https"} and bool(parts.netloc) and "{" not in parts.netloc
    except ValueError:
        is_web = False
    if not is_web or len(template) > 2048 or not template.isprintable() or "{" in bare or "}" in bare:
        word = "".join(part.capitalize() if number else part for number, part in enumerate(name.split("_")))
        raise Invalid(
            f"settings {word}: an http or https address in which only {{Config:NAME}} and {{ExternalExecutionId}} stand"
            " for something, behind its host"
        )


def _named(category: str, provider: str, version: str) -> Select[CustomActionType]:
    return select(CustomActionType).where(
        CustomActionType.category == category,
        CustomActionType.provider == provider,
        CustomActionType.version == version,
    )
