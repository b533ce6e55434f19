"""Executions: start, look, answer, stop, retry, roll back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, TypeVar

from sqlalchemy.orm import Session

from hooks.pipelines import store
from hooks.pipelines.abandoning import check_abandon
from hooks.pipelines.approvals import Verdict, decide
from hooks.pipelines.asking import Question, questions
from hooks.pipelines.definition import RetryMode
from hooks.pipelines.gates import may_look_into, may_see, repositories_behind, repositories_of
from hooks.pipelines.parts import Parts
from hooks.pipelines.rollback import rollback_stage
from hooks.pipelines.steering import retry_stage, stop_execution
from hooks.services import HookServices
from hooks.triggers.collect import Coordinates
from hooks.triggers.overrides import check_revisions, place_of_source
from hooks.triggers.shown import execution_shown
from hooks.triggers.start import start_manual
from registry.access import Action, Identity, check
from registry.api import coordinates
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.errors import Invalid, NotFound
from registry.http import context
from registry.http.auth import signed_in_api
from registry.repos.topology import find_repository

Word = TypeVar("Word", Verdict, RetryMode)

# A caller who may see few of many executions does not make one request read them all.
MOST_LOOKED_AT = 2000


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """An approval that waits. ``given`` of ``required`` approvals count now; ``approvers`` are those named, if any are.

    ``approve_on`` are the repositories (``domain/name``) on which an approver needs the right. ``lets_through`` says what
    starts when it is approved. ``may_answer`` is about the caller; ``refusal`` why the caller may not approve.
    """

    stage: str
    action: str
    token: str
    required: int
    given: int
    approvers: tuple[str, ...]
    approve_on: tuple[str, ...]
    lets_through: tuple[str, ...]
    may_answer: bool
    refusal: str


@dataclass(frozen=True, slots=True)
class ExecutionDetail(store.ExecutionSummary):
    """An execution with all its stages. ``assets`` is file name → SHA-256, as pinned.

    ``inbound_stage`` is the stage before which it waits, if it waits for one; ``approvals`` are those that wait in it.
    """

    assets: Mapping[str, str]
    publishers: tuple[str, ...]
    variables: Mapping[str, str]
    depth: int
    stop_reason: str | None
    stopped_by: str | None
    inbound_stage: str | None
    stages: tuple[store.StageExecutionView, ...]
    approvals: tuple[PendingApproval, ...]
    revisions: tuple[store.RevisionView, ...]


@dataclass(frozen=True, slots=True)
class ExecutionList:
    """Executions the caller may see, newest first; ``next`` goes into ``after`` for older ones, null at the end."""

    items: tuple[store.ExecutionSummary, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class ExecutionQuery:
    """Where to go on in the list."""

    after: Annotated[int, Between(1, 2**62)] | None = None
    limit: Annotated[int, Between(1, 200)] = 50


@dataclass(frozen=True, slots=True)
class SourceRevisionOverride:
    """A revision of a source (CodePipeline's SourceRevisionOverride).

    ``revisionType`` is COMMIT_ID, S3_OBJECT_VERSION_ID or S3_OBJECT_KEY.
    """

    action_name: Annotated[str, Length(1, 100)]
    revision_type: Annotated[str, Length(1, 32)]
    revision_value: Annotated[str, Length(1, 255)]


@dataclass(frozen=True, slots=True)
class NewExecution:
    """What to start with: a package version, or the revisions of sources that take none (without one, what is newest).

    The same ``client_request_token`` never starts a second execution.
    """

    domain: Annotated[str, Length(0, 50)] = ""
    repository: Annotated[str, Length(0, 100)] = ""
    format: Annotated[str, Length(0, 32)] = ""
    name: Annotated[str, Length(0, 255)] = ""
    version: Annotated[str, Length(0, 255)] = ""
    namespace: Annotated[str, Length(0, 255)] = ""
    source_revisions: Annotated[tuple[SourceRevisionOverride, ...], Length(0, 50)] | None = None
    variables: Annotated[dict[str, str], Length(0, 50)] | None = None
    client_request_token: Annotated[str, Length(1, 64)] | None = None


@dataclass(frozen=True, slots=True)
class ApprovalAnswer:
    """``verdict`` is Approved or Rejected. With ``token`` (the waiting action's) only what was looked at is answered."""

    stage: Annotated[str, Length(1, 100)]
    action: Annotated[str, Length(1, 100)]
    verdict: str
    comment: str = ""
    token: Annotated[str, Length(1, 64)] | None = None


@dataclass(frozen=True, slots=True)
class StopRequest:
    """``abandon`` stops running builds and deployments too, instead of letting them end."""

    reason: str = ""
    abandon: bool = False


@dataclass(frozen=True, slots=True)
class RetryRequest:
    """``mode`` is FAILED_ACTIONS (keeps what succeeded) or ALL_ACTIONS."""

    stage: Annotated[str, Length(1, 100)]
    mode: str = RetryMode.FAILED_ACTIONS.value


@dataclass(frozen=True, slots=True)
class RollbackRequest:
    """The stage to roll back. The same ``client_request_token`` never starts a second rollback."""

    stage: Annotated[str, Length(1, 100)]
    client_request_token: Annotated[str, Length(1, 64)] | None = None


class ExecutionViews:
    """The operations on executions."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table. Executions belong to repositories, so each operation looks at the object's own."""
        of_pipeline, one = "/pipelines/<pipeline>/executions", "/executions/<id:execution_id>"
        door, answer = signed_in_api, ExecutionDetail
        return (
            Route("GET", of_pipeline, door, self.list_executions, query=ExecutionQuery, answer=ExecutionList),
            Route("POST", of_pipeline, door, self.start_execution, body=NewExecution, answer=answer, status=201),
            Route("GET", one, door, self.show_execution, answer=answer),
            Route("POST", f"{one}/approval", door, self.answer_approval, body=ApprovalAnswer, answer=answer),
            Route("POST", f"{one}/stop", door, self.stop_execution, body=StopRequest, answer=answer),
            Route("POST", f"{one}/retry", door, self.retry_execution, body=RetryRequest, answer=answer),
            Route(
                "POST", f"{one}/rollback", door, self.rollback_stage, body=RollbackRequest, answer=answer, status=201
            ),
        )

    def list_executions(self, pipeline: str, query: ExecutionQuery) -> ExecutionList:
        """A pipeline's executions, of the repositories the caller may read."""
        caller = context.caller()
        found: list[store.ExecutionSummary] = []
        place, looked_at, is_end = query.after, 0, False
        with self._services.db.read() as session:
            store.get_pipeline(session, pipeline)
            while len(found) <= query.limit and looked_at < MOST_LOOKED_AT and not is_end:
                page = store.list_executions(session, pipeline=pipeline, before_id=place, limit=store.LARGEST_PAGE)
                found += [entry for entry in page if may_look_into(caller, entry)]
                looked_at += len(page)
                is_end = len(page) < store.LARGEST_PAGE
                place = page[-1].id if page else place
        shown = tuple(found[: query.limit])
        if len(found) > len(shown):
            place, is_end = shown[-1].id, False
        return ExecutionList(shown, None if is_end else place)

    def start_execution(self, pipeline: str, body: NewExecution) -> ExecutionDetail:
        """Start a pipeline for a package version, or for revisions of its sources.

        Needs `publish` on the version's repository, or the source's: it does what publishing the version would do. Needs it
        also where each source belongs that `sourceRevisions` names.
        """
        caller, registry = context.caller(), context.services()
        names_version = bool(body.name or body.version or body.repository)
        if names_version:
            check(caller, Action.PUBLISH, f"{body.domain}/{body.repository}")

        def act(session: Session) -> int:
            at = None
            if names_version:
                _, repository = find_repository(session, body.domain, body.repository)
                found = coordinates.find(
                    session, registry.formats, repository.id, body.format, body.namespace, body.name, body.version
                )
                at = Coordinates(body.domain, body.repository, *found)
            else:
                check(caller, Action.PUBLISH, "/".join(place_of_source(session, pipeline)))
            check_revisions(session, caller, pipeline, {each.action_name for each in given})
            return start_manual(
                session,
                self._services.actions,
                pipeline,
                at,
                actor=caller.name,
                now=self._services.clock(),
                variables=body.variables,
                revisions={each.action_name: (each.revision_type, each.revision_value) for each in given},
                request_token=body.client_request_token,
            ).execution_id

        given = body.source_revisions or ()
        if len({each.action_name for each in given}) < len(given):
            raise Invalid("sourceRevisions: a source is named twice")

        return self._change(act)

    def show_execution(self, execution_id: int) -> ExecutionDetail:
        """An execution with its stages, actions and older attempts.

        For readers of its repository, and for those whom one of its approvals asks.
        """
        with self._services.db.read() as session:
            return self._detail(session, visible_execution(session, execution_id, context.caller()))

    def answer_approval(self, execution_id: int, body: ApprovalAnswer) -> ExecutionDetail:
        """Approve or reject what an execution waits for: each person once. One rejection rejects.

        It is approved when as many have approved as it requires. Needs `approve` on what the approval stands before (the
        targets of promotions, where builds publish to, where deployments come from, up to the next approval; or the
        execution's own repository), and to be among its `Approvers` where it names some.
        """
        caller = context.caller()
        verdict = _word(Verdict, body.verdict, "verdict")

        def act(session: Session) -> int:
            execution = visible_execution(session, execution_id, caller)
            for path in repositories_behind(execution, body.stage, body.action):
                check(caller, Action.APPROVE, path)
            decide(
                session,
                self._services.actions,
                execution_id,
                body.stage,
                body.action,
                verdict=verdict,
                comment=body.comment,
                actor=caller.name,
                now=self._services.clock(),
                token=body.token,
            )
            return execution_id

        return self._change(act)

    def stop_execution(self, execution_id: int, body: StopRequest) -> ExecutionDetail:
        """Stop an execution: nothing further starts. Needs `publish` on its repository.

        With `abandon` it also needs what stopping the deployments of its running actions needs.
        """

        def act(session: Session) -> int:
            _check_steering(session, execution_id)
            if body.abandon:
                check_abandon(session, context.caller(), execution_id)
            stop_execution(
                session,
                self._services.actions,
                execution_id,
                actor=context.caller().name,
                reason=body.reason,
                abandon=body.abandon,
                now=self._services.clock(),
            )
            return execution_id

        return self._change(act)

    def retry_execution(self, execution_id: int, body: RetryRequest) -> ExecutionDetail:
        """Try a failed or stopped stage again, in the same execution. Needs `publish` on its repository."""
        mode = _word(RetryMode, body.mode, "mode")

        def act(session: Session) -> int:
            _check_steering(session, execution_id)
            actor, now = context.caller().name, self._services.clock()
            retry_stage(session, self._services.actions, execution_id, body.stage, mode, actor=actor, now=now)
            return execution_id

        return self._change(act)

    def rollback_stage(self, execution_id: int, body: RollbackRequest) -> ExecutionDetail:
        """Roll a stage back to this execution: it runs once more with its version and variables; answers the new one.

        Needs `approve` on what the stage promotes and publishes to, or on the execution's own repository without any.
        """
        caller = context.caller()

        def act(session: Session) -> int:
            for path in repositories_of(visible_execution(session, execution_id, caller), body.stage):
                check(caller, Action.APPROVE, path)
            return rollback_stage(
                session,
                self._services.actions,
                execution_id,
                body.stage,
                actor=caller.name,
                now=self._services.clock(),
                request_token=body.client_request_token,
            ).execution_id

        return self._change(act)

    def _detail(self, session: Session, view: store.ExecutionView) -> ExecutionDetail:
        return detail_of(session, self._services.actions, view, context.caller())

    def _change(self, act: Callable[[Session], int]) -> ExecutionDetail:
        def unit(session: Session) -> ExecutionDetail:
            execution_id = act(session)
            session.flush()
            return self._detail(session, store.get_execution(session, execution_id))

        # Jobs end actions meanwhile: of two that wait for each other the one that is turned away asks again.
        return self._services.db.retry(unit)


def visible_execution(session: Session, execution_id: int, caller: Identity) -> store.ExecutionView:
    """The execution. Raises NotFound also when it is not for these eyes."""
    execution = store.get_execution(session, execution_id)
    if not may_see(caller, execution):
        raise NotFound("execution", str(execution_id))
    return execution


def _check_steering(session: Session, execution_id: int) -> None:
    caller = context.caller()
    summary = visible_execution(session, execution_id, caller).summary
    check(caller, Action.PUBLISH, f"{summary.domain}/{summary.repository}")


def _word(kind: type[Word], word: str, field: str) -> Word:
    try:
        return kind(word)
    except ValueError as error:
        raise Invalid(f"{field} must be one of {', '.join(kind)}") from error


def detail_of(session: Session, parts: Parts, view: store.ExecutionView, caller: Identity) -> ExecutionDetail:
    """An execution in the shape of answers, with the approvals that wait in it as ``caller`` may give them."""
    view = execution_shown(session, view, caller)
    summary = {field.name: getattr(view.summary, field.name) for field in fields(view.summary)}
    rest = {field.name: getattr(view, field.name) for field in fields(view) if field.name != "summary"}
    asked = questions(session, parts, view, caller)
    return ExecutionDetail(**summary, **rest, approvals=tuple(_pending(each) for each in asked))


def _pending(asked: Question) -> PendingApproval:
    return PendingApproval(
        stage=asked.stage,
        action=asked.action.name,
        token=asked.action.token or "",
        required=asked.required,
        given=asked.given,
        approvers=asked.approvers,
        approve_on=asked.targets,
        lets_through=asked.lets_through,
        may_answer=asked.may_answer,
        refusal=asked.refusal,
    )
