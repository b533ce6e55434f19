"""Which project may read which value: the value's plain list of projects, and its policy. Nobody else: deny by default.

Decided by the one evaluator of policies (``registry.policy``): the plain list is an Allow like any other, so that a Deny
of the policy wins over it. The principal is the build's project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from hooks.models.build import BuildProject
from hooks.models.secret_store import StoredValue, StoredValueProject
from hooks.secret_store import store
from hooks.secret_store.names import Kind
from registry import audit
from registry.policies import read
from registry.policy import document
from registry.policy.document import EVERYBODY, OF_SECRETS, Statement, Terms
from registry.policy.evaluate import Question, Rule, decide
from registry.policy.evaluate import select as select_rules
from registry.policy.places import Place

READ_ACTION: Mapping[Kind, str] = {
    Kind.SECRET: "secretsmanager:GetSecretValue",
    Kind.PARAMETER: "ssm:GetParameters",
}
"""What a policy has to allow for a build to get a value."""


def set_policy(session: Session, row: StoredValue, text: str | None, *, actor: str, now: datetime) -> None:
    """Set a value's policy, or take it away (None, or only blanks).

    Raises Invalid with every fault, also for projects that do not exist.
    """
    value = read(text) if text is not None and text.strip() else None
    parsed = document.parse(value, OF_SECRETS) if value is not None else document.Document(())
    names = sorted(name.removeprefix("project/") for name in parsed.principals)
    wanted = store.project_ids(session, names)
    rows = {each.project_id: each for each in session.scalars(_rows_of(row))}
    for project_id, each in rows.items():
        if project_id not in wanted and not each.may_read:
            session.delete(each)
    session.add_all(
        [StoredValueProject(value_id=row.id, project_id=each, may_read=False) for each in sorted(wanted - set(rows))]
    )
    row.policy = value
    row.updated_at, row.updated_by = now, actor
    audit.record(session, now, actor, f"{row.kind}.policy", store.path(row), document=value)
    session.flush()


def may_read(session: Session, row: StoredValue, project_id: int, now: datetime) -> bool:
    """Whether builds of a project may have the value."""
    kind = Kind(row.kind)
    question = Question(frozenset({_principal(project_id)}), READ_ACTION[kind].lower(), Place(thing=store.path(row)))
    return decide(select_rules(_rules(session, row), question), {"aws:currenttime": now}).allowed


def _rules(session: Session, row: StoredValue) -> Sequence[Rule]:
    named = session.execute(
        select(BuildProject.name, BuildProject.id, StoredValueProject.may_read)
        .join(StoredValueProject, StoredValueProject.project_id == BuildProject.id)
        .where(StoredValueProject.value_id == row.id)
    ).all()
    ids = {f"project/{name}": _principal(row_id) for name, row_id, _ in named}
    where = store.path(row)
    rules = []
    if row.policy is not None:
        parsed = document.parse(row.policy, OF_SECRETS)
        rules += [Rule(_bound(statement, ids), f"policy of {where}") for statement in parsed.statements]
    readers = tuple(_principal(row_id) for _, row_id, reads in named if reads)
    if readers:
        action = Terms((READ_ACTION[Kind(row.kind)].lower(),))
        rules.append(Rule(Statement("", True, Terms(readers), action, Terms(("*",))), f"projects of {where}"))
    return rules


def _bound(statement: Statement, ids: Mapping[str, str]) -> Statement:
    """With rows instead of names, so that a project made anew under an old name is another one."""
    names = statement.principals
    kept = tuple(name if name == EVERYBODY else ids[name] for name in names.patterns if name in {EVERYBODY, *ids})
    return replace(statement, principals=Terms(kept, names.is_negated))


def _principal(project_id: int) -> str:
    return f"project#{project_id}"


def _rows_of(row: StoredValue) -> Select[StoredValueProject]:
    return select(StoredValueProject).where(StoredValueProject.value_id == row.id)
