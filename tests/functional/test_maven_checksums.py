"""What an upstream promises of its files, in the head of its answer or beside the file: nothing else becomes a file."""

import os
import threading
from collections.abc import Iterator

import pytest
import requests

from tests.fakes.upstream import Fault, FaultyUpstream
from tests.functional.test_refresh import soon
from tests.harness.maven import Repository, digest
from tests.harness.server import Server

SMALL, LARGE = 1000, 1_000_000


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: FaultyUpstream) -> Iterator[Server]:
    """One web process, whose memory of what upstreams send can be told."""
    environment = {"ENTREPOT_UPSTREAM_URLS": f"maven={upstream.url}/m2/"}
    folder = tmp_path_factory.mktemp("checksums")
    running = Server(folder / "data", with_worker=False, environment=environment, web_processes=1).start()
    yield running
    assert running.fsck() == ""
    running.kill()


@pytest.fixture(scope="module")
def dev(server: Server) -> Repository:
    return Repository(server, server.token("admin", "read"))


class File:
    """A file of the upstream, with ``headers`` in the head of its answer, and a checksum beside it unless that is None."""

    def __init__(
        self,
        upstream: FaultyUpstream,
        name: str,
        *,
        size_bytes: int = SMALL,
        beside: str | None = "",
        **headers: str,
    ) -> None:
        self.body = os.urandom(size_bytes)
        self.path = f"org/far/{name}/1.0/{name}-1.0.jar"
        self.there = f"/m2/{self.path}"
        self.upstream = upstream
        named = {
            key.replace("_", "-"): value or digest(self.body, key.rpartition("_")[2].lower())
            for key, value in headers.items()
        }
        upstream.serve(self.there, self.body, headers=named)
        if beside is not None:
            upstream.serve(f"{self.there}.sha1", (beside or digest(self.body)).encode())

    @property
    def asked(self) -> tuple[int, int]:
        """How often for the file, and for its checksum."""
        return self.upstream.count(self.there), self.upstream.count(f"{self.there}.sha1")


def outcome(dev: Repository, file: File) -> int:
    """The status; 0 for a body that breaks off. Never another body than the right one."""
    try:
        answer = dev.get(file.path)
    except requests.RequestException:
        return 0
    assert answer.content == file.body or not answer.ok
    return answer.status_code


@pytest.mark.parametrize("size_bytes", [SMALL, LARGE])
@pytest.mark.parametrize(
    "field", ["X_Checksum_Sha1", "X_Checksum_SHA256", "x_checksum_sha512", "x_goog_meta_checksum_sha1"]
)
def test_a_digest_in_the_head_saves_the_question(
    dev: Repository, upstream: FaultyUpstream, field: str, size_bytes: int
):
    name = f"head-{field.lower().replace('_', '-')}-{size_bytes}"
    file = File(upstream, name, size_bytes=size_bytes, **{field: ""})
    answer = dev.get(file.path)
    assert answer.content == file.body
    # Passed on, so that the client does not ask either.
    algorithm = field.rpartition("_")[2].lower()
    assert answer.headers[f"X-Checksum-{algorithm.capitalize()}"] == digest(file.body, algorithm)
    assert file.asked == (1, 0)
    assert dev.get(f"{file.path}.sha1").text == digest(file.body)


@pytest.mark.parametrize("size_bytes", [SMALL, LARGE])
@pytest.mark.parametrize("wrong", ["head", "beside", "head, with md5 alone", "beside, with md5 in the head"])
def test_wrong_bytes_are_nobody_s_file(dev: Repository, upstream: FaultyUpstream, wrong: str, size_bytes: int):
    """Whatever the digest is that does not fit; the one beside the file is asked for unless a strong one is in the head."""
    name, other = f"wrong-{wrong.replace(' ', '-').replace(',', '')}-{size_bytes}", digest(b"else")
    match wrong:
        case "head":
            file = File(upstream, name, size_bytes=size_bytes, X_Checksum_Sha1=other)
        case "beside":
            file = File(upstream, name, size_bytes=size_bytes, beside=other)
        case "head, with md5 alone":
            file = File(upstream, name, size_bytes=size_bytes, X_Checksum_Md5=digest(b"else", "md5"))
        case _:
            file = File(upstream, name, size_bytes=size_bytes, beside=other, X_Checksum_Md5="")
    for _ in range(2):
        assert outcome(dev, file) in ({502} if size_bytes == SMALL else {0, 502})
    # The right bytes are taken as soon as they come, when what was said before has aged.
    if wrong.startswith("head"):
        upstream.serve(file.there, file.body, headers={"X-Checksum-Sha1": digest(file.body)})
        assert outcome(dev, file) == 200


def test_nonsense_in_the_head_is_no_digest(dev: Repository, upstream: FaultyUpstream):
    file = File(upstream, "nonsense", X_Checksum_Sha1="0" * 39, X_Checksum_Sha256="z" * 64)
    assert outcome(dev, file) == 200
    assert file.asked == (1, 1)


@pytest.mark.parametrize("size_bytes", [SMALL, LARGE])
def test_the_end_waits_for_the_digest(dev: Repository, upstream: FaultyUpstream, size_bytes: int):
    file = File(upstream, f"late-{size_bytes}", size_bytes=size_bytes)
    upstream.hold(f"{file.there}.sha1", with_head=True)
    answers: list[requests.Response] = []
    reader = threading.Thread(target=lambda: answers.append(dev.get(file.path)), daemon=True)
    reader.start()
    soon(lambda: file.asked == (1, 1))
    # All of the file is with the server, and a part of it with who reads along; nobody has the whole.
    if size_bytes == LARGE:
        assert dev.get(file.path, Range="bytes=0-9").content == file.body[:10]
    assert dev.get("org/far/other/1.0/other-1.0.jar").status_code == 404
    assert answers == []
    upstream.release(f"{file.there}.sha1")
    reader.join(60)
    assert [answer.content for answer in answers] == [file.body]


def test_an_upstream_that_sends_no_digests_is_asked_for_both_at_once(dev: Repository, upstream: FaultyUpstream):
    assert outcome(dev, File(upstream, "without")) == 200
    file = File(upstream, "at-once")
    upstream.hold(file.there, with_head=True)
    reader = threading.Thread(target=lambda: dev.get(file.path), daemon=True)
    reader.start()
    soon(lambda: file.asked == (1, 1))  # though there is no head yet to look into
    upstream.release(file.there)
    reader.join(60)
    # Once it sends them, it is believed.
    assert outcome(dev, File(upstream, "changed", X_Checksum_Sha1="")) == 200
    file = File(upstream, "afterwards", X_Checksum_Sha1="")
    assert outcome(dev, file) == 200
    assert file.asked == (1, 0)


@pytest.mark.parametrize("beside", [Fault.NONSENSE, Fault.LOGIN_PAGE, 503])
def test_where_the_digest_cannot_be_had_the_file_cannot(dev: Repository, upstream: FaultyUpstream, beside: Fault | int):
    name = f"unsure-{str(beside).lower().replace('.', '-').replace('_', '-')}"
    file = File(upstream, name)
    fault, status = (beside, 200) if isinstance(beside, Fault) else (None, beside)
    upstream.serve(f"{file.there}.sha1", digest(file.body).encode(), fault=fault, status=status)
    assert outcome(dev, file) == 502
    upstream.serve(f"{file.there}.sha1", digest(file.body).encode())
    soon(lambda: outcome(dev, file) == 200)  # the upstream is left alone for a moment after failing


def test_without_any_digest_it_is_a_file_all_the_same(dev: Repository, upstream: FaultyUpstream):
    file = File(upstream, "bare", size_bytes=LARGE, beside=None)
    assert outcome(dev, file) == 200
    assert dev.get(f"{file.path}.sha1").text == digest(file.body)
