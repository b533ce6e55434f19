"""C8: Every fault of an upstream with every format: what was never asked for, what is kept, what has grown old.

Two rules hold in each case: no wrong byte is a success, and no outage is read as "does not exist". A further format is a
class here and a line in ``ADAPTERS``. One world serves all cases of a module; each has an upstream, a connection and a
package of its own.
"""

import base64
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import pytest
from werkzeug.test import TestResponse

from registry.format import FileLink
from registry.formats.generic.pure import JSON_TYPE, render_package
from tests.fakes.index_pages import JSON_INDEX
from tests.fakes.upstream import Fault, FaultyUpstream
from tests.functional.api_world import START
from tests.functional.outside_world import OutsideWorld

FILE_BYTES = 200_000
OUTAGES = {500, 502, 503, 504}
PAST_EVERYTHING_FRESH = timedelta(hours=2)
PAST_AN_ABSENCE = timedelta(seconds=60)
BLOCKED = "http://169.254.169.254/latest/meta-data/"
_names = (f"package-{number}" for number in itertools.count(1))


@dataclass(frozen=True)
class Placed:
    """A package of one file: its two documents at the upstream (path, body, type), and their addresses here.

    ``promise`` is a third document, where it is one of its own that says what the file has to be.
    """

    index: tuple[str, bytes, str]
    file: tuple[str, bytes, str]
    index_url: str
    file_url: str
    promise: tuple[str, bytes, str] | None = None


class Adapter(Protocol):
    """What the matrix needs to know of a format. ``promises_digest``: an index says what a file has to be."""

    name: str
    promises_digest: bool

    def base_url(self, upstream: FaultyUpstream) -> str:
        """Where a connection points."""

    def placed(self, package: str, body: bytes, promised: bytes) -> Placed:
        """A package whose file is ``body``, and whose index gives the digest of ``promised``."""

    def lists_it(self, answer: TestResponse) -> bool:
        """Whether our index names the package's one version."""


class Pypi:
    name = "pypi"
    promises_digest = True

    def base_url(self, upstream: FaultyUpstream) -> str:
        return f"{upstream.url}/simple/"

    def placed(self, package: str, body: bytes, promised: bytes) -> Placed:
        filename = f"{package}-1.0.tar.gz"
        entry = {
            "filename": filename,
            "url": f"/files/{filename}",
            "hashes": {"sha256": hashlib.sha256(promised).hexdigest()},
        }
        page = {"meta": {"api-version": "1.1"}, "name": package, "files": [entry]}
        return Placed(
            (f"/simple/{package}/", json.dumps(page).encode(), JSON_INDEX),
            (f"/files/{filename}", body, "application/octet-stream"),
            f"pypi/default/dev/simple/{package}/",
            f"pypi/default/dev/files/{package}/{filename}",
        )

    def lists_it(self, answer: TestResponse) -> bool:
        return b"-1.0.tar.gz" in answer.data


class Generic:
    name = "generic"
    promises_digest = False  # any web server will do as upstream, and it promises nothing

    def base_url(self, upstream: FaultyUpstream) -> str:
        return f"{upstream.url}/"

    def placed(self, package: str, body: bytes, promised: bytes) -> Placed:
        digests = {"sha256": hashlib.sha256(promised).hexdigest()}
        link = FileLink("1.0/data.bin", "1.0", "", digests, len(promised))
        listed = {"name": package, **render_package({"1.0": [link]}, {"1.0": "Published"})}
        return Placed(
            (f"/{package}/", json.dumps(listed).encode(), JSON_TYPE),
            (f"/{package}/1.0/data.bin", body, "application/octet-stream"),
            f"generic/default/dev/{package}/",
            f"generic/default/dev/{package}/1.0/data.bin",
        )

    def lists_it(self, answer: TestResponse) -> bool:
        return [entry["version"] for entry in answer.json["versions"]] == ["1.0"]


class Npm:
    name = "npm"
    promises_digest = True

    def base_url(self, upstream: FaultyUpstream) -> str:
        return f"{upstream.url}/npm/"

    def placed(self, package: str, body: bytes, promised: bytes) -> Placed:
        filename = f"{package}-1.0.0.tgz"
        dist = {
            "tarball": f"/npm/{package}/-/{filename}",
            "shasum": hashlib.sha1(promised, usedforsecurity=False).hexdigest(),
            "integrity": f"sha512-{base64.b64encode(hashlib.sha512(promised).digest()).decode()}",
        }
        manifest = {"name": package, "version": "1.0.0", "dist": dist}
        document = {"name": package, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": manifest}}
        return Placed(
            (f"/npm/{package}", json.dumps(document).encode(), "application/json"),
            (f"/npm/{package}/-/{filename}", body, "application/octet-stream"),
            f"npm/default/dev/{package}",
            f"npm/default/dev/{package}/-/{filename}",
        )

    def lists_it(self, answer: TestResponse) -> bool:
        return list(answer.json["versions"]) == ["1.0.0"]


class Maven:
    name = "maven"
    promises_digest = True

    def base_url(self, upstream: FaultyUpstream) -> str:
        return f"{upstream.url}/maven/"

    def placed(self, package: str, body: bytes, promised: bytes) -> Placed:
        folder, filename = f"com/acme/{package}", f"{package}-1.0.jar"
        listed = (
            f"<metadata><groupId>com.acme</groupId><artifactId>{package}</artifactId><versioning>"
            "<versions><version>1.0</version></versions></versioning></metadata>"
        )
        path = f"/maven/{folder}/1.0/{filename}"
        checksum = hashlib.sha1(promised, usedforsecurity=False).hexdigest()
        return Placed(
            (f"/maven/{folder}/maven-metadata.xml", listed.encode(), "text/xml"),
            (path, body, "application/java-archive"),
            f"maven/default/dev/{folder}/maven-metadata.xml",
            f"maven/default/dev/{folder}/1.0/{filename}",
            (f"{path}.sha1", checksum.encode(), "text/plain"),
        )

    def lists_it(self, answer: TestResponse) -> bool:
        return answer.data.count(b"<version>1.0</version>") == 1


ADAPTERS: tuple[Adapter, ...] = (Pypi(), Npm(), Maven(), Generic())

Break = Callable[[FaultyUpstream, tuple[str, bytes, str]], object]


def served(fault: Fault | None = None, *, status: int = 200, pace_seconds: float = 0.05, **headers: str) -> Break:
    """The document with a fault, or another status instead of it."""

    def serve(upstream: FaultyUpstream, document: tuple[str, bytes, str]) -> object:
        path, body, kind = document
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return upstream.serve(
            path,
            body if status == 200 else b"sorry",
            content_type=kind,
            status=status,
            fault=fault,
            pace_seconds=pace_seconds,
            headers=sent,
        )

    return serve


def redirected(to: str | None) -> Break:
    """A redirect: to itself, or to where nobody may go."""
    return lambda upstream, document: upstream.redirect(document[0], to or document[0])


FAULTS: dict[str, Break] = {
    "reset at the start": served(Fault.RESET_START),
    "reset in the middle": served(Fault.RESET_HALF),
    "reset at the end": served(Fault.RESET_END),
    "short": served(Fault.CUT),
    "short chunks": served(Fault.CUT_CHUNKS),
    "long": served(Fault.TOO_LONG),
    "two lengths": served(Fault.TWO_LENGTHS),
    "HTML with 200": served(Fault.LOGIN_PAGE),
    "not HTTP": served(Fault.NONSENSE),
    "304 unasked": served(Fault.LYING_304),
    "206 unasked": served(Fault.PARTIAL),
    "401": served(status=401),
    "403": served(status=403),
    "429": served(status=429),
    "429 for an hour": served(status=429, Retry_After="3600"),
    "500": served(status=500),
    "502": served(status=502),
    "503": served(status=503),
    "redirect loop": redirected(None),
    "redirect to a blocked address": redirected(BLOCKED),
    "redirect to a file": redirected("file:///etc/passwd"),
}
# A length that is too small looks like a shorter file to whoever was promised nothing about it.
NEEDS_A_PROMISE = {"long"}
HEALS_LATE = {"429 for an hour"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutsideWorld]:
    made = OutsideWorld(tmp_path_factory.mktemp("patient"))
    made.disconnect()
    # What passes is asked for three times; the pauses between prove nothing here.
    made.services.resolver._upstreams.client._sleep = lambda _seconds: None
    yield made
    made.close()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutsideWorld]:
    short = {
        "ENTREPOT_UPSTREAM_DOCUMENT_TIMEOUT_SECONDS": "1",
        "ENTREPOT_UPSTREAM_FILE_GRACE_SECONDS": "1",
        "ENTREPOT_UPSTREAM_FILE_FLOOR_BYTES_PER_SECOND": "1000000",
    }
    made = OutsideWorld(tmp_path_factory.mktemp("hasty"), short)
    made.disconnect()
    yield made
    made.close()


class Case:
    """One package behind one connection of its own."""

    def __init__(
        self, world: OutsideWorld, adapter: Adapter, upstream: FaultyUpstream, *, is_forged: bool = False
    ) -> None:
        self.world, self.adapter, self.upstream = world, adapter, upstream
        # Bytes of its own: what another case brought is in the domain's store, and would not be fetched again.
        self.body = os.urandom(FILE_BYTES)
        sent = self.body[:-1] + bytes([self.body[-1] ^ 1]) if is_forged else self.body
        self.placed = adapter.placed(next(_names), sent, self.body)
        world.connect(upstream, "case", format=adapter.name, url=adapter.base_url(upstream))
        self.heal()

    def heal(self) -> None:
        for document in filter(None, (self.placed.index, self.placed.file, self.placed.promise)):
            served()(self.upstream, document)

    def index(self) -> TestResponse:
        return self.world.get(self.placed.index_url, Accept=f"{JSON_INDEX}, application/json")

    def file(self) -> tuple[int, bytes]:
        """Status and bytes; a broken stream is status 0, as a client sees it: no success."""
        try:
            answer = self.world.get(self.placed.file_url)
            return answer.status_code, answer.data
        except Exception:
            return 0, b""


@pytest.fixture
def make_case() -> Iterator[Callable[..., Case]]:
    made: list[Case] = []
    with FaultyUpstream() as upstream:

        def make(world: OutsideWorld, adapter: Adapter, **parts: bool) -> Case:
            made.append(Case(world, adapter, upstream, **parts))
            return made[-1]

        yield make
        for case in made:
            case.world.now = START  # tokens end, too
            case.world.disconnect("case", format_name=case.adapter.name)


formats = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
faults = pytest.mark.parametrize("fault", FAULTS)


@formats
@faults
def test_an_index_that_was_never_seen(world: OutsideWorld, make_case, adapter: Adapter, fault: str) -> None:
    case = make_case(world, adapter)
    FAULTS[fault](case.upstream, case.placed.index)
    assert case.index().status_code in OUTAGES
    case.heal()
    if fault not in HEALS_LATE:
        healed = case.index()
        assert healed.status_code == 200, healed.text
        assert adapter.lists_it(healed)


@formats
@faults
def test_an_index_that_was_seen_before(world: OutsideWorld, make_case, adapter: Adapter, fault: str) -> None:
    case = make_case(world, adapter)
    assert adapter.lists_it(case.index())
    FAULTS[fault](case.upstream, case.placed.index)
    world.now += PAST_EVERYTHING_FRESH
    stale = case.index()
    assert stale.status_code == 200
    assert adapter.lists_it(stale)
    world.now += timedelta(days=2)
    assert case.index().status_code in OUTAGES


@formats
@faults
def test_a_file_that_was_never_seen(world: OutsideWorld, make_case, adapter: Adapter, fault: str) -> None:
    if fault in NEEDS_A_PROMISE and not adapter.promises_digest:
        pytest.skip("nothing promises how long this format's files are")
    case = make_case(world, adapter)
    FAULTS[fault](case.upstream, case.placed.file)
    status, body = case.file()
    assert status in OUTAGES | {0}, (status, len(body))
    case.heal()
    if fault not in HEALS_LATE:
        assert case.file() == (200, case.body)


@formats
def test_a_file_with_another_digest(world: OutsideWorld, make_case, adapter: Adapter) -> None:
    if not adapter.promises_digest:
        pytest.skip("nothing promises this format's digests")
    case = make_case(world, adapter, is_forged=True)
    for _ in range(2):
        assert case.file()[0] in OUTAGES | {0}
    path, _, kind = case.placed.file
    case.upstream.serve(path, case.body, content_type=kind)
    assert case.file() == (200, case.body)


@formats
@faults
def test_a_file_that_is_kept_needs_no_upstream(world: OutsideWorld, make_case, adapter: Adapter, fault: str) -> None:
    case = make_case(world, adapter)
    assert case.file() == (200, case.body)
    for document in (case.placed.index, case.placed.file):
        FAULTS[fault](case.upstream, document)
    world.now += timedelta(days=20)
    assert case.file() == (200, case.body)
    assert case.upstream.count(case.placed.file[0]) == 1


@formats
def test_first_404_then_200(world: OutsideWorld, make_case, adapter: Adapter) -> None:
    """A sure absence is told as one, and for a minute at most."""
    case = make_case(world, adapter)
    for document in (case.placed.index, case.placed.file):
        served(status=404)(case.upstream, document)
    assert case.index().status_code == 404
    assert case.file()[0] == 404
    case.heal()
    world.now += PAST_AN_ABSENCE
    assert adapter.lists_it(case.index())
    assert case.file() == (200, case.body)


@formats
def test_first_200_then_404(world: OutsideWorld, make_case, adapter: Adapter) -> None:
    """What the upstream lost is not listed by it any more; what is kept here stays."""
    case = make_case(world, adapter)
    assert adapter.lists_it(case.index())
    assert case.file() == (200, case.body)
    for document in (case.placed.index, case.placed.file):
        served(status=404)(case.upstream, document)
    world.now += PAST_EVERYTHING_FRESH
    assert adapter.lists_it(case.index())
    assert case.file() == (200, case.body)


@formats
@pytest.mark.parametrize("fault", [Fault.SLOW_BODY, Fault.SLOW_HEAD, Fault.SILENCE, Fault.STALL_HALF])
def test_one_byte_per_second(hasty: OutsideWorld, make_case, adapter: Adapter, fault: Fault) -> None:
    case = make_case(hasty, adapter)
    slow = served(fault, pace_seconds=1.0)
    for document in (case.placed.index, case.placed.file):
        slow(case.upstream, document)
    assert case.index().status_code in OUTAGES
    assert case.file()[0] in OUTAGES | {0}
