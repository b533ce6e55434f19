"""D1: of a package that a policy closes, names are told where a repository lists names, and nothing more anywhere."""

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from registry.models import ExternalConnection, Repository
from registry.pages.sight import Viewer
from registry.repos.admission import Admission
from tests.functional.api_world import World
from tests.harness import npm_packages
from tests.harness.identity import Browser
from tests.harness.maven import pom
from tests.security.test_token_scopes import ask, limited

# In the open repository, so that strangers are among those who look; nothing of it comes from outside.
OPEN = "default/open"
API = "/domains/default/repositories/open"
SECRET = "Unreleased thing"
CLOSED = ("npm//closed", "pypi//closed", "maven/org.acme/closed", "generic//closed")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """``closed`` and ``plain`` in each format; ``publisher`` and strangers may not look into the former."""
    made = World(tmp_path_factory.mktemp("hidden"))
    admin = made.tokens["admin"]
    for name in ("closed", "plain"):
        body = npm_packages.publish_document(
            name, "1.0.0", npm_packages.tarball(name, "1.0.0", description=f"{SECRET} {name}")
        )
        assert ask(made, "PUT", f"/npm/{OPEN}/{name}", admin, json=body).status_code == 201
        made.publish("open", name, "1.0", description=f"# {SECRET} {name}")
        text = pom(name, "1.0", packaging="maven-archetype").replace("</version>", f"</version><name>{name}</name>", 1)
        at = f"/maven/{OPEN}/org/acme/{name}/1.0/{name}-1.0.pom"
        text = text.replace("com.acme", "org.acme").replace("org.example", "org.acme")
        assert ask(made, "PUT", at, admin, data=text.encode()).status_code == 201
        finish = f"{API}/packages/maven/{name}/versions/1.0/finish?namespace=org.acme"
        assert made.call("POST", finish).status_code == 200
        assert ask(made, "PUT", f"/generic/{OPEN}/{name}/1.0/file.bin", admin, data=b"x").status_code == 201
    with made.db.read() as session:
        held = select(ExternalConnection.id).join(Repository).where(Repository.name == "open")
        assert session.scalars(held).all() == []
    yield made
    made.close()


def deny(world: World, action: str, who: object = "*") -> None:
    resources = [f"package/{OPEN}/{each}" for each in CLOSED]
    rule = {"Effect": "Deny", "Principal": who, "Action": action, "Resource": resources}
    document = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
    assert world.call("PUT", f"{API}/permissions/policy", json={"policyDocument": document}).status_code == 200


def open_again(world: World) -> None:
    assert world.call("DELETE", f"{API}/permissions/policy").status_code == 200


def fetch(world: World, who: str | None, path: str) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {world.tokens[who]}"} if who else {}
    answer = world.http.get(path, headers=headers)
    return answer.status_code, answer.get_data(as_text=True)


# What says more than the name. Each must not know of the closed package, and must know of the plain one.
DETAILED = {
    "API list": f"/api/v1{API}/packages",
    "API search": f"/api/v1{API}/packages?search=l",
    "npm search": f"/npm/{OPEN}/-/v1/search?text=l&size=50",
    "npm search by description": f"/npm/{OPEN}/-/v1/search?text=clos",
    "archetypes": f"/maven/{OPEN}/archetype-catalog.xml",
}
# A name is told, because who may read a repository may list it (ListPackages).
NAMES = {
    "simple root": f"/pypi/{OPEN}/simple/",
    "simple root (JSON)": f"/pypi/{OPEN}/simple/?format=application/vnd.pypi.simple.v1%2Bjson",
    "generic names": f"/generic/{OPEN}/",
    "maven group": f"/maven/{OPEN}/org/acme/",
}
# About the package itself.
OWN = {
    "npm packument": f"/npm/{OPEN}/closed",
    "npm attestations": f"/npm/{OPEN}/-/npm/v1/attestations/closed@1.0.0",
    "simple page": f"/pypi/{OPEN}/simple/closed/",
    "project JSON": f"/pypi/{OPEN}/pypi/closed/json",
    "generic versions": f"/generic/{OPEN}/closed/",
    "maven metadata": f"/maven/{OPEN}/org/acme/closed/maven-metadata.xml",
    "maven versions": f"/maven/{OPEN}/org/acme/closed/",
    "maven files": f"/maven/{OPEN}/org/acme/closed/1.0/",
    **{
        f"API {rest}": f"/api/v1{API}/packages/pypi/closed{rest}"
        for rest in (
            "", "/versions", "/versions/1", "/versions/1/assets", "/versions/1/readme", "/versions/1/dependencies",
            "/versions/1/asset?asset=closed-1.0-py3-none-any.whl", "/origin-configuration", "/explain",
        )
    },
}  # fmt: skip
ONE_KIND = {
    "DescribePackage": "API ", "DescribePackageVersion": "API /versions/1", "ListPackageVersions": "API /versions",
    "ListPackageVersionAssets": "API /versions/1/assets", "GetPackageVersionReadme": "API /versions/1/readme",
    "ListPackageVersionDependencies": "API /versions/1/dependencies",
    "GetPackageVersionAsset": "API /versions/1/asset?asset=closed-1.0-py3-none-any.whl",
}  # fmt: skip


@pytest.mark.parametrize("who", ["publisher", None])
def test_D1_lists_that_tell_more_than_names_leave_out_what_a_policy_closes(world: World, who: str | None) -> None:
    deny(world, "codeartifact:ReadFromRepository")
    for what, path in DETAILED.items():
        status, text = fetch(world, who, path)
        assert (status, "closed" in text.replace("clos&", "")) == (200, False), what
        assert "plain" in text or what == "npm search by description", what
    for what, path in NAMES.items():
        status, text = fetch(world, who, path)
        assert (status, "closed" in text, "plain" in text) == (200, True, True), what
    expected = 401 if who is None else 403
    for what, path in OWN.items():
        status, text = fetch(world, who, path)
        assert status in ({expected, 404} if what.startswith("maven ") else {expected}), what
        assert "1.0" not in text.replace("closed/1.0/", "").replace("closed@1.0.0", ""), what
    # The control: without the policy all of it is told.
    open_again(world)
    for what, path in {**DETAILED, **NAMES, **OWN}.items():
        status, text = fetch(world, who, path)
        if what not in {"npm attestations", "API /versions/1/dependencies", "API /origin-configuration"}:
            assert (status, "closed" in text) == (200, True), (what, status)


def test_D1_each_kind_of_looking_has_a_name_of_its_own(world: World) -> None:
    for action, shut in ONE_KIND.items():
        deny(world, f"codeartifact:{action}")
        status = {what: fetch(world, "publisher", OWN[what])[0] for what in ONE_KIND.values()}
        assert status == {what: 403 if what == shut else 200 for what in status}, action
        # Files and index pages are read, not described.
        assert fetch(world, "publisher", OWN["simple page"])[0] == 200
    open_again(world)


def test_D1_what_is_read_is_described_as_well_and_what_a_statement_leaves_out_is_what_it_names(world: World) -> None:
    """An allow of reading is enough to look around; a deny of everything but describing leaves that."""
    world.account("eve")
    world.tokens["eve"] = world.token("eve", "read")
    for fields, status in (
        ({"Effect": "Allow", "Action": "codeartifact:ReadFromRepository"}, 200),
        ({"Effect": "Allow", "Action": "codeartifact:Describe*"}, 200),
        ({"Effect": "Allow", "Action": "codeartifact:ListPackages"}, 403),
        ({"Effect": "Allow", "NotAction": "codeartifact:DescribePackage"}, 403),
    ):
        rule = {"Principal": "user/eve", "Resource": "*", **fields}
        document = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
        assert world.call("PUT", f"{API}/permissions/policy", json={"policyDocument": document}).status_code == 200
        assert fetch(world, "eve", OWN["API "])[0] == status, fields
    open_again(world)


PAGES = {
    "repository": (f"/repositories/{OPEN}", True),
    "search": ("/search?q=clos", True),
    "package": (f"/packages/{OPEN}/pypi/closed", False),
    "version": (f"/packages/{OPEN}/pypi/closed/-/1.0", False),
}


@pytest.mark.parametrize("who", ["publisher", None])
def test_D1_pages_show_nothing_of_what_a_policy_closes(
    world: World, who: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser(world)
    if who is not None:
        browser.sign_in(who)

    def seen(path: str) -> tuple[int, bool]:
        answer = browser.get(path, headers={"Accept": "text/html"})
        return answer.status_code, "The closed package" in answer.text or f"{SECRET} closed" in answer.text

    deny(world, "codeartifact:DescribePackage")
    for what, (path, is_list) in PAGES.items():
        status, told = seen(path)
        assert not told, what
        assert status == (200 if is_list else 303 if who is None else 403), what
    if who is not None:
        assert browser.get(f"/versions/{OPEN}/pypi/closed?version=1.0&to=Archived").status_code == 403
    assert "plain" in browser.get(f"/repositories/{OPEN}").text
    monkeypatch.setattr(Viewer, "describes", lambda *_: True)  # the negative control
    assert {what: seen(path) for what, (path, _) in PAGES.items()} == dict.fromkeys(PAGES, (200, True))
    monkeypatch.undo()
    open_again(world)
    assert {what: seen(path) for what, (path, _) in PAGES.items()} == dict.fromkeys(PAGES, (200, True))


def test_D1_pages_know_of_what_is_closed_to_strangers(world: World) -> None:
    """A policy that closes an open repository to strangers counts for pages as for clients."""
    rule = {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
    assert world.call("PUT", f"{API}/permissions/policy", json={"policyDocument": document}).status_code == 200
    strange = Browser(world)
    assert "open" not in strange.get("/search?q=plain", headers={"Accept": "text/html"}).text
    assert strange.get(f"/repositories/{OPEN}", headers={"Accept": "text/html"}).status_code == 303
    open_again(world)
    assert strange.get(f"/repositories/{OPEN}").status_code == 200


@pytest.mark.parametrize("path", [*DETAILED.values(), *NAMES.values()])
def test_D1_a_token_for_some_packages_finds_no_other_in_any_list(
    world: World, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = ["npm/plain", "pypi/plain", "maven/org.acme/plain", "generic/plain"]
    secret = limited(world, "read", packages=mine)
    answer = ask(world, "GET", path, secret)
    if "archetype" in path:
        assert answer.status_code == 404
        return
    text = answer.get_data(as_text=True).replace("clos&", "")
    assert (answer.status_code, "closed" in text) == (200, False)
    monkeypatch.setattr(Admission, "sees", lambda *_: True)
    monkeypatch.setattr(Admission, "describes", lambda *_: True)
    assert "closed" in ask(world, "GET", path, secret).get_data(as_text=True)  # the negative control
