"""D1: every page and every form for twelve kinds of people, equal to a reviewed table. What they do is rolled back."""

import contextlib
import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from werkzeug.routing import Rule

from registry import granting, groups, policies
from registry.accounts import find_account
from registry.http.auth import permissions
from registry.models import Account, AuditEntry
from registry.names import DomainName, RepositoryName
from registry.pages import sight
from registry.repos import topology
from tests.browser.site import Site, build, fill

# --- the table: who gets through the door and what is behind it -------------------------------------------------------

KNOWN = {
    "stranger", "reader", "publisher elsewhere", "publisher", "release manager", "domain admin", "server admin",
    "denied by policy", "other domain's admin",
}  # fmt: skip
NOBODY = {"anonymous", "ended session", "disabled user"}
WHO = sorted(KNOWN | NOBODY)
ALL = {"domain admin", "server admin"}
READERS = ALL | {"reader", "publisher", "release manager"}
PUBLISHERS = ALL | {"publisher"}
STATUS = PUBLISHERS | {"release manager"}
ROOT = {"server admin"}  # who owns the webhook, the token and the subscription that are asked for, too
NONE: set[str] = set()  # nothing is there that the address or the form names, for anybody
# Who administers some domain or repository by their own words or roles: what is on the page is decided for each place.
SOMEWHERE = ALL | {"other domain's admin", "denied by policy"}
PACKAGE, VERSION = "/packages/<domain>/<repository>/<format_name>/<path:name>", "/-/<version>"
MANY = "/versions/<domain>/<repository>/<format_name>/<path:name>"
EXECUTION, BUILD, HOOK = "/executions/<int:execution_id>", "/builds/<build_id>", "/webhooks/<int:webhook_id>"
FACTOR, NOTES = "/account/second-factor", "/account/notifications"
USER, ARTIFACT = "/access/users/<user>", "/artifacts/<artifact_identifier>"
APPLICATION, DEPLOYMENT, TARGET = (
    "/applications/<application>",
    "/deployments/<deployment_id>",
    "/targets/<int:target_id>",
)
# Whose rights are on the domain as such, not on some of its repositories.
ON_DOMAIN = ALL
# Each line is a decision: whose request goes through to what the page shows, or the form does, of default/dev.
GROUP = "/groups/<deployment_group>"
TABLE: dict[str, set[str]] = {
    **dict.fromkeys(("GET /setup", "GET /sign-in", "POST /theme"), KNOWN | NOBODY),
    **{f"{method} /sign-in/second-factor": KNOWN | NOBODY for method in ("GET", "POST")},
    **dict.fromkeys(("POST /setup", "POST /sign-in"), NONE),  # without a code, or a password
    **dict.fromkeys(("GET /sign-in/with/<provider>", "GET /sign-in/with/<provider>/return"), NONE),
    **{f"{method} /sign-in/client": NONE for method in ("GET", "POST")},
    **dict.fromkeys(("GET /", "GET /search", "GET /design", "GET /approvals", "GET /pipelines", "GET /pipelines/<name>"), KNOWN),
    **dict.fromkeys(("GET /account", "POST /account/leaks/seen", "POST /account/sign-out-everywhere", "POST /sign-out"), KNOWN),
    **{f"{method} /account/{word}": KNOWN for method in ("GET", "POST") for word in ("password", "tokens", "notifications")},
    "POST /account/tokens/revoke-all": KNOWN,
    "GET /account/prove": KNOWN,
    "POST /account/prove": NONE,  # without a password
    "POST /account/sessions/<handle>/end": NONE,
    "POST /account/tokens/<int:token_id>/revoke": ROOT,
    **{f"{method} {FACTOR}": KNOWN for method in ("GET", "POST")},
    **dict.fromkeys((f"POST {FACTOR}/remove", f"POST {FACTOR}/codes.txt"), KNOWN),
    **dict.fromkeys((f"POST {FACTOR}/confirm", f"POST {FACTOR}/codes"), NONE),  # nobody here has begun to set one up
    **dict.fromkeys((f"POST {NOTES}/address", f"POST {NOTES}/address/remove", f"GET {NOTES}/confirm"), KNOWN),
    f"POST {NOTES}/confirm": NONE,
    f"POST {NOTES}/<int:subscription_id>/remove": ROOT,
    "GET /audit": ROOT,
    "GET /access": SOMEWHERE,
    "POST /access/roles": SOMEWHERE,  # the place that a role is given on is asked for in what is behind the form
    "POST /access/roles/<int:grant_id>/revoke": ALL,
    "POST /access/domains": ROOT,
    "POST /access/domains/<domain>/delete": ALL,
    **{f"POST /access/groups{rest}": ROOT for rest in ("", "/<group>/delete", "/<group>/members", "/<group>/members/<user>/remove")},
    **{f"{method} /access/policy/<domain>{rest}": ALL for method in ("GET", "POST") for rest in ("", "/<repository>")},
    # Of a domain of which one may read a repository.
    **{f"GET /package-groups/<domain>{rest}": READERS | {"publisher elsewhere"} for rest in ("", "/group")},
    **{f"POST /package-groups/<domain>{rest}": ROOT for rest in ("", "/group", "/group/delete")},
    "GET /repositories/<domain>/<repository>": READERS,
    **{f"{method} /repositories/<domain>/<repository>/settings": ALL for method in ("GET", "POST")},
    **{f"{method} /domains/<domain>/new-repository": ALL for method in ("GET", "POST")},
    **{f"GET {PACKAGE}{rest}": READERS for rest in ("", VERSION)},
    **{f"POST {PACKAGE}{rest}": STATUS for rest in ("/status", f"{VERSION}/yank", f"{VERSION}/unyank")},
    f"POST {PACKAGE}{VERSION}/delete": PUBLISHERS,
    f"POST {PACKAGE}/origin": ALL,
    **{f"{method} {MANY}": STATUS for method in ("GET", "POST")},  # to archive; each word has a right of its own
    "POST /pipelines/<name>/start": PUBLISHERS,
    **{f"GET {EXECUTION}{rest}": READERS for rest in ("", "/live")},
    f"POST {EXECUTION}/approval": READERS,  # who may approve is asked for in what is behind the form
    **{f"POST {EXECUTION}/{word}": PUBLISHERS for word in ("stop", "retry")},
    f"POST {EXECUTION}/rollback": ALL | {"release manager"},  # who may approve where the stage leads, here dev itself
    "POST /pipelines/<name>/transition": ROOT,
    **{f"POST /pipelines/<name>/{word}": ROOT for word in ("freeze", "unfreeze")},
    "POST /pipelines/<name>/release": ALL,  # what is held there says who may let it go
    f"POST {EXECUTION}/override": ALL | {"release manager"},
    f"POST {EXECUTION}/pass": ROOT,
    **{f"GET {BUILD}{rest}": READERS for rest in ("", "/live", "/log", "/log.txt")},
    f"POST {BUILD}/stop": PUBLISHERS,
    **{f"{method} /webhooks": KNOWN for method in ("GET", "POST")},  # one's own
    **{f"{method} {HOOK}": ROOT for method in ("GET", "POST")},
    **{f"POST {HOOK}/{word}": ROOT for word in ("delete", "enable", "disable", "ping", "rotate", "redeliver")},
    f"GET {HOOK}/deliveries/<delivery_id>": ROOT,
    f"POST {HOOK}/deliveries/<delivery_id>/redeliver": ROOT,
    "GET /administration": SOMEWHERE,
    **{f"GET /access/{rest}": ROOT for rest in ("users", "users/<user>", "groups", "groups/<group>")},
    **{f"POST {USER}{rest}": ROOT for rest in ("", "/delete", "/disable", "/enable", "/join", "/login-link", "/sign-out")},
    "POST /access/users": ROOT,
    f"POST {USER}/second-factor/reset": NONE,  # the one who is asked about has none
    **dict.fromkeys(("GET /audit/export.jsonl", "POST /audit/verify"), ROOT),
    **{f"{method} /destinations": ROOT for method in ("GET", "POST")},
    "POST /destinations/<destination>/delete": ROOT,
    **dict.fromkeys(("GET /action-types", "GET /runners", "POST /runners"), ROOT),
    **{f"POST /runners/<runner>/{word}": ROOT for word in ("token", "revoke", "delete")},
    **dict.fromkeys(("GET /agents", "POST /agents", "GET /agents/<agent>"), ROOT),
    **dict.fromkeys(("GET /board", "GET /figures"), KNOWN),  # each sees their own
    f"GET {PACKAGE}{VERSION}/life": READERS,
    **{f"POST /agents/<agent>/{word}": ROOT for word in ("token", "tags", "alarm", "revoke", "delete")},
    **dict.fromkeys(("GET /deployments", "GET /environments", "GET /environments/live"), KNOWN),  # each sees their own
    **{f"GET {APPLICATION}{rest}": ON_DOMAIN for rest in ("", GROUP, f"{GROUP}/provenance")},
    **{f"{method} {APPLICATION}/deploy": ON_DOMAIN for method in ("GET", "POST")},
    **{f"GET {DEPLOYMENT}{rest}": ON_DOMAIN for rest in ("", "/live", TARGET)},
    **{f"POST {DEPLOYMENT}/{word}": ON_DOMAIN for word in ("stop", "pause", "resume", "continue", "retry", "rollback")},
    **{f"POST {DEPLOYMENT}{TARGET}/{word}": ON_DOMAIN for word in ("skip", "answer")},
    "GET /keys": SOMEWHERE,  # of each domain those who administer it, of the server its administrators
    **{f"POST /keys/domains/<domain>/{word}": ALL for word in ("rotate", "verify")},
    **{f"POST /keys/server/{word}": ROOT for word in ("rotate", "verify")},
    "GET /quotas": SOMEWHERE,
    **dict.fromkeys(("GET /quotas/<domain>", "POST /quotas/<domain>", "POST /quotas/<domain>/<repository>"), ALL),
    # A project that belongs to no repository: everybody signed in knows of it, and it is the server administrators'.
    **dict.fromkeys(("GET /build-projects", "GET /build-projects/<name>"), KNOWN),
    "POST /build-projects/<name>/start": ROOT,
    f"POST {BUILD}/retry": PUBLISHERS,
    f"POST {BUILD}/resume": ROOT,
    "POST /build-projects/<name>/start-batch": ROOT,
    "POST /build-projects/<name>/webhooks": ROOT,
    **{f"POST /build-projects/<name>/webhooks/<hook_id>{rest}": NONE for rest in ("", "/rotate", "/delete")},
    **{f"GET /build-batches/<batch_id>{rest}": READERS for rest in ("", "/live")},
    **{f"POST /build-batches/<batch_id>/{word}": PUBLISHERS for word in ("stop", "retry")},
    **{f"GET {BUILD}{rest}": READERS for rest in ("/log/stream", ARTIFACT, f"{ARTIFACT}/download")},
    "GET /report-groups": KNOWN,  # what is listed is decided for each
    **{f"GET /report-groups/<name>{rest}": READERS for rest in ("", "/test-cases/<case_key>")},
    "GET /reports/<report_id>": READERS,
    **{f"{method} /secrets": ROOT for method in ("GET", "POST")},
    "GET /secrets/<int:value_id>": ROOT,
    **{f"POST /secrets/<int:value_id>/{word}": ROOT for word in ("about", "delete", "value")},
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = build(tmp_path_factory.mktemp("matrix"))
    fill(made)
    yield made
    made.world.close()


@pytest.fixture(scope="module")
def people(site: Site) -> dict[str, FlaskClient]:
    """A browser of each kind of person."""
    dev, now = ["default/dev"], site.clock()
    site.person("nothing", [])
    site.person("a-reader", ["read"], dev)
    site.person("elsewhere", ["read", "publish"], ["default/prod"])
    for name in ("manager", "boss", "member", "neighbour"):
        site.person(name, [])
    site.person("denied", ["admin"], ["default/*"])
    site.person("gone", ["admin"])
    with site.services.db.write() as session:
        other = topology.create_domain(session, DomainName("other"), now)
        for owner in (None, other.id):
            site.services.stores.new_key(session, owner, now)
        topology.create_repository(session, other.id, RepositoryName("dev"), now=now)
        groups.create(session, "team", "", "ada", now)
        groups.add_member(session, "team", find_account(session, "member"), "ada", now)
        for role, principal, where in (
            ("release-manager", "user/manager", "default/dev"), ("admin", "user/boss", "default"),
            ("publisher", "group/team", "default/d*"), ("admin", "user/neighbour", "other"),
        ):  # fmt: skip
            granting.grant(session, role, principal, where, actor="ada", now=now)
        deny = {"Effect": "Deny", "Principal": "user/denied", "Action": "*", "Resource": "*"}
        text = json.dumps({"Statement": [deny]})
        policies.put(session, "default", None, text, expected=None, actor="ada", now=now)
        life, ada = timedelta(days=1), find_account(session, "ada").id
        site.services.accounts.issue_token(session, ada, "t", actions=["read"], life=life, now=now)
    names = {
        "stranger": "nothing", "reader": "a-reader", "publisher elsewhere": "elsewhere", "publisher": "member",
        "release manager": "manager", "domain admin": "boss", "server admin": "ada",
        "denied by policy": "denied", "other domain's admin": "neighbour", "ended session": "ada", "disabled user": "gone",
    }  # fmt: skip
    return {"anonymous": site.app.test_client(), **{who: browser(site, names[who], who) for who in names}}


def browser(site: Site, name: str, who: str) -> FlaskClient:
    with site.services.db.write() as session:
        account = find_account(session, name)
        secret = site.services.accounts.open_session(session, account.id, site.clock(), proved_at=site.clock())
        opened = site.services.accounts.browser_session(session, secret, site.clock())
        assert opened is not None
        if who == "ended session":
            site.services.accounts.close_session(session, secret)
        if who == "disabled user":
            session.execute(update(Account).where(Account.name == name).values(is_disabled=True))
    client = site.app.test_client()
    client.set_cookie("entrepot_session", secret)
    client.secret = secret  # type: ignore[attr-defined]
    client.csrf = opened.csrf_token  # type: ignore[attr-defined]
    return client


@contextlib.contextmanager
def rolled_back(site: Site) -> Iterator[None]:
    """Everything that is written meanwhile is taken back before it counts."""
    real = site.services.db._write

    class Forgetful:
        @contextlib.contextmanager
        def begin(self):
            with real() as session:
                yield session
                session.rollback()

    site.services.db._write = Forgetful()
    try:
        yield
    finally:
        site.services.db._write = real


def routes(site: Site) -> dict[str, Rule]:
    """Every page and form, by method and rule."""
    declared = permissions(site.app)
    return {
        f"{method} {rule.rule}": rule
        for rule in site.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if declared[rule.endpoint].startswith("page")
    }


# What forms have to say at least before they are looked at.
FIELDS: dict[str, dict[str, str]] = {
    MANY: {"version": "2.4.1", "to": "Archived"},
    "/access/groups/<group>/members": {"user": "a-reader"},
    f"{USER}/join": {"group": "team"},
    "/package-groups/<domain>/group": {"pattern": "/*"},
    "/package-groups/<domain>/group/delete": {"pattern": "/*"},
    f"{EXECUTION}/rollback": {"stage": "Test"},
    f"{EXECUTION}/override": {"stage": "Test", "condition": "BEFORE_ENTRY"},
    "/pipelines/<name>/start": {
        "domain": "default", "repository": "dev", "format": "pypi", "name": "acme-billing", "version": "2.4.1",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def paths(site: Site) -> dict[str, str]:
    """Where each route is asked: at things that are there."""
    values = {"domain": "default", "repository": "dev", "format_name": "pypi", "version": "2.4.1", "handle": "0" * 16}
    values |= {"execution_id": 3, "build_id": site.build_of(2), "token_id": 1, "webhook_id": 1, "subscription_id": 1}
    values |= {"delivery_id": "msg_1", "grant_id": 2, "group": "team", "user": "member", "provider": "none"}
    values |= {"value_id": 1, "report_id": site.report_of(2, "tests-unit"), "case_key": site.failed_case()}
    values |= {
        "artifact_identifier": "primary",
        "runner": "builder-1",
        "destination": "partners",
        "agent": "web-1",
        "batch_id": site.batch(),
    }
    deploying = site.deployments()[1]
    values |= {
        "application": "shop",
        "deployment_group": "web",
        "deployment_id": deploying,
        "target_id": site.target_of(deploying),
    }
    values["hook_id"] = "0" * 32
    names = {"/pipelines": "release", "/build-projects": "tests", "/report-groups": "tests-unit"}
    with site.app.test_request_context():
        return {
            rule.rule: rule.build(
                {
                    key: names.get("/" + rule.rule.split("/")[1], "acme-billing") if key == "name" else values[key]
                    for key in rule.arguments
                }
            )[1]
            for rule in routes(site).values()
        }


def ask(client: FlaskClient, method: str, rule: str, path: str) -> str:
    """``in``, ``sign in`` or ``out``: what is refused, and what may not even be known of."""
    fields = FIELDS.get(rule, {})
    data = {"csrf_token": getattr(client, "csrf", ""), **fields} if method == "POST" else None
    if secret := getattr(client, "secret", ""):
        client.set_cookie("entrepot_session", secret)
    query = fields if method == "GET" else None
    answer = client.open(path, method=method, data=data, query_string=query, headers={"Accept": "text/html"})
    to = answer.headers.get("Location", "")
    if answer.status_code == 401 or (answer.status_code == 303 and to.startswith("/sign-in?next=")):
        return "sign in"
    return "out" if answer.status_code in {403, 404} else "in"


def differing(
    site: Site, client: FlaskClient, who: str, paths: dict[str, str], within: str = ""
) -> list[tuple[str, str]]:
    found = []
    declared = permissions(site.app)
    with rolled_back(site):
        for route, rule in routes(site).items():
            if within not in route:
                continue
            got = ask(client, route.partition(" ")[0], rule.rule, paths[rule.rule])
            expected = "in" if who in TABLE[route] else "out"
            if who in NOBODY and expected == "out" and "public" not in declared[rule.endpoint]:
                expected = "sign in"
            if got != expected and not (who in NOBODY and got == "sign in" and expected == "out"):
                found.append((route, got))
    return found


def test_D1_each_page_and_form_is_in_the_table_and_nothing_else_is(site: Site) -> None:
    """A page that somebody adds fails here until it has a row that somebody read."""
    assert set(routes(site)) == set(TABLE)
    assert set().union(*TABLE.values()) == set(WHO)


# Those who get furthest are looked at with the campaigns: what matters most is who gets too far.
SHORT = {"anonymous", "stranger", "reader", "denied by policy"}


@pytest.mark.parametrize("who", [who if who in SHORT else pytest.param(who, marks=pytest.mark.long) for who in WHO])
def test_D1_every_page_and_form_lets_in_whom_the_table_says(
    site: Site, people: dict[str, FlaskClient], paths: dict[str, str], who: str
) -> None:
    before = audited(site)
    assert differing(site, people[who], who, paths) == []
    assert audited(site) == before, "nothing was done"


def test_D1_a_page_that_forgets_to_ask_is_noticed(
    site: Site, people: dict[str, FlaskClient], paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.setattr(sight, "check_may", lambda *_: None)
    seen = dict(differing(site, people["reader"], "reader", paths, "<format_name>"))
    assert seen == {
        f"POST {PACKAGE}{rest}": "in"
        for rest in ("/status", f"{VERSION}/yank", f"{VERSION}/unyank", f"{VERSION}/delete")
    } | {f"{method} {MANY}": "in" for method in ("GET", "POST")}


def audited(site: Site) -> int:
    with site.services.db.read() as session:
        return session.scalar(select(func.max(AuditEntry.seq))) or 0
