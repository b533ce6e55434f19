"""The body of a publish, read as a stream: what is in it, whatever the pieces, and what is refused."""

import base64
import json
import random
import time
from typing import Any

import pytest

from registry.errors import Invalid, TooLarge
from registry.formats.npm.publish_body import PublishBody, read_body
from tests.harness import npm_packages

LIMIT = 1024 * 1024


class Pieces:
    """A body that arrives in pieces of a size."""

    def __init__(self, body: bytes, size: int) -> None:
        self._body = body
        self._size = size
        self._at = 0

    def read(self, size: int) -> bytes:
        piece = self._body[self._at : self._at + min(size, self._size)]
        self._at += len(piece)
        return piece


class Sink(bytearray):
    def write(self, data: bytes) -> int:
        self.extend(data)
        return len(data)


def read(body: bytes | dict[str, Any], *, size: int = 64 * 1024, limit: int = LIMIT) -> tuple[PublishBody, bytes]:
    sinks: list[Sink] = []

    def make() -> Sink:
        sinks.append(Sink())
        return sinks[-1]

    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = read_body(Pieces(raw, size), make, limit_bytes=limit)
    assert len(sinks) <= 1
    return found, bytes(sinks[0]) if sinks else b""


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 1000, 10**6])
def test_any_pieces_give_the_same(size: int):
    body = npm_packages.tarball("@acme/demo", "1.0.0", files={"x.bin": random.Random(1).randbytes(3001)})
    document = npm_packages.publish_document(
        "@acme/demo", "1.0.0", body, readme='tricky "_attachments":{"x":{"data":"QUJD"}}'
    )
    found, content = read(document, size=size)
    assert content == body
    assert found.attachment == "@acme/demo-1.0.0.tgz"
    document["_attachments"]["@acme/demo-1.0.0.tgz"]["data"] = ""
    assert found.document == document


@pytest.mark.parametrize("count", range(8))
def test_every_length_and_padding(count: int):
    body = bytes(range(count))
    text = json.dumps({"_attachments": {"a.tgz": {"data": base64.b64encode(body).decode()}}}).encode()
    for size in (1, 3, 100):
        assert read(text, size=size)[1] == body


def test_escapes_that_json_writers_put_in_are_read():
    body = b"\xff\xef\xbe" * 100
    text = base64.b64encode(body).decode().replace("/", "\\/")
    lined = "\\n".join(text[at : at + 76] for at in range(0, len(text), 76) if not text[at : at + 76].startswith("/"))
    assert "\\/" in text
    for spelled in (text, lined if lined.replace("\\n", "") == text else text):
        raw = f'{{"_attachments": {{"a.tgz": {{"data" : "{spelled}"}}}}}}'.encode()
        for size in (1, 2, 5, 1000):
            assert read(raw, size=size)[1] == body


def test_keys_may_be_escaped():
    raw = b'{"\\u005fattachments":{"a.tgz":{"d\\u0061ta":"QUJD"}}}'
    found, content = read(raw)
    assert (found.attachment, content) == ("a.tgz", b"ABC")


def test_data_elsewhere_is_no_tarball():
    document = {
        "data": "x",
        "versions": {"1.0.0": {"data": "y", "_attachments": {"a": {"data": "z"}}}},
        "a": [{"data": "w"}],
    }
    found, content = read(document)
    assert found == PublishBody(document, None)
    assert content == b""


def test_a_provenance_bundle_is_text():
    document = {"_attachments": {"a.sigstore": {"data": '{"x": 1}'}, "a.tgz": {"data": "QUJD"}}}
    found, content = read(document)
    assert content == b"ABC"
    assert found.document["_attachments"]["a.sigstore"]["data"] == '{"x": 1}'


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"null",
        b'{"_attachments":{"a.tgz":{"data":"QUJD',
        b'{"_attachments":{"a.tgz":{"data":"QUJD"',
        b'{"_attachments":{"a.tgz":{"data":"QUJ"}}}',
        b'{"_attachments":{"a.tgz":{"data":"QQ==QUJD"}}}',
        b'{"_attachments":{"a.tgz":{"data":"Q=JD"}}}',
        b'{"_attachments":{"a.tgz":{"data":"Q JD"}}}',
        b'{"_attachments":{"a.tgz":{"data":"QU\\u004aD"}}}',
        b'{"_attachments":{"a.tgz":{"data":"QUJD" "QUJD"}}}',
        b'{"_attachments":{"a.tgz":{"data":"QUJD","data":"QUJD"}}}',
        b'{"_attachments":{"a.tgz":{"data":"QUJD"},"b.tgz":{"data":"QUJD"}}}',
        b'{"_attachments":{"a.tgz":{"data":"QUJD"},"a.tgz":{"x":1}}}',
        b'{"_attachments":{"a.tgz":{"data":"QUJD"}}} {}',
        b'{"_attachments":{"a.tgz":{"data":"QUJD"}}}]',
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\x1f\x8b\x08\x00",
    ],
)
def test_what_is_no_document(raw: bytes):
    for size in (1, 1000) if len(raw) < 1000 else (1000,):
        with pytest.raises(Invalid):
            read(raw, size=size)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":"' + b"x" * 5000 + b'"}',
        b'{"a":"' + b"x" * 5000,
        b" " * 5000 + b"{}",
        b'{"a":[' + b"1," * 3000 + b"1]}",
        b"\x00" * 5000,
    ],
)
def test_all_but_the_tarball_is_bounded(raw: bytes):
    """F4."""
    with pytest.raises(TooLarge):
        read(raw, limit=4096, size=512)


def test_a_long_text_is_not_read_again_with_every_piece():
    started = time.process_time()
    with pytest.raises(TooLarge):
        read(b'{"a":"' + b"x" * (64 * LIMIT), limit=32 * LIMIT, size=16 * 1024)
    assert time.process_time() - started < 10  # well under one second; re-reading takes minutes


def test_the_tarball_is_not_bounded_by_that():
    body = bytes(100_000)
    _, content = read({"_attachments": {"a.tgz": {"data": base64.b64encode(body).decode()}}}, limit=1000)
    assert content == body


def test_what_the_sink_refuses_is_passed_on():
    class Full(Sink):
        def write(self, data: bytes) -> int:
            raise TooLarge("the tarball", 1)

    raw = json.dumps({"_attachments": {"a.tgz": {"data": "QUJD"}}}).encode()
    with pytest.raises(TooLarge):
        read_body(Pieces(raw, 100), Full, limit_bytes=LIMIT)
