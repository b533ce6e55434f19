"""Signing in with an identity provider: accounts, groups, fresh proofs, and what happens while it is away."""

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from registry import groups
from registry.accounts import find_account
from registry.models import Account, AuditEntry
from tests.browser import reading
from tests.functional.api_world import PASSWORD, World
from tests.harness.identity import Browser, Issuers, issuers, secrets_for, settings_for, through


@pytest.fixture(scope="module")
def outside() -> Iterator[Issuers]:
    with issuers() as running:
        yield running


PROVIDERS = {
    "corp": {"create_users": True, "groups_claim": "groups", "groups": {"Engineers": "developers", "Leads": "leads"}},
    "mail": {"create_users": True, "user_claim": "email", "email_domains": ["acme.example"], "new_user_actions": ["read", "publish"]},
    "old": {"match_existing": True},
    "plain": {},
}  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, outside: Issuers) -> Iterator[World]:
    (tmp_path / "entrepot.toml").write_text(
        settings_for(outside.url, **{key: dict(value) for key, value in PROVIDERS.items()})
    )
    made = World(tmp_path, secrets_for(*PROVIDERS))
    made.now = datetime.now(UTC)
    for name in PROVIDERS:
        outside.control(name, reset=True, claims={"preferred_username": "ada"})
    yield made
    made.close()


def account_of(world: World, name: str) -> tuple[list[str], frozenset[str]]:
    with world.db.read() as session:
        account = find_account(session, name)
        return account.actions, groups.of_account(session, account.id)


def test_the_sign_in_page_has_a_button_for_each(world: World) -> None:
    page = Browser(world).get("/sign-in?next=/approvals").text
    assert re.findall(r'href="(/sign-in/with/[^"]+)"', page) == [
        f"/sign-in/with/{name}?next=/approvals" for name in sorted(PROVIDERS)
    ]
    assert "Sign in with Corp" in page
    assert reading.dangers(reading.parse(page)) == []


def test_groups_come_and_go_with_each_sign_in(world: World, outside: Issuers) -> None:
    with world.db.write() as session:
        for name in ("developers", "leads", "local-only"):
            groups.create(session, name, "", "admin", world.now)
    outside.control("corp", claims={"preferred_username": "ada", "groups": ["Engineers", "Leads", "Unknown", 7]})
    through(Browser(world), "corp")
    assert account_of(world, "ada") == (["read"], {"developers", "leads"})
    with world.db.write() as session:
        groups.add_member(session, "local-only", find_account(session, "ada"), "admin", world.now)
    outside.control("corp", claims={"preferred_username": "ada", "groups": "Engineers"})
    through(Browser(world), "corp")
    assert account_of(world, "ada")[1] == {"developers", "local-only"}
    outside.control("corp", claims={"preferred_username": "ada"})
    through(Browser(world), "corp")
    assert account_of(world, "ada")[1] == {"local-only"}, "silence is no group"


def test_accounts_are_made_only_where_that_is_allowed(world: World, outside: Issuers) -> None:
    answer = through(Browser(world), "plain")
    assert (answer.status_code, "no user ada here" in answer.text) == (403, True)
    for claims, status in (
        ({"email": "grace@acme.example", "email_verified": True}, 303),
        ({"email": "eve@evil.example", "email_verified": True, "sub": "s2"}, 403),
        ({"email": "eve@acme.example", "email_verified": False, "sub": "s3"}, 403),
        ({"email": "eve@acme.example", "sub": "s4"}, 403),
        ({"email": "eve@acme.example", "email_verified": "true", "sub": "s5"}, 403),
        ({"email": "eve@acme.example.evil.example", "email_verified": True, "sub": "s6"}, 403),
        ({"email": "e v e@acme.example", "email_verified": True, "sub": "s7"}, 403),
    ):
        outside.control("mail", claims=claims)
        assert through(Browser(world), "mail").status_code == status, claims
    assert account_of(world, "grace")[0] == ["publish", "read"]
    # Who leaves the domain is out, though bound before.
    outside.control("mail", claims={"email": "grace@elsewhere.example", "email_verified": True})
    assert through(Browser(world), "mail").status_code == 403
    with world.db.read() as session:
        assert session.scalar(sa.select(Account.id).where(Account.name == "eve")) is None


def test_an_existing_account_is_taken_over_only_where_that_is_allowed(world: World, outside: Issuers) -> None:
    outside.control("corp", claims={"preferred_username": "reader"})
    assert through(Browser(world), "corp").status_code == 403
    outside.control("old", claims={"preferred_username": "reader"})
    browser = Browser(world)
    assert through(browser, "old").status_code == 303
    assert "reader" in browser.get("/account").text
    outside.control("old", claims={"preferred_username": "nobody", "sub": "s2"})
    assert through(Browser(world), "old").status_code == 403


def test_somebody_signed_in_connects_their_account(world: World, outside: Issuers) -> None:
    browser = Browser(world)
    browser.sign_in("reader")
    assert "/sign-in/with/plain?purpose=bind" in browser.get("/account").text
    world.now += timedelta(minutes=11)
    assert browser.get("/sign-in/with/plain?purpose=bind").headers["Location"].startswith("/account/prove?")
    browser.post("/account/prove", proof_password=PASSWORD)
    world.now = datetime.now(UTC)
    assert through(browser, "plain", purpose="bind").headers["Location"] == "/account"
    assert "The account is connected" in browser.get("/account").text
    fresh = Browser(world)
    assert through(fresh, "plain").status_code == 303
    assert "reader" in fresh.get("/account").text
    # The same person of the provider for another account here: no.
    other = Browser(world)
    other.sign_in("publisher")
    answer = through(other, "plain", purpose="bind")
    assert (answer.status_code, "another account here" in answer.text) == (403, True)
    assert Browser(world).get("/sign-in/with/plain?purpose=bind").headers["Location"].startswith("/sign-in?")


def test_a_fresh_sign_in_at_the_provider_is_a_proof(world: World, outside: Issuers) -> None:
    browser = Browser(world)
    through(browser, "corp")
    form = {"name": "x", "actions": "read", "life_days": "1"}
    asked = browser.post("/account/tokens", **form, headers={"Referer": "http://localhost/account/tokens"})
    assert (asked.status_code, "Sign in anew with Corp" in asked.text) == (403, True), (
        "an old session there proves nothing"
    )
    assert 'type="password"' not in asked.text
    assert "purpose=prove" in asked.text
    assert "next=/account/tokens" in asked.text
    before = browser.session
    answer = through(browser, "corp", purpose="prove", next="/account/tokens")
    assert answer.headers["Location"] == "/account/tokens"
    assert outside.control("corp")["asked"][-1]["prompt"] == "login"
    assert browser.session not in {None, before}
    assert browser.post("/account/tokens", **form).status_code == 200
    world.now += timedelta(minutes=11)
    assert browser.post("/account/tokens", **form).status_code == 403
    # One who signed in there long ago, one of whom it says nothing, and somebody else: no proof.
    long_ago = int(datetime.now(UTC).timestamp()) - 3600
    for claims in ({"auth_time": long_ago}, {"auth_time": None}, {"sub": "s9", "preferred_username": "bob"}):
        world.now = datetime.now(UTC)
        outside.control("corp", claims={"preferred_username": "ada", **claims})
        assert through(browser, "corp", purpose="prove").status_code == 403, claims


def test_a_sign_in_of_just_now_is_one_too(world: World, outside: Issuers) -> None:
    outside.control("corp", claims={"preferred_username": "ada", "auth_time": int(datetime.now(UTC).timestamp()) - 60})
    browser = Browser(world)
    through(browser, "corp")
    assert browser.post("/account/tokens", name="x", actions="read", life_days="1").status_code == 200


def test_a_provider_that_is_away_is_said_to_be_and_passwords_go_on(world: World, outside: Issuers) -> None:
    outside.control("corp", down=True)
    browser = Browser(world)
    answer = browser.get("/sign-in/with/corp")
    assert answer.status_code in {502, 503}
    assert "Corp did not sign you in" in answer.text
    assert "sign in with a password" in answer.text
    assert reading.dangers(reading.parse(answer.text)) == []
    assert browser.sign_in("reader").status_code == 303
    assert browser.get("/account").status_code == 200


def test_an_issuer_that_calls_itself_otherwise_is_not_believed(world: World, outside: Issuers) -> None:
    outside.control("corp", extra={"issuer": "https://login.evil.example"})
    assert Browser(world).get("/sign-in/with/corp").status_code == 502


@pytest.mark.parametrize(
    "extra", [{"token_endpoint": "file:///etc/passwd"}, {"jwks_uri": None}, {"authorization_endpoint": "javascript:alert(1)"}]
)  # fmt: skip
def test_endpoints_that_are_none_are_refused(world: World, outside: Issuers, extra: dict) -> None:
    outside.control("corp", extra=extra)
    assert Browser(world).get("/sign-in/with/corp").status_code == 502


def test_the_inside_is_reached_only_where_that_is_allowed(tmp_path: Path, outside: Issuers) -> None:
    """C: the guard of the upstreams stands before providers as well; a metadata service is never one."""
    outside.control("corp", reset=True)
    (tmp_path / "entrepot.toml").write_text(
        settings_for(outside.url, corp={"allowed_networks": ["10.0.0.0/8"]}).replace("127.0.0.1", "10.0.0.1")
    )
    made = World(tmp_path, secrets_for("corp"))
    provider = made.services.relying.providers["corp"]
    object.__setattr__(provider, "issuer", f"{outside.url}/corp")
    assert Browser(made).get("/sign-in/with/corp").status_code == 502
    made.close()


def test_recovery_from_the_machine_itself(world: World) -> None:
    """``entrepot user recover``: once, where even passwords are off, and without the second factor on request."""
    browser = Browser(world)
    browser.sign_in("reader")
    browser.enrol()

    def recover(*more: str) -> str:
        command = [
            sys.executable,
            "-m",
            "config.cli.main",
            "user",
            "recover",
            "reader",
            "--data",
            str(world.settings.data),
            *more,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    link = recover()
    assert link.startswith("http://127.0.0.1:8080/setup?code=")
    assert not browser.is_in, "whoever was signed in is not any more"
    world.now = datetime.now(UTC)
    locked_out = Browser(world)
    locked_out.get(link.removeprefix("http://127.0.0.1:8080"))
    assert locked_out.post("/setup").headers["Location"] == "/sign-in/second-factor"
    link = recover("--reset-second-factor").removeprefix("http://127.0.0.1:8080")
    for number, status in ((1, 303), (2, 403)):
        locked_out = Browser(world)
        locked_out.get(link)
        assert locked_out.post("/setup").status_code == status, number
        assert locked_out.is_in == (status == 303)
    late = recover().removeprefix("http://127.0.0.1:8080")
    world.now += timedelta(minutes=31)
    locked_out.get(late)
    assert locked_out.post("/setup").status_code == 403, "half an hour"
    with world.db.read() as session:
        written = session.execute(
            sa.select(AuditEntry.actor, AuditEntry.action).where(AuditEntry.actor == "machine administrator")
        )
        counted = [action for _, action in written]
    assert sorted(counted) == ["second-factor.reset", *["user.recover"] * 3]
