"""When the client asks again, waits, and leaves an upstream alone."""

from __future__ import annotations

import contextlib
import datetime as dt
from dataclasses import replace

import pytest

from registry.errors import UpstreamUnavailable
from registry.upstream.client import Found
from tests.fakes.upstream import Fault
from tests.faults.upstream.asking import DOCUMENT, JSON, ROOMY, connection, download, get


class TestRetries:
    def test_what_may_pass_is_tried_again(self, upstream, make_client) -> None:
        upstream.serve("/a", DOCUMENT, content_type=JSON, fault=Fault.FLAPPING)
        assert isinstance(get(make_client(replace(ROOMY, retries=2)), connection(upstream), "a"), Found)
        assert upstream.count("/a") == 2

    @pytest.mark.parametrize(
        ("status", "times"), [(503, 3), (502, 3), (429, 3), (500, 3), (403, 1), (404, 1), (501, 1), (407, 1)]
    )
    def test_how_often(self, upstream, make_client, status: int, times: int) -> None:
        upstream.serve("/a", b"", status=status)
        pauses: list[float] = []
        client = make_client(replace(ROOMY, retries=2), sleep=pauses.append, fraction=lambda: 1.0)
        with contextlib.suppress(UpstreamUnavailable):
            get(client, connection(upstream), "a")
        assert upstream.count("/a") == times
        assert pauses == [0.25, 0.5][: times - 1]

    def test_the_time_for_a_document_holds_over_all_attempts(self, upstream, make_client) -> None:
        upstream.serve("/a", b"", status=503)
        client = make_client(replace(ROOMY, retries=2, backoff_seconds=100, document_seconds=5), fraction=lambda: 1.0)
        with pytest.raises(UpstreamUnavailable):
            get(client, connection(upstream), "a")
        assert upstream.count("/a") == 1

    NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    @pytest.mark.parametrize(
        ("value", "pauses", "retry_after"),
        [
            ("2", [2.0, 2.0], 2),
            ("0", [0.0, 0.0], 5),
            ("Thu, 01 Jan 2026 00:00:03 GMT", [3.0, 3.0], 3),
            ("Thu, 01 Jan 2020 00:00:00 GMT", [0.0, 0.0], 5),
            ("120", [], 120),
            ("1000000000", [], 300),
            ("9" * 400, [], 300),
            ("Fri, 31 Dec 9999 23:59:59 GMT", [], 300),
            ("-5", [0.25, 0.5], 5),
            ("soon", [0.25, 0.5], 5),
            ("٣", [0.25, 0.5], 5),
        ],
    )
    def test_retry_after(self, upstream, make_client, value: str, pauses: list[float], retry_after: int) -> None:
        upstream.serve("/a", b"", status=429, headers={"Retry-After": value.encode().decode("latin-1")})
        slept: list[float] = []
        client = make_client(
            replace(ROOMY, retries=2), sleep=slept.append, fraction=lambda: 1.0, clock=lambda: self.NOW
        )
        with pytest.raises(UpstreamUnavailable) as caught:
            get(client, connection(upstream), "a")
        assert slept == pauses
        assert caught.value.retry_after_seconds == retry_after

    def test_a_long_retry_after_is_kept_to(self, upstream, make_client) -> None:
        now = [0.0]
        upstream.serve("/a", b"", status=503, headers={"Retry-After": "60"})
        upstream.serve("/b", DOCUMENT, content_type=JSON)
        client = make_client(monotonic=lambda: now[0])
        with pytest.raises(UpstreamUnavailable):
            get(client, connection(upstream), "a")
        with pytest.raises(UpstreamUnavailable) as held:
            get(client, connection(upstream), "b")
        assert held.value.retry_after_seconds == 60
        assert upstream.count("/b") == 0
        now[0] = 60.0
        assert isinstance(get(client, connection(upstream), "b"), Found)


class TestBreaker:
    LIMITS = replace(ROOMY, breaker_failures=5)

    def test_opens_probes_and_closes(self, upstream, make_client) -> None:
        now = [0.0]
        client = make_client(self.LIMITS, monotonic=lambda: now[0])
        upstream.serve("/a", b"", status=500)
        for _ in range(8):
            with pytest.raises(UpstreamUnavailable):
                get(client, connection(upstream), "a")
        assert upstream.count("/a") == 5
        now[0] = 15.0
        for _ in range(3):
            with pytest.raises(UpstreamUnavailable):
                get(client, connection(upstream), "a")
        assert upstream.count("/a") == 6
        upstream.serve("/a", DOCUMENT, content_type=JSON)
        now[0] = 30.0
        for _ in range(3):
            assert isinstance(get(client, connection(upstream), "a"), Found)

    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_an_answer_that_we_dislike_is_no_outage(self, upstream, make_client, status: int) -> None:
        client = make_client(self.LIMITS)
        upstream.serve("/a", b"", status=status)
        for _ in range(7):
            try:
                get(client, connection(upstream), "a")
            except UpstreamUnavailable:
                continue
        assert upstream.count("/a") == 7

    def test_broken_bodies_count_though_their_heads_are_fine(self, upstream, make_client) -> None:
        client = make_client(self.LIMITS)
        url = upstream.serve("/f", b"x" * 5000, fault=Fault.CUT)
        for _ in range(8):
            with pytest.raises(UpstreamUnavailable):
                download(client, connection(upstream), url)
        assert upstream.count("/f") == 5

    def test_a_dead_file_host_does_not_close_the_index(self, upstream, other, make_client) -> None:
        client = make_client(self.LIMITS)
        upstream.serve("/a", DOCUMENT, content_type=JSON)
        dead = other.serve("/f", b"", status=502)
        for _ in range(8):
            with pytest.raises(UpstreamUnavailable):
                download(client, connection(upstream), dead)
            assert isinstance(get(client, connection(upstream), "a"), Found)
        assert other.count("/f") == 5

    def test_upstreams_are_apart(self, upstream, make_client) -> None:
        client = make_client(self.LIMITS)
        upstream.serve("/a", b"", status=500)
        for _ in range(6):
            with pytest.raises(UpstreamUnavailable):
                get(client, connection(upstream), "a")
        upstream.serve("/a", DOCUMENT, content_type=JSON)
        assert isinstance(get(client, replace(connection(upstream), id=2), "a"), Found)
