"""D1, A8: publishing, tags and warnings, states, taking out: each its own right, by every door of every format."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from registry.formats.npm import changes
from registry.http import auth
from registry.pages import sight
from tests.functional.api_world import PASSWORD, World
from tests.harness import npm_packages
from tests.harness.identity import Browser
from tests.harness.npm_clients import NpmClients
from tests.harness.server import Server
from tests.security.test_token_scopes import ask, send_generic, send_maven, send_npm

DEV, STAGING = "default/dev", "default/staging"
PUBLISH, METADATA, STATUS = "PublishPackageVersion", "PutPackageMetadata", "UpdatePackageVersionsStatus"
DELETE, DELETE_ALL, DISPOSE = "DeletePackageVersions", "DeletePackage", "DisposePackageVersions"
READ = "ReadFromRepository"


def policy(*actions: str, who: str = "user/eve", effect: str = "Allow", resource: str = "*") -> dict[str, str]:
    statement = {
        "Effect": effect,
        "Principal": who,
        "Action": [f"codeartifact:{each}" for each in (READ, *actions)] if effect == "Allow" else list(actions),
        "Resource": resource,
    }
    return {"policyDocument": json.dumps({"Version": "2012-10-17", "Statement": [statement]})}


POLICY = "/domains/default/repositories/dev/permissions/policy"

# --- every door, in this process -------------------------------------------------------------------------------------


def document(world: World, name: str) -> dict:
    return ask(world, "GET", f"/npm/{DEV}/{name}?write=true", world.tokens["admin"]).json


def without(found: dict, version: str) -> dict:
    return {**found, "versions": {key: value for key, value in found["versions"].items() if key != version}}


def unpublish(world: World, secret: str) -> int:
    found = document(world, "kept")
    return ask(world, "PUT", f"/npm/{DEV}/kept/-rev/{found['_rev']}", secret, json=without(found, "1.0.0")).status_code


def deprecate(world: World, secret: str) -> int:
    found = document(world, "kept")
    found["versions"]["1.0.0"]["deprecated"] = "no more"
    return ask(world, "PUT", f"/npm/{DEV}/kept", secret, json=found).status_code


def by_rev(world: World, secret: str, name: str, path: str = "") -> int:
    rev = document(world, name)["_rev"]
    return ask(world, "DELETE", f"/npm/{DEV}/{name}{path}/-rev/{rev}", secret).status_code


def tag(world: World, secret: str) -> int:
    return ask(world, "PUT", f"/npm/{DEV}/-/package/kept/dist-tags/stable", secret, json="1.0.0").status_code


def maven(world: World, secret: str) -> int:
    return ask(world, "DELETE", f"/maven/{DEV}/org/acme/kept/1.0/", secret).status_code


CLIENTS = {
    # what is done: who may, of those with one right each
    "npm publish": (lambda world, secret: send_npm(world, secret, "fresh").status_code, {PUBLISH}),
    "npm dist-tag": (tag, {METADATA}),
    "npm deprecate": (deprecate, {METADATA}),
    "npm unpublish a version": (unpublish, {DELETE}),
    "npm unpublish its file": (lambda world, secret: by_rev(world, secret, "kept", "/-/kept-1.0.0.tgz"), {DELETE}),
    "npm unpublish all of several": (lambda world, secret: by_rev(world, secret, "kept"), {DELETE_ALL}),
    "npm unpublish the last one": (lambda world, secret: by_rev(world, secret, "single"), {DELETE}),
    "mvn deploy": (lambda world, secret: send_maven(world, secret, "fresh").status_code, {PUBLISH}),
    "maven DELETE": (maven, {DELETE}),
    "generic PUT": (lambda world, secret: send_generic(world, secret, "fresh").status_code, {PUBLISH}),
    "generic DELETE": (lambda world, secret: ask(world, "DELETE", f"/generic/{DEV}/kept/1.0/", secret).status_code,
                       {DELETE}),
}  # fmt: skip
RIGHTS = (PUBLISH, METADATA, STATUS, DELETE, DELETE_ALL, DISPOSE)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.account("eve")
    for name, versions in (("kept", ("1.0.0", "2.0.0")), ("single", ("1.0.0",))):
        for version in versions:
            body = npm_packages.publish_document(name, version, npm_packages.tarball(name, version))
            assert ask(made, "PUT", f"/npm/{DEV}/{name}", made.tokens["admin"], json=body).status_code == 201
    for send in (send_maven, send_generic):
        assert send(made, made.tokens["admin"], "kept").status_code == 201
    made.publish("dev", "wheel", "1.0")
    yield made
    made.close()


def give(world: World, *rights: str) -> str:
    """A token of eve, whom the policy gives reading and these."""
    assert world.call("PUT", POLICY, json=policy(*rights)).status_code == 200
    return world.token("eve", "read", "publish")


def is_in(status: int) -> bool:
    """Whether something was let through; what then finds nothing left to do is 404."""
    return status in {200, 201, 204, 404}


@pytest.mark.parametrize("right", RIGHTS)
def test_D1_one_right_does_what_it_is_for_by_every_clients_door_and_nothing_else(world: World, right: str) -> None:
    secret = give(world, right)
    before = world.audit()
    answers = {what: act(world, secret) for what, (act, _) in CLIENTS.items() if right not in _}
    assert answers == dict.fromkeys(answers, 403), "what the right is not for"
    assert world.audit() == before, "a refusal leaves nothing"
    for what, (act, allowed) in CLIENTS.items():
        if right in allowed:
            assert is_in(act(world, secret)), what


def test_D1_a_deny_of_taking_out_holds_for_publishers_and_administrators(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = policy(f"codeartifact:{DELETE}", f"codeartifact:{DELETE_ALL}", who="*", effect="Deny")
    assert world.call("PUT", POLICY, json=denied).status_code == 200
    removing = [act for act, allowed in CLIENTS.values() if allowed & {DELETE, DELETE_ALL}]
    for who in ("admin", "publisher"):
        assert {act(world, world.tokens[who]) for act in removing} == {403}
        assert send_npm(world, world.tokens[who], f"by-{who}").status_code == 201
    # The control: with a door that asks for the right to publish, as it once did, the denied act goes through.
    monkeypatch.setattr(auth, "check_package", lambda *_: None)
    monkeypatch.setattr(auth, "check_any", lambda *_: None, raising=False)
    monkeypatch.setattr("registry.repos.admission.check_any", lambda *_: None)
    assert unpublish(world, world.tokens["admin"]) == 200


def test_D1_the_body_decides_which_right_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A5: a document that takes a version out and changes a warning beside it needs both rights."""
    found = without(document(world, "kept"), "1.0.0")
    found["versions"]["2.0.0"]["deprecated"] = "no more"
    path = f"/npm/{DEV}/kept/-rev/{found['_rev']}"
    for rights, status in (((DELETE,), 403), ((METADATA,), 403), ((DELETE, METADATA), 200)):
        assert ask(world, "PUT", path, give(world, *rights), json=found).status_code == status, rights
    # The control: the door alone lets who may only move tags publish; what stores asks again, and refuses even then.
    monkeypatch.setattr(changes.auth, "check_package", lambda *_: None)
    assert send_npm(world, give(world, METADATA), "fresh").status_code == 403


ROLES = {"reader": set(), "publisher": {PUBLISH, METADATA, DELETE, DELETE_ALL}, "release-manager": {METADATA}}


@pytest.mark.parametrize("role", ROLES)
def test_roles_do_what_they_are_for(world: World, role: str) -> None:
    body = {"role": role, "principal": "user/eve", "where": DEV}
    assert world.call("POST", "/role-grants", json=body).status_code == 201
    secret = world.token("eve", "read", "publish")
    for what, (act, allowed) in CLIENTS.items():
        assert is_in(act(world, secret)) == bool(allowed & ROLES[role]), what


# --- the pages' forms ------------------------------------------------------------------------------------------------

WHEEL = f"/packages/{DEV}/pypi/wheel"
MANY = f"/versions/{DEV}/pypi/wheel"
FORMS = {
    "yank": (f"{WHEEL}/-/1.0/yank", {}, STATUS),
    "unyank": (f"{WHEEL}/-/1.0/unyank", {}, STATUS),
    "status": (f"{WHEEL}/status", {"status": "active"}, STATUS),
    "unlist": (MANY, {"to": "Unlisted", "version": "1.0"}, STATUS),
    "dispose": (MANY, {"to": "Disposed", "version": "1.0"}, DISPOSE),
    "delete many": (MANY, {"to": "Deleted", "version": "1.0"}, DELETE),
    "delete": (f"{WHEEL}/-/1.0/delete", {}, DELETE),
}


@pytest.mark.parametrize("right", [PUBLISH, STATUS, DISPOSE, DELETE])
def test_D1_forms_need_the_same_rights_and_only_they_are_shown(
    world: World, right: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(world, right)
    browser = Browser(world)
    browser.sign_in("eve")
    shown = browser.get(WHEEL).text
    assert ("/yank" in shown) == (right == STATUS)
    assert ("/-/1.0/delete" in shown) == (right == DELETE)
    assert ('value="Disposed"' in shown, 'value="Unlisted"' in shown) == (right == DISPOSE, right == STATUS)
    refused = {what: browser.post(path, **data).status_code for what, (path, data, of) in FORMS.items() if of != right}
    assert refused == dict.fromkeys(refused, 403)
    if right == PUBLISH:  # the control: forms that ask for nothing take it
        monkeypatch.setattr(sight, "check_may", lambda *_: None)
    allowed = next(what for what, (*_, of) in FORMS.items() if of == (STATUS if right == PUBLISH else right))
    path, data, _ = FORMS[allowed]
    assert browser.post(path, **data).status_code in {200, 303}


# --- through npm and curl, on a running server ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("rights") / "data",
        with_worker=False,
        web_processes=1,
        environment={"ENTREPOT_UPSTREAM_URLS": "npm=http://127.0.0.1:9/"},
    ).start()
    yield running
    running.kill()


def curl(server: Server, method: str, path: str, token: str, *more: str) -> str:
    """The status that curl got."""
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, "-u", f"eve:{token}", *more]
    done = subprocess.run([*command, server.url + path], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


def test_D1_a_policy_that_allows_publishing_does_not_allow_unpublishing_and_the_other_way_round(
    server: Server, tmp_path: Path
) -> None:
    headers = {"Authorization": f"Bearer {server.token('admin')}"}
    api = f"{server.url}/api/v1"
    person = {"name": "eve", "actions": [], "password": PASSWORD}
    assert requests.post(f"{api}/users", json=person, headers=headers, timeout=20).status_code == 201

    def give_there(*rights: str) -> str:
        done = requests.put(
            f"{api}{POLICY.replace('dev', 'staging')}", json=policy(*rights), headers=headers, timeout=20
        )
        assert done.status_code == 200, done.text
        return server.token("eve", "read", "publish")

    token = give_there(PUBLISH)
    clients = NpmClients(tmp_path / "home", f"{server.url}/npm/{STAGING}/", token)
    clients.npm("publish", cwd=clients.project("gauge", "1.0.0")).ok()
    refused = clients.npm("unpublish", "gauge@1.0.0", "--force")
    assert (refused.returncode != 0, "codeartifact:DeletePackage" in refused.output) == (True, True), refused.output
    assert clients.npm("dist-tag", "add", "gauge@1.0.0", "stable").returncode != 0
    for path in (f"/maven/{STAGING}/org/acme/gauge/1.0/gauge-1.0.jar", f"/generic/{STAGING}/gauge/1.0/gauge.bin"):
        assert curl(server, "PUT", path, token, "--data-binary", "some bytes") == "201"
        assert curl(server, "DELETE", path.rpartition("/")[0] + "/", token) == "403"
    assert requests.get(f"{server.url}/npm/{STAGING}/gauge", headers=headers, timeout=20).status_code == 200

    give_there(DELETE)
    assert clients.npm("publish", cwd=clients.project("gauge", "2.0.0")).returncode != 0
    for path in (f"/maven/{STAGING}/org/acme/gauge/1.0/gauge-1.0.jar", f"/generic/{STAGING}/gauge/1.0/gauge.bin"):
        assert curl(server, "PUT", path, token, "--data-binary", "other bytes") == "403"
        assert curl(server, "DELETE", path.rpartition("/")[0] + "/", token) == "204"
    clients.npm("unpublish", "gauge@1.0.0", "--force").ok()
    assert requests.get(f"{server.url}/npm/{STAGING}/gauge", headers=headers, timeout=20).status_code == 404


# --- npm access -----------------------------------------------------------------------------------------------------


def test_npm_access_tells_what_roles_and_policies_decide(world: World) -> None:
    """Accounts' words alone would say: publisher writes, eve nothing."""

    def listed(path: str, who: str = "admin") -> dict[str, str]:
        answer = ask(world, "GET", f"/npm/{DEV}/-/{path}", world.tokens[who])
        assert answer.status_code == 200, answer.text
        return answer.json

    collaborators = "package/kept/collaborators"
    assert listed(collaborators) == {"admin": "write", "promoter": "read", "publisher": "write", "reader": "read", "approver": "read"}  # fmt: skip
    world.call("POST", "/groups", json={"name": "team"})
    world.call("PUT", "/groups/team/members/eve")
    world.call("POST", "/role-grants", json={"role": "publisher", "principal": "group/team", "where": DEV})
    rule = policy(f"codeartifact:{PUBLISH}", who="user/publisher", effect="Deny", resource=f"package/{DEV}/npm//kept")
    assert world.call("PUT", POLICY, json=rule).status_code == 200
    told = listed(collaborators)
    assert (told["eve"], told["publisher"]) == ("write", "read")
    assert listed("user/publisher/package") == {"kept": "read", "single": "write"}
    assert listed("user/eve/package") == {"kept": "write", "single": "write"}
    world.tokens["eve"] = world.token("eve", "read")
    assert listed("user/eve/package", "eve") == {"kept": "read", "single": "read"}, "a token that only reads"
    world.tokens["eve"] = world.token("eve", "read", "publish")
    assert listed(collaborators, "eve")["eve"] == "write"
