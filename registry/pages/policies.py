"""The policy of a domain or a repository: looked at, checked, tried out before it counts, set, and explained."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from registry import explaining, policies
from registry.access import Action, check_at
from registry.errors import Conflict, Denied, Invalid, NotFound
from registry.explaining import AccessExplanation
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.pages.administration import asked, sentence
from registry.pages.appearance import redirect_with
from registry.pages.proof import proved
from registry.policy.actions import CATALOGUE
from registry.policy.places import Place
from registry.policy_preview import Fault, Preview, faults_of, seen_by

_SAMPLE = """\
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "ReleaseManagersCopy",
      "Effect": "Allow",
      "Principal": "group/NAME",
      "Action": "codeartifact:CopyPackageVersions",
      "Resource": "*"
    }
  ]
}"""


@dataclass(frozen=True, slots=True)
class Draft:
    """What stands in the editor where it is not what is kept: the text, what is wrong with it, what it would change."""

    text: str
    revision: str
    faults: tuple[Fault, ...] = ()
    preview: Preview | None = None


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    for rest, kind in (("<domain>", "domain"), ("<domain>/<repository>", "repository")):
        pages.add_url_rule(f"/access/policy/{rest}", f"{kind}_policy", _policy)
        pages.add_url_rule(f"/access/policy/{rest}", f"put_{kind}_policy", _put_policy, methods=["POST"])


def _check_policy(verb: str, domain: str, repository: str | None) -> None:
    kind = "Repository" if repository else "Domain"
    check_at(
        context.caller(), Action.ADMIN, Place(domain, repository or ""), f"codeartifact:{verb}{kind}PermissionsPolicy"
    )


@page
def _policy(domain: str, repository: str | None = None) -> ResponseReturnValue:
    _check_policy("Get", domain, repository)
    return _policy_page(domain, repository)


def _here(domain: str, repository: str | None) -> str:
    kind = "repository" if repository else "domain"
    return url_for(f"pages.{kind}_policy", domain=domain, repository=repository)


def _policy_page(domain: str, repository: str | None, draft: Draft | None = None) -> str:
    with context.services().db.read() as session:
        kept = policies.find(session, domain, repository)
        question = {name: asked(name, 500) for name in ("who", "what", "address")}
        answer, wrong = _explained(session, question, Place(domain, repository or ""))
    return render_template(
        "administration/policy.html",
        domain=domain,
        repository=repository,
        kept=kept,
        draft=draft or Draft(kept.document if kept else _SAMPLE, kept.revision if kept else ""),
        actions=sorted(CATALOGUE),
        asked=question,
        answer=answer,
        wrong=wrong,
        here=_here(domain, repository),
    )


def _explained(session: Session, question: dict[str, str], place: Place) -> tuple[AccessExplanation | None, str]:
    """The answer to the form that asks why, or what is wrong with the question. Nothing for who may not ask."""
    services, who = context.services(), context.caller()
    if not question["who"]:
        return None, ""
    if not who.decide(Action.ADMIN, place, "entrepot:ExplainAccess").allowed:
        return None, sentence(Denied(f"{who.name} may not ask what others may do there"))
    try:
        found = explaining.explain(
            session,
            services.accounts,
            question["who"],
            explaining.permission_of(question["what"]),
            place,
            address=question["address"],
            now=services.clock(),
        )
    except (Invalid, NotFound) as error:
        return None, sentence(error)
    return found, ""


@page
@proved()
def _put_policy(domain: str, repository: str | None = None) -> ResponseReturnValue:
    services, who = context.services(), context.caller()
    act = request.form.get("act", "")
    _check_policy("Delete" if act == "delete" else "Put", domain, repository)
    text, expected = request.form.get("document", ""), request.form.get("revision", "")
    if act == "check":
        return _tried_out(domain, repository, Draft(text, expected))
    now = services.clock()
    try:
        with services.db.write() as session:
            if act == "delete":
                policies.take_away(session, domain, repository, expected=expected or None, actor=who.name, now=now)
            else:
                policies.put(session, domain, repository, text, expected=expected or None, actor=who.name, now=now)
    except Invalid as error:
        return _policy_page(domain, repository, Draft(text, expected, faults_of(text, error))), status_of(error)
    except Conflict as error:
        faults = (Fault(None, sentence(error)),)
        return _policy_page(domain, repository, Draft(text, expected, faults)), status_of(error)
    return redirect_with("policy-deleted" if act == "delete" else "policy-set", _here(domain, repository))


def _tried_out(domain: str, repository: str | None, draft: Draft) -> ResponseReturnValue:
    services = context.services()
    with services.db.read() as session:
        found = seen_by(context.caller(), session, domain, repository, draft.text, services.clock())
    status = 400 if found.faults else 200
    preview = None if found.faults else found
    return _policy_page(domain, repository, Draft(draft.text, draft.revision, found.faults, preview)), status
