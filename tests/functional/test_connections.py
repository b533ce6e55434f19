"""External connections: added, changed, removed; whose credentials go where; chains; and what is told of their health."""

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from registry.models import AuditEntry, ConnectionHealth, ExternalConnection, UpstreamPage
from tests.fakes.upstream import FaultyUpstream
from tests.faults.upstream.conftest import certificate
from tests.functional.outside_world import OutsideWorld
from tests.harness.packages import wheel

PUBLIC = "/domains/default/repositories/public/connections"


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture
def other() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OutsideWorld]:
    made = OutsideWorld(tmp_path)
    made.disconnect()
    yield made
    made.close()


def offer(upstream: FaultyUpstream, name: str, version: str = "1.0") -> tuple[str, bytes]:
    filename, body = wheel(name, version)
    upstream.add_project(name, {filename: body})
    return filename, body


def authorizations(upstream: FaultyUpstream) -> list[str | None]:
    # Parts of wheels are read behind the answer: whether they have been by now is chance.
    return [seen.headers.get("authorization") for seen in upstream.requests if "range" not in seen.headers]


UNLISTED = {"generic": "{}/1.0/data.bin", "maven": "org/far/{0}/1.0/{0}-1.0.jar"}


@pytest.mark.parametrize("kind", UNLISTED)
def test_what_no_index_lists_is_looked_for_in_order(world: OutsideWorld, upstream, other, kind: str) -> None:
    """Only who surely has it not is passed over: an outage must not put another one's file in its place."""
    for server, name in ((upstream, "one"), (other, "two")):
        world.connect(server, name, format=kind, url=f"{server.url}/")

    def status(name: str, method: str = "get") -> int:
        path, token = f"{kind}/default/dev/{UNLISTED[kind].format(name)}", world.tokens["admin"]
        return world.http.open(f"/{path}", method=method, headers={"Authorization": f"Bearer {token}"}).status_code

    for name, servers in (("both", (upstream, other)), ("second", (other,)), ("sick", (other,))):
        for server in servers:
            server.serve(f"/{UNLISTED[kind].format(name)}", f"{name} {server.port}".encode())
    upstream.serve(f"/{UNLISTED[kind].format('sick')}", status=503)
    assert world.get(f"{kind}/default/dev/{UNLISTED[kind].format('both')}").data == f"both {upstream.port}".encode()
    assert status("second", "head") == 200
    assert world.get(f"{kind}/default/dev/{UNLISTED[kind].format('second')}").data == f"second {other.port}".encode()
    assert (status("nowhere", "head"), status("nowhere")) == (404, 404)
    assert (status("sick", "head"), status("sick")) == (502, 502)
    assert other.count(f"/{UNLISTED[kind].format('sick')}") == 0
    asked = [len(upstream.requests), len(other.requests)]
    assert status("nowhere") == 404  # for a minute, nobody is asked again
    assert [len(upstream.requests), len(other.requests)] == asked


# --- a thing of its own ----------------------------------------------------------------------------------------------


def test_several_for_one_format_are_asked_in_order(world: OutsideWorld, upstream, other) -> None:
    offer(upstream, "first")
    offer(other, "first", "2.0")
    offer(other, "second")
    world.connect(upstream)
    world.connect(other, "next")
    assert [entry["name"] for entry in world.connections()] == ["outside", "next"]
    assert world.versions("second") == ["1.0"]
    assert world.versions("first") == ["1.0", "2.0"]
    moved = world.call("PATCH", f"{PUBLIC}/pypi/next", json={"position": 0})
    assert moved.json["position"] == 0
    assert [entry["name"] for entry in world.connections()] == ["next", "outside"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"format": "pypi", "name": "taken"}, 409),
        ({"format": "cobol", "name": "made"}, 400),
        ({"format": "pypi", "name": "../etc"}, 400),
        ({"format": "pypi", "name": "made", "url": "file:///etc/passwd"}, 400),
        ({"format": "pypi", "name": "made", "url": "https://user:secret@index.example/"}, 400),
        ({"format": "pypi", "name": "made", "url": "http://169.254.169.254/latest/"}, 400),
        ({"format": "pypi", "name": "made", "url": "http://metadata.google.internal/"}, 400),
        ({"format": "pypi", "name": "made", "url": "http://10.0.0.1/"}, 400),
        ({"format": "pypi", "name": "made", "credential": {"user": "we", "password": "secret"}}, 400),
        ({"format": "pypi", "name": "made", "url": "https://i.example/", "credential": {"user": "secret"}}, 400),
        ({"format": "pypi", "name": "made", "url": "https://i.example/", "credential": {}}, 400),
        (
            {
                "format": "pypi",
                "name": "made",
                "url": "https://i.example/",
                "credential": {"user": "a:b", "password": "secret"},
            },
            400,
        ),
        (
            {"format": "pypi", "name": "made", "url": "https://i.example/", "credential": {"token": "secret\r\nX: y"}},
            400,
        ),
        ({"format": "pypi", "name": "made", "caBundle": "no certificate"}, 400),
        ({"format": "pypi", "name": "made", "position": 1000}, 400),
        ({"format": "pypi", "name": "made", "isAdmin": True}, 400),
    ],
)
def test_connections_that_cannot_be(world: OutsideWorld, body: dict, status: int) -> None:
    world.call("POST", PUBLIC, json={"format": "pypi", "name": "taken"})
    answer = world.call("POST", PUBLIC, json=body)
    assert answer.status_code == status, answer.text
    assert "secret" not in answer.text
    assert [entry["name"] for entry in world.connections()] == ["taken"]


def test_removing_keeps_what_was_kept(world: OutsideWorld, upstream) -> None:
    filename, body = offer(upstream, "kept")
    world.connect(upstream)
    assert world.get(f"pypi/default/dev/files/kept/{filename}").data == body
    world.disconnect("outside")
    assert world.get(f"pypi/default/dev/files/kept/{filename}").data == body
    assert world.versions("kept") == ["1.0"]
    with world.db.read() as session:
        assert session.scalars(select(UpstreamPage)).all() == []
        assert session.scalars(select(ConnectionHealth)).all() == []


def test_another_url_is_another_index(world: OutsideWorld, upstream, other) -> None:
    offer(upstream, "thing")
    offer(other, "thing", "9.0")
    world.connect(upstream)
    assert world.versions("thing") == ["1.0"]
    world.call("PATCH", f"{PUBLIC}/pypi/outside", json={"url": f"{other.url}/simple/"})
    assert world.versions("thing") == ["9.0"]
    other.refuse()
    world.now += timedelta(hours=2)
    assert world.versions("thing") == ["9.0"]


def test_every_change_is_audited_without_secrets(world: OutsideWorld, upstream) -> None:
    world.connect(upstream, credential={"user": "we", "password": "hunter22"})
    world.call("PATCH", f"{PUBLIC}/pypi/outside", json={"credential": {"token": "hunter33"}})
    world.disconnect("outside")
    place = "default/public/pypi/outside"
    assert world.audit()[-3:] == [
        ("admin", "connection.create", place),
        ("admin", "connection.change", place),
        ("admin", "connection.remove", place),
    ]
    with world.db.read() as session:
        details = [json.dumps(row.details) for row in session.scalars(select(AuditEntry))]
    assert "hunter" not in "".join(details)


# --- credentials -----------------------------------------------------------------------------------------------------


def test_a_credential_is_sent_and_never_shown(world: OutsideWorld, upstream) -> None:
    offer(upstream, "secretive")
    world.connect(upstream, credential={"user": "we", "password": "hunter22"})
    assert world.versions("secretive") == ["1.0"]
    assert authorizations(upstream) == ["Basic " + base64.b64encode(b"we:hunter22").decode()]
    for path in (PUBLIC, "/domains/default/repositories/public"):
        assert "hunter22" not in world.call("GET", path).text
    assert world.connections()[0]["hasCredential"] is True
    with world.db.read() as session:
        row = session.scalars(select(ExternalConnection)).one()
    assert b"hunter22" not in row.sealed_credential
    assert "hunter22" not in repr(world.services.resolver._topology.peek(1))


def test_a_token_is_sent_as_bearer(world: OutsideWorld, upstream) -> None:
    offer(upstream, "bearing")
    world.connect(upstream, credential={"token": "t0ken"})
    assert world.versions("bearing") == ["1.0"]
    assert authorizations(upstream) == ["Bearer t0ken"]


def test_a_credential_goes_to_its_own_origin_only(world: OutsideWorld, upstream, other) -> None:
    """Files of an index lie on another host, and redirects lead there: neither gets the index's password."""
    filename, body = wheel("elsewhere", "1.0")
    offer(upstream, "elsewhere")
    upstream.redirect(f"/files/elsewhere/{filename}", f"{other.url}/f")
    other.serve("/f", body)
    world.connect(upstream, credential={"user": "we", "password": "hunter22"})
    assert world.get(f"pypi/default/dev/files/elsewhere/{filename}").data == body
    assert authorizations(other) == [None]
    assert set(authorizations(upstream)) == {"Basic " + base64.b64encode(b"we:hunter22").decode()}


def test_two_connections_do_not_share_credentials(world: OutsideWorld, upstream, other) -> None:
    offer(upstream, "mine")
    world.connect(upstream, credential={"user": "we", "password": "hunter22"})
    world.connect(other, "next")
    world.connect(upstream, "third")
    assert world.versions("mine") == ["1.0"]
    assert authorizations(other) == [None]
    assert authorizations(upstream) == ["Basic " + base64.b64encode(b"we:hunter22").decode(), None]


def test_a_credential_does_not_follow_the_url_to_another_origin(world: OutsideWorld, upstream, other) -> None:
    world.connect(upstream, credential={"user": "we", "password": "hunter22"})
    elsewhere = {"url": f"{other.url}/simple/"}
    refused = world.call("PATCH", f"{PUBLIC}/pypi/outside", json=elsewhere)
    assert refused.status_code == 400
    assert "another origin" in refused.text
    assert world.call("PATCH", f"{PUBLIC}/pypi/outside", json={"url": ""}).status_code == 400
    assert world.call("PATCH", f"{PUBLIC}/pypi/outside", json={"url": f"{upstream.url}/other/"}).status_code == 200
    assert world.connections()[0]["hasCredential"] is True
    without = world.call("PATCH", f"{PUBLIC}/pypi/outside", json={**elsewhere, "removeCredential": True})
    assert without.json["hasCredential"] is False
    world.get("pypi/default/dev/simple/anything/")
    assert authorizations(other) == [None]


def test_a_seal_moved_to_another_url_does_not_open(world: OutsideWorld, upstream, other) -> None:
    """Whoever can write rows cannot have the password sent to a place of their own."""
    world.connect(upstream, credential={"user": "we", "password": "hunter22"})
    with world.db.write() as session:
        session.scalars(select(ExternalConnection)).one().url = f"{other.url}/simple/"
    answer = world.get("pypi/default/dev/simple/anything/")
    assert answer.status_code == 502
    assert other.requests == []
    assert "hunter22" not in answer.text


def test_a_ca_bundle_of_its_own(world: OutsideWorld, tmp_path: Path) -> None:
    import ssl

    certificate_file, key_file = certificate(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    with FaultyUpstream(tls=context) as secure:
        offer(secure, "sealed")
        url = f"https://localhost:{secure.port}/simple/"
        world.connect(secure, url=url)
        assert world.get("pypi/default/dev/simple/sealed/").status_code == 502
        assert "certificate" in world.connections()[0]["health"]["lastFailure"]
        changed = world.call("PATCH", f"{PUBLIC}/pypi/outside", json={"caBundle": certificate_file.read_text()})
        assert changed.json["hasCaBundle"] is True
        assert world.versions("sealed") == ["1.0"]


# --- chains ----------------------------------------------------------------------------------------------------------


def chain(world: OutsideWorld, length: int, last: str) -> None:
    for number in range(length, 0, -1):
        upstreams = [f"link{number + 1}"] if number < length else [last]
        made = world.call(
            "POST", "/domains/default/repositories", json={"name": f"link{number}", "upstreams": upstreams}
        )
        assert made.status_code == 201, made.text


def test_a_chain_of_twelve_finds_what_is_at_its_end(world: OutsideWorld, upstream) -> None:
    filename, body = offer(upstream, "distant")
    world.connect(upstream)
    chain(world, 12, "public")
    assert world.versions("distant", "link1") == ["1.0"]
    assert world.get(f"pypi/default/link1/files/distant/{filename}").data == body
    upstream.refuse()
    # Kept where it was asked for and where the connection is; those in between see it through the latter.
    assert world.get(f"pypi/default/link7/files/distant/{filename}").data == body
    whole = [seen for seen in upstream.requests if seen.path.endswith(filename) and "range" not in seen.headers]
    assert len(whole) == 1
    # What is published anywhere along the chain hides the outside for those before it.
    world.publish("link9", "distant", "0.1")
    assert world.versions("distant", "link8") == ["0.1"]


def test_a_cycle_is_refused_however_long(world: OutsideWorld) -> None:
    chain(world, 12, "staging")
    answer = world.call("PATCH", "/domains/default/repositories/staging", json={"upstreams": ["link1"]})
    assert answer.status_code == 400
    assert "its own upstream" in answer.text
    assert world.call("GET", "/domains/default/repositories/staging").json["upstreams"] == []


# --- health ----------------------------------------------------------------------------------------------------------


def health(world: OutsideWorld) -> dict:
    return world.connections()[0]["health"]


def test_health_of_a_connection(world: OutsideWorld, upstream) -> None:
    offer(upstream, "well")
    world.connect(upstream)
    assert health(world)["state"] == "Unknown"
    assert world.versions("well") == ["1.0"]
    assert health(world) == {
        "state": "Working",
        "lastSuccessAt": "2026-01-01T12:00:00.000Z",
        "lastFailureAt": None,
        "lastFailure": "",
        "leftAloneUntil": None,
    }


def test_a_failure_shows_its_reason(world: OutsideWorld, upstream) -> None:
    """C12."""
    upstream.serve("/simple/ill/", b"", status=503, headers={"Retry-After": "120"})
    world.connect(upstream)
    assert world.get("pypi/default/dev/simple/ill/").status_code == 502
    found = health(world)
    assert found["state"] == "LeftAlone"
    assert found["lastFailure"] == "127.0.0.1 answered HTTP 503"
    assert "2026-01-01T12:00:00" < found["leftAloneUntil"] <= "2026-01-01T12:02:00.000Z"
    # Another request is not asked at all: that is no further failure, and hides no reason.
    assert world.get("pypi/default/dev/simple/ill/").status_code == 502
    assert health(world) == found
    world.now += timedelta(minutes=3)
    assert health(world)["state"] == "Failing"


def test_health_is_seen_by_other_processes(world: OutsideWorld, upstream, tmp_path: Path) -> None:
    offer(upstream, "well")
    world.connect(upstream)
    world.versions("well")
    from config import wiring
    from registry.repos import health as health_rows

    other_process = wiring.services(world.settings, lambda: world.now)
    with other_process.db.read() as session:
        repository_id = session.scalars(select(ExternalConnection.repository_id)).one()
        (found,) = health_rows.details(session, repository_id, world.now)
    assert found.health.state == "Working"
    other_process.db.close()
