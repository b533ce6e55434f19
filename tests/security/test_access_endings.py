"""D2, D15, D16: a right that ended opens nothing from the next request on, whichever way it ended."""

import json
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry import groups, rulebook
from tests.functional.api_world import World

USERS, GROUPS, REPOSITORIES = ("ann", "ben"), ("one", "two"), ("left", "right")
_folders = count()

user, group, repository = (st.sampled_from(names) for names in (USERS, GROUPS, REPOSITORIES))
principal = st.one_of(user.map("user/{}".format), group.map("group/{}".format))
operation = st.one_of(
    st.tuples(st.sampled_from(["join", "leave"]), user, group),
    st.tuples(st.sampled_from(["grant", "revoke", "allow"]), principal, repository),
    st.tuples(st.just("disable"), user, st.booleans()),
    st.tuples(st.sampled_from(["new user", "new group", "new repository"]), st.integers(0, 1), st.none()),
)


class Model:
    """What should be so: sets, and no cleverness."""

    def __init__(self) -> None:
        self.members: set[tuple[str, str]] = set()
        self.rights: set[tuple[str, str]] = set()
        self.disabled: set[str] = set()

    def may(self, who: str, where: str) -> bool:
        principals = {f"user/{who}"} | {f"group/{name}" for name in GROUPS if (who, name) in self.members}
        return who not in self.disabled and any((each, where) in self.rights for each in principals)


class Town:
    """The real thing beside the model; each operation is done to both."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.model = Model()
        self.tokens = {name: self.new_user(name) for name in USERS}
        self.old_tokens: list[str] = []
        for name in GROUPS:
            self.call("POST", "/groups", name=name)
        for name in REPOSITORIES:
            self.call("POST", "/domains/default/repositories", name=name)

    def call(self, method: str, path: str, **body: object) -> int:
        return self.world.call(method, path, json=body or None).status_code

    def new_user(self, name: str) -> str:
        assert self.call("POST", "/users", name=name, actions=[]) == 201
        return self.world.token(name, "admin")

    def do(self, what: str, first, second) -> None:
        model = self.model
        if what == "join":
            assert self.call("PUT", f"/groups/{second}/members/{first}") == 204
            model.members.add((first, second))
        elif what == "leave":
            self.call("DELETE", f"/groups/{second}/members/{first}")
            model.members.discard((first, second))
        elif what == "grant":
            assert self.call("POST", "/role-grants", role="reader", principal=first, where=f"default/{second}") == 201
            model.rights.add((first, second))
        elif what in {"revoke", "allow"}:
            # A policy takes the place of all that gave anybody anything there.
            for each in self.world.call("GET", "/role-grants").json["items"]:
                if each["where"] == f"default/{second}" and (what == "allow" or each["principal"] == first):
                    self.call("DELETE", f"/role-grants/{each['id']}")
            place = f"/domains/default/repositories/{second}/permissions/policy"
            if what == "allow":
                rule = {"Effect": "Allow", "Principal": first, "Action": "codeartifact:*", "Resource": "*"}
                assert self.call("PUT", place, policyDocument=json.dumps({"Statement": [rule]})) == 200
                model.rights = {each for each in model.rights if each[1] != second} | {(first, second)}
            else:
                self.call("DELETE", place)
                kept = {each["principal"] for each in self.world.call("GET", "/role-grants").json["items"]
                        if each["where"] == f"default/{second}"}  # fmt: skip
                model.rights = {each for each in model.rights if each[1] != second} | {(each, second) for each in kept}
        elif what == "disable":
            assert self.call("PATCH", f"/users/{first}", isDisabled=second) == 200
            (model.disabled.add if second else model.disabled.discard)(first)
        elif what == "new user":
            name = USERS[first]
            assert self.call("DELETE", f"/users/{name}") == 204
            self.old_tokens.append(self.tokens[name])
            self.tokens[name] = self.new_user(name)
            model.members = {each for each in model.members if each[0] != name}
            model.rights = {each for each in model.rights if each[0] != f"user/{name}"}
            model.disabled.discard(name)
        elif what == "new group":
            name = GROUPS[first]
            assert self.call("DELETE", f"/groups/{name}") == 204
            assert self.call("POST", "/groups", name=name) == 201
            model.members = {each for each in model.members if each[1] != name}
            model.rights = {each for each in model.rights if each[0] != f"group/{name}"}
        else:
            name = REPOSITORIES[first]
            assert self.call("DELETE", f"/domains/default/repositories/{name}") == 204
            assert self.call("POST", "/domains/default/repositories", name=name) == 201
            model.rights = {each for each in model.rights if each[1] != name}

    def check(self) -> None:
        for who in USERS:
            for where in REPOSITORIES:
                status = self.read(self.tokens[who], where)
                assert (status == 200) == self.model.may(who, where), (who, where, status)
        for token in self.old_tokens:
            assert self.read(token, "left") == 401

    def read(self, token: str, where: str) -> int:
        return self.world.http.get(
            f"/pypi/default/{where}/simple/", headers={"Authorization": f"Bearer {token}"}
        ).status_code


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(operation, min_size=4, max_size=25))
def test_D2_random_changes_count_on_the_very_next_request(tmp_path: Path, operations) -> None:
    town = Town(tmp_path / str(next(_folders)))
    try:
        for each in operations:
            town.do(*each)
            town.check()
    finally:
        town.world.close()


@pytest.fixture
def town(tmp_path: Path):
    made = Town(tmp_path)
    made.do("join", "ann", "one")
    made.do("grant", "group/one", "left")
    made.check()
    yield made
    made.world.close()


def test_D2_who_is_taken_out_of_a_group_is_out(town: Town) -> None:
    assert town.read(town.tokens["ann"], "left") == 200
    town.do("leave", "ann", "one")
    assert town.read(town.tokens["ann"], "left") == 403


def test_D2_negative_control_without_the_count_of_changes_they_stay_in(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "bump", lambda session: None)
    town.do("leave", "ann", "one")
    assert town.read(town.tokens["ann"], "left") == 200
    assert rulebook.bump is not groups.bump


def test_D2_a_browser_that_is_open_loses_it_as_well(town: Town) -> None:
    world = town.world
    with world.db.write() as session:
        from registry.accounts import find_account

        secret = world.services.accounts.open_session(session, find_account(session, "ann").id, world.now)
    browser = world.app.test_client()
    browser.set_cookie("entrepot_session", secret)
    assert browser.get("/repositories/default/left").status_code == 200
    town.do("leave", "ann", "one")
    assert browser.get("/repositories/default/left").status_code == 403
    town.do("disable", "ann", True)
    assert browser.get("/repositories/default/left").status_code in {303, 401}


def test_D15_fields_that_nobody_declared_are_refused(town: Town) -> None:
    for method, path, body in (
        ("POST", "/domains", {"name": "more", "id": 1}),
        ("POST", "/groups", {"name": "more", "members": ["ann"]}),
        ("POST", "/role-grants", {"role": "reader", "principal": "user/ann", "where": "default", "createdBy": "x"}),
        ("PATCH", "/users/ann", {"isAdmin": True}),
        ("PATCH", "/users/ann", {"passwordHash": "x"}),
        ("POST", "/users", {"name": "cat", "actions": [], "isDisabled": False}),
    ):
        assert town.world.call(method, path, json=body).status_code == 400, (path, body)


@pytest.mark.parametrize("name", ["%", "_", "o%", "o_e", "one'--", 'one" OR 1=1', "one\\", "ONE", "onе"])
def test_D16_names_are_names_and_nothing_else(town: Town, name: str) -> None:
    world = town.world
    assert world.call("GET", f"/groups/{name.replace('%', '%25')}").status_code in {400, 404}
    granted = {"role": "reader", "principal": f"group/{name}", "where": "default"}
    assert world.call("POST", "/role-grants", json=granted).status_code == 404
    rule = {"Effect": "Allow", "Principal": f"group/{name}", "Action": "*", "Resource": "*"}
    put = {"policyDocument": json.dumps({"Statement": [rule]})}
    assert world.call("PUT", "/domains/default/permissions/policy", json=put).status_code == 400
