"""D10 to D14, E6: second factors, sessions, fresh proofs, one-time links and the names a server goes by."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher, Type

from registry import account_care, attempts, second_factor, self_service
from registry import accounts as accounts_module
from registry.accounts import Accounts, SignInRules, find_account
from registry.http import auth, headers
from registry.models import AuditEntry, PendingSignIn, RecoveryCode, Totp, WebSession
from registry.pages import proof
from tests.conftest import STRONG
from tests.functional.api_world import PASSWORD, World
from tests.harness.identity import Browser
from tests.security.attack import at_once

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
NEW_PASSWORD = "a longer and a better one"


@contextmanager
def quick_world(folder: Path) -> Iterator[World]:
    """Passwords hashed cheaply: what is looked at here is not their hashing."""
    made = World(folder)
    hashed = QUICK.hash(PASSWORD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts_module, "_nobody_hash", lambda: hashed)
        patch.setattr(accounts_module, "_hasher", QUICK)
        with made.db.write() as session:
            for name in made.tokens:
                find_account(session, name).password_hash = hashed
        yield made
    made.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with quick_world(tmp_path) as made:
        yield made


@pytest.fixture
def reader(world: World) -> Browser:
    """A signed-in browser of reader's, who has a second factor."""
    browser = Browser(world)
    browser.sign_in("reader")
    browser.enrol()
    return browser


def second_step(world: World, key: str, *, user: str = "reader", address: str = "127.0.0.1") -> Browser:
    """Another browser of who knows the password, at the question for the code."""
    browser = Browser(world, address)
    browser.key = key
    answer = browser.sign_in(user, next="/account/tokens")
    assert answer.headers["Location"] == "/sign-in/second-factor"
    return browser


def audited(world: World, action: str) -> list[AuditEntry]:
    with world.db.read() as session:
        return list(session.scalars(sa.select(AuditEntry).where(AuditEntry.action == action)))


# --- D11: the second factor -------------------------------------------------------------------------------------------


def test_D10_passwords_cost_what_they_should() -> None:
    """OWASP's least for Argon2id is 19 MiB at two passes (RFC 9106's second choice: 64 MiB at three)."""
    assert (STRONG.type, STRONG.time_cost, STRONG.memory_cost) == (Type.ID, 3, 64 * 1024)


def test_D11_password_and_code_sign_in_and_the_password_alone_does_not(world: World, reader: Browser) -> None:
    browser = second_step(world, reader.key)
    assert browser.session is None
    # Going on to the next address, without a code.
    for path in ("/account", "/account/tokens", "/", "/approvals"):
        assert not browser.get(path).text.count("reader"), path
    assert browser.get("/account/tokens").status_code == 303
    answer = browser.post("/sign-in/second-factor", code=browser.code())
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account/tokens")
    assert browser.get("/account/tokens").status_code == 200
    entry = audited(world, "session.open")[-1]
    assert (entry.actor, entry.details["by"]) == ("reader", "password and authenticator app")


def test_D11_the_waiting_step_is_no_session(world: World, reader: Browser) -> None:
    """Its secret under the session's name opens nothing, and it ends after ten minutes."""
    browser = second_step(world, reader.key)
    secret = browser.http.get_cookie("entrepot_second_factor", path="/sign-in").value
    thief = Browser(world)
    thief.http.set_cookie("entrepot_session", secret)
    assert not thief.is_in
    world.now += timedelta(minutes=10)
    assert browser.post("/sign-in/second-factor", code=browser.code()).headers["Location"] == "/sign-in"
    assert browser.session is None


@pytest.mark.parametrize(
    "write",
    [str, lambda code: f" {code[:3]} {code[3:]} ", lambda code: f"{code[:3]}\u00a0{code[3:]}", lambda code: f"{code[:3]}-{code[3:]}"],
    ids=["as it is", "with spaces", "with another space", "with a dash"],
)  # fmt: skip
def test_D11_a_code_counts_once_however_it_is_written(
    world: World, reader: Browser, write: Callable[[str], str]
) -> None:
    code = reader.code()
    first, second = second_step(world, reader.key), second_step(world, reader.key)
    assert first.post("/sign-in/second-factor", code=write(code)).status_code == 303
    for again in (code, f"{code[:3]} {code[3:]}", write(code)):
        assert second.post("/sign-in/second-factor", code=again).status_code == 403
    assert second.session is None


def test_D11_without_the_note_of_the_last_step_a_code_counts_twice(
    world: World, reader: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.setattr(second_factor, "_note_step", lambda *_: True)
    code = reader.code()
    for browser in (second_step(world, reader.key), second_step(world, reader.key)):
        assert browser.post("/sign-in/second-factor", code=code).status_code == 303


@pytest.mark.parametrize(
    "write",
    [
        lambda code: "".join(chr(ord("٠") + int(digit)) for digit in code),
        lambda code: "".join(chr(ord("０") + int(digit)) for digit in code),
        lambda code: code + "\0",
        lambda code: "+" + code,
        lambda code: code[:5],
        lambda code: "0" + code,
        lambda _: "",
        lambda _: "x" * 5000,
    ],
    ids=["Arabic digits", "wide digits", "a NUL", "a sign", "five", "seven", "nothing", "a lot"],
)
def test_D11_what_is_not_six_plain_digits_is_no_code(
    world: World, reader: Browser, write: Callable[[str], str]
) -> None:
    browser = second_step(world, reader.key)
    assert browser.post("/sign-in/second-factor", code=write(browser.code())).status_code in {400, 403}
    assert browser.session is None
    assert browser.post("/sign-in/second-factor", code=browser.code()).status_code == 303, "the control"


@pytest.mark.parametrize(("steps", "status"), [(-2, 403), (-1, 303), (0, 303), (1, 303), (2, 403)])
def test_D11_clocks_may_differ_by_one_step(world: World, reader: Browser, steps: int, status: int) -> None:
    world.now += timedelta(minutes=5)
    browser = second_step(world, reader.key)
    assert browser.post("/sign-in/second-factor", code=browser.code(steps=steps)).status_code == status


def test_D11_an_older_code_is_not_taken_after_a_newer_one(world: World, reader: Browser) -> None:
    world.now += timedelta(minutes=5)
    browsers = [second_step(world, reader.key) for _ in range(2)]
    assert browsers[0].post("/sign-in/second-factor", code=reader.code(steps=1)).status_code == 303
    assert browsers[1].post("/sign-in/second-factor", code=reader.code()).status_code == 403


@pytest.mark.parametrize("kind", ["app", "paper"])
def test_D11_of_parallel_uses_one_wins(world: World, reader: Browser, kind: str) -> None:
    browsers = [second_step(world, reader.key, address=f"203.0.113.{number}") for number in range(1, 9)]
    code = reader.code() if kind == "app" else reader.codes[0]

    def use(browser: Browser) -> Callable[[], int]:
        post = browser.http.post
        return lambda: (
            post("/sign-in/second-factor", data={"code": code}, environ_overrides=browser.address).status_code
        )

    statuses = at_once(*map(use, browsers))
    assert statuses.count(303) == 1, statuses
    assert sum(browser.session is not None for browser in browsers) == 1


def test_D11_recovery_codes_count_once_and_only_for_their_owner(world: World, reader: Browser) -> None:
    assert len(set(reader.codes)) == second_factor.RECOVERY_CODES
    code = reader.codes[3]
    for written, status in ((code.upper(), 303), (code, 403), (code.replace("-", ""), 403)):
        browser = second_step(world, reader.key)
        assert browser.post("/sign-in/second-factor", code=written).status_code == status
    other = Browser(world)
    other.sign_in("publisher")
    other.enrol()
    browser = second_step(world, other.key, user="publisher")
    assert browser.post("/sign-in/second-factor", code=reader.codes[4]).status_code == 403
    assert len(audited(world, "second-factor.use-recovery-code")) == 1
    # New ones make the old ones worthless.
    reader.post("/account/second-factor/codes")
    assert second_step(world, reader.key).post("/sign-in/second-factor", code=reader.codes[5]).status_code == 403


def test_D11_no_secret_of_it_lies_in_the_database(world: World, reader: Browser) -> None:
    with world.db.read() as session:
        row = session.scalars(sa.select(Totp)).one()
        digests = session.scalars(sa.select(RecoveryCode.digest)).all()
    assert reader.key.encode() not in row.sealed
    assert len(digests) == second_factor.RECOVERY_CODES
    copied = Path(world.settings.data / "entrepot.db").read_bytes()
    for secret in (reader.key, *reader.codes, *(code.replace("-", "") for code in reader.codes)):
        assert secret.encode() not in copied
    said = str([(entry.object, entry.details) for entry in audited(world, "second-factor.set-up")])
    assert reader.key not in said
    # A seed moved to another account's row does not open there.
    publisher = Browser(world)
    publisher.sign_in("publisher")
    publisher.enrol()
    with world.db.write() as session:
        session.execute(sa.update(Totp).where(Totp.account_id != row.account_id).values(sealed=row.sealed))
    browser = second_step(world, reader.key, user="publisher")
    assert browser.post("/sign-in/second-factor", code=reader.code()).status_code == 500
    assert browser.session is None


@pytest.mark.parametrize("kind", ["app", "paper"])
def test_D11_guessing_codes_is_limited_together_with_passwords(world: World, reader: Browser, kind: str) -> None:
    guess = "000000" if kind == "app" else "0000-0000-0000-0000"
    browser = second_step(world, reader.key)
    statuses = [browser.post("/sign-in/second-factor", code=guess).status_code for _ in range(8)]
    assert statuses == [403] * attempts.FREE_FAILURES_OF_ACCOUNT + [429] * 3
    # Neither the right code nor the right password is taken now, at any door.
    assert browser.post("/sign-in/second-factor", code=browser.code()).status_code == 429
    assert Browser(world).sign_in("reader").status_code == 429
    assert world.http.get("/api/v1/whoami", auth=("reader", PASSWORD)).status_code == 429


@pytest.mark.long
def test_D11_a_thousand_guesses_get_nowhere(world: World, reader: Browser) -> None:
    """Around the clock from ever new addresses: some dozens are looked at in all, the rest is refused unseen."""
    browser = second_step(world, reader.key)
    looked_at = 0
    for number in range(1000):
        browser.address = {"REMOTE_ADDR": f"198.51.100.{number % 250}"}
        answer = browser.http.post(
            "/sign-in/second-factor", data={"code": f"{number:06}"}, environ_overrides=browser.address
        )
        looked_at += answer.status_code == 403
        assert answer.status_code in {403, 429}
        world.now += timedelta(milliseconds=500)
    assert looked_at < 20


def test_D11_patience_does_not_find_a_code_either(world: World, reader: Browser) -> None:
    """Somebody who has the password and waits as long as is asked: after some codes it is an hour for each."""
    guesses, began = 0, world.now
    browser = second_step(world, reader.key)
    while world.now - began < timedelta(hours=24):
        answer = browser.http.post("/sign-in/second-factor", data={"code": f"{guesses:06}"})
        if answer.status_code == 303:
            browser = second_step(world, reader.key)
            continue
        guesses += answer.status_code == 403
        world.now += timedelta(seconds=int(answer.headers.get("Retry-After", 0)))
    assert attempts.FREE_CODES_OF_DAY <= guesses < 50
    assert Browser(world).sign_in("reader").status_code == 303, "the password is not what was guessed"


def test_D11_without_the_limit_guesses_are_looked_at(
    world: World, reader: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.setattr(attempts, "check_attempt", lambda *_: None)
    monkeypatch.setattr(attempts, "check_code", lambda *_: None)
    browser = second_step(world, reader.key)
    assert {browser.post("/sign-in/second-factor", code=f"{number:06}").status_code for number in range(30)} == {403}
    assert browser.post("/sign-in/second-factor", code=browser.code()).status_code == 303


# --- D10: nothing is told to strangers --------------------------------------------------------------------------------


def test_D10_a_second_factor_shows_only_to_who_knows_the_password(world: World, reader: Browser) -> None:
    """Unknown, wrong, disabled, and with a second factor: the same status, the same words, at all doors."""
    world.disable("promoter")
    for door in (
        lambda name, password: Browser(world).sign_in(name, password),
        lambda name, password: world.http.get("/api/v1/whoami", auth=(name, password)),
        lambda name, password: world.http.get("/pypi/default/dev/simple/", auth=(name, password)),
    ):
        said = set()
        for name, password in (
            ("reader", "wrong"),
            ("nobody", "wrong"),
            ("publisher", "wrong"),
            ("promoter", PASSWORD),
        ):
            answer = door(name, password)
            said.add((answer.status, answer.text.replace(name, "NAME")))
        assert len(said) == 1, said
        world.now += timedelta(minutes=20)


def test_D10_work_is_the_same_for_who_has_a_second_factor(
    world: World, reader: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    verify = PasswordHasher.verify

    def counted(hasher: PasswordHasher, stored: str, password: str) -> bool:
        hashed.append(stored)
        return verify(hasher, stored, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    for name in ("reader", "nobody", "publisher"):
        Browser(world).sign_in(name, "wrong")
    assert len(hashed) == 3


def test_tools_of_who_has_a_second_factor_use_tokens(world: World, reader: Browser) -> None:
    for path in ("/api/v1/whoami", "/pypi/default/dev/simple/"):
        answer = world.http.get(path, auth=("reader", PASSWORD))
        assert (answer.status_code, "use an access token" in answer.text) == (403, True), path
        assert world.http.get(path, auth=("reader", world.tokens["reader"])).status_code == 200
        assert world.http.get(path, auth=("publisher", PASSWORD)).status_code == 200, "the control"
    assert not audited(world, "session.refuse"), "who knows the password did not guess"
    answer = world.call(
        "POST", "/users/reader/password", as_="reader", json={"password": NEW_PASSWORD, "currentPassword": PASSWORD}
    )
    assert (answer.status_code, "second factor" in answer.json["detail"]) == (403, True)


# --- everybody has to have one ----------------------------------------------------------------------------------------


def test_where_it_is_asked_of_everybody_nothing_else_is_seen_before(world: World) -> None:
    world.services.accounts.sign_in_rules = SignInRules(second_factor=True)
    browser = Browser(world)
    browser.sign_in("reader")
    rules = [rule for rule in world.app.url_map.iter_rules() if "pages" in rule.endpoint and "GET" in rule.methods]
    seen = set()
    for rule in rules:
        if not rule.arguments:
            answer = browser.get(rule.rule)
            if answer.status_code == 200:
                seen.add(rule.endpoint)
            elif answer.status_code == 303 and rule.endpoint != "pages.sign_in_code":
                assert answer.headers["Location"] in {"/account/second-factor", "/"}, rule.rule
    assert seen == {"pages.second_factor", "pages.password", "pages.setup"}
    assert browser.post("/account/tokens", name="x", actions="read", life_days="1").status_code == 303
    assert world.http.get("/api/v1/whoami", auth=("reader", PASSWORD)).status_code == 403
    assert "asks everybody" in browser.get("/account/second-factor").text
    browser.enrol()
    assert browser.get("/account").status_code == 200
    assert world.http.get("/api/v1/whoami", auth=("reader", world.tokens["reader"])).status_code == 200
    assert audited(world, "token.issue") == []


def test_an_administrator_takes_it_off_and_that_is_written_down(world: World, reader: Browser) -> None:
    waiting = second_step(world, reader.key)
    assert world.call("GET", "/users/reader/second-factor").json["recoveryCodesLeft"] == 10
    assert world.call("DELETE", "/users/reader/second-factor").status_code == 204
    assert not reader.is_in, "what was signed in with it is not any more"
    assert waiting.post("/sign-in/second-factor", code=waiting.code()).headers["Location"] == "/sign-in"
    browser = Browser(world)
    browser.sign_in("reader")
    assert browser.is_in
    assert [(entry.actor, entry.object) for entry in audited(world, "second-factor.reset")] == [
        ("admin", "user/reader")
    ]


def test_nobody_locks_themselves_out(world: World) -> None:
    assert world.call("POST", "/users/admin/disable").status_code == 403
    assert world.call("POST", "/users/reader/disable").status_code == 204
    assert world.call("GET", "/whoami", as_="reader").status_code == 401
    assert world.call("POST", "/users/reader/enable").status_code == 204
    assert world.call("GET", "/whoami", as_="reader").status_code == 200


# --- D12: sessions ----------------------------------------------------------------------------------------------------


def test_D12_every_change_of_standing_changes_the_id(world: World) -> None:
    browser = Browser(world)
    browser.http.set_cookie("entrepot_session", "planted")
    ids = ["planted"]

    def changed() -> None:
        assert browser.session not in ids
        stale = Browser(world)
        stale.http.set_cookie("entrepot_session", ids[-1])
        assert not stale.is_in, "the one before opens nothing"
        ids.append(browser.session)

    browser.sign_in("reader")
    changed()
    browser.enrol()
    changed()
    world.now += timedelta(minutes=11)
    browser.post("/account/prove", proof_password=PASSWORD, proof_code=browser.code())
    changed()
    browser.post("/account/password", present=PASSWORD, password=NEW_PASSWORD, again=NEW_PASSWORD)
    changed()
    browser.post("/account/second-factor/remove")
    changed()
    assert browser.is_in


ENDS: dict[str, Callable[[World, Browser], object]] = {
    "password": lambda _, other: other.post("/account/password", present=PASSWORD, password=NEW_PASSWORD, again=NEW_PASSWORD),
    "second factor on": lambda _, other: other.enrol(),
    "sign-out everywhere": lambda _, other: other.post("/account/sign-out-everywhere"),
    "administrator's password": lambda world, _: world.call("POST", "/users/reader/password", json={"password": NEW_PASSWORD}),
    "administrator ends": lambda world, _: world.call("DELETE", "/users/reader/sessions"),
    "disabling": lambda world, _: world.call("POST", "/users/reader/disable"),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_D12_what_ends_all_sessions(world: World, end: str) -> None:
    stolen, other = Browser(world), Browser(world)
    stolen.sign_in("reader")
    other.sign_in("reader")
    assert stolen.is_in
    ENDS[end](world, other)
    assert not stolen.is_in
    if end == "disabling":
        world.call("POST", "/users/reader/enable")
        assert not stolen.is_in, "ended is not suspended"


@pytest.mark.parametrize("end", ["password", "administrator ends", "disabling", "second factor on"])
def test_D12_the_control_nothing_else_ends_them(world: World, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (self_service, account_care):
        monkeypatch.setattr(module, "end_sessions", lambda *_: 0)
    stolen, other = Browser(world), Browser(world)
    stolen.sign_in("reader")
    other.sign_in("reader")
    ENDS[end](world, other)
    world.call("POST", "/users/reader/enable")
    assert stolen.is_in


def test_D12_sessions_end_idle_and_in_any_case(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(world)
    browser.sign_in("reader")
    for _ in range(13):
        world.now += timedelta(hours=11)
        assert browser.is_in
    # Proving again and again does not make it last.
    browser.post("/account/prove", proof_password=PASSWORD)
    for _ in range(3):
        world.now += timedelta(hours=11)
        browser.get("/account")
    assert not browser.is_in
    browser.sign_in("reader")
    world.now += timedelta(hours=13)
    assert not browser.is_in
    monkeypatch.setattr(accounts_module, "SESSION_IDLE", timedelta(days=30))
    assert browser.is_in, "the control"


def test_D12_people_see_their_browsers_and_end_one(world: World) -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
    here, there, foreign = Browser(world), Browser(world, "203.0.113.9"), Browser(world)
    there.post("/sign-in", user="reader", password=PASSWORD, headers={"User-Agent": agent})
    here.sign_in("reader")
    foreign.sign_in("publisher")
    page = here.get("/account").text
    assert "Firefox on Linux" in page
    assert "203.0.113.9" in page
    handles = re.findall(r"/account/sessions/([0-9a-f]{16})/end", page)
    assert len(handles) == 1
    assert foreign.post(f"/account/sessions/{handles[0]}/end").status_code == 404
    assert there.is_in
    assert here.post(f"/account/sessions/{handles[0]}/end").status_code == 303
    assert (here.is_in, there.is_in) == (True, False)


def test_D12_what_touched_a_session_is_kept_by_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(world)
    browser.sign_in("admin")
    paths = [
        rule.rule
        for rule in world.app.url_map.iter_rules()
        if "pages" in rule.endpoint and "GET" in rule.methods and not rule.arguments
    ]
    assert len(paths) > 10
    for who in (browser, Browser(world)):
        for path in paths:
            answer = who.get(path)
            assert answer.headers.get("Cache-Control") == "no-store", path
            assert "Cookie" in answer.headers.get("Vary", ""), path
    monkeypatch.setattr(headers, "_shows_somebody", lambda _: False)
    assert "Cache-Control" not in browser.get("/account").headers, "the control: nobody else says so"


# --- step-up: what is dangerous asks again ----------------------------------------------------------------------------

PROVED = {  # endpoint: how it goes on
    "pages.create_token": "asks in between",
    "pages.do_client_login": "asks in between",
    "pages.set_password": "pages.password",
    "pages.set_up_second_factor": "asks in between",
    "pages.confirm_second_factor": "asks in between",
    "pages.new_recovery_codes": "asks in between",
    "pages.remove_second_factor": "asks in between",
    "pages.delete_version": "asks in between",
    "pages.do_change_versions": "asks in between",
    "pages.delete_domain": "asks in between",
    "pages.create_repository": "asks in between",
    "pages.change_repository": "asks in between",
    "pages.grant_role": "asks in between",
    "pages.revoke_role": "asks in between",
    "pages.delete_group": "asks in between",
    "pages.add_member": "asks in between",
    "pages.remove_member": "asks in between",
    "pages.put_domain_policy": "asks in between",
    "pages.put_repository_policy": "asks in between",
    "pages.set_package_group": "asks in between",
    "pages.delete_package_group": "asks in between",
    "pages.set_origin": "asks in between",
    "pages.create_user": "asks in between",
    "pages.change_user": "asks in between",
    "pages.disable_user": "asks in between",
    "pages.enable_user": "asks in between",
    "pages.delete_user": "asks in between",
    "pages.make_login_link": "asks in between",
    "pages.reset_user_factor": "asks in between",
    "pages.join_group": "asks in between",
    "hook_pages.rotate_domain_keys": "asks in between",
    "hook_pages.rotate_server_keys": "asks in between",
    "hook_pages.set_destination": "asks in between",
    "hook_pages.add_runner": "asks in between",
    "hook_pages.token_runner": "asks in between",
    "hook_pages.add_agent": "asks in between",
    "hook_pages.token_agent": "asks in between",
    "hook_pages.create_webhook": "asks in between",
    "hook_pages.change_webhook": "asks in between",
    "hook_pages.rotate_webhook": "asks in between",
    "hook_pages.create_push_hook": "asks in between",
    "hook_pages.change_push_hook": "asks in between",
    "hook_pages.rotate_push_hook": "asks in between",
    "hook_pages.create_secret": "hook_pages.secrets",
    "hook_pages.replace_secret": "hook_pages.secrets",
    "hook_pages.change_secret": "asks in between",
    "hook_pages.delete_secret": "asks in between",
}
FORM_OF = {"pages.password": "/account/password", "hook_pages.secrets": "/secrets"}


def test_routes_that_want_a_fresh_proof_are_those_that_were_reviewed(world: World) -> None:
    assert proof.declared(world.app) == PROVED


def test_an_old_session_makes_no_token_until_it_proves_who_it_is(world: World) -> None:
    browser = Browser(world)
    browser.sign_in("reader")
    form = {"name": "laptop & desk", "actions": ["read"], "repositories": "default/dev", "life_days": "7"}
    world.now += timedelta(minutes=11)
    asked = browser.post("/account/tokens", **form)
    assert (asked.status_code, "Is it you?" in asked.text) == (403, True)
    assert audited(world, "token.issue") == []
    kept = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', asked.text))
    assert kept["name"] == "laptop &amp; desk"
    assert browser.post("/account/tokens", **form, proof_password="wrong").status_code == 403
    assert audited(world, "token.issue") == []
    before = browser.session
    done = browser.post("/account/tokens", **form, proof_password=PASSWORD)
    assert (done.status_code, "Your new token" in done.text) == (200, True)
    assert browser.session != before
    assert [entry.details["actions"] for entry in audited(world, "token.issue")] == [["read"]]
    assert browser.post("/account/tokens", **form).status_code == 200, "proved for ten minutes"


def test_without_the_question_an_old_session_does_it_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    browser = Browser(world)
    browser.sign_in("reader")
    world.now += timedelta(hours=5)
    monkeypatch.setattr(accounts_module.BrowserSession, "is_proved", lambda *_: True)
    assert browser.post("/account/tokens", name="x", actions="read", life_days="7").status_code == 200


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for all who ask in between: none of them gets to change it."""
    with quick_world(tmp_path_factory.mktemp("asking")) as made:
        yield made


@pytest.mark.parametrize("endpoint", PROVED)
def test_each_of_them_asks(endpoint: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue("asking" if PROVED[endpoint] == "asks in between" else "world")
    browser = Browser(world)
    browser.sign_in("admin")
    world.now += timedelta(minutes=11)
    values = {"domain": "default", "repository": "dev", "format_name": "pypi", "name": "x", "version": "1"}
    values |= {
        "group": "ops",
        "user": "reader",
        "grant_id": 1,
        "webhook_id": 1,
        "hook_id": 1,
        "value_id": 1,
        "runner": "r",
        "destination": "d",
        "agent": "a",
    }
    rule = next(rule for rule in world.app.url_map.iter_rules() if rule.endpoint == endpoint)
    path = rule.build({name: values[name] for name in rule.arguments})[1]
    secret = {"present": PASSWORD, "password": NEW_PASSWORD, "again": NEW_PASSWORD, "value": NEW_PASSWORD}
    answer = browser.post(path, **secret)
    if PROVED[endpoint] == "asks in between":
        assert (answer.status_code, "Is it you?" in answer.text) == (403, True)
    else:
        form = FORM_OF[PROVED[endpoint]]
        assert answer.headers["Location"] == f"/account/prove?next={form}"
        assert NEW_PASSWORD not in browser.get(f"/account/prove?next={form}").text
        answer = browser.post("/account/prove", next=form, proof_password=PASSWORD)
        assert answer.headers["Location"] == form, "the form is shown again"
        done = browser.post(path, **secret)
        assert "Is it you?" not in done.text
        assert done.headers.get("Location") == ("/account" if form == "/account/password" else None), done.text


def test_the_proof_needs_the_code_where_there_is_one_and_guessing_is_limited(world: World, reader: Browser) -> None:
    world.now += timedelta(minutes=11)
    assert reader.post("/account/prove", proof_password=PASSWORD).status_code == 403
    assert reader.post("/account/prove", proof_password="wrong", proof_code=reader.code()).status_code == 403
    assert reader.post("/account/prove", proof_password=PASSWORD, proof_code=reader.code()).status_code == 303
    world.now += timedelta(minutes=30)
    statuses = [reader.post("/account/prove", proof_password="guess").status_code for _ in range(7)]
    assert statuses == [403] * attempts.FREE_FAILURES_OF_ACCOUNT + [429] * 2


def test_E6_a_proof_is_asked_for_after_the_forms_own_token(world: World) -> None:
    """What another site sends does not even get as far as the question."""
    browser = Browser(world)
    browser.sign_in("reader")
    world.now += timedelta(minutes=11)
    for forged in ({"csrf_token": ""}, {"headers": {"Origin": "https://evil.example"}}):
        answer = browser.post("/account/tokens", name="x", actions="read", proof_password=PASSWORD, **forged)
        assert (answer.status_code, "Not allowed" in answer.text) == (403, True)
    assert audited(world, "session.prove") == []


# --- D13, D14: links and names ----------------------------------------------------------------------------------------


def test_D13_pages_answer_to_the_servers_own_name_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, {"ENTREPOT_SERVER_PUBLIC_URL": "https://packages.example.org"})
    fine = ("packages.example.org", "PACKAGES.example.org", "127.0.0.1:8080", "[::1]:8080", "localhost:8080")
    strange = ("evil.example", "packages.example.org.evil.example", "packages.example.org:81", "packages.example.org.")
    for host, status in (*((host, 200) for host in fine), *((host, 421) for host in strange)):
        for path in ("/sign-in", "/setup"):
            answer = world.http.get(path, headers={"Host": host})
            assert answer.status_code == status, host
            assert status == 200 or host not in answer.text
    for header in ("X-Forwarded-Host", "X-Original-Host", "Forwarded"):
        answer = world.http.get("/setup?code=abc", headers={"Host": "packages.example.org", header: "evil.example"})
        assert (answer.status_code, "evil" in str(answer.headers)) == (303, False)
    monkeypatch.setattr(auth, "_refuse_strange_host", lambda _: None)
    assert world.http.get("/sign-in", headers={"Host": "evil.example"}).status_code == 200, "the control"
    world.close()


def test_D13_a_one_time_link_counts_once_and_still_asks_for_the_second_factor(world: World, reader: Browser) -> None:
    with world.db.write() as session:
        account_id = find_account(session, "reader").id
        code = world.services.accounts.new_setup_login(session, account_id, world.now, timedelta(minutes=30))
    bot, browser, again = Browser(world), Browser(world), Browser(world)
    for who in (bot, browser, again):
        assert code not in who.get(f"/setup?code={code}").headers["Location"]
        who.get("/setup")
    browser.key = reader.key
    assert browser.post("/setup").headers["Location"] == "/sign-in/second-factor"
    assert browser.session is None
    assert browser.post("/sign-in/second-factor", code=browser.code()).headers["Location"] == "/account/password"
    assert "Present password" not in browser.get("/account/password").text
    assert again.post("/setup").status_code == 403
    assert again.session is None


def test_D14_no_credential_is_there_from_the_beginning(tmp_path: Path) -> None:
    from config import first_start
    from config.settings import load

    secrets = []
    for name in ("one", "two"):
        settings = load(tmp_path / name, {})
        secrets.append(first_start.prepare(settings))
        fresh = World.__new__(World)
        fresh.settings = settings
        from config import wiring

        services = wiring.services(settings)
        with services.db.read() as session:
            for user in ("admin", "root", "entrepot"):
                for password in ("admin", "password", "changeme", "entrepot", "", user):
                    with pytest.raises(accounts_module.Unauthenticated):
                        services.accounts.check_password(session, user, password, services.clock())
            assert session.scalar(sa.text("SELECT count(*) FROM token")) == 0
        services.db.close()
    assert None not in secrets
    assert secrets[0] != secrets[1]
    for file in ("keys/token-pepper", "keys/master-keys.json"):
        assert (tmp_path / "one" / file).read_bytes() != (tmp_path / "two" / file).read_bytes()


def test_what_waits_is_cleared_away(world: World, reader: Browser) -> None:
    for _ in range(3):
        second_step(world, reader.key)
    world.now += timedelta(minutes=11)
    second_step(world, reader.key)
    with world.db.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(PendingSignIn)) == 1
        assert session.scalar(sa.select(sa.func.count()).select_from(WebSession)) == 1


def test_passwords_can_be_switched_off(world: World) -> None:
    world.services.accounts.sign_in_rules = SignInRules(passwords=False)
    browser = Browser(world)
    answer = browser.sign_in("reader")
    assert (answer.status_code, "switched off" in answer.text, "Password" in answer.text) == (403, True, True)
    assert 'type="password"' not in answer.text
    assert browser.session is None
    answer = world.http.get("/api/v1/whoami", auth=("reader", PASSWORD))
    assert (answer.status_code, "switched off" in answer.json["detail"]) == (401, True)
    assert world.call("GET", "/whoami", as_="reader").status_code == 200
    with world.db.write() as session:
        code = world.services.accounts.new_setup_login(session, find_account(session, "reader").id, world.now)
    browser.get(f"/setup?code={code}")
    browser.post("/setup")
    assert browser.is_in, "the recovery command's link is what is left"
    assert isinstance(world.services.accounts, Accounts)
