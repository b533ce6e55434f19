"""D5, D12, E7: identity providers that lie, answers that belong to another browser, provider or sign-in."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
import sqlalchemy as sa

from registry import pending
from registry.accounts import find_account
from registry.models import Account, AuditEntry, ExternalIdentity, PendingSignIn
from registry.oidc import id_tokens
from registry.pages import providers
from tests.browser import corpus
from tests.functional.api_world import World
from tests.harness.identity import Browser, Issuers, come_back, go, issuers, secrets_for, settings_for, through

FORGERIES = (
    "no signature",
    "HMAC with the public key",
    "another key of the same name",
    "keys from its own head",
    "a key in its own head",
    "one algorithm under another's name",
    "an extension",
    "an unknown key",
    "another serialisation",
    "changed afterwards",
    "another issuer",
    "another audience",
    "two audiences",
    "another authorised party",
    "another nonce",
    "over",
    "an end in words",
    "an end beyond all time",
    "an end that is true",
    "from the future",
    "not yet",
    "a subject that is a number",
    "a subject without end",
    "far too long",
    *(f"without {claim}" for claim in ("iss", "aud", "sub", "exp", "iat", "nonce")),
)


@pytest.fixture(scope="module")
def outside() -> Iterator[Issuers]:
    with issuers() as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, outside: Issuers) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    (folder / "entrepot.toml").write_text(
        settings_for(outside.url, corp={"create_users": True}, other={"create_users": True})
    )
    made = World(folder, secrets_for("corp", "other"))
    yield made
    made.close()


@pytest.fixture
def world(shared: World, outside: Issuers) -> World:
    """Nobody has come from a provider yet, and both tell the truth: ada comes from corp, bob from other."""
    shared.now = datetime.now(UTC)
    with shared.db.write() as session:
        session.execute(sa.delete(Account).where(Account.name.in_(["ada", "bob", "eve"])))
        session.execute(sa.delete(PendingSignIn))
    for known in shared.services.relying._known.values():
        known.keys = known.endpoints = None
    outside.control("corp", reset=True, claims={"preferred_username": "ada"})
    outside.control("other", reset=True, claims={"preferred_username": "bob", "sub": "subject-2"})
    return shared


def names(world: World) -> set[str]:
    with world.db.read() as session:
        return set(session.scalars(sa.select(Account.name))) & {"ada", "bob", "eve"}


def test_D5_the_control_an_honest_provider_signs_in(world: World, outside: Issuers) -> None:
    browser = Browser(world)
    answer = through(browser, "corp", next="/account")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account")
    assert "ada" in browser.get("/account").text
    asked = outside.control("corp")["asked"][-1]
    assert asked["code_challenge_method"] == "S256"
    assert set(asked["scope"].split()) == {"openid", "profile", "email"}
    assert asked["redirect_uri"] == "http://127.0.0.1:8080/sign-in/with/corp/return"
    with world.db.read() as session:
        bound = session.scalars(sa.select(ExternalIdentity)).one()
        opened = session.scalars(sa.select(AuditEntry).where(AuditEntry.action == "session.open")).all()[-1]
    assert (bound.issuer, bound.subject) == (f"{outside.url}/corp", "subject-1")
    assert opened.details["by"] == "provider corp"


@pytest.mark.parametrize("forgery", FORGERIES)
def test_D5_a_forged_token_signs_nobody_in(world: World, outside: Issuers, forgery: str) -> None:
    outside.control("corp", forge=forgery)
    browser = Browser(world)
    answer = through(browser, "corp")
    assert answer.status_code == 403, forgery
    assert "did not sign you in" in answer.text
    assert browser.session is None
    assert names(world) == set()


def test_D5_without_the_checks_forged_tokens_sign_in(
    world: World, outside: Issuers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: what is checked is what keeps each of them out."""

    def believe(text: object, *_: object) -> dict:
        middle = text["payload"] if isinstance(text, dict) else text.split(".")[1]
        return {"sub": "subject-1", **json.loads(base64.urlsafe_b64decode(middle + "=="))}

    monkeypatch.setattr(id_tokens, "check", believe)
    for forgery in FORGERIES:
        if "subject" in forgery:
            continue  # what is no text cannot be kept in a row
        outside.control("corp", forge=forgery)
        assert through(Browser(world), "corp").status_code == 303, forgery


def test_D5_each_check_alone_keeps_its_forgery_out(
    world: World, outside: Issuers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signatures without the claims' checks: only what is signed wrongly is still refused."""
    monkeypatch.setattr(id_tokens, "_check_claims", lambda *_: None)
    for forgery, status in (("another audience", 303), ("over", 303), ("another nonce", 303), ("no signature", 403)):
        outside.control("corp", forge=forgery)
        assert through(Browser(world), "corp").status_code == status, forgery


def test_D5_new_keys_of_the_provider_are_found(world: World, outside: Issuers) -> None:
    assert through(Browser(world), "corp").status_code == 303
    outside.control("corp", new_key=True)
    known = world.services.relying._known["corp"]
    # Asked again at most once a minute, however many tokens come with keys nobody knows.
    assert through(Browser(world), "corp").status_code == 403
    known.keys_at -= 61
    assert through(Browser(world), "corp").status_code == 303


def test_D5_userinfo_of_somebody_else_is_refused(world: World, outside: Issuers) -> None:
    outside.control("corp", claims={}, userinfo={"preferred_username": "ada"})
    assert through(Browser(world), "corp").status_code == 303, "the control: userinfo is asked for what is missing"
    outside.control("corp", claims={}, userinfo={"preferred_username": "eve", "sub": "subject-9"})
    answer = through(Browser(world), "corp")
    assert (answer.status_code, "somebody else" in answer.text) == (403, True)
    assert names(world) == {"ada"}


def test_D6_an_answer_counts_once(world: World) -> None:
    browser = Browser(world)
    back = go(browser, "corp")
    cookie = browser.http.get_cookie("entrepot_provider", path="/sign-in/with").value
    assert come_back(browser, back).status_code == 303
    again = Browser(world)
    again.http.set_cookie("entrepot_provider", cookie, path="/sign-in/with")
    assert come_back(again, back).status_code == 403
    assert again.session is None


def test_D6_a_code_that_was_spent_is_refused_by_the_provider(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the row came back from a restored copy of the database."""
    monkeypatch.setattr(pending, "spend", pending.look)
    browser = Browser(world)
    back = go(browser, "corp")
    cookie = browser.http.get_cookie("entrepot_provider", path="/sign-in/with").value
    assert come_back(browser, back).status_code == 303
    browser.http.set_cookie("entrepot_provider", cookie, path="/sign-in/with")
    answer = come_back(browser, back)
    assert (answer.status_code, "HTTP 400" in answer.text) == (502, True)


def test_D5_an_answer_belongs_to_one_browser(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Login CSRF: somebody's own code and state, sent on to a victim's browser."""
    attacker, victim = Browser(world), Browser(world)
    answer = come_back(victim, go(attacker, "corp"))
    assert (answer.status_code, victim.session) == (403, None)
    # The same with a sign-in of the victim's own under way: its state is another one.
    go(victim, "corp")
    assert come_back(victim, go(attacker, "corp")).status_code == 403
    assert victim.session is None
    # The negative control: where the state is not compared, the provider still wants the verifier of that browser.
    monkeypatch.setattr(providers.hmac, "compare_digest", lambda *_: True)
    go(victim, "corp")
    assert come_back(victim, go(attacker, "corp")).status_code == 502
    monkeypatch.setattr(pending, "derived", lambda _accounts, _secret, what: what * 20)
    go(victim, "corp")
    assert come_back(victim, go(attacker, "corp")).status_code == 303, "bound to nothing, the attack works"


def test_D7_providers_are_not_mixed_up(world: World, outside: Issuers) -> None:
    """An answer of one provider at the return address of another, and one that says it is from another."""
    browser = Browser(world)
    back = go(browser, "other")
    answer = come_back(browser, back, path="/sign-in/with/corp/return")
    assert (answer.status_code, "another identity provider" in answer.text) == (403, True)
    outside.control("corp", extra={"authorization_response_iss_parameter_supported": True})
    world.services.relying._known["corp"].endpoints = None
    back = go(browser, "corp")
    assert come_back(browser, back).status_code == 303, "the control: RFC 9207's iss is right"
    for iss in (f"{outside.url}/other", None):
        browser = Browser(world)
        query = {key: values[0] for key, values in parse_qs(urlsplit(go(browser, "corp")).query).items()}
        query = {**query, "iss": iss} if iss else {key: value for key, value in query.items() if key != "iss"}
        answer = browser.get(f"/sign-in/with/corp/return?{urlencode(query)}")
        assert (answer.status_code, browser.session) == (403, None)


@pytest.mark.parametrize(
    "query", ["", "state=x", "code=x", "state=x&code=y", "error=access_denied", "state=%00", "code=" + "x" * 3000]
)
def test_D5_nonsense_comes_back(world: World, query: str) -> None:
    browser = Browser(world)
    go(browser, "corp")
    assert browser.get(f"/sign-in/with/corp/return?{query}").status_code in {400, 403}
    assert browser.session is None


def test_D5_what_a_provider_says_instead_is_shown_only_as_a_word(world: World) -> None:
    for said, shown in (("access_denied", True), ("<svg onload=x>", False)):
        browser = Browser(world)
        state = parse_qs(urlsplit(go(browser, "corp")).query)["state"][0]
        answer = browser.get("/sign-in/with/corp/return", query_string={"error": said, "state": state})
        assert (answer.status_code, said in answer.text) == (403, shown)


def test_E7_next_leads_nowhere_else(world: World) -> None:
    for target in corpus.REDIRECTS:
        with world.db.write() as session:
            session.execute(sa.delete(PendingSignIn))
        assert Browser(world).get("/sign-in/with/corp", query_string={"next": target}).status_code == 303
        with world.db.read() as session:
            assert session.scalars(sa.select(PendingSignIn.target)).one() == "/", target
    assert through(Browser(world), "corp", next="/account/tokens").headers["Location"] == "/account/tokens"


def test_E6_another_site_begins_no_sign_in(world: World) -> None:
    browser = Browser(world)
    answer = browser.get("/sign-in/with/corp", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.headers["Location"].startswith("/sign-in?")
    with world.db.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(PendingSignIn)) == 0


def test_strangers_cannot_fill_the_table_of_begun_sign_ins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "MOST_OF_ADDRESS", 3)
    statuses = [Browser(world).get("/sign-in/with/corp").status_code for _ in range(5)]
    assert statuses == [303, 303, 303, 429, 429]
    assert Browser(world, "203.0.113.5").get("/sign-in/with/corp").status_code == 303


def test_D12_a_planted_session_is_not_taken_over(world: World) -> None:
    browser = Browser(world)
    browser.http.set_cookie("entrepot_session", "planted")
    through(browser, "corp")
    assert browser.session not in {None, "planted"}


def test_a_subject_is_bound_and_a_name_is_not(world: World, outside: Issuers) -> None:
    """Who takes over somebody's name at the provider, or at another one, does not get the account."""
    assert through(Browser(world), "corp").status_code == 303
    outside.control("corp", claims={"preferred_username": "renamed"})
    browser = Browser(world)
    through(browser, "corp")
    assert ">ada<" in browser.get("/account").text, "the same subject under another name"
    outside.control("corp", claims={"preferred_username": "ada", "sub": "subject-7"})
    answer = through(Browser(world), "corp")
    assert (answer.status_code, "there is a user ada already" in answer.text.lower()) == (403, True)
    outside.control("other", claims={"preferred_username": "ada", "sub": "subject-1"})
    assert through(Browser(world), "other").status_code == 403, "the same subject of another issuer is somebody else"
    # Names of accounts that were here before are nobody's to take either.
    outside.control("other", claims={"preferred_username": "admin", "sub": "subject-3"})
    assert through(Browser(world), "other").status_code == 403


def test_a_disabled_account_does_not_come_in_by_its_provider(world: World) -> None:
    assert through(Browser(world), "corp").status_code == 303
    with world.db.write() as session:
        find_account(session, "ada").is_disabled = True
    browser = Browser(world)
    answer = through(browser, "corp")
    assert (answer.status_code, browser.session) == (403, None)


def test_the_issuers_process_checks_what_we_send(world: World, outside: Issuers) -> None:
    """The control of the fake: with another verifier, redirect address or secret it gives no token."""
    back = go(Browser(world), "corp")
    code = parse_qs(urlsplit(back).query)["code"][0]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": "x" * 43,
        "redirect_uri": back.partition("?")[0],
    }
    assert requests.post(f"{outside.url}/corp/token", data=form, auth=("entrepot", "x"), timeout=10).status_code == 400
