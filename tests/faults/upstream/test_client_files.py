"""Files from a real server that misbehaves."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace

import pytest

from registry.errors import NotFound, UpstreamUnavailable
from tests.fakes.upstream import Fault
from tests.faults.upstream.asking import DOCUMENT, ROOMY, connection, download, limits_for


class TestFiles:
    BODY = bytes(range(256)) * 4000

    def test_whole(self, upstream, make_client) -> None:
        url = upstream.serve("/f.whl", self.BODY)
        with make_client().open_file(connection(upstream), url) as stream:
            assert (stream.size_bytes, stream.offset_bytes) == (len(self.BODY), 0)
            pieces = list(stream.chunks(4096))
        assert b"".join(pieces) == self.BODY
        assert max(map(len, pieces)) <= 4096
        assert upstream.requests[0].headers["accept-encoding"] == "identity"

    def test_from_the_middle(self, upstream, make_client) -> None:
        url = upstream.serve("/f", self.BODY)
        with make_client().open_file(connection(upstream), url, start=1000) as stream:
            assert (stream.size_bytes, stream.offset_bytes) == (len(self.BODY) - 1000, 1000)
            assert b"".join(stream.chunks()) == self.BODY[1000:]

    def test_a_server_without_ranges_starts_at_the_start(self, upstream, make_client) -> None:
        url = upstream.serve("/f", self.BODY, fault=Fault.CHUNKED)
        with make_client().open_file(connection(upstream), url, start=1000) as stream:
            assert (stream.size_bytes, stream.offset_bytes) == (None, 0)
            assert b"".join(stream.chunks()) == self.BODY

    def test_another_range_than_asked_for(self, upstream, make_client) -> None:
        url = upstream.serve("/f", self.BODY, fault=Fault.PARTIAL)
        with pytest.raises(UpstreamUnavailable, match="another part"):
            make_client().open_file(connection(upstream), url, start=1000)

    def test_an_empty_file(self, upstream, make_client) -> None:
        assert download(make_client(), connection(upstream), upstream.serve("/f", b"")) == b""

    @pytest.mark.parametrize("status", [404, 410])
    def test_not_found(self, upstream, make_client, status: int) -> None:
        url = upstream.serve("/d/f%2B1.whl", b"", status=status)
        with pytest.raises(NotFound) as caught:
            make_client().open_file(connection(upstream), url + "?X-Signature=secret")
        assert caught.value.name == "f+1.whl"

    @pytest.mark.parametrize("status", [204, 206, 304, 401, 403, 407, 416, 429, 500, 503])
    def test_every_other_status_is_unavailable(self, upstream, make_client, status: int) -> None:
        url = upstream.serve("/f", self.BODY, status=status)
        with pytest.raises(UpstreamUnavailable):
            download(make_client(), connection(upstream), url)

    @pytest.mark.parametrize(
        "fault",
        [
            fault
            for fault in Fault
            if fault not in {Fault.CHUNKED, Fault.STRAY_ANSWER, Fault.UNFRAMED, Fault.CUT_UNFRAMED, Fault.HIDDEN_GZIP}
        ],
    )
    def test_faults_are_unavailable(self, upstream, make_client, fault: Fault) -> None:
        url = upstream.serve("/f", DOCUMENT, fault=fault)
        with pytest.raises(UpstreamUnavailable):
            download(make_client(limits_for(fault)), connection(upstream), url)

    def test_a_cut_large_file(self, upstream, make_client) -> None:
        for fault in (Fault.CUT, Fault.RESET_HALF, Fault.RESET_END, Fault.CUT_CHUNKS, Fault.TOO_LONG):
            url = upstream.serve("/f", self.BODY, fault=fault)
            if fault is Fault.TOO_LONG:
                # The surplus is seen when it is there in time; the promised half is what a digest would judge.
                with make_client().open_file(connection(upstream), url) as stream:
                    assert stream.size_bytes == len(self.BODY) // 2
                continue
            with pytest.raises(UpstreamUnavailable):
                download(make_client(), connection(upstream), url)

    @pytest.mark.parametrize("fault", [Fault.UNFRAMED, Fault.CUT_UNFRAMED])
    def test_without_a_length_only_a_digest_can_tell(self, upstream, make_client, fault: Fault) -> None:
        url = upstream.serve("/f", self.BODY, fault=fault)
        with make_client().open_file(connection(upstream), url) as stream:
            assert stream.size_bytes is None
            body = b"".join(stream.chunks())
        assert (hashlib.sha256(body).digest() == hashlib.sha256(self.BODY).digest()) is (fault is Fault.UNFRAMED)

    def test_a_slow_reader_is_not_taken_for_a_slow_upstream(self, upstream, make_client) -> None:
        url = upstream.serve("/f", self.BODY * 8)
        limits = replace(ROOMY, file_grace_seconds=0.5, file_floor_bytes_per_second=10**9)
        with make_client(limits).open_file(connection(upstream), url) as stream:
            pieces = stream.chunks()
            received = len(next(pieces))
            threading.Event().wait(0.7)
            received += sum(map(len, pieces))
        assert received == len(self.BODY) * 8

    def test_a_download_given_up_while_it_stalls_is_not_followed_on_its_connection(self, upstream, make_client) -> None:
        client = make_client()
        stalled = upstream.serve("/s", self.BODY, fault=Fault.STALL_HALF)
        with client.open_file(connection(upstream), stalled) as stream:
            received = 0
            for piece in stream.chunks():
                received += len(piece)
                if received == len(self.BODY) // 2:
                    break
        assert download(client, connection(upstream), upstream.serve("/f", self.BODY)) == self.BODY

    def test_a_given_up_download_leaves_nothing_for_the_next_one(self, upstream, make_client) -> None:
        client = make_client()
        url = upstream.serve("/f", self.BODY)
        with client.open_file(connection(upstream), url) as stream:
            next(stream.chunks())
        assert download(client, connection(upstream), url) == self.BODY
