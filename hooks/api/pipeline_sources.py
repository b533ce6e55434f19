"""Connections to forges, and where they tell pipelines of pushes: made here, received at ``/hooks/v1/pipelines``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from flask import Blueprint, Response, request
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hooks.builds.git_fetch import GitCredential
from hooks.builds.push_comments import Comment
from hooks.builds.push_payloads import Told, read_payload
from hooks.builds.push_signatures import Delivery, verify
from hooks.models.pipeline import Pipeline
from hooks.models.pipeline_source import GitConnection, PipelineHook, PipelineLocation, SourceWatch
from hooks.pipelines.locations import detach
from hooks.pipelines.sources import connections
from hooks.services import HookServices
from hooks.triggers import custom_hooks, pushes
from registry import audit
from registry.access import Action
from registry.api.routes import Route, json_response
from registry.api.shapes import Length
from registry.errors import Invalid, NotFound, Unavailable
from registry.http import context
from registry.http.auth import charge, public, requires
from registry.http.json_body import read_body
from registry.json_text import parse
from registry.rates import CostClass
from storage.errors import StorageError

MOST_BYTES = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class GitConnectionCredential:
    """What repositories are fetched with: PERSONAL_ACCESS_TOKEN, BASIC_AUTH or SSH_KEY (with the host's ``knownHosts``)."""

    auth_type: Annotated[str, Length(1, 32)]
    secret: Annotated[str, Length(1, 20_000)]
    username: Annotated[str, Length(0, 255)] = ""
    known_hosts: Annotated[str, Length(0, 20_000)] = ""


@dataclass(frozen=True, slots=True)
class NewGitConnection:
    """A forge: repositories below ``url``. ``repository`` of ``domain`` says whose readers see what comes from there.

    ``provider`` is github, gitlab, gitea or generic. Without ``credential`` the one that is there stays, unless the address
    changes.
    """

    url: Annotated[str, Length(1, 1900)]
    repository: Annotated[str, Length(1, 100)]
    domain: Annotated[str, Length(1, 50)] = "default"
    provider: Annotated[str, Length(1, 16)] = "generic"
    credential: GitConnectionCredential | None = None


@dataclass(frozen=True, slots=True)
class GitConnectionDetail:
    """A connection. ``authType`` null: repositories are fetched without a credential."""

    name: str
    provider: str
    url: str
    domain: str
    repository: str
    auth_type: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class GitConnectionList:
    """All connections by name."""

    items: tuple[GitConnectionDetail, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class PayloadFilter:
    """CodePipeline's WebhookFilterRule: what lies at ``jsonPath`` (``$.ref``) is ``matchEquals``.

    ``{Name}`` in it is that setting of the source action.
    """

    json_path: Annotated[str, Length(1, 150)]
    match_equals: Annotated[str, Length(1, 150)]


@dataclass(frozen=True, slots=True)
class NewPipelineHook:
    """A hook of a git source: ``provider`` is github, gitlab, gitea or generic; without ``action`` of the only one.

    Of any source: ``hmac`` or ``token``, with ``filters`` that all have to hold; it starts with what is newest.
    """

    provider: Annotated[str, Length(1, 16)]
    action: Annotated[str, Length(0, 100)] = ""
    filters: Annotated[tuple[PayloadFilter, ...], Length(0, 5)] = ()


@dataclass(frozen=True, slots=True)
class PipelineHookDetail:
    """A hook. ``secret`` is told when it is made, and never again: then only its ``secretFingerprint``."""

    id: str
    action: str
    provider: str
    filters: tuple[PayloadFilter, ...]
    payload_url: str
    secret_fingerprint: str
    created_at: datetime
    secret: str | None


@dataclass(frozen=True, slots=True)
class PipelineHookList:
    """The hooks of a pipeline, oldest first."""

    items: tuple[PipelineHookDetail, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source that the server asks for news: when it did last, and why it could not ("" where it could)."""

    action: str
    asked_at: datetime | None
    fault: str


@dataclass(frozen=True, slots=True)
class DefinitionSource:
    """Where a definition comes from: the file ``path`` in a git source of these settings, in the rights of ``configuredBy``.

    ``commit`` is the one that was applied last, ``seenCommit`` the newest, ``fault`` what was wrong with that ("": nothing).
    """

    source: dict[str, str]
    path: str
    configured_by: str
    commit: str
    seen_commit: str
    fault: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class SourceStates:
    """The sources of a pipeline that are asked for news; ``definition`` null: its definition is applied by hand."""

    items: tuple[SourceState, ...]
    definition: DefinitionSource | None
    next: str | None


class PipelineSourceViews:
    """The operations on connections, and on hooks of pipelines."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the management interface's table: the server's administrators', as pipelines are."""
        door = requires(Action.ADMIN)
        these, one = "/git-connections", "/git-connections/<connection>"
        hooks = "/pipelines/<pipeline>/webhooks"
        return (
            Route("GET", these, door, self.list_git_connections, answer=GitConnectionList),
            Route(
                "PUT",
                one,
                door,
                self.put_git_connection,
                body=NewGitConnection,
                answer=GitConnectionDetail,
                holds_secrets=True,
            ),
            Route("DELETE", one, door, self.delete_git_connection, status=204),
            Route("GET", hooks, door, self.list_pipeline_hooks, answer=PipelineHookList),
            Route(
                "POST",
                hooks,
                door,
                self.create_pipeline_hook,
                body=NewPipelineHook,
                answer=PipelineHookDetail,
                status=201,
            ),
            Route("DELETE", f"{hooks}/<hook_id>", door, self.delete_pipeline_hook, status=204),
            Route("GET", "/pipelines/<pipeline>/sources", door, self.list_sources, answer=SourceStates),
            Route("DELETE", "/pipelines/<pipeline>/definition-source", door, self.detach_definition, status=204),
        )

    def list_git_connections(self) -> GitConnectionList:
        """The connections, without what they fetch with."""
        with self._services.db.read() as session:
            rows = session.scalars(select(GitConnection).order_by(GitConnection.name))
            return GitConnectionList(tuple(_connection(row) for row in rows), None)

    def put_git_connection(self, connection: str, body: NewGitConnection) -> GitConnectionDetail:
        """Make a connection, or change it. Its credential is sealed, and never told again."""
        caller, services = context.caller(), self._services
        sealer, given = services.stores.server_keyring(), body.credential
        credential = GitCredential(given.auth_type, given.username, given.secret, given.known_hosts) if given else None
        with services.db.write() as session:
            now = services.clock()
            row, is_new = connections.put_connection(
                session,
                sealer,
                connection,
                provider=body.provider,
                url=body.url,
                place=(body.domain, body.repository),
                credential=credential,
                now=now,
            )
            action = "git_connection.create" if is_new else "git_connection.change"
            about = {"url": row.url, "has_new_credential": credential is not None}
            audit.record(session, now, caller.name, action, f"git-connection/{row.name}", **about)
            return _connection(row)

    def delete_git_connection(self, connection: str) -> None:
        """Delete a connection with its credential; sources that name it fetch nothing from now on."""
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            session.delete(connections.find_connection(session, connection))
            audit.record(
                session, services.clock(), caller.name, "git_connection.delete", f"git-connection/{connection}"
            )

    def list_pipeline_hooks(self, pipeline: str) -> PipelineHookList:
        """The hooks of a pipeline. Their secrets are not told."""
        with self._services.db.read() as session:
            found, _ = pushes.find_pipeline(session, pipeline)
            rows = session.scalars(
                select(PipelineHook)
                .where(PipelineHook.pipeline_id == found.id)
                .order_by(PipelineHook.created_at, PipelineHook.id)
            )
            return PipelineHookList(tuple(_hook(row) for row in rows), None)

    def create_pipeline_hook(self, pipeline: str, body: NewPipelineHook) -> PipelineHookDetail:
        """Make a hook for a git source of a pipeline; answers with its address and, this once, its secret."""
        caller, services = context.caller(), self._services
        sealer = services.stores.server_keyring()
        with services.db.write() as session:
            now = services.clock()
            row, secret = pushes.create_hook(
                session,
                sealer,
                pipeline,
                action=body.action,
                provider=body.provider,
                now=now,
                filters=[{"jsonPath": each.json_path, "matchEquals": each.match_equals} for each in body.filters],
            )
            about = {"provider": row.provider, "hook": row.id, "source": row.action}
            audit.record(session, now, caller.name, "pipeline.create_webhook", f"pipeline/{pipeline}", **about)
            return _hook(row, secret)

    def delete_pipeline_hook(self, pipeline: str, hook_id: str) -> None:
        """Delete a hook; its address answers 404 from now on."""
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            session.delete(pushes.find_hook(session, hook_id, pipeline))
            now, about = services.clock(), {"hook": hook_id[:64]}
            audit.record(session, now, caller.name, "pipeline.delete_webhook", f"pipeline/{pipeline}", **about)

    def list_sources(self, pipeline: str) -> SourceStates:
        """The sources that the server asks for news itself (``PollForSourceChanges``), and how that went."""
        with self._services.db.read() as session:
            location = session.get(PipelineLocation, pipeline)
            found = session.scalar(select(Pipeline).where(Pipeline.name == pipeline))
            if location is None and found is None:
                raise NotFound("pipeline", pipeline)
            rows = session.scalars(
                select(SourceWatch)
                .join(Pipeline, Pipeline.id == SourceWatch.pipeline_id)
                .where(Pipeline.name == pipeline)
                .order_by(SourceWatch.id)
            )
            states = tuple(SourceState(row.action, row.asked_at, row.fault) for row in rows)
            return SourceStates(states, _definition(location), None)

    def detach_definition(self, pipeline: str) -> None:
        """Let the definition in force stay, and be applied by hand again: what is pushed changes it no more."""
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            detach(session, pipeline, caller.name, services.clock())

    def receive_push(self, hook_id: str) -> pushes.Received:
        """A forge tells of a push or a pull request.

        What starts nothing is answered with 200 and the reason, so that forges do not take it for a failure. A delivery
        that came before is not done again.
        """
        charge(CostClass.MANAGE)
        services = self._services
        body = read_body(MOST_BYTES)
        with services.db.read() as session:
            row = pushes.find_hook(session, hook_id)
            provider = row.provider
            try:
                secret = pushes.secret_of(services.stores.server_keyring(), row)
            except StorageError as error:
                raise Unavailable("the secret of this webhook cannot be opened now") from error
        headers = dict(request.headers.items())
        if provider in custom_hooks.PROVIDERS:
            delivery = custom_hooks.verify(provider, headers, body, secret)
        else:
            delivery = verify(provider, headers, body, secret, services.clock())
        audit.proved_by("webhook secret")
        if request.mimetype != "application/json":
            raise Invalid("let the webhook send application/json")
        payload = parse(body)
        told = None if provider in custom_hooks.PROVIDERS else read_payload(provider, delivery.event, payload)
        try:
            return self._take(hook_id, delivery, told, payload)
        except IntegrityError:
            # The same delivery arrived twice at a time: the other one has it.
            return self._take(hook_id, delivery, told, payload)

    def _take(
        self, hook_id: str, delivery: Delivery, told: Told | Comment | str | None, payload: object
    ) -> pushes.Received:
        services = self._services

        def unit(session: Session) -> pushes.Received:
            row = pushes.find_hook(session, hook_id)
            earlier = pushes.repetition(session, hook_id, delivery)
            if earlier is not None:
                return earlier
            if told is None:
                return pushes.take_custom(session, services.actions, row, delivery, payload, services.clock())
            return pushes.take(session, services.actions, row, delivery, told, services.clock())

        # Executions move meanwhile: of two that wait for each other the one that is turned away asks again.
        return services.db.retry(unit)


def pipeline_receivers(services: HookServices) -> Blueprint:
    """What forges call, to be mounted at ``/hooks/v1/pipelines``."""
    routes, views = Blueprint("pipeline_push_hooks", __name__), PipelineSourceViews(services)

    @public("each delivery proves by its signature that it has the hook's secret")
    def receive_pipeline_push(hook_id: str) -> Response:
        return json_response(views.receive_push(hook_id))

    routes.add_url_rule("/<hook_id>", "receive_pipeline_push", receive_pipeline_push, methods=["POST"])
    return routes


def _definition(row: PipelineLocation | None) -> DefinitionSource | None:
    if row is None:
        return None
    said = (dict(row.source), row.path, row.configured_by, row.commit, row.seen_commit, row.fault, row.changed_at)
    return DefinitionSource(*said)


def _connection(row: GitConnection) -> GitConnectionDetail:
    return GitConnectionDetail(
        row.name, row.provider, row.url, row.domain, row.repository, row.auth_type, row.created_at
    )


def _hook(row: PipelineHook, secret: str | None = None) -> PipelineHookDetail:
    base = context.services().public_url or request.host_url.rstrip("/")
    address = f"{base}/hooks/v1/pipelines/{row.id}"
    filters = tuple(PayloadFilter(each["jsonPath"], each["matchEquals"]) for each in row.filters)
    return PipelineHookDetail(
        row.id, row.action, row.provider, filters, address, row.fingerprint, row.created_at, secret
    )
