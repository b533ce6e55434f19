"""C8: Files from a real server that misbehaves."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace

import pytest

from registry.errors import NotFound, UpstreamUnavailable
from tests.fakes.upstream import Fault, PartFault
from tests.faults.upstream.asking import DOCUMENT, ROOMY, connection, download, limits_for

# The one cannot be seen in a part; the other comes behind the right bytes, and its connection is not used again.
HARMLESS = {PartFault.LIE, PartFault.TOO_LONG}


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
        with make_client().open_part(connection(upstream), url, f"1000-{len(self.BODY) - 1}") as stream:
            assert (stream.size_bytes, stream.offset_bytes) == (len(self.BODY) - 1000, 1000)
            assert stream.total_bytes == len(self.BODY)
            assert b"".join(stream.chunks()) == self.BODY[1000:]

    def test_a_server_without_ranges_gives_no_part(self, upstream, make_client) -> None:
        url = upstream.serve("/f", self.BODY, fault=Fault.CHUNKED)
        assert make_client().open_part(connection(upstream), url, "1000-1999") is None

    @pytest.mark.parametrize("fault", [Fault.PARTIAL, *(each for each in PartFault if each not in HARMLESS)], ids=str)
    def test_what_is_not_the_part_that_was_asked_for(self, upstream, make_client, fault: Fault | PartFault) -> None:
        is_whole = fault in {PartFault.WHOLE, PartFault.OTHER_ETAG, PartFault.GROWN}  # told otherwise
        url = upstream.serve("/f", self.BODY, etag='"one"', fault=fault if isinstance(fault, Fault) else None)
        if isinstance(fault, PartFault):
            upstream.break_parts("/f", fault)
        asked = (connection(upstream), url, "1000-200999")
        if not is_whole:
            with pytest.raises(UpstreamUnavailable), make_client().open_part(*asked) as stream:
                list(stream.chunks())
            return
        stream = make_client().open_part(*asked)
        seen = stream and (stream.total_bytes, stream.etag)
        assert seen != (len(self.BODY), '"one"')
        if stream:
            stream.close()

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

    def test_digests_in_the_head(self, upstream, make_client) -> None:
        sha1, md5, sha256 = "a1" * 20, "b2" * 16, "C3" * 32
        fields = {"X-Checksum-Sha1": sha1, "x-goog-meta-checksum-md5": md5, "X-CHECKSUM-SHA256": sha256}
        url = upstream.serve("/f", self.BODY, headers={**fields, "X-Checksum-Sha512": "nonsense"})
        promised = {"sha1": sha1, "md5": md5, "sha256": sha256.lower()}
        with make_client().open_file(connection(upstream), url) as stream:
            assert stream.checksums == promised
        head = make_client().head_file(connection(upstream), url)
        assert (head.size_bytes, head.checksums) == (len(self.BODY), promised)

    def test_a_head_leaves_its_connection_for_the_next_question(self, upstream, make_client) -> None:
        client, url = make_client(), upstream.serve("/f", self.BODY)
        assert client.head_file(connection(upstream), url).size_bytes == len(self.BODY)
        assert download(client, connection(upstream), url) == self.BODY
        assert [seen.method for seen in upstream.requests] == ["HEAD", "GET"]
        assert len({seen.connection for seen in upstream.requests}) == 1

    def test_where_a_head_says_nothing_a_get_has_to_tell(self, upstream, make_client) -> None:
        for answers in (
            {"takes_head": False},
            {"fault": Fault.CHUNKED},
            {"content_type": "text/html"},
            {"status": 403},
        ):
            url = upstream.serve("/f", self.BODY, **answers)
            assert make_client().head_file(connection(upstream), url) is None
        with pytest.raises(NotFound):
            make_client().head_file(connection(upstream), upstream.serve("/f", status=404))
        with pytest.raises(UpstreamUnavailable):
            make_client().head_file(connection(upstream), upstream.serve("/f", status=503))

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
