"""The guard before the routes: which paths never reach a view."""

import re
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import Client
from werkzeug.wrappers import Response

from registry.http.guard import RequestGuard, fault_of

SOUND = [
    "/",
    "/pypi/default/dev/simple/",
    "/pypi/default/dev/+simple/x/",
    "/pypi/default/dev/%2Bsimple/x/",
    "/a/.hidden/x",
    "/a/..b/c",
    "/a/b../c",
    "/a/.../c",
    "/a//b",
    "/a/b%20c/%C3%A9",
    "/a/demo-1.0+cu121-py3-none-any.whl",
    "/a?next=../../etc/passwd%00",
    "/a#/../b",
    "http://host.example/a/b",
]
REFUSED = [
    "/a/../b",
    "/a/./b",
    "/..",
    "/a/..",
    "/a/%2e%2e/b",
    "/a/.%2E/b",
    "/a/%2e/b",
    "/a/..;x=1/b",
    "/a/..%2fb",
    "/a/%252e%252e/b",
    "/a/%252fb",
    "/a/%255cb",
    "/a/%2500",
    "/a/b%00c",
    "/a/b%0d%0aSet-Cookie:%20x=1",
    "/a/b%7f",
    "/a\\b",
    "/a/%5cb",
    "http://host.example/a/../b",
]


def environ(raw: str, **more: str) -> dict[str, Any]:
    return {"SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "host.example", "RAW_URI": raw, "PATH_INFO": "/", **more}


@pytest.mark.parametrize("raw", SOUND)
def test_sound_paths_pass(raw: str):
    assert fault_of(environ(raw)) is None


@pytest.mark.parametrize("raw", REFUSED)
def test_attacks_are_refused(raw: str):
    fault = fault_of(environ(raw))
    assert fault is not None
    assert re.fullmatch(r"[a-z ]+", fault)  # it becomes a reason phrase: nothing of the request may be in it


@pytest.mark.parametrize("path", ["/a/../b", "/a\x00b", "/a\\b", "/a/%2e%2e/b", "/a/%2fb"])
def test_a_server_that_gives_only_the_decoded_path(path: str):
    assert fault_of({"SERVER_PROTOCOL": "HTTP/1.0", "PATH_INFO": path}) is not None
    assert fault_of({"SERVER_PROTOCOL": "HTTP/1.0", "PATH_INFO": "/a/b"}) is None


def test_http_1_1_needs_a_host():
    assert fault_of({**environ("/a"), "HTTP_HOST": ""}) == "the Host header is missing"
    assert fault_of({**environ("/a"), "HTTP_HOST": "", "SERVER_PROTOCOL": "HTTP/1.0"}) is None


@given(st.text(alphabet="ab./%2eEfF5c\\", max_size=20))
def test_what_passes_has_no_dot_segment_however_often_it_is_decoded(text: str):
    if fault_of(environ(f"/{text}")) is not None:
        return
    path = f"/{text}".partition("?")[0].partition("#")[0]
    for _ in range(5):
        assert not {".", ".."} & set(path.split("/"))
        path = unquote(path)


def test_a_refusal_is_said_and_reaches_no_application():
    reached = []

    def app(inside: Any, start_response: Any) -> Any:
        reached.append(inside["PATH_INFO"])
        return Response("inside")(inside, start_response)

    client = Client(RequestGuard(app))
    assert client.get("/a/b").text == "inside"
    refused = client.get("/a", environ_overrides={"RAW_URI": "/a/../b"})
    assert refused.status == "400 the path holds a dot segment"
    assert refused.text == "the path holds a dot segment\n"
    assert refused.headers["Content-Length"] == str(len(refused.text))
    assert reached == ["/a/b"]
