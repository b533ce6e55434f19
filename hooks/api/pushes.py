"""Where forges tell of pushes: made at a project, and received at ``/hooks/v1``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from flask import Blueprint, Response, request
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hooks.builds import pushes
from hooks.builds.project_rights import check_manage, visible_project
from hooks.builds.push_approvals import list_waiting
from hooks.builds.push_comments import Comment
from hooks.builds.push_payloads import Told, read_payload
from hooks.builds.push_signatures import Delivery, verify
from hooks.builds.starting import place_of
from hooks.models.build_source import PushHook
from hooks.pipelines.engine import on_build_finished
from hooks.services import HookServices
from registry import audit
from registry.api.routes import Route, json_response
from registry.api.shapes import Length
from registry.errors import Invalid, Unavailable
from registry.http import context
from registry.http.auth import charge, public, signed_in_api
from registry.http.json_body import read_body
from registry.json_text import parse
from registry.rates import CostClass
from storage.errors import StorageError

MOST_BYTES = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WebhookFilter:
    """CodeBuild's WebhookFilter. The pattern has to match the whole value; ACTOR_ACCOUNT_ID is a list of exact ids."""

    type: Annotated[str, Length(1, 32)]
    pattern: Annotated[str, Length(1, 1000)]
    exclude_matched_pattern: bool = False


@dataclass(frozen=True, slots=True)
class BuildPolicy:
    """Which pull requests wait for an approver's comment: FORK_PULL_REQUESTS, ALL_PULL_REQUESTS or DISABLED (none).

    Approvers have one of ``approverRoles``, as far as the forge tells roles, or are ``approverAccountIds`` of the forge.
    """

    requires_comment_approval: Annotated[str, Length(1, 24)] | None = None
    approver_roles: Annotated[tuple[Annotated[str, Length(1, 32)], ...], Length(0, 20)] | None = None
    approver_account_ids: Annotated[tuple[Annotated[str, Length(1, 128)], ...], Length(0, 100)] | None = None


@dataclass(frozen=True, slots=True)
class NewPushHook:
    """A hook to make; ``provider`` is github, gitlab, gitea or generic. Without groups every push is built.

    ``buildType`` is BUILD (default) or BUILD_BATCH.
    """

    provider: Annotated[str, Length(1, 16)]
    filter_groups: Annotated[tuple[Annotated[tuple[WebhookFilter, ...], Length(1, 20)], ...], Length(1, 20)] | None = (
        None
    )
    build_type: Annotated[str, Length(1, 32)] | None = None
    pull_request_build_policy: BuildPolicy | None = None


@dataclass(frozen=True, slots=True)
class PushHookChange:
    """What to change; a field that is not there (or null) stays as it is."""

    filter_groups: Annotated[tuple[Annotated[tuple[WebhookFilter, ...], Length(1, 20)], ...], Length(1, 20)] | None = (
        None
    )
    build_type: Annotated[str, Length(1, 32)] | None = None
    pull_request_build_policy: BuildPolicy | None = None
    rotate_secret: bool = False


@dataclass(frozen=True, slots=True)
class WaitingPullRequest:
    """A pull request (``trigger``: pr/12) that an approver's comment lets be built, at this commit and no other."""

    trigger: str
    commit: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class PushHookDetail:
    """A hook. ``secret`` is told when it is made or renewed, and never again: then only its ``secretFingerprint``."""

    id: str
    provider: str
    payload_url: str
    filter_groups: tuple[tuple[WebhookFilter, ...], ...]
    build_type: str
    pull_request_build_policy: BuildPolicy
    waiting: tuple[WaitingPullRequest, ...]
    secret_fingerprint: str
    created_at: datetime
    secret: str | None


@dataclass(frozen=True, slots=True)
class PushHookList:
    """The hooks of a project, oldest first."""

    items: tuple[PushHookDetail, ...]
    next: str | None


class PushViews:
    """The operations on hooks of pushes."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the management interface's table. What changing a project needs is needed for its hooks."""
        these, door = "/build-projects/<project>/webhooks", signed_in_api
        one, answer = f"{these}/<hook_id>", PushHookDetail
        return (
            Route("GET", these, door, self.list_push_hooks, answer=PushHookList),
            Route("POST", these, door, self.create_push_hook, body=NewPushHook, answer=answer, status=201),
            Route("PATCH", one, door, self.change_push_hook, body=PushHookChange, answer=answer),
            Route("DELETE", one, door, self.delete_push_hook, status=204),
        )

    def list_push_hooks(self, project: str) -> PushHookList:
        """The hooks of a project. Their secrets are not told."""
        caller = context.caller()
        with self._services.db.read() as session:
            found = visible_project(session, project, caller)
            check_manage(caller, place_of(found))
            rows = session.scalars(
                select(PushHook).where(PushHook.project_id == found.id).order_by(PushHook.created_at, PushHook.id)
            )
            return PushHookList(tuple(_detail(session, row) for row in rows), None)

    def create_push_hook(self, project: str, body: NewPushHook) -> PushHookDetail:
        """Make a hook for a project with a git source; answers with its address and, this once, its secret."""
        caller, services = context.caller(), self._services
        sealer = services.stores.server_keyring()
        with services.db.write() as session:
            found = visible_project(session, project, caller)
            check_manage(caller, place_of(found))
            now = services.clock()
            row, secret = pushes.create_hook(
                session,
                sealer,
                found,
                provider=body.provider,
                settings=_settings(body),
                now=now,
            )
            about = {"provider": row.provider, "hook": row.id}
            audit.record(session, now, caller.name, "build_project.create_webhook", f"build-project/{project}", **about)
            return _detail(session, row, secret)

    def change_push_hook(self, project: str, hook_id: str, body: PushHookChange) -> PushHookDetail:
        """Change a hook's filters, what it starts or its policy, or give it a new secret; the old one ends at once."""
        caller, services = context.caller(), self._services
        sealer = services.stores.server_keyring()
        with services.db.write() as session:
            found = visible_project(session, project, caller)
            check_manage(caller, place_of(found))
            row = pushes.find_hook(session, hook_id, found)
            pushes.change_hook(row, _settings(body))
            secret = pushes.renew_secret(sealer, row) if body.rotate_secret else None
            now, about = services.clock(), {"hook": row.id, "rotated": body.rotate_secret}
            audit.record(session, now, caller.name, "build_project.change_webhook", f"build-project/{project}", **about)
            return _detail(session, row, secret)

    def delete_push_hook(self, project: str, hook_id: str) -> None:
        """Delete a hook; its address answers 404 from now on."""
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            found = visible_project(session, project, caller)
            check_manage(caller, place_of(found))
            session.delete(pushes.find_hook(session, hook_id, found))
            now, about = services.clock(), {"hook": hook_id[:64]}
            audit.record(session, now, caller.name, "build_project.delete_webhook", f"build-project/{project}", **about)

    def receive_push(self, hook_id: str) -> pushes.Received:
        """A forge tells of a push, a pull request, a release, or a comment that lets a pull request be built.

        What is not built is answered with 200 and the reason, so that forges do not take it for a failure. A delivery
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
        delivery = verify(provider, dict(request.headers.items()), body, secret, services.clock())
        audit.proved_by("webhook secret")
        if request.mimetype != "application/json":
            raise Invalid("let the webhook send application/json")
        told = read_payload(provider, delivery.event, parse(body))
        try:
            return self._take(hook_id, delivery, told)
        except IntegrityError:
            # The same delivery arrived twice at a time: the other one has it.
            return self._take(hook_id, delivery, told)

    def _take(self, hook_id: str, delivery: Delivery, told: Told | Comment | str) -> pushes.Received:
        services = self._services
        with services.db.write() as session:
            row = pushes.find_hook(session, hook_id)
            earlier = pushes.repetition(session, hook_id, delivery)
            if earlier is not None:
                return earlier
            now = services.clock()
            received = pushes.take(session, row, delivery, told, now=now, on_finished=self._on_finished)
            about = {"hook": hook_id, "delivery": delivery.keys[0]}
            if received.approved_by is not None:
                about["approved_by"] = received.approved_by
            who = f"{row.provider}-webhook"
            if received.build_id is not None:
                audit.record(session, now, who, "build.start", f"build/{received.build_id}", **about)
            if received.batch_id is not None:
                audit.record(session, now, who, "build_batch.start", f"build-batch/{received.batch_id}", **about)
            return received

    def _on_finished(self, session: Session, build_id: str) -> None:
        on_build_finished(session, self._services.actions, build_id)


def receivers(services: HookServices) -> Blueprint:
    """What forges call, to be mounted at ``/hooks/v1``."""
    routes, views = Blueprint("push_hooks", __name__), PushViews(services)

    @public("each delivery proves by its signature that it has the hook's secret")
    def receive_push(hook_id: str) -> Response:
        return json_response(views.receive_push(hook_id))

    routes.add_url_rule("/<hook_id>", "receive_push", receive_push, methods=["POST"])
    return routes


def _groups(given: tuple[tuple[WebhookFilter, ...], ...] | None) -> list[list[dict[str, object]]] | None:
    if given is None:
        return None
    return [
        [
            {"type": each.type, "pattern": each.pattern, "excludeMatchedPattern": each.exclude_matched_pattern}
            for each in group
        ]
        for group in given
    ]


def _settings(body: NewPushHook | PushHookChange) -> pushes.HookSettings:
    policy = body.pull_request_build_policy or BuildPolicy()
    return pushes.HookSettings(
        _groups(body.filter_groups),
        body.build_type,
        policy.requires_comment_approval,
        policy.approver_roles,
        policy.approver_account_ids,
    )


def _detail(session: Session, row: PushHook, secret: str | None = None) -> PushHookDetail:
    base = context.services().public_url or request.host_url.rstrip("/")
    return PushHookDetail(
        row.id,
        row.provider,
        f"{base}/hooks/v1/{row.id}",
        tuple(
            tuple(
                WebhookFilter(each["type"], each["pattern"], each.get("excludeMatchedPattern", False)) for each in group
            )
            for group in row.filter_groups
        ),
        row.build_type,
        BuildPolicy(row.fork_policy, tuple(row.approver_roles), tuple(row.approver_accounts)),
        tuple(WaitingPullRequest(each.trigger, each.commit, each.received_at) for each in list_waiting(session, row)),
        row.fingerprint,
        row.created_at,
        secret,
    )
