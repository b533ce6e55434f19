"""Letting a client tool in that waits for its sign-in (the tool prints this page's address)."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from registry import client_login
from registry.errors import NotFound
from registry.http import context
from registry.http.auth import page
from registry.pages.proof import proved

_LONGEST_CODE = 200


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    pages.add_url_rule("/sign-in/client", "client_login", _show)
    pages.add_url_rule("/sign-in/client", "do_client_login", _let_in, methods=["POST"])


@page
def _show() -> ResponseReturnValue:
    services = context.services()
    code = request.args.get("code", "")[:_LONGEST_CODE]
    try:
        with services.db.read() as session:
            waiting = client_login.waiting(session, services.accounts, code, services.clock())
    except NotFound:
        return _page("over"), 404
    return _page("done" if waiting.is_decided else "asked", code=code, waiting=waiting)


@page
@proved()
def _let_in() -> ResponseReturnValue:
    services = context.services()
    code = request.form.get("code", "")[:_LONGEST_CODE]
    try:
        with services.db.write() as session:
            client_login.let_in(session, services.accounts, code, context.caller(), services.clock())
    except NotFound:
        return _page("over"), 404
    return _page("done")


def _page(state: str, *, code: str = "", waiting: client_login.Waiting | None = None) -> str:
    return render_template("client_login.html", state=state, code=code, waiting=waiting, who=context.caller().name)
