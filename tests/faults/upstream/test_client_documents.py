"""C8: Documents from a real server that misbehaves: a wrong body is never a success."""

from __future__ import annotations

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from registry.errors import UpstreamUnavailable
from registry.upstream.client import Found, MissingUpstream, NotModified
from registry.upstream.guard import AddressPolicy
from tests.fakes.upstream import JSON_INDEX, Fault
from tests.faults.upstream.asking import DOCUMENT, JSON, SLOW, connection, download, get, limits_for


class TestDocuments:
    def test_found(self, upstream, make_client) -> None:
        headers = {"Cache-Control": "max-age=600", "Age": "10", "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        upstream.serve("/a/b", DOCUMENT, content_type=f"{JSON}; charset=utf-8", headers=headers, etag='"1"')
        answer = get(make_client(), connection(upstream), "a/b?x=1")
        assert answer == Found(
            body=DOCUMENT,
            content_type=f"{JSON}; charset=utf-8",
            final_url=f"{upstream.url}/a/b",
            etag='"1"',
            last_modified=headers["Last-Modified"],
            max_age_seconds=590,
        )
        sent = upstream.requests[0].headers
        assert sent["accept"] == JSON
        assert sent["accept-encoding"] == "gzip"
        assert sent["host"] == f"127.0.0.1:{upstream.port}"
        assert set(sent) == {"accept", "accept-encoding", "host", "user-agent"}

    def test_a_path_is_beneath_the_base_url(self, upstream, make_client) -> None:
        upstream.serve("/root/simple/a/", b"{}", content_type=JSON)
        to = replace(connection(upstream), base_url=f"{upstream.url}/root/simple")
        client = make_client()
        for path in ("a/", "/a/", f"{upstream.url}/root/simple/a/"):
            assert isinstance(get(client, to, path), Found)
        assert isinstance(get(client, replace(to, base_url=to.base_url + "/"), "a/"), Found)

    def test_not_modified(self, upstream, make_client) -> None:
        upstream.serve("/a", DOCUMENT, content_type=JSON, etag='"1"', headers={"Cache-Control": "max-age=7"})
        client = make_client()
        assert get(client, connection(upstream), "a", etag='"1"', last_modified="x") == NotModified(7)
        assert upstream.requests[0].headers["if-modified-since"] == "x"
        assert isinstance(get(client, connection(upstream), "a", etag='"2"'), Found)

    @pytest.mark.parametrize("status", [404, 410])
    def test_missing(self, upstream, make_client, status: int) -> None:
        upstream.serve("/a", b"gone", status=status, content_type="text/html")
        assert get(make_client(), connection(upstream), "a") == MissingUpstream()

    @pytest.mark.parametrize(
        "status",
        [
            201,
            202,
            203,
            204,
            205,
            206,
            300,
            305,
            400,
            401,
            402,
            403,
            405,
            407,
            408,
            418,
            421,
            429,
            451,
            500,
            501,
            502,
            503,
            504,
            520,
            999,
        ],
    )
    def test_every_other_status_is_unavailable(self, upstream, make_client, status: int) -> None:
        upstream.serve("/a", DOCUMENT, status=status, content_type=JSON)
        with pytest.raises(UpstreamUnavailable, match=str(status)):
            get(make_client(), connection(upstream), "a")

    @pytest.mark.parametrize("fault", [Fault.GZIP, Fault.CHUNKED, Fault.UNFRAMED])
    def test_other_ways_of_sending_the_same(self, upstream, make_client, fault: Fault) -> None:
        upstream.serve("/a", DOCUMENT, content_type=JSON, fault=fault)
        answer = get(make_client(), connection(upstream), "a")
        assert isinstance(answer, Found)
        assert answer.body == DOCUMENT

    @pytest.mark.parametrize(
        "fault",
        [fault for fault in Fault if fault not in {Fault.GZIP, Fault.CHUNKED, Fault.UNFRAMED, Fault.STRAY_ANSWER}],
    )
    def test_faults_are_unavailable(self, upstream, make_client, fault: Fault) -> None:
        upstream.serve("/bad", DOCUMENT, content_type=JSON, fault=fault)
        upstream.serve("/good", DOCUMENT, content_type=JSON)
        client = make_client(limits_for(fault))
        with pytest.raises(UpstreamUnavailable) as caught:
            get(client, connection(upstream), "bad?token=secret")
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
        if fault not in SLOW:
            answer = get(client, connection(upstream), "good")  # what was left on a connection poisons nothing
            assert isinstance(answer, Found)
            assert answer.body == DOCUMENT

    @pytest.mark.parametrize("fault", [Fault.CUT_UNFRAMED, Fault.CUT_CHUNKS, Fault.CUT, Fault.RESET_HALF])
    def test_cut_html_is_unavailable_too(self, upstream, make_client, fault: Fault) -> None:
        page = b"<html><body>" + b"".join(b"<a href='%d'>x</a>\n" % number for number in range(50)) + b"</body></html>"
        upstream.serve("/a", page, content_type="text/html", fault=fault)
        with pytest.raises(UpstreamUnavailable):
            get(make_client(), connection(upstream), "a", accept="text/html")

    def test_refused_connections_and_unknown_names(self, upstream, make_client) -> None:
        client = make_client()
        upstream.refuse()
        with pytest.raises(UpstreamUnavailable) as closed:
            get(client, connection(upstream), "a")
        upstream.accept()
        blocked = replace(connection(upstream), policy=AddressPolicy(), id=2)
        with pytest.raises(UpstreamUnavailable) as refused:
            get(client, blocked, "a")
        assert str(closed.value) == str(refused.value)  # nobody can scan ports with us
        with pytest.raises(UpstreamUnavailable):
            get(client, replace(connection(upstream), base_url="http://nowhere.test/"), "a")
        assert upstream.requests == []

    def test_a_body_over_the_limit(self, upstream, make_client) -> None:
        client = make_client()
        for fault in (None, Fault.CHUNKED, Fault.GZIP, Fault.UNFRAMED):
            upstream.serve("/a", DOCUMENT, content_type=JSON, fault=fault)
            with pytest.raises(UpstreamUnavailable, match="larger"):
                get(client, connection(upstream), "a", limit_bytes=len(DOCUMENT) - 1)
            assert isinstance(get(client, connection(upstream), "a", limit_bytes=len(DOCUMENT)), Found)

    def test_connections_are_kept(self, upstream, make_client) -> None:
        upstream.serve("/a", DOCUMENT, content_type=JSON)
        upstream.serve("/b", DOCUMENT, content_type=JSON, fault=Fault.CHUNKED)
        upstream.redirect("/c", "/a")
        client = make_client()
        for path in ("a", "b", "c", "missing", "a"):
            get(client, connection(upstream), path)
        download(client, connection(upstream), upstream.serve("/f", b"x" * 100_000))
        get(client, connection(upstream), "a")
        assert len({seen.connection for seen in upstream.requests}) == 1

    def test_a_kept_connection_that_the_server_closed_is_replaced(self, upstream, make_client) -> None:
        upstream.serve("/a", DOCUMENT, content_type=JSON)
        client = make_client()
        for _ in range(3):
            assert isinstance(get(client, connection(upstream), "a"), Found)
            upstream.refuse()
            upstream.accept()

    def test_an_answer_sent_in_advance_is_not_taken_for_the_next_one(self, upstream, make_client) -> None:
        upstream.serve("/a", DOCUMENT, content_type=JSON, fault=Fault.STRAY_ANSWER)
        upstream.serve("/good", b"[]", content_type=JSON)
        client = make_client()
        get(client, connection(upstream), "a")
        upstream.send_stray.set()
        assert upstream.sent_stray.wait(30)
        answer = get(client, connection(upstream), "good")
        assert isinstance(answer, Found)
        assert answer.body == b"[]"

    def test_many_threads(self, upstream, make_client) -> None:
        client = make_client()
        bodies = {f"p{number}": json.dumps([number] * 500).encode() for number in range(40)}
        for path, body in bodies.items():
            upstream.serve(f"/{path}", body, content_type=JSON)

        def fetch(path: str) -> bool:
            answer = get(client, connection(upstream), path)
            return isinstance(answer, Found) and answer.body == bodies[path]

        with ThreadPoolExecutor(20) as pool:
            assert all(pool.map(fetch, list(bodies) * 5))

    def test_nothing_of_a_failed_exchange_stays_open(self, upstream, make_client) -> None:
        def sockets() -> int:
            return sum(
                str(path.readlink()).startswith("socket:") for path in Path("/proc/self/fd").iterdir() if path.exists()
            )

        client = make_client()
        upstream.serve("/good", DOCUMENT, content_type=JSON)
        get(client, connection(upstream), "good")
        before = sockets()
        faults = [fault for fault in Fault if fault not in {*SLOW, Fault.STRAY_ANSWER}]
        for fault in faults:
            upstream.serve("/bad", DOCUMENT, content_type=JSON, fault=fault)
            for ask in (
                lambda: get(client, connection(upstream), "bad"),
                lambda: download(client, connection(upstream), upstream.url + "/bad"),
            ):
                try:
                    ask()
                except UpstreamUnavailable:
                    continue
        get(client, connection(upstream), "good")
        threading.Event().wait(0.2)  # the server's threads close their own ends
        assert sockets() <= before + 4


class TestIndex:
    """The fake's own package index, as other tests use it."""

    def test_pages_files_and_digests(self, upstream, make_client) -> None:
        files = {"demo-1.0-py3-none-any.whl": b"wheel", "demo-1.0.tar.gz": b"sdist"}
        index = upstream.add_project(
            "Demo",
            files,
            yanked={"demo-1.0.tar.gz": "broken"},
            requires_python={"demo-1.0-py3-none-any.whl": ">=3.11"},
            metadata={"demo-1.0-py3-none-any.whl": b"Metadata-Version: 2.1\n"},
            wrong_digests=frozenset({"demo-1.0.tar.gz"}),
        )
        client = make_client()
        to = replace(connection(upstream), base_url=index)
        answer = get(client, to, "demo/", accept=JSON_INDEX)
        assert isinstance(answer, Found)
        assert answer.max_age_seconds == 600
        for entry in json.loads(answer.body)["files"]:
            body = download(client, to, upstream.url + entry["url"])
            assert body == files[entry["filename"]]
            right = hashlib.sha256(body).hexdigest() == entry["hashes"]["sha256"]
            assert right is (entry["filename"] != "demo-1.0.tar.gz")
        assert get(client, to, "demo/", accept=JSON_INDEX, etag=answer.etag) == NotModified(600)
        page = get(client, to, "demo/", accept="text/html")
        assert isinstance(page, Found)
        assert b'data-yanked="broken"' in page.body
        assert b'data-requires-python="&gt;=3.11"' in page.body
        assert download(client, to, f"{upstream.url}/files/demo/demo-1.0-py3-none-any.whl.metadata").startswith(
            b"Metadata"
        )
        assert isinstance(get(client, to, "", accept="text/html"), Found)
        assert get(client, to, "other/") == MissingUpstream()
        upstream.remove_project("demo")
        assert get(client, to, "demo/") == MissingUpstream()
