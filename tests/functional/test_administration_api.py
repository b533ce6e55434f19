"""What the API tells administrators: users looked for, previews of policies, sign-in links, keys, the log's soundness."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.functional.api_world import PASSWORD, World
from tests.functional.test_hooks_api import Hooks

PREVIEW = "/domains/default/repositories/prod/permissions/policy/preview"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = Hooks(tmp_path_factory.mktemp("world"))
    for method, path, body in (
        ("POST", "/groups", {"name": "ops"}),
        ("PUT", "/groups/ops/members/reader", None),
        ("POST", "/role-grants", {"role": "publisher", "principal": "group/ops", "where": "default/st*"}),
        ("POST", "/role-grants", {"role": "reader", "principal": "user/reader", "where": "default/staging"}),
        ("POST", "/users", {"name": "robot", "actions": ["read"], "isService": True}),
        ("POST", "/users", {"name": "boss", "actions": []}),
        ("POST", "/role-grants", {"role": "admin", "principal": "user/boss", "where": "default"}),
    ):
        assert made.call(method, path, json=body).status_code < 300
    made.tokens["boss"] = made.token("boss", "admin")
    yield made
    made.close()


def test_users_are_looked_for_and_tell_what_they_have(world: World) -> None:
    def names(query: str) -> list[str]:
        return [item["name"] for item in world.call("GET", f"/users?{query}").json["items"]]

    assert names("kind=service") == ["robot"]
    assert names("group=ops") == ["reader"]
    assert names("search=obo") == ["robot"]
    assert names("search=_") == []
    assert names("secondFactor=on") == []
    assert world.call("GET", "/users?kind=ghost").status_code == 400
    (reader,) = world.call("GET", "/users?search=reader").json["items"]
    assert (reader["groups"], reader["roleCount"], reader["hasSecondFactor"]) == (["ops"], 2, False)
    detail = world.call("GET", "/users/reader").json
    assert [(role["role"], role["where"], role["through"]) for role in detail["roles"]] == [
        ("publisher", "default/st*", "group/ops"),
        ("reader", "default/staging", None),
    ]
    assert detail["memberships"] == [{"group": "ops", "sources": ["local"]}]
    assert detail["tokenCount"] >= 1
    assert world.call("GET", "/users/ghost").status_code == 404


def test_a_sign_in_link_comes_in_once_and_never_for_oneself_or_a_program(world: World) -> None:
    made = world.call("POST", "/users/reader/login-link")
    assert made.status_code == 201
    path = made.json["url"].partition("localhost")[2]
    for expected in (303, 403):
        browser = world.app.test_client()
        browser.get(path)
        assert browser.post("/setup").status_code == expected
    statuses = [world.call("POST", f"/users/{user}/login-link").status_code for user in ("admin", "robot", "ghost")]
    assert statuses == [403, 400, 404]


def statement(**more: object) -> str:
    entry = {"Effect": "Allow", "Principal": "group/ops", "Action": "codeartifact:CopyPackageVersions", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [{**entry, **more}]}, indent=1)


def preview(world: World, document: str, as_: str = "admin", place: str = PREVIEW) -> dict:
    answer = world.call("POST", place, as_=as_, json={"policyDocument": document})
    assert answer.status_code == 200, answer.text
    return answer.json


def test_a_preview_is_what_would_be_explained_after_the_change(world: World) -> None:
    told = preview(world, statement())
    assert {effect["principal"] for effect in told["effects"]} >= {"user/reader"}
    for effect in told["effects"]:
        assert (effect["gains"], effect["loses"]) == (["codeartifact:CopyPackageVersions"], [])
        assert effect["resource"] == "repository/default/prod"

    def allowed() -> bool:
        query = "who=user/reader&what=CopyPackageVersions&where=default/prod"
        return world.call("GET", f"/explain/access?{query}").json["allowed"]

    assert not allowed(), "a preview sets nothing"
    place = PREVIEW.removesuffix("/preview")
    assert world.call("GET", place).status_code == 404
    assert world.call("PUT", place, json={"policyDocument": statement()}).status_code == 200
    assert allowed()
    assert preview(world, statement())["effects"] == [], "what is kept already changes nothing"
    lost = preview(world, statement(Effect="Deny", Principal="*", Action="*"))
    assert lost["faults"] == []
    losers = {effect["principal"] for effect in lost["effects"] if "codeartifact:ReadFromRepository" in effect["loses"]}
    assert {"user/admin", "user/boss"} <= losers
    packages = preview(world, statement(Resource="package/default/prod/npm/payments/*"))
    gained = {(effect["principal"], effect["resource"]) for effect in packages["effects"] if effect["gains"]}
    assert gained == set(), "who may copy all of it may copy those"
    assert ("user/reader", "repository/default/prod") in {
        (effect["principal"], effect["resource"]) for effect in packages["effects"] if effect["loses"]
    }
    assert world.call("DELETE", place).status_code == 200


def test_a_preview_tells_names_to_who_may_know_them(world: World) -> None:
    dev = PREVIEW.replace("/prod/", "/dev/")
    everybody = statement(Effect="Deny", Principal="*", Action="codeartifact:ReadFromRepository")
    seen = {effect["principal"] for effect in preview(world, everybody, place=dev)["effects"]}
    assert {"user/admin", "user/reader", "user/publisher"} <= seen
    less = {effect["principal"] for effect in preview(world, everybody, "boss", dev)["effects"]}
    assert "user/boss" in less
    assert not {"user/admin", "user/publisher"} & less, "accounts of the server are not a domain's to list"
    refused = world.call("POST", dev, as_="reader", json={"policyDocument": everybody})
    assert refused.status_code == 403


def test_faults_come_with_lines_and_nothing_else(world: World) -> None:
    told = preview(world, statement(Effect="Maybe", Colour="red"))
    assert [(fault["line"], fault["text"]) for fault in told["faults"]] == [
        (4, "statement 1: unknown field 'Colour'"),
        (4, "statement 1: Effect must be Allow or Deny"),
    ]
    assert (told["effects"], told["difference"]) == ([], [])
    assert preview(world, '{"a":}')["faults"][0]["line"] == 1
    assert "there is no group/ghosts" in preview(world, statement(Principal="group/ghosts"))["faults"][0]["text"]


def test_the_log_is_exported_whole_and_found_sound_or_not(world: World) -> None:
    lines = [json.loads(line) for line in world.call("GET", "/audit/export").text.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    only = world.call("GET", "/audit/export?action=group.create").text.splitlines()
    assert [json.loads(line)["object"] for line in only] == ["group/ops"]
    sound = world.call("GET", "/audit/verification").json
    assert (sound["isSound"], sound["firstSeq"], sound["lastSeq"]) == (True, 1, len(lines))
    with world.db.write() as session:
        session.execute(sa.text("DROP TRIGGER audit_entry_no_delete"))
        session.execute(sa.text("DELETE FROM audit_entry WHERE seq = 5"))
    broken = world.call("GET", "/audit/verification").json
    assert (broken["isSound"], broken["lastSeq"]) == (False, 4)
    assert "entry 5 is missing" in broken["fault"]


def test_keys_of_the_server_and_of_a_domain_are_verified(world: World) -> None:
    for place in ("/keys", "/domains/default/keys"):
        told = world.call("GET", f"{place}/verification").json
        assert (told["isSound"], told["faults"]) == (True, [])
    with world.db.write() as session:
        session.execute(sa.text("UPDATE blob SET envelope = x'00'"))
    told = world.call("GET", "/domains/default/keys/verification").json
    assert not told["isSound"]
    assert told["faults"]


def test_last_sign_in_is_noted(world: World) -> None:
    world.now += timedelta(hours=1)
    before = world.call("GET", "/users/publisher").json["user"]["lastSignInAt"]
    assert world.app.test_client().post("/sign-in", data={"user": "publisher", "password": PASSWORD}).status_code == 303
    after = world.call("GET", "/users/publisher").json["user"]["lastSignInAt"]
    assert (before, after is not None) == (None, True)
