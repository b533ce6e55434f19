"""Request bodies: counted against what was announced, and whatever goes wrong, nothing is kept."""

import io
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from urllib3.filepost import encode_multipart_formdata

from registry.errors import Invalid, TooLarge
from registry.http import upload
from registry.http.upload import CountedBody, Form, read_form
from storage.errors import BodyTooLarge, BodyTooShort, NoSpace
from storage.intake import Intake
from storage.memory import MemoryStore

LIMIT_BYTES = 10_000


class Store(MemoryStore):
    """Counts what is begun and not ended, which on a disk would be a file that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.open_parts: set[int] = set()
        self.numbers = itertools.count()

    def begin(self) -> Any:
        pending, number = super().begin(), next(self.numbers)
        self.open_parts.add(number)
        abort, commit = pending.abort, pending.commit

        class Watched:
            locator = pending.locator
            write = staticmethod(pending.write)

            def abort(self) -> None:
                store.open_parts.discard(number)
                abort()

            def commit(self, digest: Any) -> Any:
                store.open_parts.discard(number)
                return commit(digest)

        store = self
        return Watched()


def parse(
    body: bytes,
    content_type: str,
    store: Store,
    *,
    limit_bytes: int = LIMIT_BYTES,
    announced: int | None = None,
    make_intake: Any = None,
) -> Form:
    environ = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "CONTENT_TYPE": content_type}
    environ["CONTENT_LENGTH"] = str(len(body) if announced is None else announced)
    with Flask(__name__).test_request_context("/", method="POST", environ_overrides=environ):
        return read_form(make_intake or (lambda _name: Intake(store, limit_bytes)), limit_bytes=limit_bytes)


def form(*fields: tuple[str, Any]) -> tuple[bytes, str]:
    return encode_multipart_formdata(list(fields))


@pytest.fixture
def store() -> Store:
    return Store()


WHOLE = form(
    (":action", "file_upload"), ("classifiers", "a"), ("content", ("demo.whl", b"x" * 3000)), ("classifiers", "b")
)


class TestForms:
    def test_fields_keep_their_order_and_files_are_in_the_intake(self, store: Store):
        found = parse(*WHOLE, store)
        assert found.fields == {":action": ["file_upload"], "classifiers": ["a", "b"]}
        filename, intake = found.files["content"]
        assert (filename, intake.size_bytes) == ("demo.whl", 3000)
        assert len(store.open_parts) == 1
        found.abort()
        assert store.open_parts == set()

    @given(body=st.binary(max_size=2000), text=st.text(max_size=100))
    def test_what_was_sent_is_what_is_read(self, body: bytes, text: str):
        store = Store()
        found = parse(*form(("text", text), ("content", ("n", body))), store)
        assert found.fields["text"] == [text]
        received = found.files["content"][1].finish()
        assert b"".join(store.open(received.handle)) == body

    @pytest.mark.parametrize("kept", range(0, len(WHOLE[0]), 37))
    def test_a_form_that_was_cut_anywhere_leaves_nothing(self, store: Store, kept: int):
        body, content_type = WHOLE
        with pytest.raises((BodyTooShort, Invalid)):
            parse(body[:kept], content_type, store, announced=len(body))
        assert store.open_parts == set()

    @pytest.mark.parametrize("kept", range(0, len(WHOLE[0]) - 4, 37))
    def test_a_form_that_ends_early_as_announced_leaves_nothing(self, store: Store, kept: int):
        with pytest.raises(Invalid):
            parse(WHOLE[0][:kept], WHOLE[1], store)
        assert store.open_parts == set()

    def test_two_files_under_one_name_are_refused_and_neither_stays(self, store: Store):
        with pytest.raises(Invalid, match="two files named 'content'"):
            parse(*form(("content", ("a", b"1")), ("content", ("b", b"2"))), store)
        assert store.open_parts == set()

    def test_many_files_are_refused_and_none_stays(self, store: Store):
        with pytest.raises(Invalid, match="more than 4 files"):
            parse(*form(*((f"f{number}", ("a", b"1")) for number in range(5))), store)
        assert store.open_parts == set()

    @pytest.mark.parametrize(
        "content_type",
        [
            "application/json",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/mixed; boundary=abc",
            "multipart/form-data; boundary*=utf-8''%E2%82%AC",
            "",
        ],
    )
    def test_another_type_is_refused(self, store: Store, content_type: str):
        with pytest.raises(Invalid, match="multipart/form-data"):
            parse(WHOLE[0], content_type, store)

    def test_a_full_disk_is_told_as_one_and_leaves_nothing(self, store: Store):
        begun: Iterator[int] = itertools.count()

        def make_intake(_name: str) -> Intake:
            if next(begun) == 1:
                raise NoSpace("no room")
            return Intake(store, LIMIT_BYTES)

        with pytest.raises(NoSpace):
            parse(*form(("a", ("a", b"1")), ("b", ("b", b"2"))), store, make_intake=make_intake)
        assert store.open_parts == set()


class TestLimits:
    def test_an_announced_length_over_the_limit_is_refused_unread(self, store: Store):
        with pytest.raises(TooLarge):
            parse(b"", WHOLE[1], store, announced=LIMIT_BYTES + 1)

    def test_a_body_over_the_limit_that_announced_nothing(self):
        stream = CountedBody(io.BytesIO(bytes(101)), None, 100)
        assert stream.read(100) == bytes(100)
        with pytest.raises(TooLarge):
            stream.read(1)

    def test_a_file_over_its_own_limit_leaves_nothing(self, store: Store):
        with pytest.raises(BodyTooLarge):
            parse(*WHOLE, store, make_intake=lambda _name: Intake(store, 2999))
        assert store.open_parts == set()

    def test_texts_together_have_a_limit(self, store: Store, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(upload, "FORM_FIELDS_LIMIT_BYTES", 1000)
        monkeypatch.setattr(upload, "BUFFER_BYTES", 2000)
        many = form(("content", ("a", b"1")), *((f"f{number}", "x" * 100) for number in range(60)))
        with pytest.raises(TooLarge, match="form without its files"):
            parse(*many, store, limit_bytes=10**6)
        assert store.open_parts == set()


class TestCountedBodies:
    @given(st.binary(max_size=500), st.integers(1, 100))
    def test_all_that_was_announced_passes(self, body: bytes, step: int):
        stream = CountedBody(io.BytesIO(body), len(body), 500)
        assert b"".join(iter(lambda: stream.read(step), b"")) == body

    @given(st.binary(max_size=500), st.integers(1, 100))
    def test_an_early_end_is_no_end(self, body: bytes, missing: int):
        stream = CountedBody(io.BytesIO(body), len(body) + missing, 1000)
        pieces = iter(lambda: stream.read(64), b"")
        with pytest.raises(BodyTooShort) as told:
            list(pieces)
        assert (told.value.declared_bytes, told.value.received_bytes) == (len(body) + missing, len(body))
