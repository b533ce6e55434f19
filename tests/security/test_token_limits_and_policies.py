"""D1, D9: a token's limits and the rules of policies and roles are asked together: limits only narrow, and a deny wins."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.access import Scope
from registry.repos.admission import Admissions
from registry.repos.publish import Publisher
from tests.functional.api_world import World
from tests.security.test_token_scopes import ask, limited, send_generic, send_maven, send_npm, send_wheel

REPOSITORY = "/domains/default/repositories/dev"
SENDERS = {
    "pypi": (send_wheel, "pypi/{}", "pypi//{}"),
    "npm": (send_npm, "npm/{}", "npm//{}"),
    "maven": (send_maven, "maven/org.acme/{}", "maven/org.acme/{}"),
    "generic": (send_generic, "generic/{}", "generic//{}"),
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.account("eve")
    yield made
    made.close()


def policy(world: World, effect: str, who: str, actions: str, package: str) -> None:
    """Put a policy of one statement on the repository."""
    rule = {"Effect": effect, "Principal": who, "Action": actions, "Resource": f"package/default/dev/{package}"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
    done = world.call("PUT", f"{REPOSITORY}/permissions/policy", json={"policyDocument": document})
    assert done.status_code == 200, done.text


def grant(world: World, role: str) -> None:
    body = {"role": role, "principal": "user/eve", "where": "default/dev"}
    assert world.call("POST", "/role-grants", json=body).status_code == 201


@pytest.mark.parametrize("format_name", SENDERS)
def test_D1_a_role_gives_a_token_for_one_package_that_one_only(
    world: World, format_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, path, _ = SENDERS[format_name]
    secret = limited(world, "read", "publish", user="eve", packages=[path.format("alpha")])
    assert send(world, secret, "alpha").status_code == 403, "a token gives nothing that its account has not"
    grant(world, "publisher")
    assert send(world, secret, "alpha").status_code in {200, 201}
    refused = send(world, secret, "beta")
    assert (refused.status_code, b"certain packages" in refused.data) == (403, True)
    monkeypatch.setattr(Scope, "covers_package", lambda *_: True)  # the negative control
    assert send(world, secret, "beta").status_code in {200, 201}


@pytest.mark.parametrize("format_name", SENDERS)
def test_D1_a_policy_for_some_packages_and_a_token_for_some_leave_those_of_both(world: World, format_name: str) -> None:
    send, path, resource = SENDERS[format_name]
    secret = limited(world, "read", "publish", user="eve", packages=[path.format("a*")])
    policy(world, "Allow", "user/eve", "codeartifact:*", resource.format("*-tool"))
    assert send(world, secret, "a-tool").status_code in {200, 201}
    assert send(world, secret, "b-tool").status_code == 403
    assert send(world, secret, "a-thing").status_code == 403


@pytest.mark.parametrize("format_name", SENDERS)
def test_D1_a_deny_wins_over_a_token_for_that_very_package(world: World, format_name: str) -> None:
    send, path, resource = SENDERS[format_name]
    secret = limited(world, "read", "publish", packages=[path.format("alpha"), path.format("beta")])
    policy(world, "Deny", "*", "*", resource.format("alpha"))
    refused = send(world, secret, "alpha")
    assert (refused.status_code, b"certain packages" in refused.data) == (403, False)
    assert send(world, secret, "beta").status_code in {200, 201}


def test_D1_lists_for_such_a_token_leave_out_what_a_policy_denies(world: World) -> None:
    secret = limited(world, "read", "publish", packages=["pypi/alpha", "pypi/beta"])
    for name in ("alpha", "beta", "gamma"):
        assert send_wheel(world, world.tokens["admin"], name).status_code == 200

    def listed() -> list[str]:
        found = ask(world, "GET", f"/api/v1{REPOSITORY}/packages", secret)
        assert found.status_code == 200
        return [each["name"] for each in found.json["items"]]

    assert listed() == ["alpha", "beta"]
    policy(world, "Deny", "user/admin", "*", "pypi//alpha")
    assert listed() == ["beta"]
    assert b"alpha" not in ask(world, "GET", "/pypi/default/dev/simple/", secret).data


def test_D1_what_is_no_package_has_no_route_for_a_token_of_packages(world: World) -> None:
    """Connections have a format and a name in their address, too, and are none."""
    made = world.call("POST", f"{REPOSITORY}/connections", json={"format": "pypi", "name": "alpha"})
    assert made.status_code == 201
    path = f"/api/v1{REPOSITORY}/connections/pypi/alpha"
    secret = limited(world, "admin", packages=["pypi/alpha"])
    assert ask(world, "DELETE", path, secret).status_code == 403
    assert ask(world, "DELETE", path, limited(world, "admin")).status_code == 204


def test_D1_copying_and_promoting_are_decided_on_the_package(world: World) -> None:
    for name in ("alpha", "beta"):
        assert send_wheel(world, world.tokens["admin"], name).status_code == 200
    secret = limited(world, "read", "promote", packages=["pypi/alpha"])

    def copy(name: str) -> int:
        at = f"/api/v1{REPOSITORY}/packages/pypi/{name}/versions/copy"
        return ask(
            world, "POST", at, secret, json={"destinationRepository": "staging", "versions": ["1.0"]}
        ).status_code

    assert [copy("alpha"), copy("beta")] == [200, 403]


@pytest.mark.parametrize("format_name", SENDERS)
def test_D9_a_deny_that_comes_before_the_commit_lets_nothing_be_published(
    world: World, format_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, _, resource = SENDERS[format_name]
    secret = limited(world, "read", "publish")
    real = Publisher._check_inside

    def late(publisher: Publisher, *arguments: Any) -> None:
        real(publisher, *arguments)
        policy(world, "Deny", "*", "*", resource.format("*"))

    def published() -> int:
        return len([entry for entry in world.audit() if entry[1] == "asset.publish"])

    monkeypatch.setattr(Publisher, "_check_inside", late)
    assert send(world, secret, "alpha").status_code == 403
    assert published() == 0
    # The negative control: who asks by the rules of before publishes.
    monkeypatch.setattr(Admissions, "_anew", lambda _self, _session, identity, *_: identity)
    assert world.call("DELETE", f"{REPOSITORY}/permissions/policy").status_code == 200
    assert send(world, secret, "alpha").status_code in {200, 201}
    assert published() == 1
