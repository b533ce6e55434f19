"""D9: our own tokens in what is sent here are found, ended, told of, and what brought them in is refused."""

import base64
import gzip
import hashlib
import io
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import select

from registry import token_finder
from registry.leaks import MOST_AT_ONCE
from registry.models import Event, TokenLeak
from registry.token_shape import new_token
from tests.functional.api_world import PASSWORD, World
from tests.harness import npm_packages, packages
from tests.security.attack import BOUNDARY, House, form_fields, multipart, nothing_stored
from tests.security.people import people_of
from tests.security.test_token_scopes import (
    DEV,
    MULTIPART,
    ask,
    family,
    limited,
    send_generic,
    send_maven,
    send_npm,
    send_wheel,
    statuses,
)

SCANNERS_EXPRESSION = re.compile(r"\bent_[0-9A-Za-z]{49}\b")  # as docs/tokens.md tells it


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


# --- finding ---------------------------------------------------------------------------------------------------------


def test_tokens_are_found_wherever_they_stand_in_a_stream() -> None:
    token = new_token()
    for before in range(4):
        for text in (
            b"x" * before + token.encode() + b"\n",
            b'{"auth": "' + base64.b64encode(b"u" * before + token.encode()) + b'"}',
            base64.urlsafe_b64encode(b"u" * before + b":" + token.encode() + b"tail") + b"\n",
        ):
            assert set(token_finder.find(text)) == {token}
            for size in (1, 7, 52):
                finder, found = token_finder.Finder(), set[str]()
                for start in range(0, len(text), size):
                    found |= finder.feed(text[start : start + size])
                assert found == {token}, (before, size)


def test_what_only_looks_like_a_token_is_none() -> None:
    token = new_token()
    other = token[:-1] + ("0" if token[-1] != "0" else "1")
    for text in (
        other,
        token.lower(),
        token[:-1],
        "ent_" * 40,
        base64.b64encode(other.encode()).decode(),
        "ZW50X" * 30,
    ):
        assert not list(token_finder.find(text.encode()))


def test_the_expression_for_scanners_finds_every_token() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "tokens.md").read_text(encoding="utf-8")
    assert SCANNERS_EXPRESSION.pattern in documented
    assert all(SCANNERS_EXPRESSION.search(f"password={new_token()};") for _ in range(100))


def zipped(content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("big.bin", bytes(100_000))
        archive.writestr("deep/.env", content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress,
        lambda content: gzip.compress(b"first") + gzip.compress(content) + b"\0\0",
        zipped,
        lambda content: zipped(content, zipfile.ZIP_BZIP2),
        lambda content: zipped(content, zipfile.ZIP_LZMA),
    ],
)
def test_members_of_archives_are_looked_into(pack: Callable[[bytes], bytes]) -> None:
    token = new_token()
    packed = pack(b"A=1\nTOKEN=" + token.encode() + b"\n" + b"z" * 1000)
    assert not list(token_finder.find(packed))
    assert set(token_finder.in_archive(io.BytesIO(packed))) == {token}
    for damaged in (
        packed[: len(packed) // 2],
        packed[:60],
        packed[:2],
        b"",
        b"PK\3\4" + bytes(100),
        b"\x1f\x8b" + bytes(50),
    ):
        list(token_finder.in_archive(io.BytesIO(damaged)))  # read as far as it goes, and no error


def test_unpacking_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_finder, "ARCHIVE_BYTES", 1024 * 1024)
    read = 0
    real = token_finder.Finder.feed

    def counted(finder: token_finder.Finder, data: bytes) -> set[str]:
        nonlocal read
        read += len(data)
        return real(finder, data)

    monkeypatch.setattr(token_finder.Finder, "feed", counted)
    for bomb in (gzip.compress(bytes(20_000_000)), zipped(bytes(20_000_000))):
        read = 0
        assert not list(token_finder.in_archive(io.BytesIO(bomb)))
        assert read <= 2 * 1024 * 1024


# --- in uploads of each format ---------------------------------------------------------------------------------------

Send = Callable[[World, str, bytes], Any]


def sdist(world: World, secret: str, content: bytes) -> Any:
    filename, body = packages.sdist("alpha", "1.0", files={"setup.cfg.bak": content})
    form = multipart(form_fields(filename, body, name="alpha"), [("content", filename.encode(), body)])
    return ask(world, "POST", f"/pypi/{DEV}/", secret, data=form, content_type=MULTIPART)


def described(world: World, secret: str, content: bytes) -> Any:
    filename, body = packages.wheel("alpha", "1.0")
    fields = form_fields(filename, body, name="alpha", description=content.decode())
    form = multipart(fields, [("content", filename.encode(), body)])
    return ask(world, "POST", f"/pypi/{DEV}/", secret, data=form, content_type=MULTIPART)


def npm_readme(world: World, secret: str, content: bytes) -> Any:
    document = npm_packages.publish_document("alpha", "1.0.0", readme=content.decode())
    return ask(world, "PUT", f"/npm/{DEV}/alpha", secret, json=document)


UPLOADS: dict[str, Send] = {
    "a member of a wheel": lambda world, secret, content: send_wheel(world, secret, "alpha", **{"alpha/.env": content}),
    "a member of an sdist": sdist,
    "a description in a form": described,
    "a member of an npm package": lambda world, secret, content: send_npm(
        world, secret, "alpha", **{".npmrc": content}
    ),
    "a readme in npm's document": npm_readme,
    "a jar": lambda world, secret, content: send_maven(world, secret, "alpha", zipped(content)),
    "a file as it is": lambda world, secret, content: send_generic(world, secret, "alpha", content),
    "a gzip": lambda world, secret, content: send_generic(world, secret, "alpha", gzip.compress(content)),
}


def events_of(world: World) -> list[dict[str, Any]]:
    with world.db.read() as session:
        return list(session.scalars(select(Event.payload).where(Event.kind == "token.leaked")))


def published(world: World) -> int:
    return len([entry for entry in world.audit() if entry[1] == "asset.publish"])


@pytest.mark.parametrize("upload", UPLOADS)
def test_D9_an_upload_with_a_live_token_in_it_is_refused_and_the_token_ends(world: World, upload: str) -> None:
    line, beside = family(world)
    answer = UPLOADS[upload](world, world.tokens["admin"], f"token = {line[1]}\n".encode())
    assert answer.status_code == 400, answer.data
    assert b"holds an access token of this server" in answer.data
    assert line[1].encode() not in answer.data
    assert published(world) == 0
    assert not [path for path in world.settings.blobs_path.rglob("*") if path.is_file() and "tmp" not in path.parts]
    assert statuses(world, line + beside) == [200, 401, 401, 200]
    (event,) = events_of(world)
    assert (event["user"], event["last_four"], event["by"]) == ("admin", line[1][-4:], "scan")
    assert line[1] not in str(event)
    assert [entry[1] for entry in world.audit() if "leaked" in entry[1]] == ["token.leaked"]
    # A token that has ended is no secret: the same upload is taken now.
    assert UPLOADS[upload](world, world.tokens["admin"], f"token = {line[1]}\n".encode()).status_code in {200, 201}
    assert len(events_of(world)) == 1


@pytest.mark.parametrize("upload", UPLOADS)
def test_D9_without_the_search_it_would_be_published(
    world: World, upload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.setattr("registry.leaks.LeakGuard.end", lambda *_: frozenset())
    (secret,) = family(world)[1]
    assert UPLOADS[upload](world, world.tokens["admin"], secret.encode()).status_code in {200, 201}
    assert published(world) == 1
    assert statuses(world, [secret]) == [200]


def test_tokens_of_other_servers_and_too_many_tokens(world: World) -> None:
    assert send_generic(world, world.tokens["admin"], "alpha", new_token().encode()).status_code == 201
    many = "\n".join(new_token() for _ in range(MOST_AT_ONCE + 1)).encode()
    assert send_generic(world, world.tokens["admin"], "beta", many).status_code == 400
    assert published(world) == 1


def test_D9_the_token_that_publishes_its_own_configuration_ends(world: World) -> None:
    secret = limited(world, "read", "publish")
    assert send_npm(world, secret, "alpha", **{".npmrc": f"//h/:_authToken={secret}".encode()}).status_code == 400
    assert statuses(world, [secret]) == [401]


def test_D9_texts_of_the_interface_are_looked_at(world: World) -> None:
    world.publish("dev", "demo", "1.0", canonical="1")
    (secret,) = family(world)[1]
    path = "/domains/default/repositories/dev/packages/pypi/demo/versions/1.0/yank"
    answer = world.call("POST", path, json={"reason": f"see {secret}"})
    assert answer.status_code == 400
    assert secret.encode() not in answer.data
    assert statuses(world, [secret]) == [401]


def test_a_credential_where_one_belongs_is_no_leak(world: World) -> None:
    secret = limited(world, "read", user="reader")
    body = {"name": "reader", "password": secret}
    assert ask(world, "PUT", f"/npm/{DEV}/-/user/org.couchdb.user:reader", secret, json=body).status_code == 201
    connection = {"format": "npm", "name": "self", "url": "https://packages.example/", "credential": {"token": secret}}
    made = world.call("POST", "/domains/default/repositories/dev/connections", json=connection)
    assert made.status_code == 201, made.data
    assert statuses(world, [secret]) == [200]


# --- reports and the owner -------------------------------------------------------------------------------------------


def test_D9_a_scanners_report_ends_tokens_without_repeating_them(world: World) -> None:
    (secret,) = family(world)[1]
    dead = limited(world, "read", life=timedelta(minutes=1))
    world.now += timedelta(minutes=2)
    report = [
        {"token": text, "type": "entrepot_token", "url": "https://code.example/leak.txt", "source": "content"}
        for text in (secret, dead, new_token(), "nonsense")
    ]
    answer = world.call("POST", "/leaked-tokens", as_=None, json=report)
    assert [each["label"] for each in answer.json] == ["true_positive", *["false_positive"] * 3]
    assert answer.json[0]["tokenHash"] == base64.b64encode(hashlib.sha256(secret.encode()).digest()).decode()
    assert secret.encode() not in answer.data
    assert statuses(world, [secret]) == [401]
    (event,) = events_of(world)
    assert event["place"] == "content https://code.example/leak.txt"
    for wrong in ([], [{}], {"token": secret}, [{"token": "x", "extra": 1}], [{"token": "x"}] * 101):
        assert world.call("POST", "/leaked-tokens", as_=None, json=wrong).status_code == 400


def test_D9_the_owner_is_told_on_the_next_page_until_they_have_seen_it(world: World) -> None:
    (secret,) = family(world)[1]
    world.call("POST", "/leaked-tokens", as_=None, json=[{"token": secret, "source": "a public repository"}])

    def browser(name: str) -> Any:
        client = world.app.test_client()
        assert client.post("/sign-in", data={"user": name, "password": PASSWORD}).status_code == 303
        return client

    owner, other = browser("admin"), browser("reader")
    for path in ("/", "/account", "/account/tokens"):
        assert "was found in a public repository" in owner.get(path).get_data(as_text=True)
        assert "was found in" not in other.get(path).get_data(as_text=True)
    page = owner.get("/account/tokens").get_data(as_text=True)
    assert "leaked" in page
    (csrf,) = set(re.findall(r'name="csrf_token" value="([^"]+)"', page))
    assert owner.post("/account/leaks/seen", data={"csrf_token": csrf}).status_code == 303
    assert "was found in a public repository" not in owner.get("/").get_data(as_text=True)
    with world.db.read() as session:
        assert session.scalars(select(TokenLeak.seen_at)).one() == world.now


# --- through the real server -----------------------------------------------------------------------------------------


def test_D9_a_token_revoked_while_its_upload_streams_publishes_nothing(house: House) -> None:
    with people_of(house.server.data) as people:
        secret = people.token("admin", "read", "publish")
        half, go_on = threading.Event(), threading.Event()

        def body() -> Iterator[bytes]:
            yield b"first half"
            half.set()
            assert go_on.wait(30)
            yield b"second half"

        answers: list[requests.Response] = []
        url = f"{house.server.url}/generic/default/prod/streamed/1.0/file.bin"
        headers = {"Authorization": f"Bearer {secret}"}
        with nothing_stored(house.server):
            sender = threading.Thread(
                target=lambda: answers.append(requests.put(url, data=body(), headers=headers, timeout=60))
            )
            sender.start()
            assert half.wait(30)
            people.revoke(secret)
            go_on.set()
            sender.join(60)
        assert [answer.status_code for answer in answers] == [401]


def test_D9_no_answer_and_no_log_of_a_run_holds_a_token_that_was_used(house: House) -> None:
    """Clients at work with tokens of each kind; afterwards everything that was answered and logged is searched."""
    seen: list[bytes] = []
    with people_of(house.server.data) as people:
        used = [people.token("admin", "read", "publish"), people.token("admin", "read")]
    # What shows a token that was just made is the one answer that may.
    made = requests.get(f"{house.server.url}/api/v1/authorization-token", auth=("__token__", used[0]), timeout=20)
    used.append(made.json()["authorizationToken"])
    filename, body = packages.wheel("runs", "1.0")
    form = multipart(form_fields(filename, body, name="runs"), [("content", filename.encode(), body)])
    leaking = {"files": {"x/.env": used[2].encode()}}
    _, bad = packages.wheel("runs", "1.1", **leaking)  # type: ignore[arg-type]
    bad_form = multipart(form_fields("runs-1.1-py3-none-any.whl", bad, name="runs", version="1.1"),
                         [("content", b"runs-1.1-py3-none-any.whl", bad)])  # fmt: skip
    base = house.server.url
    for secret in used:
        for auth in (("__token__", secret), ("anybody", secret)):
            for sent in (form, bad_form):
                answer = requests.post(f"{base}/pypi/default/prod/", data=sent, auth=auth, timeout=30,
                                       headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})  # fmt: skip
                seen += [answer.content, str(answer.headers).encode()]
            for path in ("/api/v1/whoami", "/api/v1/tokens", "/npm/default/prod/-/npm/v1/tokens", "/pypi/default/prod/simple/",
                         "/api/v1/builds", "/maven/default/prod/", "/nowhere"):  # fmt: skip
                answer = requests.get(base + path, auth=auth, timeout=30)
                seen += [answer.content, str(answer.headers).encode()]
    everything = b"\n".join(seen) + house.server.log_text().encode()
    assert b"runs" in everything
    assert b"holds an access token" in everything
    for secret in used:
        assert secret.encode() not in everything
        assert base64.b64encode(f"__token__:{secret}".encode()) not in everything
    assert used[2].encode() in made.content  # the search would see one
