"""D1, D3: every route for sixteen kinds of caller, equal to a reviewed table; and nothing of one domain seen from another."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select
from werkzeug.routing import Rule

from registry.accounts import find_account
from registry.http.auth import permissions
from registry.models import Blob, DomainKey
from tests.functional.api_world import World

# What a path's variables stand for: nothing that exists but the place, so that who gets in changes nothing.
NOTHING = {
    "domain": "default",
    "repository": "staging",
    "format_name": "pypi",
    "name": "absent",
    "project": "absent",
    "version": "9.9",
    "filename": "absent-9.9.tar.gz",
    "path": "absent/absent/9.9/absent-9.9.jar",
    "user": "absent",
    "group": "absent",
}

# Who gets through the door of a route, by what it declares. Read by people: each line is a decision.
ALL = {"domain admin", "server admin"}
READERS = ALL | {"reader", "publisher", "release manager", "group member", "build token", "service account"}
MAY: dict[str, set[str]] = {
    "read": READERS,
    **{
        f"codeartifact:{name}": READERS
        for name in (
            "ListPackages", "DescribePackage", "ListPackageVersions", "DescribePackageVersion",
            "ListPackageVersionAssets", "GetPackageVersionAsset", "GetRepositoryEndpoint", "GetPackageVersionReadme", "ListPackageVersionDependencies",
        )
    },
    "publish": ALL | {"publisher", "group member"},
    "codeartifact:DeletePackage or codeartifact:DeletePackageVersions": ALL | {"publisher", "group member"},
    **{
        f"{or_else}codeartifact:PutPackageMetadata": ALL | {"publisher", "group member", "release manager"}
        for or_else in ("", "codeartifact:PublishPackageVersion or ", "codeartifact:DeletePackageVersions or ")
    },
    "codeartifact:DeletePackageVersions": ALL | {"publisher", "group member"},
    "codeartifact:DeletePackage": ALL | {"publisher", "group member"},
    "codeartifact:DisposePackageVersions": ALL | {"publisher", "group member", "release manager"},
    "codeartifact:UpdatePackageVersionsStatus": ALL | {"publisher", "group member", "release manager"},
    **{
        f"codeartifact:{name}": ALL
        for name in (
            "AssociateExternalConnection", "CreatePackageGroup", "CreateRepository", "DeleteDomain", "DeletePackageGroup",
            "DeleteRepository", "DisassociateExternalConnection", "PutPackageOriginConfiguration", "UpdatePackageGroup",
            "UpdatePackageGroupOriginConfiguration", "UpdateRepository",
            *(f"{verb}{of}PermissionsPolicy" for verb in ("Get", "Put", "Delete") for of in ("Domain", "Repository")),
        )
    },
    **{f"entrepot:{name}": ALL for name in ("ManageKeys", "ManageQuotas", "ReopenRelease")},
    "entrepot:ReadAuditLog": {"server admin"},
    "entrepot:ManageKeys on the server": {"server admin"},
    **{f"ssm:{name}": {"server admin"} for name in ("DeleteParameter", "DescribeParameters", "GetParameters", "PutParameter")},
    **{
        f"secretsmanager:{name}": {"server admin"}
        for name in ("DeleteSecret", "DescribeSecret", "GetSecretValue", "ListSecrets", "PutSecretValue", "UpdateSecret")
    },
    **{name: {"server admin"} for name in ("admin", "entrepot:ApplyPipelines", "entrepot:ManageAgents", "entrepot:ManageUsers", "entrepot:ManageGroups", "codeartifact:CreateDomain")},
}  # fmt: skip
# Whose credential does not count at all.
NOBODY = {"anonymous", "expired token", "revoked token", "disabled user"}
WHO = sorted(
    NOBODY
    | set().union(*MAY.values())
    | {"stranger", "publisher elsewhere", "denied by policy", "other domain's admin"}
)
# Doors that open to readers and then say no to some of them.
STRICTER = ("/collaborators", "/-/user/<user>/package")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    made.publish("staging", "kept", "1.0")
    yield made
    made.close()


@pytest.fixture(scope="module")
def callers(world: World) -> dict[str, str | None]:
    """A token of each kind of caller; all but one say everything, so that the account's rights decide."""

    def call(method: str, path: str, **body: object) -> None:
        answer = world.call(method, path, json=body)
        assert answer.status_code < 300, answer.json

    def made(name: str, *actions: str, repositories: list[str] | None = None, **more: object) -> str:
        call("POST", "/users", name=name, actions=list(actions), repositories=repositories, **more)
        return world.token(name, "admin")

    call("POST", "/domains", name="other")
    call("POST", "/domains/other/repositories", name="staging")
    call("POST", "/groups", name="team")
    staging = ["default/staging"]
    tokens: dict[str, str | None] = {
        "anonymous": None,
        "stranger": made("nothing"),
        "reader": made("a-reader", "read", repositories=staging),
        "publisher elsewhere": made("elsewhere", "read", "publish", repositories=["default/prod"]),
        "publisher": made("a-publisher", "read", "publish", repositories=staging),
        "release manager": made("manager"),
        "domain admin": made("boss"),
        "server admin": world.tokens["admin"],
        "disabled user": made("gone", "admin"),
        "group member": made("member"),
        "denied by policy": made("denied", "admin"),
        "other domain's admin": made("neighbour"),
        "service account": made("robot", "read", repositories=staging, isService=True),
    }
    for role, principal, where in (
        ("release-manager", "user/manager", "default/staging"),
        ("admin", "user/boss", "default"),
        ("publisher", "group/team", "default/st*"),
        ("admin", "user/neighbour", "other"),
    ):
        call("POST", "/role-grants", role=role, principal=principal, where=where)
    call("PUT", "/groups/team/members/member")
    call("PATCH", "/users/gone", isDisabled=True)
    deny = {"Effect": "Deny", "Principal": "user/denied", "Action": "*", "Resource": "*"}
    call("PUT", "/domains/default/permissions/policy", policyDocument=json.dumps({"Statement": [deny]}))
    call("PATCH", "/users/denied", repositories=["default/*"])
    tokens["expired token"] = world.token("admin", "admin", life=timedelta(minutes=1))
    tokens["revoked token"] = revoked = world.token("admin", "admin")
    world.revoke(revoked)
    world.now += timedelta(minutes=2)
    with world.db.write() as session:
        tokens["build token"] = world.services.accounts.issue_token(
            session, find_account(session, "a-publisher").id, "build", actions=["read"], repositories=staging,
            life=timedelta(hours=1), now=world.now, kind="build",
        ).secret  # fmt: skip
    return tokens


def routes(world: World) -> list[tuple[str, Rule, str]]:
    """(method, rule, what it declares) of every route of the client and API doors that asks for a right."""
    declared = permissions(world.app)
    found = []
    for rule in world.app.url_map.iter_rules():
        label = re.fullmatch(r"(?:client|api): (.*?)(?: on the (?:repository|domain))?", declared[rule.endpoint])
        if label is not None and label[1] != "signed in" and not rule.rule.endswith(STRICTER):
            # The one right that routes of the server and of a domain both ask for.
            is_of_server = label[1] == "entrepot:ManageKeys" and "domain" not in rule.arguments
            word = f"{label[1]} on the server" if is_of_server else label[1]
            found += [(method, rule, word) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]
    return found


def ask(world: World, method: str, rule: str, token: str | None, values: dict[str, str]):
    path = re.sub(r"<(?:[a-z_]+:)?([a-z_]+)>", lambda found: values.get(found[1], "99999"), rule)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # Nothing is deleted: the revision is not the policy's, and no token is of that kind.
    stale = {"policy": {"policyRevision": "stale"}, "tokens": {"kind": "none"}}
    query = stale.get(path.rpartition("/")[2], {}) if method == "DELETE" else {}
    body = None if method in {"GET", "DELETE"} else {"unknown": 1}
    return world.http.open(path, method=method, headers=headers, json=body, query_string=query)


def test_the_table_speaks_of_every_right_that_a_route_asks_for(world: World) -> None:
    assert {label for _, _, label in routes(world)} == set(MAY)
    assert len(WHO) >= 16


@pytest.mark.parametrize("who", WHO)
def test_D1_every_route_lets_in_whom_the_table_says(world: World, callers: dict[str, str | None], who: str) -> None:
    differing = []
    asked = routes(world)
    for method, rule, label in asked:
        status = ask(world, method, rule.rule, callers[who], NOTHING).status_code
        expected = "unknown" if who in NOBODY else "in" if who in MAY[label] else "out"
        got = {401: "unknown", 403: "out"}.get(status, "in")
        if got != expected:
            differing.append((method, rule.rule, label, status))
    assert len(asked) > 60
    assert differing == []


def test_D1_the_signed_in_doors_open_to_valid_credentials_only(world: World, callers: dict[str, str | None]) -> None:
    declared = permissions(world.app)
    rules = [rule for rule in world.api_rules() if declared[rule.endpoint] == "api: signed in"]
    assert rules
    for rule in rules:
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            for who in (*sorted(NOBODY), "stranger"):
                status = ask(world, method, rule.rule, callers[who], NOTHING).status_code
                assert (status == 401) == (who in NOBODY), (method, rule.rule, who, status)


# --- domains ---------------------------------------------------------------------------------------------------------

SECRET, HIDDEN = "secret-thing", "hidden-place"
THERE = {
    "domain": "vault",
    "repository": HIDDEN,
    "format_name": "pypi",
    "name": SECRET,
    "project": SECRET,
    "version": "1.0",
    "filename": "secret_thing-1.0-py3-none-any.whl",
    "path": f"a/{SECRET}/1.0/{SECRET}-1.0.jar",
    "user": "keeper",
    "group": "keepers",
}


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with a second domain, and the whole administrator of the first."""
    made = World(tmp_path_factory.mktemp("vault"))
    for method, path, body in (
        ("POST", "/domains", {"name": "vault"}),
        ("POST", "/domains/vault/repositories", {"name": HIDDEN}),
        ("POST", "/domains/default/repositories", {"name": HIDDEN + "2"}),
        ("POST", "/users", {"name": "boss", "actions": []}),
        ("POST", "/users", {"name": "keeper", "actions": ["read"], "repositories": ["vault/*"]}),
        ("POST", "/role-grants", {"role": "admin", "principal": "user/boss", "where": "default"}),
        ("POST", "/role-grants", {"role": "admin", "principal": "user/keeper", "where": "vault"}),
    ):
        assert made.call(method, path, json=body).status_code == 201
    made.publish(HIDDEN, SECRET, "1.0", domain_name="vault")
    made.publish("dev", SECRET, "1.0")
    made.tokens["boss"] = made.token("boss", "admin")
    made.tokens["keeper"] = made.token("keeper", "admin")
    yield made
    made.close()


def walk(world: World, who: str, *, reading: bool = False) -> dict[tuple[str, str], tuple[int, str]]:
    """Every route of every door, asked for what lies in the other domain: status and text."""
    with world.db.write() as session:
        opened = world.services.accounts.open_session(
            session, find_account(session, who).id, world.now, proved_at=world.now
        )  # what asks for a fresh proof is to be refused for what it is
    browser = world.app.test_client()
    browser.set_cookie("entrepot_session", opened)
    with world.db.read() as session:
        found = world.services.accounts.browser_session(session, opened, world.now)
    assert found is not None
    answers = {}
    for rule in list(world.app.url_map.iter_rules()):
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            if reading and method != "GET":
                continue
            path = re.sub(r"<(?:[a-z_]+:)?([a-z_]+)>", lambda match: THERE.get(match[1], "2"), rule.rule)
            if "/users" in path or "sign-out" in path or "/account" in path or "/sign-in" in path:
                continue  # one's own, or the whole server's
            if (method, path) == ("DELETE", "/api/v1/tokens"):
                continue  # ends all of one's own, and the walk with them
            if path.startswith(("/api/", "/pypi/", "/npm/", "/maven/", "/generic/")):
                answer = world.http.open(
                    path, method=method, headers={"Authorization": f"Bearer {world.tokens[who]}"},
                    json=None if method in {"GET", "DELETE"} else {},
                )  # fmt: skip
            else:
                data = {"csrf_token": found.csrf_token} if method == "POST" else None
                answer = browser.open(path, method=method, data=data, headers={"Accept": "text/html"})
            answers[method, rule.rule] = (answer.status_code, answer.get_data(as_text=True))
    return answers


def test_D3_nothing_of_another_domain_is_found_by_any_route(vault: World) -> None:
    before = vault.audit()
    answers = walk(vault, "boss")
    declared = permissions(vault.app)
    is_public = {rule.rule: "public" in declared[rule.endpoint] for rule in vault.app.url_map.iter_rules()}
    for (method, rule), (status, text) in answers.items():
        if is_public[rule] and "<domain>" not in rule:
            continue  # the same for everybody
        if "<domain>" in rule and not is_public[rule]:
            assert status in {303, 400, 401, 403, 404, 415}, (method, rule, status)
        if status not in {401, 403, 404} and not is_public[rule]:
            assert "vault" not in text, (method, rule)
        assert status != 200 or SECRET not in text or "<domain>" not in rule, (method, rule)
    with vault.db.read() as session:
        assert len(session.scalars(select(Blob)).all()) == 2
    assert [entry for entry in vault.audit()[len(before) :] if "vault" in entry[2]] == []
    # The control: the same walk by who keeps that domain finds it.
    seen = [
        route
        for route, (status, text) in walk(vault, "keeper", reading=True).items()
        if status == 200 and SECRET in text
    ]
    assert len(seen) > 5


def test_D3_grants_and_tokens_of_another_domain_are_not_found_by_number(vault: World) -> None:
    grants = vault.call("GET", "/role-grants").json["items"]
    theirs = next(each["id"] for each in grants if each["where"] == "vault")
    assert vault.call("DELETE", f"/role-grants/{theirs}", as_="boss").status_code == 404
    assert [each["where"] for each in vault.call("GET", "/role-grants", as_="boss").json["items"]] == ["default"]
    tokens = vault.call("GET", "/tokens?user=keeper").json["items"]
    assert vault.call("DELETE", f"/tokens/{tokens[0]['id']}", as_="boss").status_code == 404
    query = {"who": "keeper", "what": "read", "where": f"vault/{HIDDEN}"}
    assert vault.call("GET", "/explain/access", as_="boss", query_string=query).status_code == 403


def test_D3_domains_share_neither_bodies_nor_keys_nor_upstreams_nor_copies(vault: World) -> None:
    with vault.db.read() as session:
        first, second = session.scalars(select(Blob).order_by(Blob.id)).all()
        keys = session.scalars(select(DomainKey)).all()
    assert (first.sha256, first.domain_id == second.domain_id) == (second.sha256, False)
    assert first.locator != second.locator
    assert first.envelope != second.envelope
    assert {key.domain_id for key in keys} == {first.domain_id, second.domain_id}
    mine = "/domains/default/repositories"
    for as_ in ("boss", "admin"):
        asked = vault.call("POST", mine, as_=as_, json={"name": "mixed", "upstreams": [HIDDEN]})
        assert asked.status_code == 404
        copied = vault.call(
            "POST", f"{mine}/dev/packages/pypi/{SECRET}/versions/1.0/promote", as_=as_, json={"target": HIDDEN}
        )
        assert copied.status_code == 404


def test_D3_a_policy_speaks_of_its_own_domain_only(vault: World) -> None:
    wide = {"Effect": "Allow", "Principal": "user/boss", "Action": "*", "Resource": "*"}
    named = {**wide, "Resource": f"repository/vault/{HIDDEN}"}
    text = json.dumps({"Statement": [wide, named]})
    put = vault.call("PUT", "/domains/default/permissions/policy", as_="boss", json={"policyDocument": text})
    assert put.status_code == 200
    assert vault.call("GET", f"/domains/vault/repositories/{HIDDEN}", as_="boss").status_code == 403
    # The control: the same words as that domain's own policy do open it.
    assert (
        vault.call("PUT", "/domains/vault/permissions/policy", as_="keeper", json={"policyDocument": text}).status_code
        == 200
    )
    assert vault.call("GET", f"/domains/vault/repositories/{HIDDEN}", as_="boss").status_code == 200
    assert vault.call("DELETE", "/domains/vault/permissions/policy", as_="keeper").status_code == 200
