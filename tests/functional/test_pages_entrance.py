"""Getting in and staying the only one: sign-in, one-time links, sessions, forged requests, headers, error pages."""

import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from registry import pages
from registry.errors import Unavailable
from registry.http import auth, context, headers, problems
from registry.models import Account, AuditEntry, SetupLogin, Token, WebSession
from tests.browser import corpus, reading
from tests.browser.site import PASSWORD, Site, build, fill

NEW_PASSWORD = "a longer and a better one"


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    made = build(tmp_path)
    made.person("ada", ["admin"])
    yield made
    made.world.close()


def sign_in(site: Site, name: str = "ada", password: str = PASSWORD, **data: str) -> tuple[FlaskClient, object]:
    client = site.app.test_client()
    return client, client.post("/sign-in", data={"user": name, "password": password, **data})


def token_of(client: FlaskClient) -> str:
    return re.search(r'name="csrf_token" value="([^"]+)"', client.get("/account").text)[1]


def session_of(client: FlaskClient) -> str | None:
    cookie = client.get_cookie("entrepot_session")
    return cookie.value if cookie else None


def audited(site: Site, action: str) -> list[AuditEntry]:
    with site.services.db.read() as session:
        return list(session.scalars(sa.select(AuditEntry).where(AuditEntry.action == action)))


# --- signing in


def test_sign_in_and_out(site):
    client, answer = sign_in(site)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    assert "ada" in client.get("/account").text
    kept = session_of(client)
    answer = client.post("/sign-out", data={"csrf_token": token_of(client)})
    assert answer.headers["Location"] == "/sign-in"
    assert "You are signed out" in client.get("/sign-in").text
    assert "You are signed out" not in client.get("/sign-in").text
    client.set_cookie("entrepot_session", kept)
    assert client.get("/account").headers["Location"] == "/sign-in?next=/account"
    assert [entry.actor for entry in (*audited(site, "session.open"), *audited(site, "session.close"))] == [
        "ada",
        "ada",
    ]


@pytest.mark.parametrize(
    ("name", "password"), [("ada", "wrong"), ("nobody", PASSWORD), ("", ""), ("ada", ""), ("ADA", PASSWORD)]
)
def test_wrong_credentials_all_sound_the_same(site, name, password):
    client, answer = sign_in(site, name, password)
    assert answer.status_code == 403
    assert "User name or password is wrong" in answer.text
    assert reading.dangers(reading.parse(answer.text)) == []
    assert session_of(client) is None
    assert audited(site, "session.refuse")[0].actor == "address 127.0.0.1"


def test_over_https_the_cookie_belongs_to_the_host_alone(site):
    site.app.extensions["entrepot"] = replace(site.services, cookie_secure=True)
    _, answer = sign_in(site)
    assert answer.headers["Set-Cookie"].startswith("__Host-entrepot=")
    assert "; Secure" in answer.headers["Set-Cookie"]
    assert "Domain" not in answer.headers["Set-Cookie"]


def test_a_planted_session_is_not_taken_over(site):
    client = site.app.test_client()
    client.set_cookie("entrepot_session", "planted")
    client.post("/sign-in", data={"user": "ada", "password": PASSWORD})
    first = session_of(client)
    assert first != "planted"
    other, _ = sign_in(site)
    assert session_of(other) != first


def test_a_session_ends_when_idle_and_after_a_week(site):
    client, _ = sign_in(site)
    for _ in range(3):
        site.world.later(hours=11)
        assert client.get("/account").status_code == 200
    site.world.later(hours=13)
    assert client.get("/account").status_code == 303
    client, _ = sign_in(site)
    for _ in range(15):
        site.world.later(hours=11)
        client.get("/account")
    site.world.later(hours=11)
    assert client.get("/account").status_code == 303


def test_a_page_left_open_does_not_keep_the_session(site):
    client, _ = sign_in(site)
    for _ in range(2):
        site.world.later(hours=7)
        answer = client.get("/account", headers={"Sec-Fetch-Dest": "empty"})
    assert answer.status_code == 303


def test_a_disabled_account_is_out_at_once(site):
    client, _ = sign_in(site)
    with site.services.db.write() as session:
        session.execute(sa.update(Account).values(is_disabled=True))
    assert client.get("/account").status_code == 303


def test_redirects_after_sign_in_stay_here(site):
    for target in ("/pipelines", "/repositories/default/dev?q=a%20b&format=x", "/account/tokens"):
        assert sign_in(site, next=target)[1].headers["Location"] == target
    for target in corpus.REDIRECTS:
        assert sign_in(site, next=target)[1].headers["Location"] == "/", target
        asked = site.app.test_client().get("/sign-in?next=" + quote(target))
        assert 'name="next" value="/"' in asked.text, target
        client, _ = sign_in(site)
        assert client.get("/sign-in?next=" + quote(target)).headers["Location"] == "/", target
        form = {"theme": "dark", "next": target, "csrf_token": token_of(client)}
        assert client.post("/theme", data=form).headers["Location"] == "/", target


# --- attempts


def test_guessing_is_slowed_down_for_an_account(site):
    for number in range(5):
        assert sign_in(site, password=f"guess {number}")[1].status_code == 403
    answer = sign_in(site)[1]
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
    assert "Too many failed attempts" in answer.text
    site.world.later(seconds=2)
    assert sign_in(site, password="again")[1].status_code == 403
    assert sign_in(site)[1].headers["Retry-After"] == "3"
    site.world.later(minutes=16)
    assert sign_in(site)[1].status_code == 303


def test_an_unknown_account_is_slowed_down_alike(site):
    statuses = [sign_in(site, name, "guess")[1].status_code for name in ("ada", "nobody") for _ in range(6)]
    assert statuses == [403, 403, 403, 403, 403, 429] * 2


def test_guessing_is_slowed_down_for_an_address(site):
    for number in range(20):
        assert sign_in(site, f"user{number}", "guess")[1].status_code == 403
    assert sign_in(site)[1].status_code == 429
    elsewhere = site.app.test_client().post(
        "/sign-in", data={"user": "ada", "password": PASSWORD}, environ_base={"REMOTE_ADDR": "192.0.2.7"}
    )
    assert elsewhere.status_code == 303


def test_what_was_typed_as_a_name_is_not_kept_when_it_can_be_none(site):
    sign_in(site, "pässwörd\u2028", "x")
    assert [entry.object for entry in audited(site, "session.refuse")] == ["user/?"]


# --- one-time sign-in


def test_a_one_time_link_is_not_spent_by_looking_and_leaves_the_address(site):
    account = site.person("newcomer", ["read"])
    with site.services.db.write() as session:
        session.execute(sa.update(Account).where(Account.id == account).values(password_hash=None))
    code = site.setup_code(account)
    scanner = site.app.test_client()
    for method in ("GET", "HEAD", "GET"):
        answer = scanner.open(f"/setup?code={code}", method=method)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/setup")
    client = site.app.test_client()
    client.get(f"/setup?code={code}")
    page = client.get("/setup").text
    assert code not in page
    assert "Sign in" in page
    answer = client.post("/setup")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account/password")
    assert client.get_cookie("entrepot_setup", path="/setup") is None
    assert "Present password" not in client.get("/account/password").text
    form = {"csrf_token": token_of(client), "password": NEW_PASSWORD, "again": NEW_PASSWORD}
    assert client.post("/account/password", data=form).headers["Location"] == "/account"
    assert "The password is set" in client.get("/account").text
    assert sign_in(site, "newcomer", NEW_PASSWORD)[1].status_code == 303
    again = site.app.test_client()
    again.get(f"/setup?code={code}")
    answer = again.post("/setup")
    assert answer.status_code == 403
    assert "not valid any more" in answer.text
    assert session_of(again) is None
    assert audited(site, "session.open")[0].details == {"by": "one-time link", "address": "127.0.0.1"}


def test_a_one_time_link_recovers_a_lost_password_for_a_short_while(site):
    with site.services.db.read() as session:
        account = session.scalar(sa.select(Account.id))
    for minutes, asks in ((5, False), (31, True)):
        client = site.app.test_client()
        client.get(f"/setup?code={site.setup_code(account)}")
        client.post("/setup")
        site.world.later(minutes=minutes)
        assert ("Present password" in client.get("/account/password").text) == asks


def test_a_link_that_is_unknown_or_over_lets_nobody_in(site):
    with site.services.db.read() as session:
        account = session.scalar(sa.select(Account.id))
    code = site.setup_code(account)
    site.world.later(hours=25)
    for tried in (code, "nonsense", "", "x" * 5000):
        client = site.app.test_client()
        client.get(f"/setup?code={tried}")
        assert client.post("/setup").status_code == 403
    assert "entrepot user recover" in site.app.test_client().get("/setup").text
    with site.services.db.read() as session:
        assert session.scalar(sa.select(SetupLogin.used_at)) is None


# --- password and tokens


def test_changing_the_password_ends_all_other_sessions(site):
    thief, _ = sign_in(site)
    client, _ = sign_in(site)
    before = session_of(client)
    form = {"csrf_token": token_of(client), "present": PASSWORD, "password": NEW_PASSWORD, "again": NEW_PASSWORD}
    for wrong, words in (
        ({"present": "guess"}, "present password is wrong"),
        ({"again": "other"}, "differ"),
        ({"password": "short", "again": "short"}, "at least 12"),
    ):
        answer = client.post("/account/password", data={**form, **wrong})
        assert answer.status_code in {400, 403}
        assert words in answer.text
    assert thief.get("/account").status_code == 200
    assert client.post("/account/password", data=form).status_code == 303
    assert session_of(client) != before
    assert client.get("/account").status_code == 200
    assert thief.get("/account").status_code == 303
    assert sign_in(site)[1].status_code == 403
    assert len(audited(site, "user.set-password")) == 1


def test_guessing_the_present_password_is_slowed_down(site):
    client, _ = sign_in(site)
    form = {"csrf_token": token_of(client), "password": NEW_PASSWORD, "again": NEW_PASSWORD}
    statuses = [client.post("/account/password", data={**form, "present": "guess"}).status_code for _ in range(6)]
    assert statuses == [403, 403, 403, 403, 403, 429]


def test_signing_out_everywhere(site):
    clients = [sign_in(site)[0] for _ in range(3)]
    assert clients[0].get("/account").text.count('/end"') == 2, "two others, each with a button"
    clients[0].post("/account/sign-out-everywhere", data={"csrf_token": token_of(clients[0])})
    assert {client.get("/account").status_code for client in clients} == {303}
    with site.services.db.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(WebSession)) == 0


def test_a_token_is_shown_once_works_and_is_revoked(site):
    client, _ = sign_in(site)
    form = {
        "csrf_token": token_of(client),
        "name": "ci",
        "actions": ["read", "publish"],
        "repositories": "default/dev, default/*",
        "life_days": "7",
    }
    page = client.post("/account/tokens", data=form).text
    secret = re.search(r"ent_[0-9A-Za-z]{49}", page)[0]
    assert reading.dangers(reading.parse(page)) == []
    assert secret not in client.get("/account/tokens").text
    with site.services.db.read() as session:
        token = session.scalars(sa.select(Token)).one()
    assert (token.actions, token.repositories) == (["publish", "read"], ["default/dev", "default/*"])
    assert (token.expires_at - token.created_at).days == 7
    assert secret[-4:] in client.get("/account/tokens").text
    client.post(f"/account/tokens/{token.id}/revoke", data={"csrf_token": token_of(client)})
    assert "The token is revoked" in client.get("/account/tokens").text
    with site.services.db.read() as session:
        assert session.scalars(sa.select(Token.revoked_at)).one() == site.clock()
    assert len(audited(site, "token.issue")) == len(audited(site, "token.revoke")) == 1
    assert secret not in str([entry.details for entry in audited(site, "token.issue")])


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"name": " "}, 400, "Give the token a name"),
        ({"actions": []}, 400, "at least one thing"),
        ({"actions": ["fly"]}, 400, "actions are"),
        ({"actions": ["admin"]}, 403, "may not do yourself: admin"),
        ({"repositories": "dev"}, 400, "is no repository"),
        ({"repositories": "default/../x"}, 400, "is no repository"),
        ({"repositories": ",".join(["default/dev"] * 51)}, 400, "at most 50"),
    ],
)
def test_tokens_that_cannot_be_made(site, change, status, words):
    site.person("rob", ["read"], ["default/dev"])
    client, _ = sign_in(site, "rob")
    form = {
        "csrf_token": token_of(client),
        "name": "x",
        "actions": ["read"],
        "repositories": "",
        "life_days": "30",
        **change,
    }
    answer = client.post("/account/tokens", data=form)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text
    with site.services.db.read() as session:
        assert session.scalars(sa.select(Token)).all() == []


def test_nobody_revokes_the_token_of_another(site):
    site.person("rob", ["read"])
    client, _ = sign_in(site)
    client.post(
        "/account/tokens", data={"csrf_token": token_of(client), "name": "x", "actions": "read", "life_days": "1"}
    )
    rob, _ = sign_in(site, "rob")
    answers = [rob.post(f"/account/tokens/{number}/revoke", data={"csrf_token": token_of(rob)}) for number in (1, 999)]
    assert [answer.status_code for answer in answers] == [404, 404]
    with site.services.db.read() as session:
        assert session.scalars(sa.select(Token.revoked_at)).one() is None


# --- forged requests


def changing_routes(app: Flask) -> list[str]:
    rules = [rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())]
    values = {"handle": "0" * 16, "token_id": 1, "execution_id": 3, "build_id": "b", "batch_id": "b", "name": "release"}
    values |= {"domain": "default", "repository": "dev", "format_name": "pypi", "version": "1.0"}
    values |= {"grant_id": 1, "group": "ops", "user": "ada"}
    values |= {
        "webhook_id": 1,
        "subscription_id": 1,
        "delivery_id": "msg_1",
        "value_id": 1,
        "runner": "r",
        "destination": "d",
        "agent": "a",
        "application": "shop",
        "deployment_id": "d-NOTHERE00",
        "target_id": 1,
        "hook_id": "h",
    }
    with app.test_request_context():
        return [rule.build({key: values[key] for key in rule.arguments})[1] for rule in rules]


def test_no_form_is_taken_from_elsewhere_or_without_its_token(tmp_path):
    site = build(tmp_path)
    fill(site)
    client, _ = sign_in(site)
    token = token_of(client)
    routes = changing_routes(site.app)
    assert len(routes) >= 13
    for route in routes:
        for forged, data in (
            ({"Origin": "https://evil.example"}, {"csrf_token": token}),
            ({"Origin": "null"}, {"csrf_token": token}),
            ({"Sec-Fetch-Site": "cross-site"}, {"csrf_token": token}),
            ({"Sec-Fetch-Site": "same-site"}, {"csrf_token": token}),
            ({}, {}),
            ({}, {"csrf_token": "x" * 43}),
            ({}, {"csrf_token": ""}),
            ({"Content-Type": "text/plain"}, {}),
        ):
            answer = client.post(route, data=data, headers={"Accept": "text/html", **forged})
            assert answer.status_code == 403, (route, forged, data)
            assert "Not allowed" in answer.text
        asked = client.get(route, headers={"Accept": "text/html"})
        # The page that asks before versions are changed, asked about none of them.
        names_none = asked.status_code == 400 and route.startswith("/versions/")
        assert names_none or asked.status_code in {200, 303, 404, 405}, route
    assert client.get("/account").status_code == 200, "nothing of all that did anything"
    # the control: with the token the same requests get through to what they are about
    for route in sorted(routes, key=lambda route: any(end in route for end in ("sign-out", "sign-in", "remove"))):
        answer = client.post(route, data={"csrf_token": token}, headers={"Origin": "http://localhost"})
        assert "load the page again" not in answer.text, route
        assert "another site" not in answer.text, route
    site.world.close()


def test_strangers_cannot_be_signed_in_by_another_site(site):
    data = {"user": "ada", "password": PASSWORD}
    for forged in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        client = site.app.test_client()
        assert client.post("/sign-in", data=data, headers=forged).status_code == 403
        assert session_of(client) is None


def test_pages_do_not_look_at_tokens_and_forms_are_small(site):
    with site.services.db.write() as session:
        issued = site.services.accounts.issue_token(
            session, 1, "t", actions=["admin"], life=__import__("datetime").timedelta(days=1), now=site.clock()
        )
    stranger = site.app.test_client()
    assert stranger.get("/account", headers={"Authorization": f"Bearer {issued.secret}"}).status_code == 303
    answer = stranger.post("/sign-in", data={"user": "x" * 300_000, "password": "x"}, headers={"Accept": "text/html"})
    assert answer.status_code == 413


# --- headers and errors


@pytest.fixture
def odd(site) -> FlaskClient:
    """The same site with two routes that fail."""
    app = Flask("odd", static_folder=None, template_folder=None)
    context.attach(app, site.services)
    made = pages.blueprint()

    @auth.page
    def broken() -> str:
        raise RuntimeError("the details stay here")

    @auth.page
    def away() -> str:
        raise Unavailable("the database is not available", 7)

    made.add_url_rule("/broken", "broken", broken)
    made.add_url_rule("/away", "away", away)
    app.register_blueprint(made)
    headers.register(app)
    problems.register(app, pages.render_page)
    client = app.test_client()
    client.post("/sign-in", data={"user": "ada", "password": PASSWORD})
    return client


def check_headers(answer) -> None:
    assert answer.headers["Content-Security-Policy"] == reading.POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in answer.headers["Permissions-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" not in answer.headers


def test_every_kind_of_answer_carries_the_policy(odd):
    for path, status, words in (
        ("/", 200, "Repositories"),
        ("/nowhere", 404, "Not found"),
        ("/sign-out", 405, "Not possible here"),
        ("/packages/default/dev/pypi/nothing", 404, "&#39;nothing&#39; was not found"),
        ("/packages/default/dev/nothing/x", 404, "&#39;nothing&#39; was not found"),
        ("/repositories/default/dev?after=x", 400, "That did not work"),
        ("/broken", 500, "Something went wrong on our side"),
        ("/away", 503, "Not available at the moment"),
    ):
        answer = odd.get(path, headers={"Accept": "text/html"})
        assert (answer.status_code, words in answer.text) == (status, True), (path, answer.status, answer.text)
        check_headers(answer)
        tree = reading.parse(answer.text)
        assert reading.dangers(tree) == []
        assert "ada" in answer.text, "the bar still knows who looks"
        assert "details" not in re.sub("</?details[^>]*>", "", answer.text)
    assert odd.get("/away").headers["Retry-After"] == "7"
    stranger = odd.application.test_client()
    for path, status in (("/account", 303), ("/sign-in", 200), ("/setup?code=x", 303), ("/nowhere", 404)):
        answer = stranger.get(path, headers={"Accept": "text/html"})
        assert answer.status_code == status
        check_headers(answer)


def test_https_is_insisted_on_only_where_it_is(site):
    client = site.app.test_client()
    assert (
        "max-age=31536000" in client.get("/sign-in", base_url="https://localhost").headers["Strict-Transport-Security"]
    )
    assert "Strict-Transport-Security" not in client.get("/sign-in", base_url="http://localhost").headers


def test_artifacts_keep_their_own_policy(site):
    own = "sandbox; default-src 'none'"

    @auth.public("for this test")
    def artifact():
        return "x", 200, {"Content-Security-Policy": own, "Cache-Control": "private, max-age=5"}

    site.app.add_url_rule("/artifact", "artifact", artifact)
    answer = site.app.test_client().get("/artifact")
    assert answer.headers.getlist("Content-Security-Policy") == [own]
    assert answer.headers["Cache-Control"] == "private, max-age=5"
    assert "Cross-Origin-Opener-Policy" not in answer.headers


def test_the_error_page_needs_no_database(site):
    client, _ = sign_in(site)
    site.services.db.engine.dispose()
    broken = sa.create_engine("sqlite:////nonexistent/folder/x.db")
    site.services.db._read.configure(bind=broken)
    site.services.db._write.configure(bind=broken)
    answer = client.get("/account", headers={"Accept": "text/html"})
    assert answer.status_code == 503
    assert "Not available at the moment" in answer.text
    assert reading.dangers(reading.parse(answer.text)) == []


def test_the_theme_is_kept_in_a_cookie_and_written_by_the_server(site):
    client, _ = sign_in(site)
    assert "data-theme" not in client.get("/").text.partition("<head>")[0]
    for theme, shown in (("dark", True), ("light", True), ("nonsense", True), ("auto", False)):
        client.post("/theme", data={"theme": theme, "next": "/account", "csrf_token": token_of(client)})
        html = client.get("/").text.partition("<head>")[0]
        assert ("data-theme" in html) == shown, theme
    client.set_cookie("entrepot_theme", '"><svg onload=x>')
    assert "data-theme" not in client.get("/").text.partition("<head>")[0]
