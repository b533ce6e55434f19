"""The management interface: every route, for everybody who may and may not, with input that is and is not sound."""

import json
import re
import socket
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from registry.http.auth import permissions
from tests.functional.api_world import PASSWORD, World

DEV = "/domains/default/repositories/dev"
PACKAGE = f"{DEV}/packages/pypi/my-pkg"
VERSION = f"{PACKAGE}/versions/1.0"
GROUP = "/domains/default/package-group"
BOTH = {"restrictions": {"publish": "ALLOW", "upstream": "ALLOW"}}


@pytest.fixture
def world(tmp_path: Path):
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def stocked(world: World):
    return stock(world)


def stock(world: World) -> World:
    world.publish("dev", "My-Pkg", "1.0", canonical="1")
    world.publish("dev", "My-Pkg", "1.10", canonical="1.10")
    world.publish("dev", "My-Pkg", "1.9", canonical="1.9")
    world.publish("dev", "other", "0.1")
    world.publish("open", "free", "3.0", canonical="3")
    return world


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory):
    """One stocked world for all tests whose requests change nothing."""
    made = World(tmp_path_factory.mktemp("kept"))
    yield stock(made)
    made.close()


@pytest.fixture
def settled(kept: World):
    """The same, a while after the last test: nobody's limit of requests is near."""
    kept.now += timedelta(minutes=5)
    return kept


# --- who may do what -------------------------------------------------------------------------------------------------

NOWHERE = {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "repository/default/nowhere"}
OPEN_POLICY = json.dumps({"Statement": [NOWHERE]})
DOMAIN_POLICY = "/domains/default/permissions/policy"
GRANT = {"role": "publisher", "principal": "user/reader", "where": "default/dev"}

# Route → status for: anonymous, reader of dev, publisher on dev, promoter dev→staging, other domain's, admin.
MATRIX = [
    ("GET", "/whoami", None, 401, 200, 200, 200, 200, 200),
    ("GET", "/openapi.json", None, 200, 200, 200, 200, 200, 200),
    ("GET", "/repositories", None, 401, 200, 200, 200, 200, 200),
    ("GET", DEV, None, 401, 200, 200, 200, 403, 200),
    ("GET", "/domains/default/repositories/open", None, 200, 403, 200, 403, 403, 200),
    ("GET", "/domains/default/repositories/absent", None, 401, 403, 403, 403, 403, 404),
    ("POST", "/domains/default/repositories", {"name": "made"}, 401, 403, 403, 403, 403, 201),
    ("PATCH", DEV, {"description": "new"}, 401, 403, 403, 403, 403, 200),
    ("GET", f"{DEV}/quota", None, 401, 200, 200, 200, 403, 200),
    ("PUT", f"{DEV}/quota", {"bytes": 10**9}, 401, 403, 403, 403, 403, 200),
    ("GET", "/domains/default/quota", None, 401, 403, 403, 403, 403, 200),
    ("PUT", "/domains/default/quota", {"bytes": None}, 401, 403, 403, 403, 403, 200),
    ("POST", "/advisories", {"documents": [{"id": "A-1", "modified": "2026-01-01T00:00:00Z", "affected": [
        {"package": {"ecosystem": "PyPI", "name": "x"}, "versions": ["1"]}]}]}, 401, 403, 403, 403, 403, 200),
    ("DELETE", "/advisories/A-1", None, 401, 403, 403, 403, 403, 404),
    ("GET", "/rate-limits", None, 401, 403, 403, 403, 403, 200),
    ("GET", "/users/reader", None, 401, 403, 403, 403, 403, 200),
    ("POST", "/users/reader/login-link", None, 401, 403, 403, 403, 403, 201),
    ("GET", "/audit/export", None, 401, 403, 403, 403, 403, 200),
    ("GET", "/audit/verification", None, 401, 403, 403, 403, 403, 200),
    ("POST", "/domains/default/permissions/policy/preview", {"policyDocument": "{}"}, 401, 403, 403, 403, 403, 200),
    ("POST", f"{DEV}/permissions/policy/preview", {"policyDocument": "{}"}, 401, 403, 403, 403, 403, 200),
    ("GET", f"{DEV}/connections", None, 401, 200, 200, 200, 403, 200),
    ("POST", f"{DEV}/connections", {"format": "pypi", "name": "more"}, 401, 403, 403, 403, 403, 201),
    ("PATCH", "/domains/default/repositories/public/connections/pypi/public", {}, 401, 403, 403, 403, 403, 200),
    ("DELETE", "/domains/default/repositories/public/connections/pypi/public", None, 401, 403, 403, 403, 403, 204),
    ("GET", f"{DEV}/packages", None, 401, 200, 200, 200, 403, 200),
    ("GET", PACKAGE, None, 401, 200, 200, 200, 403, 200),
    ("GET", VERSION, None, 401, 200, 200, 200, 403, 200),
    ("POST", f"{VERSION}/promote", {"target": "staging"}, 401, 403, 403, 200, 403, 200),
    ("POST", f"{VERSION}/promote", {"target": "prod"}, 401, 403, 403, 403, 403, 200),
    ("POST", f"{VERSION}/yank", {"reason": "bad"}, 401, 403, 200, 403, 403, 200),
    ("POST", f"{VERSION}/unyank", None, 401, 403, 200, 403, 403, 200),
    ("POST", f"{VERSION}/finish", None, 401, 403, 200, 403, 403, 200),
    ("DELETE", f"{PACKAGE}/versions/1.9", None, 401, 403, 204, 403, 403, 404),  # the publisher was first
    ("PUT", f"{PACKAGE}/status", {"status": "archived", "reason": "done"}, 401, 403, 200, 403, 403, 200),
    ("PUT", f"{PACKAGE}/origin-configuration", BOTH, 401, 403, 403, 403, 403, 200),
    ("GET", f"{PACKAGE}/origin-configuration", None, 401, 200, 200, 200, 403, 200),
    ("GET", f"{PACKAGE}/explain", None, 401, 200, 200, 200, 403, 200),
    ("POST", GROUP, {"packageGroup": "/pypi/*"}, 401, 403, 403, 403, 403, 201),
    ("GET", f"{GROUP}?packageGroup=/*", None, 401, 200, 200, 200, 403, 200),
    ("PUT", GROUP, {"packageGroup": "/*", "description": "all"}, 401, 403, 403, 403, 403, 200),
    ("DELETE", f"{GROUP}?packageGroup=/npm/*", None, 401, 403, 403, 403, 403, 404),
    ("PUT", f"{GROUP}-origin-configuration?packageGroup=/*", {}, 401, 403, 403, 403, 403, 200),
    (
        "GET",
        f"{GROUP}-allowed-repositories?packageGroup=/*&originRestrictionType=PUBLISH",
        None,
        401,
        200,
        200,
        200,
        403,
        200,
    ),
    ("GET", f"{GROUP}s", None, 401, 200, 200, 200, 403, 200),
    ("GET", f"{GROUP}s/sub-groups?packageGroup=/*", None, 401, 200, 200, 200, 403, 200),
    ("GET", "/domains/default/get-associated-package-group?format=pypi&package=x", None, 401, 200, 200, 200, 403, 200),
    ("GET", "/domains/default/list-associated-packages?packageGroup=/*", None, 401, 200, 200, 200, 403, 200),
    ("GET", f"{PACKAGE}/versions", None, 401, 200, 200, 200, 403, 200),
    ("GET", f"{VERSION}/assets", None, 401, 200, 200, 200, 403, 200),
    ("GET", f"{VERSION}/asset?asset=My_Pkg-1.0-py3-none-any.whl", None, 401, 200, 200, 200, 403, 200),
    ("GET", f"{DEV}/endpoint?format=pypi", None, 401, 200, 200, 200, 403, 200),
    ("GET", f"{VERSION}/dependencies", None, 401, 200, 200, 200, 403, 200),
    ("GET", f"{VERSION}/advisories", None, 401, 200, 200, 200, 403, 200),
    ("GET", f"{VERSION}/provenance", None, 401, 404, 404, 404, 403, 404),  # no build made it
    ("GET", f"{VERSION}/readme", None, 401, 404, 404, 404, 403, 404),  # it has none
    ("POST", f"{VERSION}/reopen", {"hours": 2}, 401, 403, 403, 403, 403, 200),
    ("POST", f"{PACKAGE}/versions/copy", {"versions": ["1.0"], "destinationRepository": "staging"}, 401, 403, 403, 200, 403, 200),
    ("POST", f"{PACKAGE}/versions/copy", {"versions": ["1.0"], "destinationRepository": "prod"}, 401, 403, 403, 403, 403, 200),
    ("POST", f"{PACKAGE}/versions/update_status", {"versions": ["1.0"], "targetStatus": "Unlisted"}, 401, 403, 200, 403, 403, 200),
    ("POST", f"{PACKAGE}/versions/dispose", {"versions": ["1.0"]}, 401, 403, 200, 403, 403, 200),
    ("POST", f"{PACKAGE}/versions/delete", {"versions": ["1.0"]}, 401, 403, 200, 403, 403, 200),
    ("DELETE", PACKAGE, None, 401, 403, 200, 403, 403, 404),  # the publisher was first
    ("GET", "/tokens", None, 401, 200, 200, 200, 200, 200),
    ("GET", "/tokens?user=approver", None, 401, 403, 403, 403, 403, 200),
    ("POST", "/tokens", {"name": "n", "actions": ["read"], "ttlSeconds": 600}, 401, 201, 201, 201, 201, 201),
    ("POST", "/tokens", {"name": "n", "actions": ["admin"], "ttlSeconds": 600}, 401, 403, 403, 403, 403, 201),
    ("GET", "/tokens/5", None, 401, 404, 404, 404, 404, 200),
    ("DELETE", "/tokens/5", None, 401, 404, 404, 404, 404, 204),
    ("GET", "/audit", None, 401, 403, 403, 403, 403, 200),
    ("DELETE", "/tokens?kind=build", None, 401, 200, 200, 200, 200, 200),
    ("DELETE", "/tokens?user=approver&kind=build", None, 401, 403, 403, 403, 403, 200),
    ("GET", "/authorization-token", None, 401, 200, 200, 200, 200, 200),
    ("GET", "/authorization-token?domain=default", None, 401, 200, 200, 200, 403, 200),
    ("POST", "/authorization-token?durationSeconds=900", None, 401, 200, 200, 200, 200, 200),
    ("POST", "/leaked-tokens", [{"token": "none"}], 200, 200, 200, 200, 200, 200),
    ("GET", "/users", None, 401, 403, 403, 403, 403, 200),
    ("POST", "/users", {"name": "new", "actions": ["read"]}, 401, 403, 403, 403, 403, 201),
    ("GET", "/users/approver/second-factor", None, 401, 403, 403, 403, 403, 200),
    ("DELETE", "/users/approver/second-factor", None, 401, 403, 403, 403, 403, 404),  # there is none
    ("DELETE", "/users/approver/sessions", None, 401, 403, 403, 403, 403, 200),
    ("POST", "/users/approver/disable", None, 401, 403, 403, 403, 403, 204),
    ("POST", "/users/approver/enable", None, 401, 403, 403, 403, 403, 204),
    ("POST", "/users/approver/password", {"password": "x" * 12}, 401, 403, 403, 403, 403, 204),
    ("PATCH", "/users/approver", {"isDisabled": True}, 401, 403, 403, 403, 403, 200),
    ("DELETE", "/users/approver", None, 401, 403, 403, 403, 403, 204),
    ("GET", "/domains", None, 401, 200, 200, 200, 200, 200),
    ("POST", "/domains", {"name": "made"}, 401, 403, 403, 403, 403, 201),
    ("GET", "/domains/default", None, 401, 200, 200, 200, 404, 200),
    ("GET", "/domains/absent", None, 401, 404, 404, 404, 404, 404),
    ("DELETE", "/domains/default", None, 401, 403, 403, 403, 403, 409),
    ("DELETE", "/domains/default?force=true", None, 401, 403, 403, 403, 403, 204),
    ("DELETE", "/domains/default/repositories/open", None, 401, 403, 403, 403, 403, 409),
    ("DELETE", "/domains/default/repositories/prod", None, 401, 403, 403, 403, 403, 204),
    ("GET", DOMAIN_POLICY, None, 401, 403, 403, 403, 403, 404),
    ("PUT", DOMAIN_POLICY, {"policyDocument": OPEN_POLICY}, 401, 403, 403, 403, 403, 200),
    ("DELETE", DOMAIN_POLICY, None, 401, 403, 403, 403, 403, 404),
    ("GET", f"{DEV}/permissions/policy", None, 401, 403, 403, 403, 403, 404),
    ("PUT", f"{DEV}/permissions/policy", {"policyDocument": OPEN_POLICY}, 401, 403, 403, 403, 403, 200),
    ("DELETE", f"{DEV}/permissions/policy", None, 401, 403, 403, 403, 403, 404),
    ("GET", "/roles", None, 401, 200, 200, 200, 200, 200),
    ("GET", "/role-grants", None, 401, 200, 200, 200, 200, 200),
    ("POST", "/role-grants", GRANT, 401, 403, 403, 403, 403, 201),
    ("DELETE", "/role-grants/1", None, 401, 404, 404, 404, 404, 404),
    ("GET", "/groups", None, 401, 403, 403, 403, 403, 200),
    ("POST", "/groups", {"name": "ops"}, 401, 403, 403, 403, 403, 201),
    ("GET", "/groups/ops", None, 401, 403, 403, 403, 403, 404),
    ("DELETE", "/groups/ops", None, 401, 403, 403, 403, 403, 404),
    ("PUT", "/groups/ops/members/reader", None, 401, 403, 403, 403, 403, 404),
    ("DELETE", "/groups/ops/members/reader", None, 401, 403, 403, 403, 403, 404),
    ("GET", "/explain/access?who=reader&what=read&where=default/dev", None, 401, 200, 403, 403, 403, 200),
]  # fmt: skip
CALLERS = (None, "reader", "publisher", "promoter", "stranger", "admin")


@pytest.mark.parametrize(("method", "path", "body", "expected"), [(m, p, b, e) for m, p, b, *e in MATRIX])
def test_permission_matrix(
    request: pytest.FixtureRequest, method: str, path: str, body: dict | None, expected: list[int]
) -> None:
    world: World = request.getfixturevalue("settled" if method == "GET" else "stocked")
    got = [world.call(method, path, as_=who, json=body).status_code for who in CALLERS]
    assert got == expected


def test_the_matrix_covers_every_route(settled: World) -> None:
    adapter = settled.app.url_map.bind("localhost")
    covered = {(adapter.match(f"/api/v1{path}".split("?")[0], method=method)[0], method) for method, path, *_ in MATRIX}
    served = {
        (rule.endpoint, method) for rule in settled.api_rules("api.") for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert covered == served


def test_a_state_changing_route_declares_no_read_permission(settled: World) -> None:
    declared = permissions(settled.app)
    changing = {rule.endpoint for rule in settled.api_rules() if rule.methods & {"POST", "PUT", "PATCH", "DELETE"}}
    # Who has a token could do worse with it than end it; a registration token is proof by itself, once.
    changing -= {"api.report_leaked_tokens", "runner_api.register_runner"}
    # What an agent has signed with its own key is proof by itself, and so is its enrolment token.
    changing -= {"agent_api.enrol_agent", "agent_api.challenge_agent", "agent_api.open_agent_session"}
    assert changing
    assert not [endpoint for endpoint in changing if "read" in declared[endpoint] or "public" in declared[endpoint]]


@pytest.mark.parametrize(
    "path", [path for method, path, _, anonymous, *_ in MATRIX if method == "GET" and anonymous == 401]
)
def test_credentials_that_ended_are_refused(settled: World, path: str) -> None:
    expired = settled.token("admin", "admin", life=timedelta(minutes=5))
    revoked = settled.token("admin", "admin")
    control = settled.token("admin", "admin")
    settled.revoke(revoked)
    settled.now += timedelta(minutes=5)
    forged = control[:-1] + ("A" if control[-1] != "A" else "B")
    statuses = [settled.call("GET", path, token=token).status_code for token in (expired, revoked, forged)]
    assert statuses == [401, 401, 401]
    assert settled.call("GET", path, token=control).status_code != 401  # negative control


def test_a_disabled_users_token_is_refused(stocked: World) -> None:
    assert stocked.call("GET", "/whoami", as_="reader").status_code == 200
    stocked.disable("reader")
    assert stocked.call("GET", "/whoami", as_="reader").status_code == 401


def test_a_sign_in_cookie_opens_nothing_here(world: World) -> None:
    with world.db.write() as session:
        secret = world.services.accounts.open_session(session, 1, world.now)
    world.http.set_cookie("entrepot_session", secret)
    assert world.call("GET", "/whoami", as_=None).status_code == 401


def test_basic_with_password_or_token_is_accepted(settled: World) -> None:
    for secret in (PASSWORD, settled.tokens["reader"]):
        answer = settled.http.get("/api/v1/whoami", auth=("reader", secret))
        assert (answer.status_code, answer.json["name"]) == (200, "reader")
    assert settled.http.get("/api/v1/whoami", auth=("reader", PASSWORD + "x")).status_code == 401


def test_whoami_tells_every_scope(world: World) -> None:
    everything = {"packages": None, "networks": None}
    token = world.token("publisher", "read", repositories=["default/dev"])
    assert world.call("GET", "/whoami", token=token).json == {
        "name": "publisher",
        "via": "token",
        "scopes": [
            {"actions": ["publish", "read"], "repositories": ["default/dev", "default/open"], **everything},
            {"actions": ["read"], "repositories": ["default/dev"], **everything},
        ],
    }


# --- bodies ----------------------------------------------------------------------------------------------------------

BAD_BODIES = {
    "not json": b"{name: 1}",
    "empty": b"",
    "a list": b"[]",
    "null": b"null",
    "duplicate key": b'{"name": "one", "name": "two"}',
    "nested duplicate key": b'{"name": "one", "externalConnections": {"pypi": null, "pypi": null}}',
    "NaN": b'{"name": NaN}',
    "Infinity": b'{"name": -Infinity}',
    "deep": b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "huge number": b'{"name": ' + b"9" * 5000 + b"}",
    "lone surrogate": b'{"name": "\\ud800"}',
    "not utf-8": b'{"name": "\xff"}',
    "byte order mark": b'\xef\xbb\xbf{"name": "made"}',
    "NUL": b'{"name": "made", "description": "a\\u0000b"}',
    "unknown field": b'{"name": "made", "isAdmin": true}',
    "snake case is another field": b'{"name": "made", "anonymous_read": true}',
    "prototype": b'{"name": "made", "__proto__": {}}',
    "missing field": b'{"description": "no name"}',
    "wrong type": b'{"name": 7}',
    "number for a flag": b'{"name": "made", "anonymousRead": 1}',
    "flag for a text": b'{"name": "made", "description": true}',
    "text for a list": b'{"name": "made", "upstreams": "dev"}',
    "list of numbers": b'{"name": "made", "upstreams": [1]}',
    "null where none is": b'{"name": "made", "description": null}',
    "too long": json.dumps({"name": "made", "description": "x" * 501}).encode(),
    "too many": json.dumps({"name": "made", "upstreams": ["dev"] * 33}).encode(),
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_bodies_are_refused_and_nothing_is_stored(settled: World, body: bytes) -> None:
    """B7, D15, F7."""
    before = settled.audit()
    answer = settled.call("POST", "/domains/default/repositories", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert answer.json["code"] == "invalid"
    assert answer.json["detail"]
    assert settled.call("GET", "/domains/default/repositories/made").status_code == 404
    assert settled.audit() == before


def test_the_sound_body_beside_the_bad_ones_is_taken(world: World) -> None:
    answer = world.call(
        "POST", "/domains/default/repositories", data=b'{"name": "made"}', content_type="application/json"
    )
    assert answer.status_code == 201


def test_an_unknown_field_is_named(settled: World) -> None:
    answer = settled.call("POST", "/users", json={"name": "eve", "actions": [], "isAdmin": True})
    assert "isAdmin" in answer.json["detail"]
    assert settled.call("PATCH", DEV, json={"domainId": 2}).status_code == 400


def test_routes_without_body_take_none(settled: World) -> None:
    assert settled.call("POST", f"{VERSION}/unyank", json={"by": "root"}).status_code == 400
    assert settled.call("POST", f"{VERSION}/unyank", json={}).status_code == 200


def test_query_parameters_are_checked(settled: World) -> None:
    for query in ("limit=0", "limit=201", "limit=x", "limit=1&limit=2", "sort=name", "after=1", f"search={'x' * 101}"):
        assert settled.call("GET", f"{DEV}/packages?{query}").status_code == 400, query
    assert settled.call("GET", "/whoami?verbose=1").status_code == 400
    assert settled.call("GET", f"{DEV}/packages?limit=1").status_code == 200


def test_other_content_types_and_codings_are_refused(settled: World) -> None:
    for headers in (
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ):
        answer = settled.call("POST", "/domains/default/repositories", data=b'{"name": "made"}', headers=headers)
        assert answer.status_code == 400, headers


def test_a_body_over_the_limit_is_refused_unread(settled: World) -> None:
    limit = settled.services.limits.json_bytes
    body = b'{"name": "' + b"x" * limit + b'"}'
    assert settled.call("POST", "/users", data=body, content_type="application/json").status_code == 413


def test_a_body_cut_short_is_refused(world: World) -> None:
    """The first half of ``{"limit": 10}`` may be sound JSON: only the announced length tells."""
    server = make_server("127.0.0.1", 0, world.app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        whole = b'{"name": "made"}'
        answers = [
            _post(server.server_port, world.tokens["admin"], whole, announced)
            for announced in (len(whole) + 10, len(whole))
        ]
    finally:
        server.shutdown()
        server.server_close()
    assert answers == [400, 201]


def _post(port: int, token: str, body: bytes, announced: int) -> int:
    head = (
        "POST /api/v1/domains/default/repositories HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {announced}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        return int(connection.makefile("rb").readline().split()[1])


# --- repositories ----------------------------------------------------------------------------------------------------


def test_repositories_lists_what_the_caller_may_read(world: World) -> None:
    names = [item["name"] for item in world.call("GET", "/repositories").json["items"]]
    assert names == ["dev", "open", "prod", "public", "staging"]
    assert [item["name"] for item in world.call("GET", "/repositories", as_="promoter").json["items"]] == [
        "dev",
        "staging",
    ]
    assert world.call("GET", "/repositories", as_="stranger").json == {
        "items": [], "next": None, "repositories": [], "nextToken": None
    }  # fmt: skip


def test_repositories_come_in_pages(world: World) -> None:
    seen, after = [], ""
    while after is not None:
        page = world.call("GET", f"/repositories?limit=2&after={after}").json
        seen += [item["name"] for item in page["items"]]
        after = page["next"]
    assert seen == ["dev", "open", "prod", "public", "staging"]


def test_a_repository_is_made_and_changed(world: World) -> None:
    made = world.call(
        "POST",
        "/domains/default/repositories",
        json={
            "name": "tools",
            "description": "for builds",
            "upstreams": ["dev", "public"],
            "externalConnections": {"pypi": "https://index.example/simple/"},
        },
    )
    assert made.status_code == 201
    shown = world.call("GET", "/domains/default/repositories/tools").json
    assert shown == made.json
    assert shown["upstreams"] == ["dev", "public"]
    assert shown["connections"] == [{"format": "pypi", "name": "public", "url": "https://index.example/simple/"}]
    changed = world.call(
        "PATCH", "/domains/default/repositories/tools", json={"upstreams": ["staging"], "anonymousRead": True}
    ).json
    assert (changed["upstreams"], changed["anonymousRead"], changed["description"]) == (["staging"], True, "for builds")
    assert world.call("GET", "/domains/default/repositories/tools", as_=None).status_code == 200
    assert world.audit()[-2:] == [
        ("admin", "repository.create", "default/tools"),
        ("admin", "repository.change", "default/tools"),
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "dev"}, 409),
        ({"name": "../etc"}, 400),
        ({"name": "made", "upstreams": ["absent"]}, 404),
        ({"name": "made", "upstreams": ["made"]}, 400),
        ({"name": "made", "upstreams": ["dev", "dev"]}, 400),
        ({"name": "made", "externalConnections": {"cobol": None}}, 400),
        ({"name": "made", "externalConnections": {"pypi": "file:///etc/passwd"}}, 400),
        ({"name": "made", "externalConnections": {"pypi": "https://user:secret@index.example/"}}, 400),
        ({"name": "made", "externalConnections": {"pypi": "https://index.example:99999/"}}, 400),
        ({"name": "made", "externalConnections": {"pypi": "https://index.example/\r\nX: y"}}, 400),
        ({"name": "made", "externalConnections": {"pypi": "https://"}}, 400),
    ],
)
def test_repositories_that_cannot_be(settled: World, body: dict, status: int) -> None:
    answer = settled.call("POST", "/domains/default/repositories", json=body)
    assert answer.status_code == status
    assert "secret" not in answer.text
    assert settled.call("GET", "/domains/default/repositories/made").status_code == 404


def test_upstreams_make_no_cycle(world: World) -> None:
    assert world.call("PATCH", "/domains/default/repositories/public", json={"upstreams": ["dev"]}).status_code == 400
    assert world.call("GET", "/domains/default/repositories/public").json["upstreams"] == []


def test_whoever_sets_an_upstream_must_be_able_to_read_it(world: World) -> None:
    token = world.account("owner", "admin", repositories=["default/dev"])
    assert world.call("PATCH", DEV, token=token, json={"description": "mine"}).status_code == 200
    assert world.call("PATCH", DEV, token=token, json={"upstreams": ["prod"]}).status_code == 403
    assert world.call("PATCH", DEV, token=token, json={"upstreams": []}).status_code == 200
    assert world.call("POST", "/domains/default/repositories", token=token, json={"name": "more"}).status_code == 403


# --- packages --------------------------------------------------------------------------------------------------------


def test_packages_are_listed_with_their_highest_version(settled: World) -> None:
    items = settled.call("GET", f"{DEV}/packages").json["items"]
    assert [(item["name"], item["latestVersion"], item["versionCount"]) for item in items] == [
        ("my-pkg", "1.10", 3),
        ("other", "0.1", 1),
    ]
    assert items[0]["displayName"] == "My-Pkg"
    assert settled.call("GET", DEV).json["packageCount"] == 2


def test_packages_come_in_pages_and_by_search(settled: World) -> None:
    first = settled.call("GET", f"{DEV}/packages?limit=1").json
    second = settled.call("GET", f"{DEV}/packages", query_string={"limit": 1, "after": first["next"]}).json
    assert [first["items"][0]["name"], second["items"][0]["name"], second["next"]] == ["my-pkg", "other", None]

    def found(**query: str) -> list[str]:
        return [item["name"] for item in settled.call("GET", f"{DEV}/packages", query_string=query).json["items"]]

    assert found(search="MY-p") == ["my-pkg"]
    assert found(search="%") == found(search="_") == []  # no wildcards
    assert found(format="pypi") == ["my-pkg", "other"]
    assert found(format="cobol") == []


def test_a_package_lists_versions_newest_first(settled: World) -> None:
    detail = settled.call("GET", f"{DEV}/packages/pypi/My_Pkg").json
    assert [entry["displayVersion"] for entry in detail["versions"]] == ["1.10", "1.9", "1.0"]
    assert detail["versions"][0]["assetCount"] == 1
    assert detail["versions"][0]["sizeBytes"] > 0


def test_a_version_is_found_by_any_spelling(settled: World) -> None:
    shown = [settled.call("GET", f"{PACKAGE}/versions/{text}").json for text in ("1", "1.0", "1.0.0", "v1.0")]
    assert all(entry["version"] == "1" for entry in shown)
    assert shown[0]["metadata"] == {"license": "MIT"}
    assert shown[0]["assets"][0]["filename"] == "My_Pkg-1.0-py3-none-any.whl"
    for absent in (f"{PACKAGE}/versions/4", f"{PACKAGE}/versions/none", f"{DEV}/packages/pypi/nothing"):
        assert settled.call("GET", absent).status_code == 404
    assert settled.call("GET", f"{DEV}/packages/cobol/my-pkg").status_code == 404
    assert settled.call("GET", f"{PACKAGE}?namespace=other").status_code == 404


def test_holders_the_caller_may_not_read_are_not_named(stocked: World) -> None:
    stocked.call("POST", f"{VERSION}/promote", json={"target": "staging"})
    stocked.call("POST", f"{VERSION}/promote", json={"target": "prod"})
    assert stocked.call("GET", VERSION).json["heldBy"] == ["dev", "prod", "staging"]
    assert stocked.call("GET", VERSION, as_="promoter").json["heldBy"] == ["dev", "staging"]
    assert stocked.call("GET", VERSION, as_="reader").json["heldBy"] == ["dev"]


def test_promotion_copies_the_named_bytes(stocked: World) -> None:
    sdist = stocked.publish("dev", "My-Pkg", "1.0", canonical="1", suffix=".tar.gz")
    wanted = {"My_Pkg-1.0.tar.gz": sdist}
    promoted = stocked.call("POST", f"{VERSION}/promote", as_="promoter", json={"target": "staging", "assets": wanted})
    assert promoted.json["assets"] == wanted
    there = "/domains/default/repositories/staging/packages/pypi/my-pkg/versions/1"
    assert [asset["filename"] for asset in stocked.call("GET", there).json["assets"]] == list(wanted)
    assert stocked.call("GET", there).json["promotedFrom"] == "dev"
    stocked.call("POST", f"{VERSION}/promote", as_="promoter", json={"target": "staging"})
    assert len(stocked.call("GET", there).json["assets"]) == 2
    before = stocked.audit()
    assert stocked.call("POST", f"{VERSION}/promote", json={"target": "staging"}).status_code == 200
    assert stocked.audit() == before  # nothing happened twice


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"target": "dev"}, 400),
        ({"target": "absent"}, 404),
        ({"target": "staging", "assets": {}}, 400),
        ({"target": "staging", "assets": {"absent.whl": "0" * 64}}, 404),
        ({"target": "staging", "assets": {"My_Pkg-1.0-py3-none-any.whl": "0" * 64}}, 409),
    ],
)
def test_promotions_that_cannot_be(settled: World, body: dict, status: int) -> None:
    assert settled.call("POST", f"{VERSION}/promote", json=body).status_code == status
    assert settled.call("GET", "/domains/default/repositories/staging/packages").json["items"] == []


def test_a_deleted_version_is_gone_and_the_others_stay(stocked: World) -> None:
    assert stocked.call("DELETE", f"{PACKAGE}/versions/1.0.0", as_="publisher").status_code == 204  # any spelling
    assert stocked.call("GET", VERSION).status_code == 404
    left = stocked.call("GET", PACKAGE).json["versions"]
    assert [version["displayVersion"] for version in left] == ["1.10", "1.9"]
    assert stocked.audit()[-1] == ("publisher", "version.delete", "default/dev/pypi/my-pkg/1")


def test_a_package_is_closed_and_opened(stocked: World) -> None:
    for status, reason in (("archived", "done"), ("active", ""), ("quarantined", "looked at")):
        answer = stocked.call("PUT", f"{PACKAGE}/status", as_="publisher", json={"status": status, "reason": reason})
        assert (answer.json["status"], answer.json["statusReason"]) == (status, reason)
        assert stocked.call("GET", PACKAGE).json["status"] == status
    assert stocked.audit()[-1] == ("publisher", "package.status", "default/dev/pypi/my-pkg")
    # Who is looked into does not end that.
    refused = stocked.call("PUT", f"{PACKAGE}/status", as_="publisher", json={"status": "active"})
    assert (refused.status_code, "only an administrator" in refused.json["detail"]) == (403, True)
    assert stocked.call("PUT", f"{PACKAGE}/status", json={"status": "active"}).json["status"] == "active"


@pytest.mark.parametrize("body", [{}, {"status": "retired"}, {"status": "active", "reason": "x" * 501}])
def test_a_status_that_is_none_is_refused(settled: World, body: dict) -> None:
    assert settled.call("PUT", f"{PACKAGE}/status", json=body).status_code == 400
    assert settled.call("GET", PACKAGE).json["status"] == "active"


def test_nothing_of_a_quarantined_package_is_promoted(stocked: World) -> None:
    stocked.call("PUT", f"{PACKAGE}/status", json={"status": "quarantined"})
    refused = stocked.call("POST", f"{VERSION}/promote", json={"target": "staging"})
    assert (refused.status_code, "quarantined" in refused.json["detail"]) == (403, True)


def test_nothing_is_promoted_into_an_archived_package(stocked: World) -> None:
    stocked.call("POST", f"{VERSION}/promote", json={"target": "staging"})
    stocked.call(
        "PUT", "/domains/default/repositories/staging/packages/pypi/my-pkg/status", json={"status": "archived"}
    )
    refused = stocked.call("POST", f"{PACKAGE}/versions/1.9/promote", json={"target": "staging"})
    assert (refused.status_code, "archived" in refused.json["detail"]) == (403, True)


def test_a_version_is_yanked_and_put_back(stocked: World) -> None:
    yanked = stocked.call("POST", f"{PACKAGE}/versions/1.10/yank", as_="publisher", json={"reason": "loses data"})
    assert yanked.json["yankedReason"] == "loses data"
    assert stocked.call("GET", f"{DEV}/packages").json["items"][0]["latestVersion"] == "1.9"
    back = stocked.call("POST", f"{PACKAGE}/versions/1.10/unyank", as_="publisher")
    assert back.json["yankedReason"] is None
    assert [action for _, action, _ in stocked.audit()[-2:]] == ["version.yank", "version.unyank"]


# --- tokens and users ------------------------------------------------------------------------------------------------


def _new_token(world: World, as_: str | None = None, **body: object):
    return world.call("POST", "/tokens", as_=as_ or "publisher", json={"name": "t", "ttlSeconds": 3600, **body})


def test_a_token_is_shown_once_and_works(world: World) -> None:
    made = _new_token(world, actions=["read"], repositories=["default/dev"])
    assert made.headers["Cache-Control"] == "no-store"
    secret = made.json["secret"]
    assert world.call("GET", DEV, token=secret).status_code == 200
    assert world.call("GET", "/domains/default/repositories/open", token=secret).status_code == 403
    listed = world.call("GET", "/tokens", as_="publisher")
    assert secret not in listed.text
    assert listed.json["items"][0]["lastFour"] == secret[-4:]
    assert world.call("DELETE", f"/tokens/{made.json['id']}", as_="publisher").status_code == 204
    assert world.call("GET", DEV, token=secret).status_code == 401
    assert made.json["id"] not in [item["id"] for item in world.call("GET", "/tokens", as_="publisher").json["items"]]
    assert [entry[1] for entry in world.audit()[-2:]] == ["token.issue", "token.revoke"]


@pytest.mark.parametrize(
    ("rights", "status"),
    [
        ({"actions": ["read", "publish"], "repositories": ["default/dev"]}, 201),
        ({"actions": ["read"], "repositories": None}, 201),
        ({"actions": ["read", "promote"], "repositories": ["default/dev"]}, 403),
        ({"actions": ["admin"]}, 403),
        ({"actions": ["read"], "repositories": ["default/prod"]}, 403),
        ({"actions": ["read"], "repositories": ["default/*"]}, 403),
        ({"actions": ["read"], "repositories": ["default/dev", "*/*"]}, 403),
        ({"actions": ["fly"]}, 400),
        ({"actions": []}, 400),
        ({"actions": ["read"], "repositories": []}, 400),
        ({"actions": ["read"], "repositories": ["dev"]}, 400),
        ({"actions": ["read"], "ttlSeconds": 59}, 400),
        ({"actions": ["read"], "ttlSeconds": 367 * 86400}, 400),
        ({"actions": ["read"], "kind": "setup"}, 400),
    ],
)
def test_a_token_never_gets_more_than_its_maker_has(settled: World, rights: dict, status: int) -> None:
    assert _new_token(settled, **rights).status_code == status


def test_a_token_made_by_a_token_has_no_more_than_it(world: World) -> None:
    parent = world.token("publisher", "read", repositories=["default/dev"], life=timedelta(hours=1))
    body = {"name": "child", "actions": ["read"], "ttlSeconds": 86400}
    child = world.call("POST", "/tokens", token=parent, json=body).json
    assert child["repositories"] == ["default/dev"]
    assert child["expiresAt"] == "2026-01-01T13:00:00.000Z"
    wider = {**body, "actions": ["read", "publish"]}
    assert world.call("POST", "/tokens", token=parent, json=wider).status_code == 403
    assert world.call("POST", "/tokens", as_="publisher", json=wider).status_code == 201  # negative control
    world.now += timedelta(minutes=59, seconds=30)
    assert world.call("POST", "/tokens", token=parent, json=body).status_code == 400  # no chain of short tokens


def test_a_token_says_that_it_ends_with_the_one_it_was_made_with(world: World) -> None:
    parent = world.token("publisher", "read", life=timedelta(hours=1))
    body = {"name": "child", "actions": ["read"], "ttlSeconds": 86400}
    told = [
        world.call("POST", "/tokens", token=parent, json=body).json,
        world.call("POST", "/tokens", token=parent, json={**body, "ttlSeconds": 600}).json,
        world.call("POST", "/authorization-token?durationSeconds=43200", token=parent).json,
        world.call("POST", "/authorization-token?durationSeconds=900", token=parent).json,
    ]
    assert [made["endsWithParent"] for made in told] == [True, False, True, False]
    shown = world.call("GET", f"/tokens/{told[0]['id']}", as_="publisher").json
    assert {made["parentId"] for made in told} == {shown["parentId"]}
    assert (shown["expiresAt"], "secret" in shown) == ("2026-01-01T13:00:00.000Z", False)
    assert world.call("GET", f"/tokens/{told[0]['id']}", as_="reader").status_code == 404


def test_a_token_for_what_is_not_there_is_not_made_where_its_maker_may_know(world: World) -> None:
    for place, status in (("default/absent", 404), ("absent/dev", 404), ("default/abs*", 201), ("default/dev", 201)):
        assert _new_token(world, "admin", actions=["read"], repositories=[place]).status_code == status, place
        path, body = "/authorization-token", {"repositories": [place]}
        assert world.call("POST", path, json=body).status_code == (status if status == 404 else 200), place
    gone = world.call("GET", "/authorization-token?domain=absent")
    assert (gone.status_code, gone.json["detail"]) == (404, "domain 'absent' was not found")
    assert _new_token(world, "admin", actions=["read"], repositories=["default/absent"]).json["detail"] == (
        "repository 'default/absent' was not found"
    )
    # Who may not read there is answered as if it were there.
    world.call("POST", "/domains", json={"name": "hidden"})
    for domain in ("hidden", "absent"):
        assert world.call("GET", f"/authorization-token?domain={domain}", as_="publisher").status_code == 403
        assert _new_token(world, actions=["read"], repositories=[f"{domain}/x"]).status_code == 403


def test_one_file_is_downloaded_as_in_codeartifact(world: World) -> None:
    name = "acme_client-1.0-py3-none-any.whl"
    world.publish("dev", "acme-client", "1.0")
    at = f"{DEV}/packages/pypi/acme-client/versions"
    whole = world.call("GET", f"{at}/1.0/asset?asset={name}", as_="reader")
    assert (whole.status_code, whole.data) == (200, f"bytes of {name}".encode())
    assert whole.headers["X-AssetName"] == name
    assert whole.headers["X-PackageVersion"] == "1.0"
    revision = whole.headers["X-PackageVersionRevision"]
    part = world.call("GET", f"{at}/1.0/asset?asset={name}", as_="reader", headers={"Range": "bytes=6-7"})
    assert (part.status_code, part.data) == (206, b"of")
    assert world.call("GET", f"{at}/1.0/asset?asset={name}&revision={revision}", as_="reader").status_code == 200
    for path in (f"1.0/asset?asset={name}&revision=other", "1.0/asset?asset=absent.whl", f"1.1/asset?asset={name}"):
        assert world.call("GET", f"{at}/{path}", as_="reader").status_code == 404, path
    assert world.call("GET", f"{at}/1.0/asset", as_="reader").status_code == 400
    states = {"versions": ["1.0"], "targetStatus": "Archived"}
    assert world.call("POST", f"{at}/update_status", json=states).json["successfulVersions"]
    assert world.call("GET", f"{at}/1.0/asset?asset={name}", as_="reader").status_code in {403, 404}


def test_answers_have_codeartifacts_names_beside_our_own(world: World) -> None:
    world.publish("dev", "acme-client", "1.0")
    shown = world.call("GET", DEV, as_="reader").json
    assert (shown["domain"], shown["upstreams"]) == ("default", ["public"])
    assert shown["repository"] == {
        "name": "dev",
        "domainName": "default",
        "arn": "repository/default/dev",
        "description": "",
        "upstreams": [{"repositoryName": "public"}],
        "externalConnections": [],
    }
    first = world.call("GET", "/repositories?limit=1").json
    assert [each["name"] for each in first["items"]] == [each["name"] for each in first["repositories"]] == ["dev"]
    rest = world.call("GET", f"/repositories?nextToken={first['nextToken']}").json["repositories"]
    assert {each["domainName"] for each in rest} == {"default"}
    assert "dev" not in [each["name"] for each in rest]
    domain = world.call("GET", "/domains/default").json
    assert domain["domain"].items() <= domain.items()
    listed = world.call("GET", "/domains").json
    assert [(each["name"], each["status"]) for each in listed["domains"]] == [("default", "Active")]
    assert listed["nextToken"] is None
    packages = world.call("GET", f"{DEV}/packages?limit=1", as_="reader").json
    assert packages["packages"] == [{"format": "pypi", "namespace": "", "package": "acme-client"}]


def test_a_repository_tells_where_clients_of_a_format_find_it(world: World) -> None:
    found = world.call("GET", f"{DEV}/endpoint?format=pypi", as_="reader").json
    assert found == {"repositoryEndpoint": "http://localhost/pypi/default/dev/"}
    assert world.call("GET", f"{DEV}/endpoint?format=absent", as_="reader").status_code == 400


def test_refusals_are_sentences(world: World) -> None:
    unlimited = world.token("reader", "admin")
    for method, path, said in (
        ("GET", "/users", "reader may not manage users (entrepot:ManageUsers)"),
        (
            "POST",
            "/domains/default/repositories",
            "reader may not create a repository (codeartifact:CreateRepository on default)",
        ),
        ("GET", "/domains/default/repositories/prod", "reader may not read default/prod"),
        ("GET", "/tokens?user=admin", "reader may not administer this server"),
    ):
        answer = world.call(method, path, token=unlimited, json={} if method == "POST" else None)
        assert answer.json["detail"] == said
    narrow = world.token("admin", "read")
    assert world.call("GET", "/users", token=narrow).json["detail"] == (
        "admin may not manage users (entrepot:ManageUsers) with this token"
    )


def test_wildcards_within_ones_own_may_be_handed_on(world: World) -> None:
    for pattern, status in (("default/*", 201), ("default/st*", 201), ("*/dev", 403), ("default/dev", 201)):
        assert _new_token(world, "approver", actions=["approve"], repositories=[pattern]).status_code == status


def test_an_administrator_makes_and_ends_tokens_of_others(world: World) -> None:
    made = _new_token(world, "admin", actions=["read"], user="reader").json
    assert made["user"] == "reader"
    assert world.call("GET", "/whoami", token=made["secret"]).json["name"] == "reader"
    assert world.call("GET", "/domains/default/repositories/prod", token=made["secret"]).status_code == 403
    assert _new_token(world, "publisher", actions=["read"], user="reader").status_code == 403
    assert world.call("DELETE", f"/tokens/{made['id']}", as_="publisher").status_code == 404
    assert world.call("DELETE", f"/tokens/{made['id']}", as_="admin").status_code == 204
    assert _new_token(world, "admin", actions=["read"], user="nobody").status_code == 404


@pytest.mark.parametrize("number", ["0", "999999999", "9" * 20, "9" * 5000, "-1", "1.0", "x", "\u0661"])
def test_numbers_that_are_no_tokens(settled: World, number: str) -> None:
    assert settled.call("DELETE", f"/tokens/{number}").status_code == 404


def test_tokens_come_in_pages(world: World) -> None:
    made = [_new_token(world, actions=["read"]).json["id"] for _ in range(3)]
    first = world.call("GET", "/tokens?limit=2", as_="publisher").json
    assert [item["id"] for item in first["items"]] == made[:0:-1]
    rest = world.call("GET", f"/tokens?limit=2&after={first['next']}", as_="publisher").json
    assert rest["items"][0]["id"] == made[0]
    assert rest["next"] is None


def test_users_are_made_and_listed(world: World) -> None:
    made = world.call(
        "POST",
        "/users",
        json={"name": "carol", "actions": ["read"], "repositories": ["default/*"], "password": PASSWORD},
    )
    assert made.status_code == 201
    assert PASSWORD not in made.text
    assert world.http.get("/api/v1/whoami", auth=("carol", PASSWORD)).status_code == 200
    assert world.call("POST", "/users", json={"name": "carol", "actions": []}).status_code == 409
    assert world.call("POST", "/users", json={"name": "Carol!", "actions": []}).status_code == 400
    assert world.call("POST", "/users", json={"name": "dave", "actions": [], "password": "short"}).status_code == 400
    names, after = [], ""
    while after is not None:
        page = world.call("GET", f"/users?limit=3&after={after}").json
        names += [item["name"] for item in page["items"]]
        after = page["next"]
    assert names == ["admin", "approver", "carol", "promoter", "publisher", "reader", "stranger"]
    assert "password" not in world.call("GET", "/users").text.lower().replace("haspassword", "")


def test_a_stolen_token_cannot_take_the_account_over(world: World) -> None:
    new = {"password": "another good one"}
    assert world.call("POST", "/users/reader/password", as_="reader", json=new).status_code == 403
    wrong = {**new, "currentPassword": "not this one at all"}
    assert world.call("POST", "/users/reader/password", as_="reader", json=wrong).status_code == 403
    right = {**new, "currentPassword": PASSWORD}
    assert world.call("POST", "/users/reader/password", as_="reader", json=right).status_code == 204
    assert world.http.get("/api/v1/whoami", auth=("reader", PASSWORD)).status_code == 401
    assert world.http.get("/api/v1/whoami", auth=("reader", new["password"])).status_code == 200
    assert world.call("POST", "/users/nobody/password", json=new).status_code == 404


def test_a_stolen_token_cannot_guess_the_password(world: World) -> None:
    body = {"password": "another good one", "currentPassword": "a guess of many"}
    statuses = [world.call("POST", "/users/reader/password", as_="reader", json=body).status_code for _ in range(6)]
    assert statuses == [403] * 5 + [429]
    world.now += timedelta(minutes=1)
    right = {**body, "currentPassword": PASSWORD}
    assert world.call("POST", "/users/reader/password", as_="reader", json=right).status_code == 204


def test_a_new_password_ends_browser_sessions(world: World) -> None:
    with world.db.write() as session:
        secret = world.services.accounts.open_session(session, 2, world.now)
    world.call("POST", "/users/reader/password", json={"password": "another good one"})
    with world.db.read() as session:
        assert world.services.accounts.browser_session(session, secret, world.now) is None


# --- the interface document ------------------------------------------------------------------------------------------


def test_the_interface_document_covers_every_route(settled: World) -> None:
    document = settled.call("GET", "/openapi.json", as_=None).json
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    served = set()
    for rule in settled.api_rules():
        path = rule.rule
        for argument in rule.arguments:
            head, *rest = argument.split("_")
            camel = head + "".join(part.capitalize() for part in rest)
            path = re.sub(rf"<(?:\w+:)?{argument}>", f"{{{camel}}}", path)
        served |= {(path, method.lower()) for method in rule.methods - {"HEAD", "OPTIONS"}}
    assert described == served
    assert document["openapi"] == "3.1.0"


def test_the_interface_document_is_sound(settled: World) -> None:
    document = settled.call("GET", "/openapi.json", as_=None).json
    text = json.dumps(document)
    components = document["components"]["schemas"]
    referred = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert referred == set(components)
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] and operation["x-permission"] for operation in operations)
    create = document["paths"]["/api/v1/domains/{domain}/repositories"]["post"]
    assert create["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/NewRepository"
    }
    assert components["NewRepository"]["additionalProperties"] is False
    assert components["NewRepository"]["required"] == ["name"]
    assert create["x-permission"] == "api: codeartifact:CreateRepository on the domain"


def test_answers_have_the_described_fields(stocked: World) -> None:
    document = stocked.call("GET", "/openapi.json", as_=None).json
    for path, template in (
        (DEV, "/api/v1/domains/{domain}/repositories/{repository}"),
        (VERSION, "/api/v1/domains/{domain}/repositories/{repository}/packages/{formatName}/{name}/versions/{version}"),
        ("/whoami", "/api/v1/whoami"),
    ):
        content = document["paths"][template]["get"]["responses"]["200"]["content"]
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert set(stocked.call("GET", path).json) == set(document["components"]["schemas"][name]["properties"])
