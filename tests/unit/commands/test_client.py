"""The commands' HTTP client against servers that behave badly. The servers are real; only what they say is made up."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from registry.commands.client import Client, Failed, Refused, Unreachable

TOKEN = "ent_" + "x" * 49


class Peer:
    """A server that answers as it is told; ``seen`` holds (method, path, Authorization) of each request."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.seen: list[tuple[str, str, str | None]] = []
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                peer.seen.append((self.command, self.path, self.headers.get("Authorization")))
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                answer(self)

            do_GET = do_POST = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def reply(request: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@pytest.fixture
def peer() -> Iterator[Callable[[Callable[[BaseHTTPRequestHandler], None]], Peer]]:
    made: list[Peer] = []

    def make(answer: Callable[[BaseHTTPRequestHandler], None]) -> Peer:
        made.append(Peer(answer))
        return made[-1]

    yield make
    for server in made:
        server.close()


def test_paths_and_queries_are_quoted(peer) -> None:
    server = peer(lambda request: reply(request, 200, b"{}"))
    Client(server.url + "/", TOKEN).get("a/b", "c?d#e", "ü", search="x&y=z", after=None)
    assert server.seen == [("GET", "/api/v1/a%2Fb/c%3Fd%23e/%C3%BC?search=x%26y%3Dz", f"Bearer {TOKEN}")]


def test_a_redirect_to_another_host_is_not_followed(peer) -> None:
    other = peer(lambda request: reply(request, 200, b"{}"))
    server = peer(lambda request: reply(request, 302, Location=f"{other.url}/api/v1/x"))
    with pytest.raises(Failed, match="redirects to"):
        Client(server.url, TOKEN).get("x")
    assert other.seen == []


def test_a_redirect_within_the_host_is_followed_for_reading_only(peer) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path == "/api/v1/old":
            reply(request, 307, Location="/api/v1/new")
        else:
            reply(request, 200, b'{"at": "new"}')

    server = peer(answer)
    assert Client(server.url, TOKEN).get("old") == {"at": "new"}
    with pytest.raises(Failed, match="redirects to"):
        Client(server.url, TOKEN).send("POST", "old", body={})
    assert [path for method, path, _ in server.seen if method == "POST"] == ["/api/v1/old"]


def test_a_redirect_in_a_circle_ends(peer) -> None:
    server = peer(lambda request: reply(request, 302, Location=request.path))
    with pytest.raises(Failed, match="circle"):
        Client(server.url, TOKEN).get("x")


def test_a_netrc_entry_does_not_replace_the_token(peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    server = peer(lambda request: reply(request, 200, b"{}"))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    requests.get(f"{server.url}/control", timeout=10)
    Client(server.url, TOKEN).get("x")
    assert [credential for _, _, credential in server.seen] == ["Basic b3RoZXI6b3RoZXI=", f"Bearer {TOKEN}"]


def test_a_password_of_any_letters_is_sent_as_utf8(peer) -> None:
    server = peer(lambda request: reply(request, 200, b"{}"))
    Client(server.url, None, password=("jörg", "пароль")).get("x")
    sent = server.seen[0][2] or ""
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == "jörg:пароль"


def test_a_problem_is_told_in_its_own_words(peer) -> None:
    problem = json.dumps({"status": 409, "code": "conflict", "detail": "repository dev exists already"}).encode()
    server = peer(lambda request: reply(request, 409, problem, Content_Type="application/problem+json"))
    with pytest.raises(Refused) as refused:
        Client(server.url, TOKEN).send("POST", "x", body={})
    assert (refused.value.message, refused.value.status, refused.value.code, refused.value.exit_code) == (
        "repository dev exists already",
        409,
        "conflict",
        1,
    )


@pytest.mark.parametrize("body", [b"<h1>Bad gateway</h1>", b"", b"[]", b'{"detail": 1}'])
def test_other_errors_are_told_by_their_status(peer, body: bytes) -> None:
    kind = "text/html" if body.startswith(b"<") else "application/problem+json"
    server = peer(lambda request: reply(request, 502, body, Content_Type=kind))
    with pytest.raises(Refused, match="502 Bad Gateway"):
        Client(server.url, TOKEN).get("x")


def test_what_is_not_our_server_is_said_to_be_so(peer) -> None:
    server = peer(lambda request: reply(request, 200, b"<html>", Content_Type="text/html"))
    with pytest.raises(Failed, match="did not answer with JSON"):
        Client(server.url, TOKEN).get("x")


def test_nobody_listens(peer) -> None:
    server = peer(lambda request: reply(request, 200))
    server.close()
    with pytest.raises(Unreachable) as unreachable:
        Client(server.url, TOKEN).get("x")
    assert "\n" not in unreachable.value.message
    assert TOKEN not in unreachable.value.message


def test_an_answer_cut_short_is_not_taken_for_whole(peer) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100")
        request.end_headers()
        request.wfile.write(b"[1, 2]")
        request.close_connection = True

    with pytest.raises(Unreachable):
        Client(peer(answer).url, TOKEN).read("x")


def test_lists_are_read_page_by_page(peer) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        is_first = "after" not in request.path
        reply(
            request, 200, json.dumps({"items": [1, 2] if is_first else [3], "next": "m" if is_first else None}).encode()
        )

    server = peer(answer)
    assert list(Client(server.url, TOKEN).items("x")) == [1, 2, 3]
    assert list(Client(server.url, TOKEN).items("x", most=2)) == [1, 2]
