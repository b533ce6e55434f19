"""Answers with bodies: ranges against Python's own slices, conditional requests, compression, and broken streams."""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import http_date
from werkzeug.test import TestResponse

from registry.http.responses import BrokenStream, send_document, send_file, whole
from registry.repos.documents import Stamp, make_document
from storage.blobs import ByteRange

MODIFIED = datetime(2026, 5, 4, 12, 30, 15, 987654, tzinfo=UTC)
SHA256 = "ab" * 32
ETAG = f'"sha256-{SHA256}"'
BODY = bytes(range(256)) * 4


def pieces(body: bytes, part: ByteRange | None, step: int = 100) -> Iterator[bytes]:
    wanted = body if part is None else body[part.start : part.stop]
    return (wanted[at : at + step] for at in range(0, len(wanted), step))


def client_of(body: bytes = BODY, *, private: bool = False) -> FlaskClient:
    app = Flask(__name__)

    @app.get("/file")
    def file() -> Response:
        return send_file(
            lambda part: pieces(body, part),
            size_bytes=len(body),
            sha256=SHA256,
            filename="demo-1.0.tar.gz",
            modified=MODIFIED,
            private=private,
        )

    @app.get("/page")
    def page() -> Response:
        document = make_document(body, "text/html; charset=utf-8", Stamp(1, 1), None, stale=private)
        return send_document(document, private=private)

    return app.test_client()


def ask(client: FlaskClient, header: str | None = None, **more: str) -> TestResponse:
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    return client.get("/file", headers=headers if header is None else {"Range": header, **headers})


numbers = st.integers(0, 1200)


class TestRanges:
    @given(body=st.binary(max_size=1000), first=numbers, last=numbers)
    def test_first_to_last(self, body: bytes, first: int, last: int):
        answer = ask(client_of(body), f"bytes={first}-{last}")
        if last < first:  # no range at all (RFC 9110 §14.1.1): as if it were not there
            assert (answer.status_code, answer.data) == (200, body)
        elif first >= len(body):
            assert_unsatisfiable(answer, body)
        else:
            assert_part(answer, body, body[first : last + 1], first)

    @given(body=st.binary(max_size=1000), first=numbers)
    def test_open_end(self, body: bytes, first: int):
        answer = ask(client_of(body), f"bytes={first}-")
        if first >= len(body):
            assert_unsatisfiable(answer, body)
        else:
            assert_part(answer, body, body[first:], first)

    @given(body=st.binary(max_size=1000), length=numbers)
    def test_suffix(self, body: bytes, length: int):
        answer = ask(client_of(body), f"bytes=-{length}")
        if length == 0 or not body:
            assert_unsatisfiable(answer, body)
        else:
            assert_part(answer, body, body[-length:], max(0, len(body) - length))

    @given(st.text(alphabet="bytes=0123456789-, ", max_size=30))
    def test_whatever_is_asked_the_answer_is_one_of_three(self, header: str):
        answer = ask(client_of(), header)
        assert answer.status_code in {200, 206, 416}
        if answer.status_code == 200:
            assert answer.data == BODY
        if answer.status_code == 206:
            first, last = answer.headers["Content-Range"].removeprefix("bytes ").partition("/")[0].split("-")
            assert answer.data == BODY[int(first) : int(last) + 1]

    @pytest.mark.parametrize(
        "header",
        [
            "bytes=0-1,5-6",
            "bytes=" + ",".join(f"{n}-{n}" for n in range(1000)),
            "lines=1-2",
            "bytes 0-1",
            "bytes=-",
            "bytes=a-b",
            "bytes=1-2-3",
            "bytes=٣-٤".encode().decode("latin-1"),
        ],
    )
    def test_what_is_not_one_range_is_answered_whole(self, header: str):
        answer = ask(client_of(), header)
        assert (answer.status_code, answer.data) == (200, BODY)
        assert "Content-Range" not in answer.headers

    def test_head_tells_of_the_whole_file_and_opens_nothing(self):
        app = Flask(__name__)

        def never(_part: ByteRange | None) -> Iterator[bytes]:
            raise AssertionError("opened")

        @app.get("/file")
        def file() -> Response:
            return send_file(never, size_bytes=10, sha256=SHA256, filename="x", modified=MODIFIED, private=False)

        for headers in ({}, {"Range": "bytes=0-1"}):
            answer = app.test_client().head("/file", headers=headers)
            assert (answer.status_code, answer.headers["Content-Length"], answer.data) == (200, "10", b"")
            assert "Content-Range" not in answer.headers

    @pytest.mark.parametrize(
        ("condition", "status"),
        [
            (ETAG, 206),
            (http_date(MODIFIED), 206),
            (f"W/{ETAG}", 200),  # a weak tag is no proof that the bytes are the same (RFC 9110 §13.1.5)
            ('"sha256-00"', 200),
            (http_date(MODIFIED - timedelta(seconds=1)), 200),
            (http_date(MODIFIED + timedelta(seconds=1)), 200),
            ("nonsense", 200),
        ],
    )
    def test_if_range(self, condition: str, status: int):
        answer = ask(client_of(), "bytes=10-19", If_Range=condition)
        assert answer.status_code == status
        assert answer.data == (BODY[10:20] if status == 206 else BODY)


def assert_part(answer: TestResponse, body: bytes, wanted: bytes, first: int) -> None:
    assert (answer.status_code, answer.data) == (206, wanted)
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(wanted) - 1}/{len(body)}"
    assert answer.headers["Content-Length"] == str(len(wanted))
    assert answer.headers["ETag"] == ETAG


def assert_unsatisfiable(answer: TestResponse, body: bytes) -> None:
    assert (answer.status_code, answer.headers["Content-Range"], answer.data) == (416, f"bytes */{len(body)}", b"")


class TestFiles:
    def test_a_file_is_inert_and_never_changes(self):
        headers = ask(client_of()).headers
        assert headers["Content-Type"] == "application/octet-stream"
        assert headers["Content-Disposition"] == 'attachment; filename="demo-1.0.tar.gz"'
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("sandbox")
        assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert headers["Last-Modified"] == "Mon, 04 May 2026 12:30:15 GMT"
        assert headers["Accept-Ranges"] == "bytes"
        assert "Content-Encoding" not in headers

    def test_one_that_needs_a_credential_stays_out_of_shared_caches(self):
        assert ask(client_of(private=True)).headers["Cache-Control"].startswith("private")

    @pytest.mark.parametrize("condition", [ETAG, f"W/{ETAG}", "*", f'"other", {ETAG}'])
    def test_who_has_it_gets_304(self, condition: str):
        answer = ask(client_of(), "bytes=0-5", If_None_Match=condition)
        assert (answer.status_code, answer.data) == (304, b"")
        assert answer.headers["ETag"] == ETAG

    @pytest.mark.parametrize("condition", ['"other"', SHA256, ""])
    def test_who_has_another_gets_it(self, condition: str):
        assert ask(client_of(), If_None_Match=condition).data == BODY


class TestDocuments:
    def page(self, **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return client_of().get("/page", headers=named)

    @pytest.mark.parametrize("accepted", ["gzip", "gzip, deflate", "deflate, gzip;q=0.1", "*", "GZIP", "zstd,gzip,br"])
    def test_compressed_for_those_who_take_it(self, accepted: str):
        answer = self.page(Accept_Encoding=accepted)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(answer.data) == BODY
        assert answer.headers["Content-Length"] == str(len(answer.data))

    @pytest.mark.parametrize("accepted", [None, "", "identity", "br", "gzip;q=0", "*;q=0", "gzip;q=0, *", "x-gzipped"])
    def test_plain_for_all_others(self, accepted: str | None):
        answer = self.page() if accepted is None else self.page(Accept_Encoding=accepted)
        assert "Content-Encoding" not in answer.headers
        assert answer.data == BODY

    def test_small_ones_are_never_compressed(self):
        answer = client_of(b"small").get("/page", headers={"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in answer.headers

    def test_caches_are_told_what_it_depends_on(self):
        for headers in ({}, {"Accept_Encoding": "gzip"}):
            answer = self.page(**headers)
            assert {name.strip() for name in answer.headers["Vary"].split(",")} == {
                "Accept",
                "Accept-Encoding",
                "Authorization",
            }
            assert answer.headers["Cache-Control"] == "public, max-age=0, must-revalidate"
        private = client_of(private=True).get("/page")
        assert private.headers["Cache-Control"].startswith("private")
        assert private.headers["Warning"] == '110 - "Response is Stale"'

    def test_each_coding_has_a_tag_of_its_own_and_is_revalidated_by_it(self):
        plain, packed = self.page(), self.page(Accept_Encoding="gzip")
        assert plain.headers["ETag"] != packed.headers["ETag"]
        for coding, first in (("identity", plain), ("gzip", packed)):
            tag = first.headers["ETag"]
            for condition in (tag, f"W/{tag}", "*", f'"x", {tag}'):
                again = self.page(Accept_Encoding=coding, If_None_Match=condition)
                assert (again.status_code, again.data) == (304, b"")
                for name in ("ETag", "Cache-Control", "Vary"):  # RFC 9110 §15.4.5
                    assert again.headers[name] == first.headers[name]
        assert self.page(If_None_Match=packed.headers["ETag"]).status_code == 200

    @pytest.mark.parametrize("coding", ["identity", "gzip"])
    def test_head_has_the_same_headers(self, coding: str):
        got = self.page(Accept_Encoding=coding)
        head = client_of().head("/page", headers={"Accept-Encoding": coding})
        assert (head.status_code, head.data) == (200, b"")
        assert dict(head.headers) == dict(got.headers)


class TestWholeStreams:
    @given(st.lists(st.binary(max_size=20), max_size=10))
    def test_the_promised_length_passes(self, parts: list[bytes]):
        assert b"".join(whole(iter(parts), sum(map(len, parts)))) == b"".join(parts)

    @given(st.lists(st.binary(max_size=20), max_size=10), st.integers(1, 50))
    def test_too_little_is_an_error_and_not_an_end(self, parts: list[bytes], missing: int):
        with pytest.raises(BrokenStream, match="ended after"):
            list(whole(iter(parts), sum(map(len, parts)) + missing))

    @given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=10), st.data())
    def test_not_a_byte_too_many_goes_out(self, parts: list[bytes], data: st.DataObject):
        length = data.draw(st.integers(0, sum(map(len, parts)) - 1))
        sent = []
        with pytest.raises(BrokenStream, match="longer than"):
            sent.extend(whole(iter(parts), length))
        assert len(b"".join(sent)) <= length
