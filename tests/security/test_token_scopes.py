"""D1, D4, D9, A5, A13: what a token is for, for how long, and that nothing made with it is for more."""

import base64
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from werkzeug.test import TestResponse

from registry import token_lines
from registry.access import Action, Identity, Scope
from registry.accounts import Accounts, find_account
from registry.models import Token
from registry.repos import admission as admissions
from registry.repos.publish import Publisher
from tests.functional.api_world import PASSWORD, World
from tests.harness import npm_packages, packages
from tests.security.attack import BOUNDARY, form_fields, multipart

MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
DEV = "default/dev"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def limited(
    world: World, *actions: str, user: str = "admin", life: timedelta = timedelta(days=1), **limits: Any
) -> str:
    """A token of ``user`` with limits."""
    with world.db.write() as session:
        account = find_account(session, user)
        return world.services.accounts.issue_token(
            session, account.id, "test", actions=actions, life=life, now=world.now, **limits
        ).secret


def ask(world: World, method: str, path: str, secret: str, *, address: str = "127.0.0.1", **more: Any) -> TestResponse:
    headers = {"Authorization": f"Bearer {secret}", **more.pop("headers", {})}
    return world.http.open(path, method=method, headers=headers, environ_base={"REMOTE_ADDR": address}, **more)


# --- sending a package in each format --------------------------------------------------------------------------------


def send_wheel(world: World, secret: str, name: str, version: str = "1.0", **files: bytes) -> TestResponse:
    filename, body = packages.wheel(name, version, files=files)
    form = multipart(form_fields(filename, body, name=name, version=version), [("content", filename.encode(), body)])
    return ask(world, "POST", f"/pypi/{DEV}/", secret, data=form, content_type=MULTIPART)


def send_npm(world: World, secret: str, name: str, at: str = "", **files: bytes) -> TestResponse:
    return ask(
        world,
        "PUT",
        f"/npm/{DEV}/{at or name}",
        secret,
        json=npm_packages.publish_document(name, "1.0.0", npm_packages.tarball(name, "1.0.0", files=files)),
    )


def send_maven(world: World, secret: str, name: str, body: bytes = b"some bytes") -> TestResponse:
    return ask(world, "PUT", f"/maven/{DEV}/org/acme/{name}/1.0/{name}-1.0.jar", secret, data=body)


def send_generic(world: World, secret: str, name: str, body: bytes = b"some bytes") -> TestResponse:
    return ask(world, "PUT", f"/generic/{DEV}/{name}/1.0/file.bin", secret, data=body)


SENDERS = {"pypi": send_wheel, "npm": send_npm, "maven": send_maven, "generic": send_generic}
PATHS = {"pypi": "pypi/{}", "npm": "npm/{}", "maven": "maven/org.acme/{}", "generic": "generic/{}"}


# --- packages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_name", SENDERS)
def test_D1_a_token_for_one_package_publishes_that_one_only(world: World, format_name: str) -> None:
    send, path = SENDERS[format_name], PATHS[format_name]
    secret = limited(world, "read", "publish", packages=[path.format("alpha")])
    assert send(world, secret, "alpha").status_code in {200, 201}
    before = world.audit()
    refused = send(world, secret, "beta")
    assert refused.status_code == 403
    assert b"certain packages" in refused.data
    assert world.audit() == before
    # The rule follows the pattern: one that covers both lets both in.
    assert send(world, limited(world, "publish", packages=[path.format("be*")]), "beta").status_code in {200, 201}


@pytest.mark.parametrize("format_name", SENDERS)
def test_D1_without_the_pattern_of_packages_the_token_would_publish(
    world: World, format_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test above."""
    monkeypatch.setattr(Scope, "covers_package", lambda *_: True)
    secret = limited(world, "read", "publish", packages=[PATHS[format_name].format("alpha")])
    assert SENDERS[format_name](world, secret, "beta").status_code in {200, 201}


def test_A5_the_package_in_the_body_is_the_one_that_counts(world: World) -> None:
    secret = limited(world, "read", "publish", packages=["npm/alpha", "pypi/alpha"])
    assert send_npm(world, secret, "beta", at="alpha").status_code == 400
    # The form says alpha, the archive says beta: the archive would be published.
    filename, body = packages.wheel("beta", "1.0")
    for name in ("alpha", "beta"):
        form = multipart(form_fields(filename, body, name=name), [("content", filename.encode(), body)])
        answer = ask(world, "POST", f"/pypi/{DEV}/", secret, data=form, content_type=MULTIPART)
        assert answer.status_code in {400, 403}
    assert not [entry for entry in world.audit() if entry[1] == "asset.publish"]


def test_D1_each_spelling_of_a_package_is_the_same_package(world: World) -> None:
    made = world.call(
        "POST", "/tokens", json={"name": "n", "actions": ["read", "publish"], "packages": ["pypi/Alpha_Tool"]}
    )
    assert made.json["packages"] == ["pypi/alpha-tool"]
    assert send_wheel(world, made.json["secret"], "alpha.tool").status_code == 200
    assert ask(world, "GET", f"/pypi/{DEV}/simple/ALPHA--tool/", made.json["secret"]).status_code == 301
    assert ask(world, "GET", f"/pypi/{DEV}/simple/alpha-tool/", made.json["secret"]).status_code == 200


@pytest.mark.parametrize(
    "wrong", ["alpha", "cargo/alpha", "pypi/", "pypi/**", "npm/*x*/**", "pypi/a b", "/alpha", "pypi/z9z*"]
)
def test_a_pattern_that_can_mean_nothing_is_refused(world: World, wrong: str) -> None:
    answer = world.call("POST", "/tokens", json={"name": "n", "actions": ["read"], "packages": [wrong]})
    assert answer.status_code == 400


@pytest.fixture
def stocked(world: World) -> World:
    for send in SENDERS.values():
        for name in ("alpha", "beta"):
            assert send(world, world.tokens["admin"], name).status_code in {200, 201}
    for name in ("alpha", "beta"):
        done = world.call(
            "POST", f"/domains/default/repositories/dev/packages/maven/{name}/versions/1.0/finish?namespace=org.acme"
        )
        assert done.status_code == 200
    return world


LISTS = (
    f"/pypi/{DEV}/simple/", f"/generic/{DEV}/", f"/npm/{DEV}/-/v1/search?text=a", f"/npm/{DEV}/-/user/admin/package",
    f"/maven/{DEV}/org/acme/", "/api/v1/domains/default/repositories/dev/packages",
)  # fmt: skip
OTHERS = (
    f"/pypi/{DEV}/simple/beta/", f"/pypi/{DEV}/+simple/beta/", f"/pypi/{DEV}/beta/json", f"/pypi/{DEV}/pypi/beta/1.0/json",
    f"/pypi/{DEV}/files/beta/beta-1.0-py3-none-any.whl", f"/pypi/{DEV}/files/beta/beta-1.0-py3-none-any.whl.metadata",
    f"/npm/{DEV}/beta", f"/npm/{DEV}/beta/1.0.0", f"/npm/{DEV}/beta/-/beta-1.0.0.tgz", f"/npm/{DEV}/-/package/beta/dist-tags",
    f"/npm/{DEV}/-/npm/v1/attestations/beta@1.0.0", f"/npm/{DEV}/-/package/beta/collaborators",
    f"/generic/{DEV}/beta/", f"/generic/{DEV}/beta/1.0/", f"/generic/{DEV}/beta/1.0/file.bin",
    f"/maven/{DEV}/org/acme/beta/1.0/beta-1.0.jar", f"/maven/{DEV}/org/acme/beta/1.0/beta-1.0.jar.sha1",
    f"/maven/{DEV}/org/acme/beta/maven-metadata.xml", f"/maven/{DEV}/org/acme/beta/", f"/maven/{DEV}/org/acme/beta/1.0/",
    f"/maven/{DEV}/archetype-catalog.xml", f"/maven/{DEV}/.meta/prefixes.txt",
    "/api/v1/domains/default/repositories/dev/packages/pypi/beta",
    "/api/v1/domains/default/repositories/dev/packages/maven/beta?namespace=org.acme",
    "/api/v1/domains/default/repositories/dev/packages/pypi/beta/versions/1.0",
    "/api/v1/domains/default/repositories/dev/connections", "/api/v1/users",
)  # fmt: skip


def test_D1_lists_show_only_what_the_token_may_read(stocked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = limited(stocked, "read", packages=["*/alpha", "maven/org.acme/alpha"])
    whole, part = stocked.tokens["admin"], {}
    for path in (*LISTS, *LISTS):  # in both orders: neither is served what was rendered for the other
        assert b"beta" in ask(stocked, "GET", path, whole).data, path
        part[path] = ask(stocked, "GET", path, secret)
        assert part[path].status_code == 200, path
        assert b"alpha" in part[path].data, path
        assert b"beta" not in part[path].data, path
    monkeypatch.setattr(Scope, "covers_package", lambda *_: True)  # the negative control
    assert all(b"beta" in ask(stocked, "GET", path, secret).data for path in LISTS)


def test_D1_no_other_address_of_a_package_is_open(stocked: World) -> None:
    secret = limited(stocked, "read", packages=["*/alpha", "maven/org.acme/alpha"])
    for path in OTHERS:
        for method in ("GET", "HEAD"):
            assert ask(stocked, method, path, secret).status_code in {403, 404}, path
        mine = path.replace("beta", "alpha")
        if mine != path and "attestations" not in path and "collaborators" not in path:
            assert ask(stocked, "GET", mine, secret).status_code == 200, mine


def test_D1_changes_are_for_the_packages_of_the_token(stocked: World) -> None:
    secret = limited(stocked, "read", "publish", "promote", packages=["*/alpha", "maven/org.acme/alpha"])
    version = "/api/v1/domains/default/repositories/dev/packages/pypi/{}/versions/1.0"
    changes = (
        ("POST", f"{version}/yank", {"reason": ""}),
        ("POST", f"{version}/unyank", None),
        ("POST", f"{version}/promote", {"target": "staging"}),
        ("PUT", "/api/v1/domains/default/repositories/dev/packages/npm/{}/status", {"status": "active"}),
        ("PUT", f"/npm/{DEV}/-/package/{{}}/dist-tags/old", "1.0.0"),
        ("DELETE", f"/maven/{DEV}/org/acme/{{}}/1.0/", None),
        ("DELETE", f"/generic/{DEV}/{{}}/1.0/", None),
        ("DELETE", version, None),
    )
    for method, path, body in changes:
        before = stocked.audit()
        assert ask(stocked, method, path.format("beta"), secret, json=body).status_code == 403, path
        assert stocked.audit() == before
        assert ask(stocked, method, path.format("alpha"), secret, json=body).status_code in {200, 201, 204}, path


# --- networks --------------------------------------------------------------------------------------------------------


def doors(world: World, secret: str, address: str) -> set[int]:
    """The answers of each door, and to each scheme, at an address."""
    basic = base64.b64encode(f"__token__:{secret}".encode()).decode()
    anybody = base64.b64encode(f"anybody:{secret}".encode()).decode()
    got = set()
    for path in ("/api/v1/whoami", "/api/v1/domains/default/repositories/dev", f"/pypi/{DEV}/simple/", f"/npm/{DEV}/-/whoami",
                 f"/generic/{DEV}/", f"/maven/{DEV}/org/"):  # fmt: skip
        for header in (f"Bearer {secret}", f"bearer {secret}", f"Basic {basic}", f"Basic {anybody}"):
            for more in (
                {},
                {"X-Forwarded-For": "192.0.2.7"},
                {"X-Real-IP": "192.0.2.7"},
                {"X-HTTP-Method-Override": "GET"},
            ):
                got.add(
                    ask(
                        world, "GET", path, secret, address=address, headers={"Authorization": header, **more}
                    ).status_code
                )
    return got


def test_D4_a_token_for_a_network_counts_nowhere_else_by_no_scheme(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish("dev", "demo", "1.0")
    secret = limited(world, "read", networks=["192.0.2.0/24", "2001:db8::/32"])
    for inside in ("192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1"):
        assert doors(world, secret, inside) - {404} == {200}, inside
    for outside in ("192.0.3.7", "127.0.0.1", "2001:db9::1", "::ffff:192.0.3.7", "::1"):
        assert doors(world, secret, outside) == {403}, outside
    monkeypatch.setattr(Scope, "is_from", lambda *_: True)  # the negative control
    assert doors(world, secret, "192.0.3.7") - {404} == {200}


def test_D4_no_header_and_no_spelling_of_an_address_opens_more(world: World) -> None:
    """What proxies and frameworks let callers override: a read token stays one, and a network a network."""
    reading = limited(world, "read")
    elsewhere = limited(world, "read", "publish", networks=["192.0.2.0/24"])
    wheel, body = packages.wheel("demo", "1.0")
    form = multipart(form_fields(wheel, body), [("content", wheel.encode(), body)])
    tricks = (
        {"X-HTTP-Method-Override": "GET"}, {"X-Method-Override": "GET"}, {"X-Original-URL": f"/pypi/{DEV}/simple/"},
        {"X-Rewrite-URL": "/healthz"}, {"X-Forwarded-For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}, {"X-Real-IP": "192.0.2.1"},
        {"X-Remote-User": "admin"}, {"Cookie": "entrepot_session=x"},
    )  # fmt: skip
    paths = (
        f"/pypi/{DEV}/",
        f"/pypi/{DEV}/legacy/",
        f"/pypi/{DEV}/simple/",
        f"/pypi//{DEV}/",
        f"/pypi/{DEV}/;.jsp",
        f"/PYPI/{DEV}/",
    )
    for secret in (reading, elsewhere):
        for path in paths:
            for trick in ({}, *tricks):
                answer = ask(world, "POST", path, secret, headers=trick, data=form, content_type=MULTIPART)
                assert answer.status_code in {308, 400, 403, 404, 405}, (path, trick)
    assert not [entry for entry in world.audit() if entry[1] == "asset.publish"]
    assert (
        ask(
            world, "POST", f"/pypi/{DEV}/", elsewhere, address="192.0.2.1", data=form, content_type=MULTIPART
        ).status_code
        == 200
    )


def test_D4_the_network_counts_at_the_end_of_an_upload_too(world: World) -> None:
    secret = limited(world, "read", "publish", networks=["192.0.2.0/24"])
    filename, body = packages.wheel("demo", "1.0")
    form = multipart(form_fields(filename, body), [("content", filename.encode(), body)])
    for address, status in (("192.0.3.1", 403), ("192.0.2.1", 200)):
        answer = ask(world, "POST", f"/pypi/{DEV}/", secret, address=address, data=form, content_type=MULTIPART)
        assert answer.status_code == status


@pytest.mark.parametrize("wrong", ["192.0.2.0/33", "192.0.2.1/24", "somewhere", "", "10.0.0.0/8 or so"])
def test_a_network_that_is_none_is_refused(world: World, wrong: str) -> None:
    answer = world.call("POST", "/tokens", json={"name": "n", "actions": ["read"], "networks": [wrong]})
    assert answer.status_code == 400


# --- derived tokens --------------------------------------------------------------------------------------------------


def exchanges(world: World, secret: str) -> dict[str, str]:
    """The token that each endpoint gives for ``secret``, by endpoint."""
    asked = {"name": "n", "actions": ["read"]}
    made = {
        "api": ask(world, "POST", "/api/v1/tokens", secret, json=asked).json["secret"],
        "authorization": ask(world, "GET", "/api/v1/authorization-token", secret).json["authorizationToken"],
        "authorization in a domain": ask(
            world, "POST", "/api/v1/authorization-token?domain=default&durationSeconds=0", secret
        ).json["authorizationToken"],
        "npm login": ask(
            world,
            "PUT",
            f"/npm/{DEV}/-/user/org.couchdb.user:npm",
            secret,
            json={"name": "npm", "password": secret},
        ).json["token"],
    }
    created = ask(world, "POST", f"/npm/{DEV}/-/npm/v1/tokens", secret, json={"password": PASSWORD, "expires": 300})
    return {**made, "npm token": created.json["token"]}


def writes(world: World, secret: str) -> set[int]:
    return {send(world, secret, "gamma").status_code for send in SENDERS.values()}


def test_A13_a_token_that_reads_gives_no_token_that_writes(world: World) -> None:
    """Of an account that may publish: the limit is the token's, and every exchange keeps it."""
    reading = limited(world, "read", repositories=[DEV], packages=["*/alpha"], networks=["127.0.0.0/8"])
    for endpoint, secret in exchanges(world, reading).items():
        assert writes(world, secret) == {403}, endpoint
        with world.db.read() as session:
            row = session.scalars(select(Token).where(Token.digest == world.services.accounts.digest(secret))).one()
        assert (row.actions, row.repositories, row.packages, row.networks) == (
            ["read"], [DEV], ["*/alpha"], ["127.0.0.0/8"],
        ), endpoint  # fmt: skip
        again = exchanges(world, secret)  # of the derived one, once more
        assert all(writes(world, each) == {403} for each in again.values()), endpoint


def test_A13_a_builds_token_gives_none_that_outlives_it_or_writes(world: World) -> None:
    world.account("builds", "read")
    build = limited(world, "read", user="builds", repositories=[DEV], kind="build", life=timedelta(minutes=70))
    with world.db.write() as session:
        find_account(session, "builds").password_hash = None
    made = list(exchanges(world, build).values())
    assert all(writes(world, secret) == {403} for secret in made)
    assert statuses(world, made) == [200] * len(made)
    world.revoke(build)  # as at the end of a build
    assert statuses(world, made) == [401] * len(made)


def test_A13_without_the_rule_an_exchange_would_give_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: the check of what the maker has is what stands between."""
    monkeypatch.setattr("registry.minting.narrowed", lambda _maker, _actions, asked: asked)
    reading = limited(world, "read", repositories=[DEV])
    made = ask(world, "POST", "/api/v1/tokens", reading, json={"name": "n", "actions": ["read", "publish"]})
    assert writes(world, made.json["secret"]) <= {200, 201}


@pytest.mark.parametrize(
    "more",
    [
        {"actions": ["read", "publish"]},
        {"actions": ["admin"]},
        {"repositories": ["default/*"]},
        {"repositories": ["default/prod"]},
        {"packages": ["*/*"]},
        {"packages": ["pypi/beta"]},
        {"packages": ["pypi/*"]},
        {"networks": ["0.0.0.0/0"]},
        {"networks": ["192.0.2.0/23"]},
        {"networks": ["::/0"]},
    ],
)
def test_A13_asking_for_more_than_the_maker_has_is_refused(world: World, more: dict[str, Any]) -> None:
    limits = {"repositories": [DEV], "packages": ["*/alpha"], "networks": ["192.0.2.0/24"]}
    secret = limited(world, "read", **limits)
    fewer = {"name": "n", "actions": ["read"], "packages": ["pypi/alpha"], "networks": ["192.0.2.128/25"]}
    for path in ("/api/v1/tokens", "/api/v1/authorization-token"):
        assert ask(world, "POST", path, secret, address="192.0.2.1", json=fewer).status_code in {200, 201}
        assert ask(world, "POST", path, secret, address="192.0.2.1", json={**fewer, **more}).status_code == 403


def test_A13_a_derived_token_ends_no_later_than_its_maker(world: World) -> None:
    end = world.now + timedelta(hours=2)
    for secret in exchanges(world, limited(world, "read", life=timedelta(hours=2))).values():
        with world.db.read() as session:
            row = session.scalars(select(Token).where(Token.digest == world.services.accounts.digest(secret))).one()
        assert row.expires_at == end
    world.now += timedelta(hours=3)
    assert ask(world, "GET", "/api/v1/whoami", secret).status_code == 401


def family(world: World) -> tuple[list[str], list[str]]:
    """A token, one made with it, one made with that; and one beside them."""
    line = [limited(world, "read", "publish")]
    for _ in range(2):
        made = ask(world, "POST", "/api/v1/tokens", line[-1], json={"name": "n", "actions": ["read", "publish"]})
        line.append(made.json["secret"])
    return line, [limited(world, "read")]


def statuses(world: World, secrets: list[str]) -> list[int]:
    return [ask(world, "GET", f"/pypi/{DEV}/simple/", secret).status_code for secret in secrets]


def test_A13_revoking_a_token_ends_what_was_made_with_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    line, beside = family(world)
    assert statuses(world, line + beside) == [200] * 4
    world.revoke(line[1])
    assert statuses(world, line + beside) == [200, 401, 401, 200]
    world.revoke(line[0])
    assert statuses(world, line + beside) == [401, 401, 401, 200]

    def alone(session: Any, ids: list[int], now: Any, reason: str = "") -> list[int]:
        for token_id in ids:
            session.get(Token, token_id).revoked_at = now
        return ids

    monkeypatch.setattr(token_lines, "end", alone)  # the negative control
    line, _ = family(world)
    world.revoke(line[0])
    assert statuses(world, line) == [401, 200, 200]


def test_A13_no_token_is_made_with_one_that_has_just_ended(world: World) -> None:
    """The maker was let in, and is revoked before the new token is written."""
    secret = limited(world, "read")
    digest, end = world.services.accounts.digest(secret), token_lines.join

    def revoked_first(session: Any, parent_id: int, now: Any) -> Any:
        row = session.scalars(select(Token).where(Token.digest == digest)).one()
        token_lines.end(session, [row.id], now)
        return end(session, parent_id, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("registry.accounts.token_lines.join", revoked_first)
        answer = ask(world, "POST", "/api/v1/tokens", secret, json={"name": "n", "actions": ["read"]})
    assert answer.status_code == 401
    with world.db.read() as session:
        assert session.scalar(select(Token.id).where(Token.parent_id.is_not(None))) is None


def test_D1_what_an_account_loses_its_tokens_lose_on_the_next_request(world: World) -> None:
    secret = world.account("carol", "read", "publish", repositories=[DEV])
    child = ask(world, "POST", "/api/v1/tokens", secret, json={"name": "n", "actions": ["read"]}).json["secret"]
    both = [secret, child]
    assert statuses(world, both) == [200, 200]
    with world.db.write() as session:
        find_account(session, "carol").repositories = ["default/prod"]
    assert statuses(world, both) == [403, 403]
    with world.db.write() as session:
        find_account(session, "carol").repositories = None
    assert statuses(world, both) == [200, 200]
    world.disable("carol")
    assert statuses(world, both) == [401, 401]
    with world.db.write() as session:
        session.delete(find_account(session, "carol"))
    assert statuses(world, both) == [401, 401]


# --- revoked while an upload runs ------------------------------------------------------------------------------------


class LastMoment:
    """Revokes a token at the last moment: after the door and after the second look, before the rows are written."""

    def __init__(self, world: World, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
        real = Publisher._check_inside

        def late(publisher: Publisher, *arguments: Any) -> None:
            real(publisher, *arguments)
            world.revoke(secret)

        monkeypatch.setattr(Publisher, "_check_inside", late)


def published(world: World) -> int:
    return len([entry for entry in world.audit() if entry[1] == "asset.publish"])


@pytest.mark.parametrize("format_name", SENDERS)
def test_D9_a_token_revoked_before_the_commit_publishes_nothing(
    world: World, format_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = limited(world, "read", "publish")
    with monkeypatch.context() as patch:
        LastMoment(world, secret, patch)
        assert SENDERS[format_name](world, secret, "alpha").status_code == 401
        assert published(world) == 0
    files = [path for path in world.settings.blobs_path.rglob("*") if path.is_file() and "tmp" not in path.parts]
    assert files == []
    with monkeypatch.context() as patch:  # the negative control
        patch.setattr(admissions.Admissions, "confirm", lambda *_: None)
        other = limited(world, "read", "publish")
        LastMoment(world, other, patch)
        assert SENDERS[format_name](world, other, "alpha").status_code in {200, 201}
    assert published(world) == 1


# --- what is told of a token -----------------------------------------------------------------------------------------


def test_the_last_use_is_noted_with_its_address_to_ten_minutes(world: World) -> None:
    secret = limited(world, "read", user="reader", networks=["192.0.2.0/24"])

    def used() -> tuple[str | None, str | None]:
        (row,) = [each for each in world.call("GET", "/tokens", as_="reader").json["items"] if each["networks"]]
        return row["lastUsedAt"], row["lastUsedAddress"]

    assert used() == (None, None)
    first = world.now
    ask(world, "GET", "/api/v1/whoami", secret, address="192.0.2.1")
    assert used() == (f"{first:%Y-%m-%dT%H:%M:%S}.000Z", "192.0.2.1")
    world.now += timedelta(minutes=5)
    ask(world, "GET", f"/pypi/{DEV}/simple/", secret, address="192.0.2.2")
    assert used()[1] == "192.0.2.1"
    world.now += timedelta(minutes=6)
    ask(world, "GET", f"/pypi/{DEV}/simple/", secret, address="192.0.2.2")
    assert used() == (f"{world.now:%Y-%m-%dT%H:%M:%S}.000Z", "192.0.2.2")


def test_all_tokens_of_a_user_or_of_a_kind_end_at_once(world: World) -> None:
    secret = world.tokens["reader"]
    short = ask(world, "GET", "/api/v1/authorization-token", secret).json["authorizationToken"]
    long = ask(world, "POST", "/api/v1/tokens", secret, json={"name": "n", "actions": ["read"]}).json["secret"]
    assert world.call("DELETE", "/tokens?kind=authorization", as_="reader").json == {"count": 1}
    assert statuses(world, [secret, short, long]) == [200, 401, 200]
    assert world.call("DELETE", "/tokens?kind=nonsense", as_="reader").status_code == 400
    assert world.call("DELETE", "/tokens?user=nobody").status_code == 404
    assert world.call("DELETE", "/tokens?user=reader").json == {"count": 2}
    assert statuses(world, [secret, short, long]) == [401, 401, 401]
    assert statuses(world, [world.tokens["publisher"]]) == [200]
    assert ("admin", "token.revoke-all", "user/reader") in world.audit()


def test_an_authorization_token_is_as_codeartifacts(world: World) -> None:
    def get(query: str, secret: str = "") -> dict[str, Any]:
        answer = ask(world, "GET", f"/api/v1/authorization-token{query}", secret or world.tokens["reader"])
        return {"status": answer.status_code, **(answer.json or {})}

    def ends_after(told: dict[str, Any]) -> str:
        return str(told["expiration"])[:19]

    assert ends_after(get("")) == f"{world.now + timedelta(hours=12):%Y-%m-%dT%H:%M:%S}"
    assert ends_after(get("?durationSeconds=900")) == f"{world.now + timedelta(minutes=15):%Y-%m-%dT%H:%M:%S}"
    own_end = f"{world.now + timedelta(days=30):%Y-%m-%dT%H:%M:%S}"
    assert ends_after(get("?durationSeconds=0")) == own_end
    for wrong in ("?durationSeconds=899", "?durationSeconds=43201", "?durationSeconds=-1", "?duration=900"):
        assert get(wrong)["status"] == 400
    assert get("?domain=other")["status"] == 403
    before = len(world.audit())
    assert ask(world, "HEAD", "/api/v1/authorization-token", world.tokens["reader"]).status_code == 400
    assert len(world.audit()) == before


def test_the_scope_of_a_token_is_all_of_the_identity(world: World) -> None:
    """An identity without a scope may nothing, whatever else is in it."""
    assert not Identity("x", 1, (), "token", 1, world.now).may(Action.READ)
    assert Accounts(b"x" * 32).digest("a") != Accounts(b"y" * 32).digest("a")
