from __future__ import annotations

import gzip
import time

import pytest

from registry.upstream.bodies import UnusableBody, check_document, check_ended, gunzip

JSON = "application/json"
PAGE = b"<!DOCTYPE html>\n<html><body><a href='x'>x</a></body></html>\n"


class TestGunzip:
    def test_one_and_several_members(self) -> None:
        assert gunzip(gzip.compress(b"abc", mtime=0), 3) == b"abc"
        assert gunzip(gzip.compress(b"abc", mtime=0) + gzip.compress(b"def"), 6) == b"abcdef"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"abc",
            gzip.compress(b"abc", mtime=0)[:-1],
            gzip.compress(b"abc", mtime=0) + b"tail",
            gzip.compress(b"abc", mtime=0)[:12],
        ],
    )
    def test_broken(self, body: bytes) -> None:
        with pytest.raises(UnusableBody):
            gunzip(body, 1000)

    def test_flipped_bit_is_noticed(self) -> None:
        packed = bytearray(gzip.compress(b"abc" * 100))
        packed[-6] ^= 1
        with pytest.raises(UnusableBody):
            gunzip(bytes(packed), 1000)

    def test_a_bomb_never_unfolds(self) -> None:
        import tracemalloc

        bomb = gzip.compress(bytes(50_000_000), 1)
        tracemalloc.start()
        with pytest.raises(UnusableBody):
            gunzip(bomb, 100_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2_000_000

    def test_the_limit_is_over_all_members(self) -> None:
        with pytest.raises(UnusableBody):
            gunzip(gzip.compress(b"abc", mtime=0) * 2, 5)


class TestKind:
    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b"{}", "text/html"),
            (PAGE, JSON),
            (PAGE, ""),
            (b"\xef\xbb\xbf \n<!-- a --><!-- b --><HTML lang=en>", JSON),
            (b"<!doctype   HTML>", "text/plain"),
            (gzip.compress(b"{}", mtime=0), JSON),
        ],
    )
    def test_refused_where_json_was_asked_for(self, body: bytes, content_type: str) -> None:
        with pytest.raises(UnusableBody):
            check_document(body, content_type, JSON)

    def test_a_sign_in_page_is_refused_where_html_was_asked_for(self) -> None:
        login = b"<html><form><input name=a><INPUT name='b' type = 'password'></form></html>"
        with pytest.raises(UnusableBody):
            check_document(login, "text/html; charset=utf-8", "text/html")

    @pytest.mark.parametrize(
        ("body", "content_type", "accept"),
        [
            (PAGE, "text/html", "application/json, text/html;q=0.1"),
            (b"{}", JSON, JSON),
            (b"<metadata/>", "text/xml", "*/*"),
            (b"", "text/plain", "*/*"),
            (gzip.compress(b"x", mtime=0), "application/gzip", "*/*"),
            (b"<!-- only a comment", JSON, JSON),
        ],
    )
    def test_accepted(self, body: bytes, content_type: str, accept: str) -> None:
        check_document(body, content_type, accept)

    def test_hostile_pages_are_judged_quickly(self) -> None:
        began = time.monotonic()
        check_document(b"<!---->" * 9000 + b"x", JSON, JSON)
        check_document(b"<input " * 40_000, "text/html", "text/html")
        assert time.monotonic() - began < 10


class TestEnded:
    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b'{"a": [1]}', JSON),
            (b"[]", "application/vnd.example+json; charset=utf-8"),
            (PAGE, "text/html"),
            (b"<a href=x>x</a>\n<a href=y>y</a><br/>\n", "text/html"),
            (b"<?xml version='1.0'?>\n<metadata><v>1</v></metadata>", "application/xml"),
        ],
    )
    def test_whole(self, body: bytes, content_type: str) -> None:
        check_ended(body, content_type)

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b'{"a": [1', JSON),
            (b"", JSON),
            (PAGE[:-12], "text/html"),
            (b"<html><a href=x>x</a>\n", "text/html"),
            (b"<a href=x>x</a>\n<a href=y>y", "text/html"),
            (b"<metadata><v>1</v>", "application/xml"),
            (b"0123abc", "text/plain"),
            (b"bytes", "application/octet-stream"),
        ],
    )
    def test_cut_or_unknowable(self, body: bytes, content_type: str) -> None:
        with pytest.raises(UnusableBody):
            check_ended(body, content_type)
