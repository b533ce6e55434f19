"""Files that are not kept yet: parts of them come soon, resumed downloads go on, and no wrong byte is a success.

The upstream holds the whole file back where it matters, so that what arrives cannot have come from a finished fetch.
"""

import hashlib
import itertools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from registry.repos.coming import NEAR_BYTES
from tests.fakes.upstream import Fault, FaultyUpstream, PartFault
from tests.harness.maven import digest
from tests.harness.server import Server

MIB = 1024 * 1024
FILE_BYTES = 6 * MIB + 12_345
UPLOADED = "Thu, 29 Feb 2024 12:00:00 GMT"
KINDS = ("json", "html", "maven", "generic")
_numbers = itertools.count(1)


@dataclass
class Cold:
    """A file of the upstream that nobody asked for yet. ``path`` is its place there, ``url`` its address here."""

    server: Server
    token: str
    upstream: FaultyUpstream
    kind: str
    body: bytes
    path: str
    url: str

    def get(
        self, part: str | None = None, *, method: str = "GET", stream: bool = False, **headers: str
    ) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        ranged = {"Range": f"bytes={part}"} if part else {}
        return requests.request(
            method, self.url, headers={**ranged, **named}, auth=("x", self.token), timeout=60, stream=stream
        )

    @property
    def asked(self) -> list[str]:
        return self.upstream.asked(self.path)

    def is_right(self, answer: requests.Response, start: int, stop: int) -> bool:
        """Whether it is this part of the file, and says so."""
        place = f"bytes {start}-{stop - 1}/{len(self.body)}"
        said = (answer.status_code, answer.headers.get("Content-Range"))
        return said == (206, place) and answer.content == self.body[start:stop]


class Place:
    """A server and its upstream; every file it makes is new to both."""

    def __init__(self, folder: Path, upstream: FaultyUpstream, *, web_processes: int = 2) -> None:
        self.upstream = upstream
        urls = f"pypi={upstream.url}/simple/,maven={upstream.url}/m2/"
        self.server = Server(
            folder / "data",
            with_worker=False,
            environment={"ENTREPOT_UPSTREAM_URLS": urls},
            web_processes=web_processes,
        ).start()
        self.token = self.server.token("admin")
        answer = requests.post(
            f"{self.server.url}/api/v1/domains/default/repositories/public/connections",
            json={"format": "generic", "name": "files", "url": f"{upstream.url}/files/"},
            auth=("x", self.token),
            timeout=30,
        )
        assert answer.status_code == 201, answer.text

    def cold(self, kind: str = "json", *, size_bytes: int = FILE_BYTES, promised: bytes | None = None) -> Cold:
        """A file; ``promised`` is what its digest is of, where that is another one."""
        name, body = f"cold-{next(_numbers)}", os.urandom(size_bytes)
        of = body if promised is None else promised
        if kind in ("json", "html"):
            filename = f"{name}-1.0.tar.gz"
            wrong = frozenset({filename}) if promised is not None else frozenset()
            self.upstream.add_project(name, {filename: body}, json=kind == "json", wrong_digests=wrong)
            path, here = f"/files/{name}/{filename}", f"pypi/default/dev/files/{name}/{filename}"
        elif kind == "maven":
            place = f"org/far/{name}/1.0/{name}-1.0.jar"
            path, here = f"/m2/{place}", f"maven/default/dev/{place}"
            self.upstream.serve(path, body)
            self.upstream.serve(f"{path}.sha1", digest(of).encode())
        else:
            path, here = f"/files/{name}/1.0/data.bin", f"generic/default/dev/{name}/1.0/data.bin"
            self.upstream.serve(path, body)
        return Cold(self.server, self.token, self.upstream, kind, body, path, f"{self.server.url}/{here}")


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, upstream: FaultyUpstream) -> Iterator[Place]:
    """Two web processes: a file may be fetched by the one that was not asked for a part of it."""
    made = Place(tmp_path_factory.mktemp("two"), upstream)
    yield made
    assert made.server.fsck() == ""
    made.server.kill()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, upstream: FaultyUpstream) -> Iterator[Place]:
    """One web process: everybody is at the same fetch."""
    made = Place(tmp_path_factory.mktemp("one"), upstream, web_processes=1)
    yield made
    assert made.server.fsck() == ""
    made.server.kill()


class TestParts:
    @pytest.mark.parametrize("kind", KINDS)
    def test_what_is_far_comes_before_the_rest(self, two: Place, upstream: FaultyUpstream, kind: str):
        cold = two.cold(kind)
        upstream.hold(cold.path)
        size = len(cold.body)
        # As installers read the directory of an archive: its end, then what that points to. Every process is asked.
        for _ in range(3):
            assert cold.is_right(cold.get("-16384"), size - 16384, size)
            assert cold.is_right(cold.get(f"{size - MIB}-{size - MIB + 99}"), size - MIB, size - MIB + 100)
        answer = cold.get(f"{size - 1}-")
        assert cold.is_right(answer, size - 1, size)
        assert answer.headers["Cache-Control"] == "no-store"
        assert ("ETag" in answer.headers) is (kind in ("json", "html"))
        upstream.release(cold.path)
        assert cold.get().content == cold.body
        # The whole was fetched once meanwhile, and nobody is asked any more.
        assert cold.asked.count("GET") == 1
        before = len(cold.asked)
        answer = cold.get("-16384")
        assert cold.is_right(answer, size - 16384, size)
        assert "immutable" in answer.headers["Cache-Control"]
        assert len(cold.asked) == before

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_has_arrived_is_read_along(self, one: Place, upstream: FaultyUpstream, kind: str):
        cold = one.cold(kind)
        upstream.hold(cold.path)
        with cold.get(stream=True) as whole, cold.get(f"{MIB}-", stream=True) as rest:
            first = {whole: next(whole.iter_content(MIB)), rest: next(rest.iter_content(MIB))}
            assert cold.body.startswith(first[whole])
            assert cold.body[MIB:].startswith(first[rest])
            inner = cold.get(f"{MIB // 2}-{MIB - 1}")
            assert cold.is_right(inner, MIB // 2, MIB)
            assert cold.asked == ["GET"]
            upstream.release(cold.path)
            assert first[whole] + whole.raw.read() == cold.body
            assert first[rest] + rest.raw.read() == cold.body[MIB:]
        assert cold.asked == ["GET"]

    def test_a_small_file_is_answered_when_it_is_here(self, two: Place):
        cold = two.cold("html", size_bytes=50_000)
        assert cold.is_right(cold.get("-100"), 49_900, 50_000)
        assert [how for how in cold.asked if "bytes" in how] == []

    @pytest.mark.parametrize("kind", KINDS)
    def test_forms_of_a_range(self, two: Place, kind: str):
        for asked, status in (("0-1,5-6", 200), (f"{FILE_BYTES}-", 416), ("9-5", 200), ("-0", 416), ("0-", 206)):
            cold = two.cold(kind)
            answer = cold.get(asked)
            assert answer.status_code == status, asked
            if status == 416:
                assert answer.headers["Content-Range"] == f"bytes */{FILE_BYTES}"
            else:
                assert answer.content == cold.body

    def test_an_upstream_that_does_not_say_how_long_the_file_is(self, two: Place, upstream: FaultyUpstream):
        cold = two.cold("maven")
        upstream.serve(cold.path, cold.body, fault=Fault.CHUNKED)
        assert cold.is_right(cold.get("-1000"), FILE_BYTES - 1000, FILE_BYTES)
        again = two.cold("maven")
        upstream.serve(again.path, again.body, fault=Fault.CHUNKED)
        assert again.get().content == again.body

    def test_a_validator_holds_before_and_after(self, two: Place):
        tag = f'"sha256-{hashlib.sha256((cold := two.cold("json")).body).hexdigest()}"'
        for validator, status in ((tag, 206), (UPLOADED, 206), ('"sha256-of-another"', 200)):
            before = cold.get(f"{MIB}-", If_Range=validator)
            assert before.status_code == status
            assert before.content == (cold.body[MIB:] if status == 206 else cold.body)
            assert cold.get(f"{MIB}-", If_Range=validator).status_code == status  # it is kept by now
            cold = two.cold("json")
            tag_of_new = f'"sha256-{hashlib.sha256(cold.body).hexdigest()}"'
            assert cold.get(If_None_Match=tag_of_new).status_code == 304
        # Without a promised digest nothing names the file, so that no condition holds.
        cold = two.cold("maven")
        assert cold.get(f"{MIB}-", If_Range=tag).content == cold.body


class TestFaults:
    @pytest.mark.parametrize("fault", PartFault, ids=str)
    @pytest.mark.parametrize("kind", ["json", "maven"])
    def test_no_wrong_part_is_a_success(self, two: Place, upstream: FaultyUpstream, kind: str, fault: PartFault):
        cold = two.cold(kind)
        upstream.serve(cold.path, cold.body, etag='"one"')
        upstream.break_parts(cold.path, fault)
        upstream.hold(cold.path, until_a_part_is_asked=True)
        start, stop = len(cold.body) - 600_000, len(cold.body) - 100
        try:
            answer = cold.get(f"{start}-{stop - 1}")
            status, is_right = answer.status_code, cold.is_right(answer, start, stop)
        except requests.RequestException:
            status, is_right = 0, False  # it broke off, as a client sees it
        assert [how for how in cold.asked if how.startswith("GET bytes=")], "the fault was not met"
        if fault is PartFault.LIE:
            assert status == 206  # a part is as the upstream gave it: see docs/decisions
        else:
            assert is_right or status in {0, 502}, status
        # Whatever the part was, the file is what was promised.
        whole = cold.get()
        assert (whole.status_code, whole.content) == (200, cold.body)
        assert cold.is_right(cold.get(f"{start}-{stop - 1}"), start, stop)

    @pytest.mark.parametrize("kind", ["json", "maven"])
    def test_of_a_file_that_is_not_what_was_promised(self, one: Place, upstream: FaultyUpstream, kind: str):
        cold = one.cold(kind, promised=b"something else")

        def succeeds(part: str | None) -> bool:
            try:
                return cold.get(part).ok
            except requests.RequestException:
                return False

        assert not succeeds("1000-")  # it is read along, and its end never comes
        # From now on it is known to be wrong, and no part of it is passed on at all.
        assert not succeeds("-1000")
        assert not succeeds(f"{5 * MIB}-")
        assert not succeeds(None)
        assert [how for how in cold.asked if "bytes" in how] == []

    def test_a_file_that_breaks_off(self, one: Place, upstream: FaultyUpstream):
        cold = one.cold("json")
        upstream.serve(cold.path, cold.body, fault=Fault.RESET_HALF)
        with pytest.raises(requests.RequestException):
            cold.get(f"{MIB}-").raise_for_status()
        upstream.serve(cold.path, cold.body)
        assert cold.is_right(cold.get(f"{MIB}-"), MIB, len(cold.body))


class TestHeads:
    """What can be said of a file without fetching it, is."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_nothing_is_fetched(self, two: Place, kind: str):
        cold = two.cold(kind)
        for part in (None, "0-99"):  # a range is for GET alone
            head = cold.get(part, method="HEAD")
            assert (head.status_code, int(head.headers["Content-Length"])) == (200, FILE_BYTES)
            assert head.headers["Accept-Ranges"] == "bytes"
            assert ("ETag" in head.headers) is (kind in ("json", "html"))
        # The index says it, or else the upstream's own answer to the same question.
        assert cold.asked == ([] if kind == "json" else ["HEAD", "HEAD"])
        assert cold.get().content == cold.body

    def test_digests_in_the_upstream_s_answer_are_passed_on(self, two: Place, upstream: FaultyUpstream):
        cold = two.cold("maven")
        upstream.serve(cold.path, cold.body, headers={"X-Checksum-SHA1": digest(cold.body), "X-Checksum-Md5": "?"})
        head = cold.get(method="HEAD")
        assert head.headers["X-Checksum-Sha1"] == digest(cold.body)
        assert "X-Checksum-Md5" not in head.headers
        assert cold.asked == ["HEAD"]

    @pytest.mark.parametrize("answers", [{"takes_head": False}, {"fault": Fault.CHUNKED}], ids=str)
    def test_where_nobody_says_how_long_it_is_it_is_fetched(self, two: Place, upstream: FaultyUpstream, answers: dict):
        cold = two.cold("maven")
        upstream.serve(cold.path, cold.body, **answers)
        head = cold.get(method="HEAD")
        assert (head.status_code, int(head.headers["Content-Length"])) == (200, FILE_BYTES)
        assert head.headers["X-Checksum-Sha1"] == digest(cold.body)
        assert cold.get().content == cold.body
        assert cold.asked == ["HEAD", "GET"]

    @pytest.mark.parametrize("kind", ["maven", "generic"])
    def test_absence_and_outage(self, two: Place, upstream: FaultyUpstream, kind: str):
        cold = two.cold(kind)
        upstream.serve(cold.path, b"sorry", status=503)
        assert cold.get(method="HEAD").status_code == 502
        upstream.serve(cold.path, b"sorry", status=404)
        assert cold.get(method="HEAD").status_code == 404
        # Only a GET's absence is kept: some servers answer HEAD wrongly.
        upstream.serve(cold.path, cold.body, takes_head=False)
        assert cold.get().content == cold.body


class TestResuming:
    def test_curl_goes_on_where_a_killed_server_left_it(self, tmp_path: Path, upstream: FaultyUpstream):
        place = Place(tmp_path, upstream)
        cold = place.cold("json")
        upstream.hold(cold.path)
        target = tmp_path / "file"
        curl = ["curl", "-sS", "-f", "-u", f"x:{place.token}", "-o", str(target), cold.url]
        try:
            with subprocess.Popen(curl) as first:
                while not target.exists() or target.stat().st_size < NEAR_BYTES + 100_000:
                    assert first.poll() is None
                place.server.kill()
                assert first.wait(60) != 0
            partial = target.stat().st_size
            assert NEAR_BYTES < partial <= len(cold.body) // 2
            # Little of the whole comes now (its first half could overtake the client, which would then wait for the
            # rest of it): what the client gets, it gets by a range, to the end.
            upstream.hold(cold.path, after_bytes=50_000)
            place.server.start()
            done = subprocess.run([*curl, "-C", "-"], capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, done.stderr
            assert target.read_bytes() == cold.body
            upstream.release(cold.path)
            assert cold.get().content == cold.body
        finally:
            place.server.kill()
