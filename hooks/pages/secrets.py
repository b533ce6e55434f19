"""Parameters and secrets: listed, added, replaced, given to projects, deleted. What they hold is on no page."""

from __future__ import annotations

import re
from collections.abc import Callable

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.build import BuildProject
from hooks.models.secret_store import StoredValue
from hooks.pages.forms import number, sentence
from hooks.secret_store import reading, store
from hooks.secret_store.names import Kind
from hooks.services import HookServices
from registry.access import Action, Identity, check
from registry.errors import Conflict, Invalid, NotFound
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.pages.appearance import redirect_with
from registry.pages.proof import proved

SHOWN = 100
_LIST = "hook_pages.secrets"
# (kind, what is done) → the permission.
_PERMISSIONS = {
    (Kind.SECRET, "list"): "secretsmanager:ListSecrets",
    (Kind.SECRET, "show"): "secretsmanager:DescribeSecret",
    (Kind.SECRET, "put"): "secretsmanager:PutSecretValue",
    (Kind.SECRET, "change"): "secretsmanager:UpdateSecret",
    (Kind.SECRET, "delete"): "secretsmanager:DeleteSecret",
    (Kind.PARAMETER, "list"): "ssm:DescribeParameters",
    (Kind.PARAMETER, "show"): "ssm:DescribeParameters",
    (Kind.PARAMETER, "put"): "ssm:PutParameter",
    (Kind.PARAMETER, "change"): "ssm:PutParameter",
    (Kind.PARAMETER, "delete"): "ssm:DeleteParameter",
}

Change = Callable[[Session, StoredValue, str], None]


class SecretPages:
    """The pages of parameters and secrets. Who sends a value proves first who they are: the form is shown again then."""

    def __init__(self, services: HookServices) -> None:
        self._services = services
        self._sealer = services.stores.server_keyring()

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        one, again = "/secrets/<int:value_id>", proved(back=_LIST)
        pages.add_url_rule("/secrets", "secrets", page(self.list_values))
        pages.add_url_rule("/secrets", "create_secret", page(again(self.create)), methods=["POST"])
        pages.add_url_rule(one, "secret", page(self.show))
        pages.add_url_rule(f"{one}/value", "replace_secret", page(again(self.replace)), methods=["POST"])
        pages.add_url_rule(f"{one}/about", "change_secret", page(proved()(self.change)), methods=["POST"])
        pages.add_url_rule(f"{one}/delete", "delete_secret", page(proved()(self.delete)), methods=["POST"])

    def list_values(self) -> str:
        """All of both kinds by name, and the form for another."""
        return self._list()

    def _list(self, message: str = "") -> str:
        found = {}
        prefix, after = request.args.get("path", "")[:512], request.args.get("after", "")[:512]
        with self._services.db.read() as session:
            for kind in Kind:
                _check(kind, "list")
                found[kind] = store.listed(session, kind, prefix=prefix, after=after, limit=SHOWN + 1)
            projects = session.scalars(select(BuildProject.name).order_by(BuildProject.name)).all()
        # The value is in no form that is shown again.
        form = {name: text for name, text in request.form.items() if name != "value"} if message else {}
        return render_template(
            "secrets/list.html", found=found, most=SHOWN, path=prefix, after=after, form=form, message=message,
            projects=projects, types=store.TYPES,
        )  # fmt: skip

    def create(self) -> ResponseReturnValue:
        """Make a secret or a parameter; one that is there already is not replaced here."""
        form = request.form
        kind = Kind.PARAMETER if form.get("kind") == Kind.PARAMETER else Kind.SECRET
        _check(kind, "put")
        wanted = store.Put(
            form.get("name", "").strip(),
            _value(),
            form.get("type", "") if kind is Kind.PARAMETER else "",
            form.get("description", ""),
            _names(form.get("projects", "")),
            overwrite=False,
        )
        try:
            with self._services.db.write() as session:
                who, now = context.caller().name, self._services.clock()
                value_id = store.put(session, self._sealer, kind, wanted, actor=who, now=now).id
        except (Invalid, NotFound, Conflict) as error:
            return self._list(sentence(error)), status_of(error)
        return redirect_with("secret-stored", url_for("hook_pages.secret", value_id=value_id))

    def show(self, value_id: int) -> str:
        """One secret or parameter, with its versions and who may read it."""
        return self._show(value_id)

    def _show(self, value_id: int, message: str = "") -> str:
        with self._services.db.read() as session:
            row = _find(session, value_id, "show")
            view, kind = store.view(session, row), Kind(row.kind)
        form = {name: text for name, text in request.form.items() if name != "value"} if message else {}
        return render_template(
            "secrets/one.html", value=view, kind=kind, form=form, message=message,
            action=reading.READ_ACTION[kind], resource=store.resource_of(kind, view.name),
        )  # fmt: skip

    def replace(self, value_id: int) -> ResponseReturnValue:
        """Give it another value; the one before stays as a version."""

        def unit(session: Session, row: StoredValue, who: str) -> None:
            wanted = store.Put(row.name, _value())
            store.put(session, self._sealer, Kind(row.kind), wanted, actor=who, now=self._services.clock())

        return self._do(value_id, "put", unit, "secret-replaced")

    def change(self, value_id: int) -> ResponseReturnValue:
        """Change the description, the list of projects and the policy."""
        form = request.form

        def unit(session: Session, row: StoredValue, who: str) -> None:
            now = self._services.clock()
            projects = _names(form.get("projects", ""))
            store.change(session, row, description=form.get("description", ""), projects=projects, actor=who, now=now)
            policy = form.get("policy", "").strip()
            if policy != (store.policy_text(row) or ""):
                reading.set_policy(session, row, policy, actor=who, now=now)

        return self._do(value_id, "change", unit, "secret-changed")

    def delete(self, value_id: int) -> ResponseReturnValue:
        """Delete it with all its versions."""
        with self._services.db.write() as session:
            row = _find(session, value_id, "delete")
            store.remove(session, row, actor=context.caller().name, now=self._services.clock())
        return redirect_with("secret-deleted", url_for(_LIST))

    def _do(self, value_id: int, act: str, unit: Change, notice: str) -> ResponseReturnValue:
        try:
            with self._services.db.write() as session:
                unit(session, _find(session, value_id, act), context.caller().name)
        except (Invalid, Conflict) as error:
            return self._show(value_id, sentence(error)), status_of(error)
        except NotFound as error:
            if error.what != "build project":
                raise
            return self._show(value_id, sentence(error)), status_of(error)
        return redirect_with(notice, url_for("hook_pages.secret", value_id=value_id))


def may_list_secrets(who: Identity) -> bool:
    """Whether the pages are of any use to somebody."""
    return all(who.may(Action.ADMIN, permission=_PERMISSIONS[kind, "list"]) for kind in Kind)


def _check(kind: Kind, act: str) -> None:
    check(context.caller(), Action.ADMIN, permission=_PERMISSIONS[kind, act])


def _find(session: Session, value_id: int, act: str) -> StoredValue:
    row = session.get(StoredValue, number(value_id))
    # Who may not look is told so, and not what there is.
    _check(Kind(row.kind) if row is not None else Kind.SECRET, act)
    if row is None:
        raise NotFound("secret or parameter", str(value_id))
    return row


def _value() -> str:
    """What was typed. Browsers send line ends as CR LF (HTML Living Standard §4.10.21); a key file has them plain."""
    return request.form.get("value", "").replace("\r\n", "\n")


def _names(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", text) if word]
