"""The pages of the administration, as their forms are sent: users, groups, roles, policies, quotas, keys, the audit log."""

import contextlib
import html
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from flask.testing import FlaskClient

from config import migrate
from hooks.models.job import Job
from registry import audit
from registry.accounts import find_account
from registry.db import Database
from registry.models import Account, AuditEntry, Domain, Repository, Totp, WebSession
from registry.pages.quotas import amount
from tests import postgres
from tests.browser import reading
from tests.browser.site import PASSWORD, Site, build, fill

NEEDS_POSTGRES = pytest.mark.skipif(postgres.find_binaries() is None, reason="there is no PostgreSQL on this machine")
LONG_PASSWORD = "a longer and a better one"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = build(tmp_path_factory.mktemp("site"))
    fill(made)
    with made.services.db.write() as session:
        made.services.stores.new_key(session, None, made.clock())
    yield made
    made.world.close()


class Person:
    """Somebody's browser, signed in; a fresh one has just proved who it is."""

    def __init__(self, site: Site, name: str = "ada") -> None:
        self.site = site
        self.http: FlaskClient = site.app.test_client()
        assert self.http.post("/sign-in", data={"user": name, "password": PASSWORD}).status_code == 303

    def get(self, path: str, status: int = 200) -> str:
        answer = self.http.get(path, headers={"Accept": "text/html"})
        assert answer.status_code == status, (path, answer.status)
        return html.unescape(answer.text)

    def post(self, path: str, status: int = 303, **fields: object) -> str:
        token = re.search(r'name="csrf_token" value="([^"]+)"', self.http.get("/account").text)
        assert token is not None
        answer = self.http.post(path, data={"csrf_token": token[1], **fields}, headers={"Accept": "text/html"})
        assert answer.status_code == status, (path, answer.status, answer.text[-600:])
        if status != 303:
            assert reading.dangers(reading.parse(answer.text)) == []
            return html.unescape(answer.text)
        return str(answer.headers["Location"])


@pytest.fixture(scope="module")
def ada(site: Site) -> Person:
    return Person(site)


def account(site: Site, name: str) -> Account | None:
    with site.services.db.read() as session:
        return session.scalar(sa.select(Account).where(Account.name == name))


def noted(site: Site, action: str) -> AuditEntry:
    with site.services.db.read() as session:
        found = session.scalar(
            sa.select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.seq.desc()).limit(1)
        )
    assert found is not None
    return found


# --- users -----------------------------------------------------------------------------------------------------------


def test_a_new_user_comes_in_by_the_link_that_the_page_makes(site: Site, ada: Person) -> None:
    where = ada.post("/access/users", name="newcomer", actions=["read", "publish"], repositories="default/dev")
    assert where == "/access/users/newcomer"
    assert (noted(site, "user.create").actor, noted(site, "user.create").object) == ("ada", "user/newcomer")
    assert "not set yet" in ada.get(where)
    shown = ada.post(f"{where}/login-link", 200)
    link = re.search(r"http://localhost(/setup\?code=[^\"<\s]+)", shown)
    assert link is not None
    assert (noted(site, "user.login_link").object, noted(site, "user.login_link").details) == ("user/newcomer", {})
    assert link[1] not in ada.get(where), "it is shown once"
    newcomer = site.app.test_client()
    newcomer.get(link[1])
    assert newcomer.post("/setup").headers["Location"] == "/account/password"
    page = newcomer.get("/account/password").text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)[1]
    form = {"csrf_token": token, "password": LONG_PASSWORD, "again": LONG_PASSWORD}
    assert newcomer.post("/account/password", data=form).status_code == 303
    again = site.app.test_client()
    assert again.post("/sign-in", data={"user": "newcomer", "password": LONG_PASSWORD}).status_code == 303
    assert re.search(r"signed in <time [^>]+>just now</time>", ada.get("/access/users?q=newc"))


def test_users_are_looked_for_by_what_they_are(site: Site, ada: Person) -> None:
    ada.post("/access/users", name="a-robot", actions="read", is_service="yes")

    def named(query: str) -> list[str]:
        return re.findall(r'<th scope="row" class="name-cell"><a href="/access/users/([^"]+)"', ada.get(query))

    assert named("/access/users?kind=service") == ["a-robot"]
    assert named("/access/users?group=ops") == ["mel"]
    assert named("/access/users?q=RO") == ["a-robot", "rob"], "names are lower case, whatever is typed"
    assert named("/access/users?q=%25") == [], "a wildcard is a character like others"
    assert named("/access/users?after=mel&kind=person")[0] > "mel"
    assert "ada" not in named("/access/users?state=disabled")
    assert "2 roles" in ada.get("/access/users?q=mel"), "one of mel's own, one through a group"


def test_what_gives_somebody_a_right_is_told_with_where_it_comes_from(ada: Person) -> None:
    page = ada.get("/access/users/mel")
    roles = re.search(r"What gives rights(.+?)Own rights", page, re.DOTALL)[1]
    assert "given to mel" in roles
    assert '<a href="/access/groups/ops">group/ops</a>' in roles
    assert roles.count("Revoke it") == 1, "what a group gives is revoked from the group"


def test_a_fault_stands_beside_its_field_and_what_was_typed_is_kept(ada: Person) -> None:
    page = ada.post("/access/users", 400, name="Bad Name", actions=["read", "approve"], repositories="default/*")
    assert re.search(r'value="Bad Name"[^>]*aria-invalid="true"', page)
    assert "1 to 63 of a-z" in re.search(r'<span class="wrong" id="name-hint">(.+?)</span>', page)[1]
    assert 'value="default/*"' in page
    assert re.findall(r'name="actions" value="([a-z]+)" checked', page) == ["read", "approve"]
    page = ada.post("/access/users", 400, name="fine", actions="read", repositories="nonsense")
    assert "nonsense" in re.search(r'<span class="wrong" id="repositories-hint">(.+?)</span>', page)[1]
    assert "exists already" in ada.post("/access/users", 409, name="mel", actions="read")
    page = ada.post("/access/users/mel", 400, actions="fly", repositories="")
    assert "actions are read" in re.search(r'id="actions-wrong">(.+?)</span>', page)[1]


def test_rights_are_changed_and_counted_at_once(site: Site, ada: Person) -> None:
    rob = Person(site, "rob")
    rob.get("/repositories/default/prod", 403)
    ada.post("/access/users/rob", actions="read", repositories="")
    rob.get("/repositories/default/prod")
    ada.post("/access/users/rob", actions="read", repositories="default/dev, default/pro*")
    assert noted(site, "user.change").details == {
        "actions": ["read"],
        "repositories": ["default/dev", "default/pro*"],
    }
    assert "shut yourself out" in ada.post("/access/users/ada", 409, actions="read", repositories="")


def test_disabled_signed_out_and_deleted(site: Site, ada: Person) -> None:
    site.person("leaver", ["read"])
    leaver = Person(site, "leaver")
    ada.post("/access/users/leaver/sign-out")
    assert leaver.http.get("/account").status_code == 303
    ada.post("/access/users/leaver/disable")
    assert "disabled" in ada.get("/access/users/leaver")
    assert site.app.test_client().post("/sign-in", data={"user": "leaver", "password": PASSWORD}).status_code == 403
    assert "enable the account first" in ada.post("/access/users/leaver/login-link", 409)
    ada.post("/access/users/leaver/enable")
    Person(site, "leaver")
    assert ada.post("/access/users/leaver/delete") == "/access/users"
    assert account(site, "leaver") is None
    ada.get("/access/users/leaver", 404)
    assert [noted(site, f"user.{act}").object for act in ("disable", "enable", "delete")] == ["user/leaver"] * 3
    for act, words in (("disable", "own account"), ("delete", "own account"), ("login-link", "for themselves")):
        assert words in ada.post(f"/access/users/ada/{act}", 403 if act != "delete" else 409)


def test_a_lost_second_factor_is_removed_and_browsers_are_signed_out(site: Site, ada: Person) -> None:
    mel = Person(site, "mel")
    assert "was not found" in ada.post("/access/users/mel/second-factor/reset", 404)
    with site.services.db.write() as session:
        found = find_account(session, "mel").id
        session.add(Totp(account_id=found, sealed=b"x", created_at=site.clock(), confirmed_at=site.clock()))
    assert "Remove the second factor" in ada.get("/access/users/mel")
    ada.post("/access/users/mel/second-factor/reset")
    assert noted(site, "second-factor.reset").object == "user/mel"
    assert mel.http.get("/account").status_code == 303


# --- groups and roles ------------------------------------------------------------------------------------------------


def test_a_group_from_its_making_to_its_end(site: Site, ada: Person) -> None:
    where = ada.post("/access/groups", name="team", description="They build it")
    assert where == "/access/groups/team"
    assert "exists already" in ada.post("/access/groups", 409, name="team")
    page = ada.post(f"{where}/members", 404, user="nobody-there")
    assert re.search(r'value="nobody-there"[^>]*aria-invalid="true"', page)
    ada.post(f"{where}/members", user="rob")
    assert ada.post("/access/users/mel/join", group="team") == "/access/users/mel"
    assert (
        ada.post("/access/roles", role="publisher", principal="group/team", where="default/prod", next=where) == where
    )
    page = ada.get(where)
    assert "2 members" in page
    assert "<code>default/prod</code>" in page
    assert "group/team" in ada.get("/access/users/rob")
    here = "/access/users/mel"
    assert ada.post(f"{where}/members/mel/remove", next=here) == here
    assert ada.post(f"{where}/delete") == "/access/groups"
    assert "group/team" not in ada.get("/access/users/rob")


def test_a_role_that_cannot_be_granted_says_which_field_is_wrong(ada: Person) -> None:
    good = {"role": "reader", "principal": "user/mel", "where": "default/staging"}
    for field, value in (("principal", "mel"), ("principal", "user/nobody"), ("where", "nowhere"), ("where", "a/b/c")):
        sent = {**good, field: value}
        page = ada.post("/access/roles", 404 if value in {"user/nobody", "nowhere"} else 400, **sent)
        assert re.search(rf'id="{field}"[^>]*value="{value}"[^>]*aria-invalid="true"', page), (field, value)
        other = "where" if field == "principal" else "principal"
        assert f'value="{good[other]}"' in page, "what was typed is kept"
    assert "No role is called 'king'" in ada.post("/access/roles", 400, **{**good, "role": "king"})
    assert ada.post("/access/roles", **good, next="https://evil.example/") == "/"


def test_who_administers_one_domain_sees_that_and_no_more(site: Site, ada: Person) -> None:
    site.person("boss", [])
    ada.post("/access/domains", name="other")
    ada.post("/access/roles", role="admin", principal="user/boss", where="other")
    boss = Person(site, "boss")
    index = boss.get("/administration")
    assert re.findall(r'<h2>.*?<a href="([^"]+)">', index) == ["/access", "/quotas", "/keys"]
    assert "payments" not in boss.get("/access")
    assert "group/ops" not in boss.get("/access"), "roles of another domain"
    assert 'href="/quotas/other"' in boss.get("/quotas")
    assert 'href="/quotas/default"' not in boss.get("/quotas")
    for path in ("/access/users", "/access/users/mel", "/access/groups", "/access/groups/ops", "/quotas/default", "/audit",
                 "/access/policy/default", "/audit/export.jsonl"):  # fmt: skip
        boss.get(path, 403)
    keys = boss.get("/keys")
    assert "/keys/domains/other/rotate" in keys
    assert "/keys/domains/default/rotate" not in keys
    assert "/keys/server/rotate" not in keys
    reader = Person(site, "rob")
    reader.get("/administration", 403)
    assert "Administration" not in reader.get("/")


# --- policies --------------------------------------------------------------------------------------------------------

ALLOW = {"Effect": "Allow", "Principal": "group/ops", "Action": "codeartifact:PublishPackageVersion", "Resource": "*"}


def document(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, indent=1)


def test_a_policy_is_tried_out_before_it_is_set(site: Site, ada: Person) -> None:
    where, text = "/access/policy/default/prod", document({**ALLOW, "Sid": "Ops"})
    assert "No. " in ada.get(f"{where}?who=user/mel&what=publish")
    page = ada.post(where, 200, act="check", document=text)
    shown = re.search(r'id="preview"(.+?)</section>', page, re.DOTALL)[1]
    rows = re.findall(
        r'<th scope="row" class="name-cell">(.+?)</th>\s*<td[^>]*>(.+?)</td>\s*<td[^>]*>(.+?)</td>', shown
    )
    gained = {who: (gains, loses) for who, gains, loses in rows}
    assert set(gained) == {"user/mel", "group/ops (a member with no other right)"}
    assert "PublishPackageVersion" in gained["user/mel"][0]
    assert "nothing" in gained["user/mel"][1]
    assert "No. " in ada.get(f"{where}?who=user/mel&what=publish"), "nothing was set"
    ada.post(where, act="put", document=text)
    page = ada.get(f"{where}?who=user/mel&what=publish")
    assert "Yes. Allow 'Ops' in the policy of repository default/prod." in page
    page = ada.post(where, 200, act="check", document=document({**ALLOW, "Effect": "Deny"}))
    assert re.search(r'class="taken">-\s+"Sid": "Ops"', page)
    assert re.search(r"<th[^>]*>user/mel</th>\s*<td[^>]*><span class=\"soft\">nothing</span></td>", page)
    revision = re.search(r'name="revision" value="([^"]+)"', ada.get(where))[1]
    ada.post(where, act="delete", revision=revision)
    assert "none yet" in ada.get(where)


def test_each_fault_of_a_policy_has_its_line(ada: Person) -> None:
    where = "/access/policy/default"
    text = document(ALLOW, {**ALLOW, "Action": "codeartifact:Fly", "Color": "red"})
    line = [number for number, each in enumerate(text.splitlines(), 1) if each == "  {"][1]
    for act in ("check", "put"):
        page = ada.post(where, 400, act=act, document=text)
        assert f"Line {line}: statement 2: no action is called 'codeartifact:Fly'" in page
        assert f"Line {line}: statement 2: unknown field 'Color'" in page
        assert "Nothing was changed: 2 faults" in page
        assert '"Color": "red"' in page, "what was typed is kept"
    page = ada.post(where, 400, act="check", document='{\n"Statement": [\n,]}')
    assert re.search(r"Line 3: this is not JSON: .+ \(column 1\)", page)
    page = ada.post(where, 400, act="check", document=document({**ALLOW, "Principal": "user/ghost"}))
    assert "there is no user/ghost" in page.lower()
    assert "none yet" in ada.get(where)


# --- quotas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("", None), ("0", 0), ("1000", 1000), ("20 GB", 20 * 10**9), ("1.5TiB", 3 * 2**39), ("2,5 mb", 2_500_000),
     ("7 kB", 7000), ("1 k", 1000), ("12 bytes", 12), ("3B", 3), ("0.1 KiB", 102)],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(typed: str, expected: int | None) -> None:
    assert amount(typed) == expected


def test_a_quota_is_set_shown_and_lifted(site: Site, ada: Person) -> None:
    assert ada.post("/quotas/default/staging", limit="1.5 MB") == "/quotas/default"
    assert noted(site, "repository.quota").details == {"bytes": 1_500_000}
    page = ada.get("/quotas/default")
    assert 'value="1.5 MB"' in page
    assert re.search(r'<meter class="meter" min="0" max="1500000" value="\d+" aria-label="Used of staging">', page)
    assert "nearly full" in page or "over the limit" in page, "dev holds more than its quota"
    for wrong in ("much", "-1", "1e9", "5 PB", "9" * 30, "٣ GB"):
        page = ada.post("/quotas/default/staging", 400, limit=wrong)
        assert re.search(rf'value="{re.escape(wrong)}"[^>]*aria-invalid="true"', page), wrong
    ada.post("/quotas/default/staging", limit="")
    ada.post("/quotas/default", limit="2 GB")
    with site.services.db.read() as session:
        assert session.get_one(Repository, site.repositories["staging"]).quota_bytes is None
        assert session.scalar(sa.select(Domain.quota_bytes).where(Domain.name == "default")) == 2 * 10**9
    assert "no limit" in ada.get("/quotas"), "rates of a site without limits"
    ada.get("/quotas/nowhere", 404)


# --- repositories ----------------------------------------------------------------------------------------------------


def test_a_repository_is_made_and_changed_on_its_pages(site: Site, ada: Person) -> None:
    assert 'href="/domains/default/new-repository"' in ada.get("/")
    new = "/domains/default/new-repository"
    chosen = {"name": "tools", "description": "What our builds use", "upstreams": ["staging", "", "dev"]}
    assert ada.post(new, **chosen) == "/repositories/default/tools"
    assert noted(site, "repository.create").details["upstreams"] == ["staging", "dev"]
    assert 'href="/repositories/default/tools/settings"' in ada.get("/repositories/default/tools")
    settings = "/repositories/default/tools/settings"
    page = ada.get(settings)
    assert re.findall(r"<option selected>([^<]+)", page) == ["staging", "dev"]
    assert 'value="What our builds use"' in page
    assert (
        ada.post(settings, description="Ours", upstreams=["dev"], anonymous_read="yes") == "/repositories/default/tools"
    )
    assert noted(site, "repository.change").details == {
        "description": "Ours", "upstreams": ["dev"], "anonymous_read": True
    }  # fmt: skip
    with site.services.db.read() as session:
        before = session.scalar(sa.select(sa.func.count()).select_from(AuditEntry))
    ada.post(settings, description="Ours", upstreams=["dev"], anonymous_read="yes")
    with site.services.db.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(AuditEntry)) == before, (
            "nothing changed, nothing is noted"
        )


def test_settings_that_somebody_else_has_changed_meanwhile_stay(site: Site, ada: Person) -> None:
    ada.post("/domains/default/new-repository", name="meanwhile", anonymous_read="yes", upstreams=["dev"])
    settings = "/repositories/default/meanwhile/settings"
    (shown,) = re.findall(r'name="shown" value="([^>]*)">', ada.get(settings))
    sent = {"shown": shown, "upstreams": ["dev"], "anonymous_read": "yes"}
    ada.post(settings, upstreams=[])  # another one closes it
    assert noted(site, "repository.change").details == {"upstreams": [], "anonymous_read": False}
    ada.post(settings, description="mine", **sent)
    assert noted(site, "repository.change").details == {"description": "mine"}
    assert re.search(r'name="anonymous_read"[^>]*checked', ada.get(settings)) is None
    for broken in ("nonsense", "7", "[1]", "[" * 20_000):
        ada.post(settings, description="mine", upstreams=[], shown=broken)
    assert noted(site, "repository.change").details == {"description": "mine"}


def test_what_is_wrong_with_a_repository_stands_beside_its_field(site: Site, ada: Person) -> None:
    new, settings = "/domains/default/new-repository", "/repositories/default/staging/settings"
    for name, status, said in (
        ("a", 400, "2 to 100 of letters"),
        ("dev", 409, "exists already"),
        ("", 400, "2 to 100"),
    ):
        page = ada.post(new, status, name=name, description="kept")
        assert re.search(rf'class="wrong" id="name-hint">[^<]*{said}', page), name
        assert 'value="kept"' in page
    for upstreams, status, said in ((["dev", "dev"], 400, "twice"), (["absent"], 404, "not found")):
        page = ada.post(new, status, name="tools2", upstreams=upstreams)
        assert re.search(rf'class="wrong" id="upstreams-hint">[^<]*{said}', page), upstreams
        assert re.findall(r"<option selected>([^<]+)", page) == upstreams
    page = ada.post(settings, 400, upstreams=["staging"])
    assert re.search(r'class="wrong" id="upstreams-hint">[^<]*its own upstream', page)
    ada.get("/domains/nowhere/new-repository", 404)
    ada.get("/repositories/default/nowhere/settings", 404)
    rob = Person(site, "rob")
    assert "settings" not in rob.get("/repositories/default/dev")
    rob.get("/repositories/default/dev/settings", 403)
    rob.get(new, 403)
    rob.get("/domains/nowhere/new-repository", 403)


# --- keys and the audit log ------------------------------------------------------------------------------------------


def test_keys_are_shown_and_a_rotation_is_asked_for_once(site: Site, ada: Person) -> None:
    page = ada.get("/keys")
    assert page.count(">current</span>") >= 2
    assert "entrepot keys destroy --domain NAME" in page
    ada.post("/keys/domains/default/rotate")
    ada.post("/keys/domains/default/rotate")
    ada.post("/keys/server/rotate")
    assert "rotation waits for the worker" in ada.get("/keys")
    with site.services.db.read() as session:
        asked = list(session.scalars(sa.select(Job.subject).where(Job.kind == "rotate_keys").order_by(Job.id)))
    assert asked == ["keys:default", "keys:(server)"]
    assert noted(site, "keys.rotate_asked").object == "(server)"
    assert "is not of a known format" in ada.post("/keys/domains/default/verify", 200), "bodies here have no envelopes"
    assert "Every key opens" in ada.post("/keys/server/verify", 200)
    ada.post("/keys/domains/nowhere/rotate", 404)


def test_the_log_is_verified_and_exported_as_it_is_filtered(site: Site, ada: Person) -> None:
    page = ada.post("/audit/verify", 200)
    assert re.search(r"Yes: entries 1 to \d+ follow each other", page)
    assert "none yet" in page, "no checkpoint was signed here"
    assert 'href="/audit/export.jsonl?action=user.create"' in ada.get("/audit?action=user.create")
    answer = ada.http.get("/audit/export.jsonl?action=user.create")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="audit.jsonl"'
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert {line["action"] for line in lines} == {"user.create"}
    assert [line["seq"] for line in lines] == sorted(line["seq"] for line in lines)
    with site.services.db.write() as session:
        session.execute(sa.text("DROP TRIGGER audit_entry_no_update"))
        session.execute(sa.text("UPDATE audit_entry SET actor = 'nobody' WHERE seq = 3"))
    assert "No: entry 3 says something else" in ada.post("/audit/verify", 200)


# --- what was there before -------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=NEEDS_POSTGRES)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind, made by the migrations."""
    with contextlib.ExitStack() as ending:
        url = f"sqlite:///{tmp_path / 'entrepot.db'}"
        if request.param == "postgresql":
            url = ending.enter_context(postgres.shared().fresh_database())
        command.upgrade(migrate.alembic_config(url), "head")
        made = Database(url)
        ending.callback(made.close)
        yield made


def test_the_migration_knows_last_sign_ins_from_the_audit_log(database: Database) -> None:
    config = migrate.alembic_config(database.url)
    command.downgrade(config, "0023")
    command.downgrade(config, "-1")
    made, early = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    with database.engine.begin() as connection:
        accounts = sa.Table("account", sa.MetaData(), autoload_with=connection)
        assert "last_sign_in_at" not in accounts.c
        row = {"actions": [], "is_disabled": False, "is_service": False, "created_at": _kept(made, database)}
        connection.execute(sa.insert(accounts), [{**row, "name": name} for name in ("ada", "anew", "never")])
    with database.write() as session:
        # Who had the name of "anew" before has signed in; the one who has it now has not.
        for name, at in (("ada", made), ("ada", made + timedelta(hours=5)), ("anew", early), ("gone", made)):
            audit.record(session, at, name, "session.open", f"user/{name}")
    command.upgrade(config, "head")
    with database.read() as session:
        found = dict(session.execute(sa.select(Account.name, Account.last_sign_in_at)).all())
    assert found == {"ada": made + timedelta(hours=5), "anew": None, "never": None}
    with database.write() as session:
        ada = find_account(session, "ada")
        session.add(
            WebSession(digest="d", account_id=ada.id, csrf_token="c", created_at=made, seen_at=made, expires_at=made)
        )
    command.downgrade(config, "0023")
    command.downgrade(config, "-1")
    command.upgrade(config, "head")
    with database.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(WebSession)) == 1, "what hangs on accounts stays"


def _kept(at: datetime, database: Database) -> datetime:
    return at.replace(tzinfo=None) if database.is_sqlite else at
