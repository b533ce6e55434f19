"""Policies, roles and groups on a running registry: what they open and close, at once, and what is said about it."""

import hashlib
import io
import json
from pathlib import Path

import pytest
from sqlalchemy import event

from tests.functional.api_world import World
from tests.harness.packages import wheel

DEV, STAGING = "/domains/default/repositories/dev", "/domains/default/repositories/staging"
POLICY, DOMAIN_POLICY = "permissions/policy", "/domains/default/permissions/policy"
READ, PUBLISH = "codeartifact:ReadFromRepository", "codeartifact:PublishPackageVersion"


@pytest.fixture
def world(tmp_path: Path):
    made = World(tmp_path)
    made.publish("dev", "My-Pkg", "1.0", canonical="1")
    made.publish("dev", "other", "0.1")
    yield made
    made.close()


def statement(effect: str = "Allow", **fields: object) -> dict[str, object]:
    return {"Effect": effect, "Principal": "*", "Action": "*", "Resource": "*", **fields}


def put(world: World, place: str, *statements: dict[str, object], as_: str = "admin", **more: str):
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    return world.call("PUT", place, as_=as_, json={"policyDocument": document, **more})


def grant(world: World, role: str, principal: str, where: str, as_: str = "admin"):
    return world.call("POST", "/role-grants", as_=as_, json={"role": role, "principal": principal, "where": where})


def reads(world: World, who: str | None, place: str = DEV) -> int:
    return world.call("GET", place, as_=who).status_code


# --- policies --------------------------------------------------------------------------------------------------------


def test_a_policy_opens_and_closes_from_the_next_request_on(world: World) -> None:
    world.account("eve")
    eve = world.token("eve", "read")
    assert world.call("GET", DEV, token=eve).status_code == 403
    made = put(world, f"{DEV}/{POLICY}", statement(Principal="user/eve", Action=READ))
    assert made.status_code == 200
    assert made.json["policy"]["resourceArn"] == "repository/default/dev"
    assert world.call("GET", DEV, token=eve).status_code == 200
    assert world.call("GET", STAGING, token=eve).status_code == 403
    assert world.call("DELETE", f"{DEV}/{POLICY}").status_code == 200
    assert world.call("GET", DEV, token=eve).status_code == 403


def test_a_deny_holds_for_everybody_but_nobody_is_locked_out_of_policies(world: World) -> None:
    assert put(world, DOMAIN_POLICY, statement("Deny")).status_code == 200
    assert [reads(world, who) for who in ("reader", "admin", "publisher")] == [403, 403, 403]
    assert world.call("GET", "/users").status_code == 200  # a domain's policy says nothing about the server
    assert put(world, f"{DEV}/{POLICY}", statement()).status_code == 200
    assert world.call("DELETE", DOMAIN_POLICY).status_code == 200
    assert [reads(world, who) for who in ("reader", "admin")] == [200, 200]


def test_a_deny_holds_for_anonymous_readers_of_an_open_repository(world: World) -> None:
    place = "/domains/default/repositories/open"
    assert reads(world, None, place) == 200
    put(world, f"{place}/{POLICY}", statement("Deny", Condition={"IpAddress": {"aws:SourceIp": "198.51.100.0/24"}}))
    assert reads(world, None, place) == 200
    put(world, f"{place}/{POLICY}", statement("Deny", Condition={"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}))
    assert reads(world, None, place) == 401
    assert world.http.get("/pypi/default/open/simple/").status_code == 401
    put(world, f"{place}/{POLICY}", statement("Allow"))  # what opens a repository to strangers is its own setting
    assert reads(world, None) == 401
    assert reads(world, None, place) == 200


def test_one_package_can_be_closed_in_an_open_repository(world: World) -> None:
    rule = statement("Deny", Principal="user/reader", Resource="package/default/dev/pypi//my-pkg")
    put(world, f"{DEV}/{POLICY}", rule)
    for path, expected in ((f"{DEV}/packages/pypi/My.Pkg", 403), (f"{DEV}/packages/pypi/other", 200), (DEV, 200)):
        assert world.call("GET", path, as_="reader").status_code == expected
        assert world.call("GET", path, as_="publisher").status_code == 200
    headers = {"Authorization": f"Bearer {world.tokens['reader']}"}
    for name, expected in (("my-pkg", 403), ("other", 200)):
        assert world.http.get(f"/pypi/default/dev/simple/{name}/", headers=headers).status_code == expected


def test_the_revision_keeps_a_change_from_being_lost(world: World) -> None:
    first = put(world, DOMAIN_POLICY, statement("Deny", Action=PUBLISH)).json["policy"]["revision"]
    second = put(world, DOMAIN_POLICY, statement("Deny", Action=PUBLISH), policyRevision=first)
    assert second.status_code == 200
    stale = put(world, DOMAIN_POLICY, statement(), policyRevision=first)
    assert (stale.status_code, stale.json["code"]) == (409, "conflict")
    assert world.call("DELETE", f"{DOMAIN_POLICY}?policyRevision={first}").status_code == 409
    kept = world.call("GET", DOMAIN_POLICY).json["policy"]
    assert kept["revision"] == second.json["policy"]["revision"]
    assert json.loads(kept["document"])["Statement"] == [statement("Deny", Action=PUBLISH)]
    assert put(world, f"{DEV}/{POLICY}", statement(), policyRevision=first).status_code == 409  # there is none


def test_a_bad_policy_is_refused_with_all_its_faults_and_changes_nothing(world: World) -> None:
    before = world.audit()
    refused = put(
        world, DOMAIN_POLICY, statement("Perhaps"), statement(Action="x:y"), statement(Principal="user/nobody")
    )
    assert refused.status_code == 400
    assert "statement 1" in refused.json["detail"]
    assert "statement 2" in refused.json["detail"]
    assert (
        put(world, DOMAIN_POLICY, statement(Principal=["user/nobody", "group/none"]))
        .json["detail"]
        .endswith("no user/nobody")
    )
    for text in ("", "{}", "[1", '{"Statement": [], "Statement": []}', "x" * 70_000):
        assert world.call("PUT", DOMAIN_POLICY, json={"policyDocument": text}).status_code == 400
    assert world.call("GET", DOMAIN_POLICY).status_code == 404
    assert world.audit() == before


def test_changes_are_in_the_audit_log(world: World) -> None:
    world.call("POST", "/groups", json={"name": "ops"})
    put(world, DOMAIN_POLICY, statement())
    grant(world, "reader", "group/ops", "default")
    world.call("DELETE", DOMAIN_POLICY)
    assert world.audit()[-4:] == [
        ("admin", "group.create", "group/ops"),
        ("admin", "policy.put", "domain/default"),
        ("admin", "role.grant", "group/ops"),
        ("admin", "policy.delete", "domain/default"),
    ]


# --- roles and groups ------------------------------------------------------------------------------------------------


def test_roles_are_granted_to_users_and_groups_where_it_is_said(world: World) -> None:
    world.account("eve")
    world.call("POST", "/groups", json={"name": "team"})
    eve = world.token("eve", "read", "publish", "admin")

    def may() -> list[int]:
        return [world.call("GET", f"/domains/default/repositories/{name}", token=eve).status_code for name in
                ("dev", "staging", "prod")]  # fmt: skip

    assert may() == [403, 403, 403]
    assert grant(world, "reader", "user/eve", "default/dev").status_code == 201
    assert may() == [200, 403, 403]
    assert grant(world, "reader", "group/team", "default/st*").status_code == 201
    assert may() == [200, 403, 403]
    assert world.call("PUT", "/groups/team/members/eve").status_code == 204
    assert may() == [200, 200, 403]
    assert grant(world, "reader", "group/team", "default").status_code == 201
    assert may() == [200, 200, 200]
    assert world.call("DELETE", "/groups/team/members/eve").status_code == 204
    assert may() == [200, 403, 403]
    grants = world.call("GET", "/role-grants").json["items"]
    assert world.call("DELETE", f"/role-grants/{grants[0]['id']}").status_code == 204
    assert may() == [403, 403, 403]


def test_granting_twice_is_once(world: World) -> None:
    first, second = (grant(world, "reader", "user/approver", "default") for _ in range(2))
    assert first.json == second.json
    assert len(world.call("GET", "/role-grants").json["items"]) == 1


@pytest.mark.parametrize(
    ("role", "principal", "where", "status"),
    [
        ("king", "user/reader", "default", 400),
        ("reader", "reader", "default", 400),
        ("reader", "user/nobody", "default", 404),
        ("reader", "group/nobody", "default", 404),
        ("reader", "user/reader", "nowhere", 404),
        ("reader", "user/reader", "default/nowhere", 404),
        ("reader", "user/reader", "*", 400),
        ("reader", "user/reader", "default/", 400),
        ("reader", "user/reader", "default/a/b", 400),
    ],
)
def test_grants_that_make_no_sense_are_refused(
    world: World, role: str, principal: str, where: str, status: int
) -> None:
    assert grant(world, role, principal, where).status_code == status
    assert world.call("GET", "/role-grants").json["items"] == []


def test_a_domains_administrator_rules_there_and_nowhere_else(world: World) -> None:
    world.call("POST", "/domains", json={"name": "other"})
    world.account("boss")
    grant(world, "admin", "user/boss", "default")
    world.tokens["boss"] = world.token("boss", "admin")
    assert world.call("POST", "/domains/default/repositories", as_="boss", json={"name": "mine"}).status_code == 201
    assert put(world, DOMAIN_POLICY, statement(Principal="user/reader", Action=READ), as_="boss").status_code == 200
    assert grant(world, "admin", "user/reader", "default/mine", as_="boss").status_code == 201
    for where in ("server", "other", "other/*"):
        assert grant(world, "admin", "user/boss", where, as_="boss").status_code == 403
    grant(world, "reader", "user/boss", "other")
    assert [entry["where"] for entry in world.call("GET", "/role-grants", as_="boss").json["items"]] == [
        "default", "default/mine",
    ]  # fmt: skip
    for method, path in (("POST", "/domains/other/repositories"), ("POST", "/users"), ("DELETE", "/domains/other")):
        assert world.call(method, path, as_="boss", json={"name": "mine", "actions": []} if method == "POST" else None
                          ).status_code in {400, 403}  # fmt: skip
    assert world.call("GET", "/domains/other", as_="boss").status_code == 200


def test_who_has_rights_from_a_role_makes_tokens_with_them(world: World) -> None:
    world.account("eve")
    grant(world, "publisher", "user/eve", "default/dev")
    world.tokens["eve"] = world.token("eve", "read", "publish")
    body = {"name": "n", "actions": ["publish"], "ttlSeconds": 600}
    assert world.call("POST", "/tokens", as_="eve", json={**body, "repositories": ["default/dev"]}).status_code == 201
    assert world.call("POST", "/tokens", as_="eve", json=body).status_code == 201
    assert world.call("POST", "/tokens", as_="eve", json={**body, "repositories": ["default/*"]}).status_code == 403
    assert world.call("POST", "/tokens", as_="eve", json={**body, "actions": ["admin"]}).status_code == 403


def test_a_token_narrows_whatever_policies_and_roles_give(world: World) -> None:
    world.account("eve")
    grant(world, "admin", "user/eve", "server")
    narrow = world.token("eve", "read", repositories=["default/dev"])
    assert world.call("GET", DEV, token=narrow).status_code == 200
    assert world.call("GET", STAGING, token=narrow).status_code == 403
    assert world.call("PATCH", DEV, token=narrow, json={"description": "x"}).status_code == 403
    assert world.call("GET", "/users", token=narrow).status_code == 403
    assert world.call("GET", "/users", token=world.token("eve", "admin")).status_code == 200


def test_service_accounts_have_tokens_and_nothing_else(world: World) -> None:
    made = world.call("POST", "/users", json={"name": "ci", "actions": ["read"], "isService": True})
    assert (made.status_code, made.json["isService"], made.json["hasPassword"]) == (201, True, False)
    assert world.call("POST", "/users/ci/password", json={"password": "x" * 12}).status_code == 400
    bad = {"name": "ci2", "actions": [], "isService": True, "password": "x" * 12}
    assert world.call("POST", "/users", json=bad).status_code == 400
    assert world.call("GET", DEV, token=world.token("ci", "read")).status_code == 200
    only_services = statement("Deny", Condition={"Bool": {"entrepot:ServiceAccount": "true"}})
    put(world, f"{DEV}/{POLICY}", only_services)
    assert world.call("GET", DEV, token=world.token("ci", "read")).status_code == 403
    assert reads(world, "reader") == 200


# --- domains and repositories that come and go -----------------------------------------------------------------------


def test_domains_are_made_listed_and_deleted(world: World) -> None:
    assert world.call("POST", "/domains", json={"name": "Bad Name"}).status_code == 400
    made = world.call("POST", "/domains", json={"name": "other"})
    assert (made.status_code, made.json["repositoryCount"], made.json["assetSizeBytes"]) == (201, 0, 0)
    assert world.call("POST", "/domains", json={"name": "other"}).status_code == 409
    shown = world.call("GET", "/domains/default").json
    assert (shown["repositoryCount"], shown["packageCount"], shown["assetCount"]) == (5, 2, 2)
    assert [item["name"] for item in world.call("GET", "/domains").json["items"]] == ["default", "other"]
    assert [item["name"] for item in world.call("GET", "/domains", as_="reader").json["items"]] == ["default"]
    assert world.call("DELETE", "/domains/default").status_code == 409
    assert world.call("DELETE", "/domains/default?force=yes").status_code == 400
    assert world.call("DELETE", "/domains/other").status_code == 204
    assert world.call("DELETE", "/domains/default?force=true").status_code == 204
    assert world.call("GET", "/domains").json["items"] == []
    assert reads(world, "admin") == 404


def test_what_is_made_anew_under_an_old_name_is_another_thing(world: World) -> None:
    world.account("eve")
    eve, reader = world.token("eve", "read"), world.token("reader", "read", repositories=["default/dev"])
    grant(world, "reader", "user/eve", "default/dev")
    put(world, f"{DEV}/{POLICY}", statement(Principal="user/promoter", Action=READ))
    assert world.call("GET", DEV, token=eve).status_code == 200
    assert world.call("DELETE", f"{DEV}?force=true").status_code == 204
    assert world.call("POST", "/domains/default/repositories", json={"name": "dev"}).status_code == 201
    assert [world.call("GET", DEV, token=token).status_code for token in (eve, reader)] == [403, 403]
    assert [reads(world, who) for who in ("reader", "publisher", "promoter")] == [403, 403, 403]
    assert world.call("GET", f"{DEV}/{POLICY}").status_code == 404
    assert world.call("GET", f"{DEV}/packages").json["items"] == []


def test_a_repository_that_others_ask_is_not_deleted(world: World) -> None:
    refused = world.call("DELETE", "/domains/default/repositories/public?force=true")
    assert refused.status_code == 409
    assert "dev" in refused.json["detail"]


def test_an_account_made_anew_under_an_old_name_is_somebody_else(world: World) -> None:
    world.account("eve")
    world.call("POST", "/groups", json={"name": "team"})
    world.call("PUT", "/groups/team/members/eve")
    grant(world, "reader", "group/team", "default")
    grant(world, "reader", "user/eve", "default")
    put(world, DOMAIN_POLICY, statement(Principal="user/eve", Action=READ))
    assert world.call("GET", DEV, token=world.token("eve", "read")).status_code == 200
    assert world.call("DELETE", "/users/eve").status_code == 204
    world.account("eve")
    assert world.call("GET", DEV, token=world.token("eve", "read")).status_code == 403


def test_nobody_shuts_themselves_out(world: World) -> None:
    for body in ({"isDisabled": True}, {"actions": ["read"]}, {"repositories": ["default/dev"]}):
        assert world.call("PATCH", "/users/admin", json=body).status_code == 409
    assert world.call("DELETE", "/users/admin").status_code == 409


def test_changed_rights_count_at_once(world: World) -> None:
    assert world.call("PATCH", "/users/reader", json={"repositories": ["default/prod"]}).json["repositories"]
    assert reads(world, "reader") == 403
    assert world.call("PATCH", "/users/reader", json={"everywhere": True}).json["repositories"] is None
    assert reads(world, "reader") == 200
    assert world.call("PATCH", "/users/reader", json={"isDisabled": True}).json["isDisabled"]
    assert reads(world, "reader") == 401
    assert world.call("PATCH", "/users/reader", json={"everywhere": True, "repositories": ["a/b"]}).status_code == 400


# --- explanations ----------------------------------------------------------------------------------------------------


def explained(world: World, who: str, what: str, where: str, as_: str = "admin", ip: str = "") -> dict:
    query = {"who": who, "what": what, "where": where, "sourceIp": ip}
    answer = world.call("GET", "/explain/access", as_=as_, query_string=query)
    assert answer.status_code == 200, answer.json
    return answer.json


def test_explanations_say_what_decided_and_what_was_looked_at(world: World) -> None:
    world.call("POST", "/groups", json={"name": "team"})
    grant(world, "publisher", "group/team", "default/st*")
    net = {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}
    put(world, DOMAIN_POLICY, statement("Deny", Sid="NotFromThere", Action=READ, Condition=net))
    own = explained(world, "reader", "ReadFromRepository", "default/dev")
    assert (own["allowed"], own["decidedBy"]) == (True, "the account's own rights")
    denied = explained(world, "user/reader", READ, "repository/default/dev", ip="192.0.2.1")
    assert (denied["decision"], denied["decidedBy"]) == (
        "explicitDeny",
        "Deny 'NotFromThere' in the policy of domain default",
    )
    assert [entry["verdict"] for entry in denied["lookedAt"] if entry["sid"]] == ["decided"]
    nothing = explained(world, "reader", "publish", "default/dev")
    assert (nothing["decision"], nothing["permission"]) == ("implicitDeny", PUBLISH)
    role = explained(world, "group/team", "publish", "default/staging")
    assert role["decidedBy"] == "Allow by the role publisher of group/team on default/st*"
    assert explained(world, "anonymous", "read", "default/open")["allowed"]
    assert not explained(world, "anonymous", "read", "default/dev")["allowed"]
    assert explained(world, "reader", "read", "default/dev", as_="reader")["lookedAt"] == []
    for who, what, where, status in (("nobody", "read", "default", 404), ("reader", "fly", "default", 400),
                                     ("reader", "read", "a/b/c", 400)):  # fmt: skip
        answer = world.call("GET", "/explain/access", query_string={"who": who, "what": what, "where": where})
        assert answer.status_code == status
    query = {"who": "reader", "what": "read", "where": "default/dev", "sourceIp": "the office"}
    refused = world.call("GET", "/explain/access", query_string=query)
    assert (refused.status_code, "is no IP address" in refused.json["detail"]) == (400, True)


def test_an_explanation_of_what_is_not_there_says_so_to_who_may_know(world: World) -> None:
    """To who may read neither, a place that is there and one that is not look the same."""
    world.account("prefixed", "read", repositories=["default/de*"])
    world.tokens["prefixed"] = world.token("prefixed", "read")

    def asked(who: str, where: str) -> tuple[int, str]:
        query = {"who": who, "what": "read", "where": where}
        answer = world.call("GET", "/explain/access", as_=who, query_string=query)
        return answer.status_code, (answer.json.get("detail") or answer.json["decidedBy"]).replace(where, "WHERE")

    assert asked("admin", "default/absent") == (404, "repository 'WHERE' was not found")
    for place in ("repository/default/absent", "package/default/absent/pypi//x"):
        assert asked("admin", place) == (404, "repository 'default/absent' was not found")
    assert asked("admin", "absent") == (404, "domain 'WHERE' was not found")
    assert asked("admin", "absent/dev") == (404, "domain 'absent' was not found")
    assert asked("prefixed", "default/devil") == (404, "repository 'WHERE' was not found")
    assert asked("prefixed", "default/dev")[0] == 200
    assert asked("prefixed", "default/absent") == asked("prefixed", "default/prod")
    assert asked("prefixed", "absent") == asked("prefixed", "default")
    assert asked("prefixed", "default/prod")[0] == 200


def test_an_explanation_is_what_then_happens(world: World) -> None:
    world.account("eve")
    grant(world, "reader", "user/eve", "default/st*")
    put(world, DOMAIN_POLICY, statement("Deny", Principal="user/publisher", Resource="repository/default/open"))
    for who in ("reader", "publisher", "promoter", "stranger", "eve", "admin"):
        token = world.token(who, "admin", "read")
        for name in ("dev", "staging", "open", "prod"):
            said = explained(world, who, "read", f"default/{name}")["allowed"]
            did = world.call("GET", f"/domains/default/repositories/{name}", token=token).status_code
            assert said == (did == 200), (who, name)


# --- the price -------------------------------------------------------------------------------------------------------


def test_a_warm_page_costs_one_query_with_policies_roles_and_groups(world: World) -> None:
    world.call("POST", "/groups", json={"name": "team"})
    world.call("PUT", "/groups/team/members/reader")
    grant(world, "reader", "group/team", "default")
    put(world, DOMAIN_POLICY, *[statement("Deny", Principal="user/promoter", Action=PUBLISH) for _ in range(50)])
    headers = {"Authorization": f"Bearer {world.tokens['reader']}"}
    page = "/pypi/default/dev/simple/other/"
    assert world.http.get(page, headers=headers).status_code == 200
    seen: list[str] = []
    event.listen(world.db.engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
    assert world.http.get(page, headers=headers).status_code == 200
    assert len([text for text in seen if text.lstrip().upper().startswith("SELECT")]) == 1
    grant(world, "reader", "user/promoter", "default")  # a change is noticed without being asked for
    seen.clear()
    assert world.http.get(page, headers=headers).status_code == 200
    assert len(seen) > 1


def test_an_upload_is_decided_on_the_package_that_its_body_names(world: World) -> None:
    world.account("eve")
    eve = world.token("eve", "publish")
    rule = statement(Principal="user/eve", Action=PUBLISH, Resource="package/default/dev/pypi//acme-*")

    def upload(name: str) -> int:
        filename, body = wheel(name, "1.0")
        form = {":action": "file_upload", "protocol_version": "1", "metadata_version": "2.1", "name": name,
                "version": "1.0", "filetype": "bdist_wheel", "pyversion": "py3",
                "sha256_digest": hashlib.sha256(body).hexdigest(),
                "content": (io.BytesIO(body), filename)}  # fmt: skip
        headers = {"Authorization": f"Bearer {eve}"}
        answer = world.http.post("/pypi/default/dev/", data=form, headers=headers)
        assert answer.status_code != 400, answer.get_data(as_text=True)
        return answer.status_code

    assert upload("acme-one") == 403
    put(world, f"{DEV}/{POLICY}", rule)
    assert [upload("acme-one"), upload("beta-one")] == [200, 403]
    names = [item["name"] for item in world.call("GET", f"{DEV}/packages").json["items"]]
    assert ("acme-one" in names, "beta-one" in names) == (True, False)
    put(world, f"{DEV}/{POLICY}", rule, statement("Deny", Resource="package/default/dev/pypi//acme-two"))
    assert [upload("acme-two"), upload("acme-three")] == [403, 200]
