"""Custom action types (CodePipeline's CreateCustomActionType), and where actions of the provider Webhook send their jobs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Annotated, Any

from sqlalchemy.orm import Session

from hooks.models.action_job import ActionWebhook, CustomActionType
from hooks.notifications import signing
from hooks.pipelines import action_webhooks, custom_types
from hooks.pipelines.actions import PROVIDERS
from hooks.services import HookServices
from registry.access import Action
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.errors import Invalid
from registry.http import context
from registry.http.auth import requires, signed_in_api

Word = Annotated[str, Length(1, 50)]
APPLY = "entrepot:ApplyPipelines"


@dataclass(frozen=True, slots=True)
class ActionConfigurationProperty:
    """A setting of actions of the type. A ``secret`` one is told to workers alone; ``key`` has no effect here."""

    name: Word
    required: bool
    key: bool
    secret: bool
    queryable: bool = False
    description: Annotated[str, Length(0, 160)] = ""
    type: Annotated[str, Length(1, 16)] = "String"


@dataclass(frozen=True, slots=True)
class ArtifactCounts:
    """How many artifacts an action of the type has at least and at most."""

    minimum_count: Annotated[int, Between(0, 5)]
    maximum_count: Annotated[int, Between(0, 5)]


@dataclass(frozen=True, slots=True)
class ActionTypeSettings:
    """Addresses for people; ``{Config:NAME}`` and ``{ExternalExecutionId}`` in them stand for values."""

    third_party_configuration_url: Annotated[str, Length(0, 2048)] = ""
    entity_url_template: Annotated[str, Length(0, 2048)] = ""
    execution_url_template: Annotated[str, Length(0, 2048)] = ""
    revision_url_template: Annotated[str, Length(0, 2048)] = ""


@dataclass(frozen=True, slots=True)
class NewActionType:
    """A custom action type. ``workers`` are the accounts that may serve it, beside the server's administrators."""

    category: Word
    provider: Word
    version: Word
    input_artifact_details: ArtifactCounts
    output_artifact_details: ArtifactCounts
    configuration_properties: Annotated[tuple[ActionConfigurationProperty, ...], Length(0, 10)] = ()
    settings: ActionTypeSettings = field(default_factory=ActionTypeSettings)
    workers: Annotated[tuple[Annotated[str, Length(1, 100)], ...], Length(0, custom_types.MOST_WORKERS)] = ()


@dataclass(frozen=True, slots=True)
class ActionTypeId:
    """Names a type of actions."""

    category: Word
    owner: Word
    provider: Word
    version: Word


@dataclass(frozen=True, slots=True)
class ActionTypeView:
    """A type of actions (CodePipeline's ActionType). ``workers`` are those of a custom one."""

    id: ActionTypeId
    settings: custom_types.TypeSettings | None
    action_configuration_properties: tuple[custom_types.ConfigurationProperty, ...]
    input_artifact_details: custom_types.ArtifactDetails
    output_artifact_details: custom_types.ArtifactDetails
    workers: tuple[str, ...]
    created_by: str | None
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class ActionTypeList:
    """Types of actions, the server's own first."""

    items: tuple[ActionTypeView, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class ActionTypeQuery:
    """``owner`` leaves out those of others: AWS, Entrepot or Custom."""

    owner: Annotated[str, Length(0, 16)] = ""


@dataclass(frozen=True, slots=True)
class ActionWebhookChange:
    """Where the webhook leads. ``secret`` null: a new one is made, and told in the answer."""

    url: Annotated[str, Length(1, 2000)]
    secret: Annotated[str, Length(1, 200)] | None = None
    description: Annotated[str, Length(0, action_webhooks.LONGEST_DESCRIPTION)] | None = None


@dataclass(frozen=True, slots=True)
class ActionWebhookView:
    """An action webhook. Its address is sealed as its secret is, and neither is told."""

    name: str
    description: str
    secret_fingerprint: str
    created_by: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class MadeActionWebhook:
    """An action webhook, with its secret where the server made it: shown this once (Standard Webhooks)."""

    webhook: ActionWebhookView
    secret: str | None


@dataclass(frozen=True, slots=True)
class ActionWebhookList:
    """Action webhooks by name."""

    items: tuple[ActionWebhookView, ...]
    next: str | None = None


class ActionTypeViews:
    """The operations on types of actions, and on the webhooks of actions: for those who may apply pipelines."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table."""
        apply, types, hooks = requires(Action.ADMIN, permission=APPLY), "/action-types", "/action-webhooks"
        one = f"{types}/<category>/<provider>/<type_version>"
        return (
            Route("GET", types, signed_in_api, self.list_action_types, query=ActionTypeQuery, answer=ActionTypeList),
            Route("POST", types, apply, self.create_action_type, body=NewActionType, answer=ActionTypeView, status=201),
            Route("DELETE", one, apply, self.delete_action_type, status=204),
            Route("GET", hooks, apply, self.list_action_webhooks, answer=ActionWebhookList),
            Route("PUT", f"{hooks}/<webhook_name>", apply, self.put_action_webhook, body=ActionWebhookChange,
                  answer=MadeActionWebhook, holds_secrets=True),
            Route("DELETE", f"{hooks}/<webhook_name>", apply, self.delete_action_webhook, status=204),
        )  # fmt: skip

    def list_action_types(self, query: ActionTypeQuery) -> ActionTypeList:
        """What actions of pipelines can be (ListActionTypes)."""
        with self._services.db.read() as session:
            custom = [_view(session, row) for row in custom_types.list_types(session)]
        found = [view for view in (*_OWN, *custom) if query.owner in {"", view.id.owner}]
        return ActionTypeList(tuple(found))

    def create_action_type(self, body: NewActionType) -> ActionTypeView:
        """Make a custom action type, whose actions workers carry out (CreateCustomActionType). It never changes."""
        wanted = custom_types.CustomType(
            body.category,
            body.provider,
            body.version,
            custom_types.ArtifactDetails(**_plain(body.input_artifact_details)),
            custom_types.ArtifactDetails(**_plain(body.output_artifact_details)),
            tuple(custom_types.ConfigurationProperty(**_plain(each)) for each in body.configuration_properties),
            custom_types.TypeSettings(**_plain(body.settings)),
            body.workers,
        )
        with self._services.db.write() as session:
            who, now = context.caller().name, self._services.clock()
            return _view(session, custom_types.create(session, wanted, _RESERVED, actor=who, now=now))

    def delete_action_type(self, category: str, provider: str, type_version: str) -> None:
        """Delete a custom action type (DeleteCustomActionType): nobody gets its jobs any more, and it cannot be made anew."""
        with self._services.db.write() as session:
            who, now = context.caller().name, self._services.clock()
            custom_types.delete(session, category, provider, type_version, actor=who, now=now)

    def list_action_webhooks(self) -> ActionWebhookList:
        """The webhooks that actions can name. Where they lead is not told."""
        with self._services.db.read() as session:
            return ActionWebhookList(tuple(map(_webhook, action_webhooks.list_webhooks(session))))

    def put_action_webhook(self, webhook_name: str, body: ActionWebhookChange) -> MadeActionWebhook:
        """Make a webhook that actions can name, or give it another address and secret."""
        services, parts = self._services, self._services.notifications
        parts.rules.check(body.url)
        secret = signing.new_secret() if body.secret is None else body.secret
        if not signing.is_secret(secret):
            raise Invalid("secret: whsec_ and 24 to 64 bytes in base64 (Standard Webhooks)")
        with services.db.write() as session:
            row = action_webhooks.put(
                session,
                parts.sealer,
                webhook_name,
                action_webhooks.Target(body.url, secret),
                description=body.description,
                fingerprint=signing.fingerprint(secret),
                actor=context.caller().name,
                now=services.clock(),
            )
            return MadeActionWebhook(_webhook(row), secret if body.secret is None else None)

    def delete_action_webhook(self, webhook_name: str) -> None:
        """Remove a webhook: actions that name it fail from here on."""
        with self._services.db.write() as session:
            action_webhooks.delete(session, webhook_name, actor=context.caller().name, now=self._services.clock())


def _plain(shape: Any) -> dict[str, Any]:
    return {each.name: getattr(shape, each.name) for each in fields(shape)}


def _view(session: Session, row: CustomActionType) -> ActionTypeView:
    custom = custom_types.type_of(row, custom_types.workers_of(session, row))
    return ActionTypeView(
        ActionTypeId(custom.category, custom_types.OWNER, custom.provider, custom.version),
        custom.settings,
        custom.configuration_properties,
        custom.input_artifact_details,
        custom.output_artifact_details,
        custom.workers,
        row.created_by,
        row.created_at,
    )


def _webhook(row: ActionWebhook) -> ActionWebhookView:
    return ActionWebhookView(row.name, row.description, row.fingerprint, row.created_by, row.created_at, row.updated_at)


_RESERVED = frozenset((each.category, each.name) for each in PROVIDERS)
_OWN = tuple(
    ActionTypeView(
        ActionTypeId(each.category, each.owner, each.name, each.version),
        None,
        tuple(
            custom_types.ConfigurationProperty(setting.name, setting.is_required, key=True, secret=False)
            for setting in each.settings
        ),
        custom_types.ArtifactDetails(*each.inputs),
        custom_types.ArtifactDetails(*each.outputs),
        (),
        None,
        None,
    )
    for each in PROVIDERS
)
