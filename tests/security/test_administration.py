"""D3, D15, E3, E4, E6 on the pages that steer the server: what is forged, guessed, added or hostile changes nothing."""

import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from registry import granting, groups
from registry.accounts import find_account
from registry.http import auth
from registry.models import Account, AccountGroup, Domain, GroupMember, Repository, RoleGrant, Token, WebSession
from registry.pages import access
from tests.browser import corpus, reading
from tests.browser.site import PASSWORD, Site, build, fill

PAGES = (
    "/administration", "/access/users", "/access/users/mel", "/access/groups", "/access/groups/ops", "/access",
    "/access/policy/default", "/access/policy/default/dev", "/quotas", "/quotas/default", "/keys", "/audit",
)  # fmt: skip
# What each form of the administration sends, to be tried as a stranger's site or a person without the right would.
FORMS: dict[str, dict[str, object]] = {
    "/access/users": {"name": "intruder", "actions": "admin"},
    "/access/users/rob": {"actions": "admin", "repositories": ""},
    "/access/users/rob/disable": {},
    "/access/users/rob/enable": {},
    "/access/users/rob/delete": {},
    "/access/users/rob/login-link": {},
    "/access/users/rob/sign-out": {},
    "/access/users/rob/second-factor/reset": {},
    "/access/users/rob/join": {"group": "ops"},
    "/access/groups": {"name": "intruders"},
    "/access/groups/ops/members": {"user": "rob"},
    "/access/groups/ops/members/mel/remove": {},
    "/access/groups/ops/delete": {},
    "/access/roles": {"role": "admin", "principal": "user/rob", "where": "server"},
    "/access/roles/1/revoke": {},
    "/access/policy/default/dev": {"act": "put", "document": '{"Statement": {"Effect": "Allow", "Principal": "user/rob", "Action": "*", "Resource": "*"}}'},
    "/quotas/default": {"limit": "1"},
    "/quotas/default/dev": {"limit": "1"},
    "/keys/server/rotate": {},
    "/keys/domains/default/rotate": {},
    "/keys/domains/default/verify": {},
    "/audit/verify": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = build(tmp_path_factory.mktemp("site"))
    fill(made)
    with made.services.db.write() as session:
        made.services.stores.new_key(session, None, made.clock())
    yield made
    made.world.close()


def sign_in(site: Site, name: str) -> tuple[FlaskClient, str]:
    client = site.app.test_client()
    assert client.post("/sign-in", data={"user": name, "password": PASSWORD}).status_code == 303
    return client, re.search(r'name="csrf_token" value="([^"]+)"', client.get("/account").text)[1]


@pytest.fixture(scope="module")
def ada(site: Site) -> tuple[FlaskClient, str]:
    return sign_in(site, "ada")


def state(site: Site) -> list[object]:
    """Everything that these forms change, but for what is on its way to the worker."""
    with site.services.db.read() as session:
        columns = [
            *(sa.select(*(getattr(Account, name) for name in ("name", "actions", "repositories", "is_disabled", "is_service", "password_hash")))
              .order_by(Account.id),),
            sa.select(AccountGroup.name).order_by(AccountGroup.id),
            sa.select(GroupMember.group_id, GroupMember.account_id).order_by(GroupMember.account_id),
            sa.select(RoleGrant.id, RoleGrant.role).order_by(RoleGrant.id),
            sa.select(Repository.quota_bytes).order_by(Repository.id),
            sa.select(Domain.quota_bytes).order_by(Domain.id),
            sa.text("SELECT document FROM resource_policy ORDER BY id"),
            sa.text("SELECT count(*) FROM setup_login"),
            sa.text("SELECT count(*) FROM job WHERE kind = 'rotate_keys'"),
        ]  # fmt: skip
        return [list(map(tuple, session.execute(query))) for query in columns]


def test_the_forms_are_all_forms_of_the_administration(site: Site) -> None:
    starts = ("/access", "/quotas", "/keys", "/audit")
    rules = {
        rule.rule for rule in site.app.url_map.iter_rules() if "POST" in rule.methods and rule.rule.startswith(starts)
    }
    adapter = site.app.url_map.bind("localhost")
    tried = {adapter.match(path, method="POST", return_rule=True)[0].rule for path in FORMS}
    twins = {"/access/policy/<domain>", "/access/domains", "/access/domains/<domain>/delete", "/keys/server/verify"}
    assert rules - twins == tried


def test_E6_forms_of_the_administration_are_not_taken_from_elsewhere(site: Site, ada: tuple[FlaskClient, str]) -> None:
    client, token = ada
    before = state(site)
    for path, fields in FORMS.items():
        for sent, headers in (
            ({**fields}, {}),
            ({**fields, "csrf_token": "x" * 43}, {}),
            ({**fields, "csrf_token": token}, {"Origin": "https://evil.example"}),
            ({**fields, "csrf_token": token}, {"Sec-Fetch-Site": "cross-site"}),
        ):
            assert client.post(path, data=sent, headers=headers).status_code == 403, (path, sent, headers)
        assert client.get(path).status_code in {200, 404, 405}, f"{path}: looking changes nothing"
    assert state(site) == before


def test_E6_control_with_the_check_off_a_form_from_elsewhere_counts(
    site: Site, ada: tuple[FlaskClient, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_refuse_forged", lambda _expected: None)
    sent = ada[0].post("/access/groups", data={"name": "forged"}, headers={"Origin": "https://evil.example"})
    assert sent.headers["Location"] == "/access/groups/forged"


def test_D3_who_administers_nothing_changes_nothing(site: Site) -> None:
    client, token = sign_in(site, "mel")
    before = state(site)
    for path, fields in FORMS.items():
        answer = client.post(path, data={**fields, "csrf_token": token})
        assert answer.status_code in {403, 404}, (path, answer.status)
    for path in (*PAGES, "/audit/export.jsonl"):
        assert client.get(path).status_code == 403, path
    assert state(site) == before


def test_D3_the_administrator_of_another_domain_reaches_nothing_by_number_or_name(
    site: Site, ada: tuple[FlaskClient, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, token = ada
    client.post("/access/domains", data={"name": "elsewhere", "csrf_token": token})
    site.person("neighbour", [])
    grant = {"role": "admin", "principal": "user/neighbour", "where": "elsewhere"}
    assert client.post("/access/roles", data={**grant, "csrf_token": token}).status_code == 303
    theirs, theirs_token = sign_in(site, "neighbour")
    before = state(site)
    for path, fields in FORMS.items():
        answer = theirs.post(path, data={**fields, "csrf_token": theirs_token})
        assert answer.status_code in {403, 404}, (path, answer.status)
    absent = theirs.post("/access/roles/99999/revoke", data={"csrf_token": theirs_token})
    there = theirs.post("/access/roles/1/revoke", data={"csrf_token": theirs_token})
    assert there.status_code == absent.status_code == 404
    said = [re.search(r'role="alert">(.+?)</div></div>', each.text, re.DOTALL)[1] for each in (there, absent)]
    assert said[0].replace("&#39;1&#39;", "N") == said[1].replace("&#39;99999&#39;", "N"), "a number tells nothing"
    assert state(site) == before
    # the control: without the question whose place it is, the number alone would do
    monkeypatch.setattr(access.granting, "find_managed", lambda *_: None)
    assert theirs.post("/access/roles/1/revoke", data={"csrf_token": theirs_token}).status_code == 303


def test_D15_fields_that_no_form_has_are_not_taken(site: Site, ada: tuple[FlaskClient, str]) -> None:
    client, token = ada
    more = {"is_service": "1", "is_disabled": "true", "password": PASSWORD, "password_hash": "x", "id": "1", "account_id": "1",
            "has_second_factor": "true", "created_at": "2000-01-01", "last_sign_in_at": "2000-01-01", "created_by": "nobody",
            "actor": "nobody", "source": "oidc:x", "quota_bytes": "1", "revision": "zzz"}  # fmt: skip
    sent = {**more, "name": "plain", "actions": "read", "repositories": "default/dev", "csrf_token": token}
    assert client.post("/access/users", data=sent).status_code == 303
    assert client.post("/access/users/plain", data={**sent, "name": "mel", "actions": "publish"}).status_code == 303
    assert (
        client.post("/access/groups/ops/members", data={**more, "user": "plain", "csrf_token": token}).status_code
        == 303
    )
    with site.services.db.read() as session:
        made = find_account(session, "plain")
        assert (made.actions, made.repositories) == (["publish"], ["default/dev"])
        assert (made.is_service, made.is_disabled) == (False, False)
        assert (made.password_hash, made.last_sign_in_at, made.created_at) == (None, None, site.clock())
        assert groups.members(session, "ops")["plain"] == ["local"]
    # the control: the one such field that is in the form counts, spelt as the form spells it
    assert client.post("/access/users", data={**sent, "name": "robot", "is_service": "yes"}).status_code == 303
    with site.services.db.read() as session:
        assert find_account(session, "robot").is_service


def test_E3_E4_hostile_text_stays_text_and_every_answer_has_its_headers(
    site: Site, ada: tuple[FlaskClient, str]
) -> None:
    client, token = ada
    bad = corpus.PAYLOAD
    assert reading.dangers(reading.fragment(f'<input value="{bad}">')), "the control: unescaped, it would be noticed"
    with site.services.db.write() as session:
        session.execute(sa.update(AccountGroup).values(description=bad))
        session.execute(sa.update(RoleGrant).values(created_by=bad[:100]))
        session.execute(sa.update(WebSession).values(user_agent=bad))
        session.execute(sa.update(Token).values(name=bad[:100]))
    seen = 0
    answers = [client.get(path) for path in PAGES]
    answers += [
        client.get(f"{path}?q={bad}&actor={bad}&who={bad}&what={bad}&after={bad}&group={bad}") for path in PAGES
    ]
    for path, fields in FORMS.items():
        # Every text of every form, hostile: refused or kept as text, and shown as such.
        wild = dict.fromkeys(
            (
                "name",
                "repositories",
                "description",
                "user",
                "principal",
                "where",
                "role",
                "limit",
                "document",
                "actions",
            ),
            bad,
        )
        if path.startswith(
            ("/access/users/rob", "/access/roles/", "/keys", "/access/groups/ops/d", "/access/groups/ops/members/")
        ):
            continue
        answers.append(client.post(path, data={**fields, **wild, "csrf_token": token}))
    for answer in answers:
        assert answer.status_code < 500, answer.request.path
        policy = answer.headers["Content-Security-Policy"]
        assert policy == reading.POLICY, answer.request.path
        if answer.mimetype == "text/html" and answer.status_code != 303:
            assert reading.dangers(reading.parse(answer.text)) == [], answer.request.path
            seen += "&lt;svg onload=alert(1)&gt;" in answer.text
    assert seen > 15, "the payload is on hardly any page: the test looks past it"


def test_a_link_for_oneself_would_make_a_password_of_a_stolen_session(site: Site, ada: tuple[FlaskClient, str]) -> None:
    client, token = ada
    before = state(site)
    assert client.post("/access/users/ada/login-link", data={"csrf_token": token}).status_code == 403
    assert state(site) == before
    with site.services.db.read() as session:
        assert [grant.principal for grant in granting.listed(session)][:1] != ["user/ada"]
