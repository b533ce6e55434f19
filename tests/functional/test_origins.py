"""Origin controls and package groups through the management interface, and what clients are served because of them."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from config import wiring
from config.app import create_app
from registry.errors import Conflict, Denied
from tests.fakes.upstream import FaultyUpstream
from tests.functional.outside_world import JSON_INDEX, OutsideWorld
from tests.harness import packages

DOMAIN = "/domains/default"
GROUP = f"{DOMAIN}/package-group"


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, upstream: FaultyUpstream) -> Iterator[OutsideWorld]:
    made = OutsideWorld(tmp_path)
    made.disconnect()
    made.connect(upstream)
    yield made
    made.close()


def offer(upstream: FaultyUpstream, name: str, *versions: str) -> None:
    upstream.add_project(name, dict(packages.wheel(name, version) for version in versions))


def put(world: OutsideWorld, name: str, publish: str, upstream: str, repository: str = "dev") -> None:
    path = f"{DOMAIN}/repositories/{repository}/packages/pypi/{name}/origin-configuration"
    answer = world.call("PUT", path, json={"restrictions": {"publish": publish, "upstream": upstream}})
    assert answer.status_code == 200, answer.text
    assert answer.json == {"originConfiguration": {"restrictions": {"publish": publish, "upstream": upstream}}}


def controls(world: OutsideWorld, name: str, repository: str = "dev") -> dict[str, str]:
    path = f"{DOMAIN}/repositories/{repository}/packages/pypi/{name}/origin-configuration"
    return world.call("GET", path).json["originConfiguration"]["restrictions"]


def group(world: OutsideWorld, pattern: str, *lists: tuple[str, str], **restrictions: str) -> dict[str, Any]:
    if world.call("GET", GROUP, query_string={"packageGroup": pattern}).status_code == 404:
        assert world.call("POST", GROUP, json={"packageGroup": pattern}).status_code == 201
    added = [{"originRestrictionType": way, "repositoryName": name} for way, name in lists]
    body = {"restrictions": restrictions, "addAllowedRepositories": added}
    where = f"{GROUP}-origin-configuration"
    answer = world.call("PUT", where, query_string={"packageGroup": pattern}, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json


def explained(world: OutsideWorld, name: str, **query: str) -> dict[str, Any]:
    path = f"{DOMAIN}/repositories/dev/packages/pypi/{name}/explain"
    return world.call("GET", path, query_string=query).json


def status(world: OutsideWorld, name: str, version: str, repository: str = "dev") -> int:
    """Of a file, asked for by its name."""
    return world.get(f"pypi/default/{repository}/files/{name}/{packages.wheel(name, version)[0]}").status_code


def index_status(world: OutsideWorld, name: str, repository: str = "dev") -> int:
    return world.get(f"pypi/default/{repository}/simple/{name}/", Accept=JSON_INDEX).status_code


def test_how_the_first_version_came_sets_the_controls(world: OutsideWorld, upstream: FaultyUpstream) -> None:
    offer(upstream, "theirs", "1.0")
    world.publish("dev", "ours", "1.0")
    assert status(world, "theirs", "1.0") == 200
    assert controls(world, "ours") == {"publish": "ALLOW", "upstream": "BLOCK"}
    assert controls(world, "theirs") == controls(world, "theirs", "public") == {"publish": "BLOCK", "upstream": "ALLOW"}
    with pytest.raises(Denied, match="came to dev from an upstream"):
        world.publish("dev", "theirs", "2.0")


def test_a_published_name_hides_the_outside_until_both_are_allowed(
    world: OutsideWorld, upstream: FaultyUpstream
) -> None:
    offer(upstream, "corp-lib", "1.0", "99.0")
    world.publish("dev", "corp-lib", "1.0")
    assert (world.versions("corp-lib"), status(world, "corp-lib", "99.0")) == (["1.0"], 404)
    put(world, "corp-lib", "ALLOW", "ALLOW")
    assert world.versions("corp-lib") == ["1.0", "99.0"]
    assert status(world, "corp-lib", "99.0") == 200
    # A version has one owner: nothing of theirs goes into ours, nor of ours into theirs.
    extra = packages.sdist("corp-lib", "1.0")
    upstream.add_project("corp-lib", dict([packages.wheel("corp-lib", "99.0"), extra]))
    assert world.get(f"pypi/default/dev/files/corp-lib/{extra[0]}").status_code == 404
    with pytest.raises(Conflict, match=r"99\.0 came to default/dev from an upstream"):
        world.publish("dev", "corp-lib", "99.0", suffix=".tar.gz")
    world.publish("dev", "corp-lib", "2.0")
    assert world.versions("corp-lib") == ["1.0", "2.0", "99.0"]
    # Closed again, what was kept here stays, as CodeArtifact has it; whoever asks public directly is not concerned.
    put(world, "corp-lib", "ALLOW", "BLOCK")
    offer(upstream, "corp-lib", "100.0")
    assert world.versions("corp-lib") == ["1.0", "2.0", "99.0"]
    assert status(world, "corp-lib", "100.0") == 404
    assert status(world, "corp-lib", "99.0") == 200


def test_controls_are_put_before_the_first_version(world: OutsideWorld, upstream: FaultyUpstream) -> None:
    offer(upstream, "planned", "99.0")
    put(world, "planned", "ALLOW", "BLOCK")
    assert (index_status(world, "planned"), status(world, "planned", "99.0")) == (404, 404)
    assert "planned" not in world.get("pypi/default/dev/simple/", Accept=JSON_INDEX).text
    world.publish("dev", "planned", "1.0")
    assert world.versions("planned") == ["1.0"]
    put(world, "closed", "BLOCK", "BLOCK")
    with pytest.raises(Denied, match="publish: BLOCK"):
        world.publish("dev", "closed", "1.0")
    actor, action, place = world.audit()[-1]
    assert (actor, action, place) == ("admin", "package.origin", "default/dev/pypi/closed")


def test_a_group_guards_names_before_anything_is_published(world: OutsideWorld, upstream: FaultyUpstream) -> None:
    for name in ("acme-secret", "acmeish", "other"):
        offer(upstream, name, "99.0")
    # Seen from outside first: the rendered page must not outlive the rule.
    assert world.versions("acme-secret") == ["99.0"]
    group(world, "/pypi//acme~", EXTERNAL_UPSTREAM="BLOCK")
    assert (index_status(world, "acme-secret"), status(world, "acme-secret", "99.0")) == (404, 404)
    assert index_status(world, "acme-secret", "public") == 404
    assert (world.versions("acmeish"), world.versions("other")) == (["99.0"], ["99.0"])
    world.publish("dev", "acme-secret", "1.0")
    put(world, "acme-secret", "ALLOW", "ALLOW")
    assert world.versions("acme-secret") == ["1.0"]  # the group's BLOCK wins
    group(world, "/pypi//acme~", EXTERNAL_UPSTREAM="INHERIT")
    assert world.versions("acme-secret") == ["1.0", "99.0"]  # the negative control


def test_a_group_says_where_may_be_published_and_promoted(world: OutsideWorld) -> None:
    group(world, "/pypi/*", ("PUBLISH", "dev"), PUBLISH="ALLOW_SPECIFIC_REPOSITORIES")
    world.publish("dev", "lib", "1.0")
    with pytest.raises(
        Denied, match=r"/pypi/\* allows PUBLISH in certain repositories only .*, and staging is none of them"
    ):
        world.publish("staging", "lib", "1.0")
    promote = f"{DOMAIN}/repositories/dev/packages/pypi/lib/versions/1.0/promote"
    assert world.call("POST", promote, json={"target": "staging"}).status_code == 200
    group(world, "/pypi/*", INTERNAL_UPSTREAM="BLOCK")
    refused = world.call("POST", promote, json={"target": "prod"})
    assert (refused.status_code, "INTERNAL_UPSTREAM: BLOCK" in refused.json["detail"]) == (409, True)


def test_an_internal_upstream_can_be_blocked(world: OutsideWorld) -> None:
    world.publish("public", "shared", "1.0")
    assert world.versions("shared") == ["1.0"]
    group(world, "/pypi//shared$", ("INTERNAL_UPSTREAM", "staging"), INTERNAL_UPSTREAM="ALLOW_SPECIFIC_REPOSITORIES")
    assert (index_status(world, "shared"), status(world, "shared", "1.0")) == (404, 404)
    assert world.versions("shared", "public") == ["1.0"]
    group(world, "/pypi//shared$", ("INTERNAL_UPSTREAM", "dev"))
    assert world.versions("shared") == ["1.0"]


def test_the_outside_comes_through_one_repository_only(world: OutsideWorld, upstream: FaultyUpstream) -> None:
    """CodeArtifact's second example: dev takes from public, public from outside, and nobody else does either."""
    offer(upstream, "far", "1.0")
    world.connect(upstream, "own", "staging")
    group(
        world,
        "/pypi/*",
        ("INTERNAL_UPSTREAM", "dev"),
        ("EXTERNAL_UPSTREAM", "public"),
        PUBLISH="BLOCK",
        INTERNAL_UPSTREAM="ALLOW_SPECIFIC_REPOSITORIES",
        EXTERNAL_UPSTREAM="ALLOW_SPECIFIC_REPOSITORIES",
    )
    assert (world.versions("far"), status(world, "far", "1.0")) == (["1.0"], 200)
    assert (index_status(world, "far", "staging"), status(world, "far", "1.0", "staging")) == (404, 404)
    with pytest.raises(Denied, match="PUBLISH: BLOCK"):
        world.publish("dev", "mine", "1.0")


def test_what_one_process_changes_the_next_request_of_another_sees(
    world: OutsideWorld, upstream: FaultyUpstream
) -> None:
    offer(upstream, "far", "1.0")
    other = wiring.services(world.settings, lambda: world.now)
    client = create_app(world.settings, other, wiring.hook_services(other, world.settings)).test_client()

    def seen() -> int:
        headers = {"Authorization": f"Bearer {world.tokens['admin']}", "Accept": JSON_INDEX}
        return client.get("/pypi/default/dev/simple/far/", headers=headers).status_code

    try:
        assert seen() == 200
        group(world, "/pypi//far$", EXTERNAL_UPSTREAM="BLOCK")
        assert seen() == 404
        group(world, "/pypi//far$", EXTERNAL_UPSTREAM="ALLOW")
        assert seen() == 200
        put(world, "far", "ALLOW", "BLOCK", "public")
        assert seen() == 404
    finally:
        other.db.close()


def test_a_warm_page_costs_one_query_under_groups_and_controls(world: OutsideWorld) -> None:
    world.publish("dev", "far", "1.0")
    group(world, "/pypi//far~", EXTERNAL_UPSTREAM="BLOCK")
    put(world, "far", "ALLOW", "ALLOW")
    here, asked = threading.get_ident(), list[str]()

    def note(*given: Any) -> None:
        if threading.get_ident() == here:  # what is read behind the answers is no request's
            asked.append(given[2].split()[0])

    for _ in range(2):
        world.versions("far")
    event.listen(world.db.engine, "before_cursor_execute", note)
    assert world.versions("far") == ["1.0"]
    assert asked == ["BEGIN", "SELECT"]


def test_every_answer_is_explained(world: OutsideWorld, upstream: FaultyUpstream) -> None:
    offer(upstream, "corp-lib", "99.0")
    assert status(world, "corp-lib", "99.0", "public") == 200
    world.publish("dev", "corp-lib", "1.0")
    told = explained(world, "corp-lib")
    assert (told["packageGroup"], told["associationType"], told["asksOutside"]) == ("/*", "STRONG", False)
    dev, public = told["repositories"]
    assert (dev["publish"], dev["upstream"], public["publish"], public["upstream"]) == (
        "ALLOW",
        "BLOCK",
        "BLOCK",
        "ALLOW",
    )
    outside = public["connections"][0]["answer"]
    assert (outside["allowed"], outside["rule"]) == (False, "package-upstream")
    assert outside["reason"] == "the origin controls of corp-lib in dev block its upstreams (upstream: BLOCK)"
    assert [(each["version"], each["repository"], each["isServed"]) for each in told["versions"]] == [
        ("99.0", "public", False),
        ("1.0", "dev", True),
    ]
    assert [each["version"] for each in explained(world, "corp-lib", version="99.0")["versions"]] == ["99.0"]
    # Of a repository that one may not read, no version is told that one is not served.
    path = f"{DOMAIN}/repositories/dev/packages/pypi/corp-lib/explain"
    of_reader = world.call("GET", path, as_="reader").json["versions"]
    assert [each["version"] for each in of_reader] == ["1.0"]


def test_a_variation_of_a_guarded_name_is_blocked(world: OutsideWorld) -> None:
    group(world, "/generic//corp-lib$", PUBLISH="ALLOW")
    wrong = {"Authorization": f"Bearer {world.tokens['admin']}"}
    sent = {name: world.http.put(f"/generic/default/dev/{name}/1.0/f", data=b"x", headers=wrong) for name in
            ("corp-lib", "Corp-Lib", "corp_lib", "corp-1ib", "corplib")}  # fmt: skip
    assert {name: answer.status_code for name, answer in sent.items()} == {
        "corp-lib": 201,
        "Corp-Lib": 403,
        "corp_lib": 403,
        "corp-1ib": 403,
        "corplib": 201,
    }
    assert "is a variation of package group /generic//corp-lib$" in sent["Corp-Lib"].text


def test_groups_have_the_documents_of_codeartifact(world: OutsideWorld) -> None:
    made = world.call("POST", GROUP, json={"packageGroup": "/pypi//acme~", "description": "ours"})
    assert made.json["packageGroup"] == {
        "pattern": "/pypi//acme~",
        "domainName": "default",
        "createdTime": "2026-01-01T12:00:00.000Z",
        "contactInfo": "",
        "description": "ours",
        "originConfiguration": {
            "restrictions": {
                name: {"mode": "INHERIT", "effectiveMode": "ALLOW", "inheritedFrom": {"pattern": "/*"}, "repositoriesCount": 0}
                for name in ("PUBLISH", "INTERNAL_UPSTREAM", "EXTERNAL_UPSTREAM")
            }
        },
        "parent": {"pattern": "/*"},
    }  # fmt: skip
    changed = group(world, "/pypi//acme~", ("PUBLISH", "dev"), PUBLISH="ALLOW_SPECIFIC_REPOSITORIES")
    assert changed["allowedRepositoryUpdates"] == {"PUBLISH": {"ADDED": ["dev"]}}
    listed = world.call("GET", f"{GROUP}s", query_string={"maxResults": 1}).json
    assert ([each["pattern"] for each in listed["packageGroups"]], listed["nextToken"]) == (["/*"], "/*")
    listed = world.call("GET", f"{GROUP}s", query_string={"maxResults": 1, "nextToken": "/*"}).json
    assert ([each["pattern"] for each in listed["packageGroups"]], listed["nextToken"]) == (["/pypi//acme~"], None)
    below = world.call("GET", f"{GROUP}s/sub-groups", query_string={"packageGroup": "/*"}).json
    assert [each["pattern"] for each in below["packageGroups"]] == ["/pypi//acme~"]
    which = {"packageGroup": "/pypi//acme~", "originRestrictionType": "PUBLISH"}
    allowed = world.call("GET", f"{GROUP}-allowed-repositories", query_string=which).json
    assert allowed == {"allowedRepositories": ["dev"], "nextToken": None}
    of = {"format": "pypi", "package": "Acme_Tools"}
    found = world.call("GET", f"{DOMAIN}/get-associated-package-group", query_string=of).json
    assert (found["packageGroup"]["pattern"], found["associationType"]) == ("/pypi//acme~", "STRONG")
    updated = world.call("PUT", GROUP, json={"packageGroup": "/pypi//acme~", "contactInfo": "ada"}).json["packageGroup"]
    assert (updated["contactInfo"], updated["description"]) == ("ada", "ours")
    gone = world.call("DELETE", GROUP, query_string={"packageGroup": "/pypi//acme~"})
    assert (gone.status_code, gone.json["packageGroup"]["pattern"]) == (200, "/pypi//acme~")
    assert [action for _, action, _ in world.audit() if action.startswith("package-group")] == [
        "package-group.create",
        "package-group.origin-configuration",
        "package-group.update",
        "package-group.delete",
    ]


def test_which_packages_belong_to_a_group_and_would(world: OutsideWorld) -> None:
    for name in ("acme-a", "acme-b", "acmes", "zeta"):
        world.publish("dev", name, "1.0")
    world.publish("staging", "acme-hidden", "1.0")
    where, asked = f"{DOMAIN}/list-associated-packages", {"packageGroup": "/pypi//acme~", "maxResults": 1}
    assert world.call("GET", where, query_string=asked).status_code == 404
    asked["preview"] = "true"
    first = world.call("GET", where, query_string=asked, as_="reader").json
    assert first["packages"] == [{"format": "pypi", "namespace": "", "package": "acme-a", "associationType": "STRONG"}]
    asked["nextToken"] = first["nextToken"]
    second = world.call("GET", where, query_string=asked, as_="reader").json
    assert ([each["package"] for each in second["packages"]], second["nextToken"]) == (["acme-b"], None)


@pytest.mark.parametrize(
    ("pattern", "status"),
    [
        ("/pypi//Foo.Bar$", 400),  # the index has foo-bar: such a group would guard nothing
        ("/unknown/*", 400),
        ("/pypi/foo", 400),
        ("/*", 409),
    ],
)
def test_a_group_that_would_guard_nothing_is_refused(world: OutsideWorld, pattern: str, status: int) -> None:
    assert world.call("POST", GROUP, json={"packageGroup": pattern}).status_code == status


@pytest.mark.parametrize(
    "body",
    [
        {"restrictions": {"PUBLISH": "MAYBE"}},
        {"restrictions": {"publish": "BLOCK"}},
        {"restrictions": {"PUBLISH": "INHERIT"}},
        {"addAllowedRepositories": [{"originRestrictionType": "PUBLISH", "repositoryName": "nowhere"}]},
    ],
)
def test_nonsense_changes_nothing_of_the_root(world: OutsideWorld, body: dict[str, Any]) -> None:
    where = f"{GROUP}-origin-configuration?packageGroup=/*"
    assert world.call("PUT", where, json=body).status_code in {400, 404}
    assert world.call("DELETE", f"{GROUP}?packageGroup=/*").status_code == 400
    world.publish("dev", "lib", "1.0")
