"""What clients are answered over real connections: kinds of pages, parts of files, broken streams, odd ways to send."""

import base64
import gzip
import hashlib
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import requests
from requests_toolbelt import MultipartEncoder

from tests.harness import packages, processes
from tests.harness.publishing import connect, file_url, form, publish, read_answer, request_head, upload_request
from tests.harness.server import Server

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
PLAIN = "text/html"
FILE_BYTES = 2_000_000
LONG = os.environ.get("ENTREPOT_CAMPAIGN") == "long"
MEMORY_FILE_BYTES = 2 * 1024**3 if LONG else 300 * 1024**2
MEMORY_LIMIT_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class Site:
    """A running server behind one trusted proxy's headers, with one large file and a page of many."""

    server: Server
    token: str
    wheel: tuple[str, bytes]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def file(self) -> str:
        return file_url(self.server, "dev", "large", self.wheel[0])

    @property
    def page(self) -> str:
        return f"{self.server.index()}many/"

    def get(self, url: str, **headers: str) -> requests.Response:
        return self.ask("GET", url, **headers)

    def ask(self, method: str, url: str, **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        defaults = {"Accept-Encoding": "identity", **self.headers}
        return requests.request(method, url, headers={**defaults, **named}, timeout=30, allow_redirects=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    environment = {"ENTREPOT_SERVER_TRUSTED_PROXY_HOPS": "1"}
    server = Server(tmp_path_factory.mktemp("site") / "data", with_worker=False, environment=environment).start()
    try:
        wheel = packages.wheel("large", "1.0", files={"large/data.bin": random.Random(7).randbytes(FILE_BYTES)})
        made = Site(server, server.token("admin"), wheel)
        assert publish(server, made.token, "large", wheel=wheel).status_code == 200
        for number in range(4):
            assert publish(server, made.token, "many", f"1.{number}").status_code == 200
        yield made
    finally:
        server.kill()


class TestRepresentations:
    @pytest.mark.parametrize(
        ("client", "accept", "chosen"),
        [
            ("pip 20", "text/html", PLAIN),
            ("pip 22.2 and later", f"{JSON}, {HTML}; q=0.1, {PLAIN}; q=0.01", JSON),
            ("uv", f"{JSON}, {HTML};q=0.2, {PLAIN};q=0.01", JSON),
            ("poetry", JSON, JSON),
            ("hatch, curl", "*/*", PLAIN),
            ("nobody says", None, PLAIN),
            ("a browser", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", PLAIN),
            ("the newest, whichever", "application/vnd.pypi.simple.latest+json", JSON),
            ("HTML of version 1", HTML, HTML),
            ("a wildcard of a kind", "application/*", JSON),
            ("none of ours", "application/json", None),
            ("all but", f"{JSON};q=0, {HTML};q=0, {PLAIN};q=0", None),
        ],
    )
    def test_what_each_client_gets(self, site: Site, client: str, accept: str | None, chosen: str | None):
        for address in (site.page, site.server.index()):
            headers = {**site.headers, "Accept": accept} if accept is not None else {**site.headers, "Accept": None}
            answer = requests.get(address, headers=headers, timeout=10)
            if chosen is None:
                assert answer.status_code == 406, client
                assert "JSON" in answer.text
                continue
            assert answer.status_code == 200, client
            assert answer.headers["Content-Type"].partition(";")[0] == chosen, client
            assert "many-1.0" in answer.text or "many" in answer.text
            assert "Accept" in answer.headers["Vary"]

    @pytest.mark.parametrize(
        ("query", "status", "chosen"),
        [
            (f"?format={JSON.replace('+', '%2B')}", 200, JSON),
            (f"?format={JSON}", 200, JSON),
            (f"?format={HTML.replace('+', '%2B')}", 200, HTML),
            ("?format=text/html", 200, PLAIN),
            ("?format=text/plain", 406, "text/plain"),
        ],
    )
    def test_the_query_wins(self, site: Site, query: str, status: int, chosen: str):
        answer = site.get(site.page + query, Accept="text/html")
        assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (status, chosen)

    def test_all_kinds_show_the_same_files(self, site: Site):
        listed = site.get(site.page, Accept=JSON).json()
        assert [file["filename"] for file in listed["files"]] == [f"many-1.{n}-py3-none-any.whl" for n in range(4)]
        for kind in (PLAIN, HTML):
            text = site.get(site.page, Accept=kind).text
            for file in listed["files"]:
                assert f">{file['filename']}</a>" in text
                assert f"{file['url']}#sha256={file['hashes']['sha256']}" in text
        first = urljoin(site.page, listed["files"][0]["url"])
        assert hashlib.sha256(site.get(first).content).hexdigest() == listed["files"][0]["hashes"]["sha256"]


class TestConditions:
    @pytest.mark.parametrize("coding", ["identity", "gzip"])
    @pytest.mark.parametrize("accept", [JSON, HTML, PLAIN])
    def test_a_page_is_sent_once(self, site: Site, accept: str, coding: str):
        with requests.get(
            site.page,
            headers={**site.headers, "Accept": accept, "Accept-Encoding": coding},
            timeout=10,
            stream=True,
        ) as first:
            raw = first.raw.read(decode_content=False)
        assert first.headers.get("Content-Encoding", "identity") == coding
        text = gzip.decompress(raw) if coding == "gzip" else raw
        assert b"many-1.3-py3-none-any.whl" in text
        again = site.get(site.page, Accept=accept, Accept_Encoding=coding, If_None_Match=first.headers["ETag"])
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        assert again.headers["Cache-Control"] == "private, max-age=0, must-revalidate"

    def test_tags_of_different_kinds_differ(self, site: Site):
        kinds = [(accept, coding) for accept in (JSON, HTML, PLAIN) for coding in ("identity", "gzip")]
        tags = {site.get(site.page, Accept=accept, Accept_Encoding=coding).headers["ETag"] for accept, coding in kinds}
        assert len(tags) == 6

    def test_a_publish_makes_the_page_another(self, site: Site):
        tag = site.get(site.page, Accept=JSON).headers["ETag"]
        wheel = packages.wheel("many", "0.9")
        assert publish(site.server, site.token, "many", "0.9", wheel=wheel).status_code == 200
        for _ in range(6):  # whichever process answers
            changed = site.get(site.page, Accept=JSON, If_None_Match=tag)
            assert changed.status_code == 200
            assert wheel[0] in changed.text

    def test_a_file_is_sent_once(self, site: Site):
        tag = site.get(site.file).headers["ETag"]
        assert hashlib.sha256(site.wheel[1]).hexdigest() in tag
        again = site.get(site.file, If_None_Match=tag)
        assert (again.status_code, again.content) == (304, b"")

    @pytest.mark.parametrize("which", ["file", "page", "metadata"])
    def test_head_has_the_headers_of_get(self, site: Site, which: str):
        url = {"file": site.file, "page": site.page, "metadata": f"{site.file}.metadata"}[which]
        got, head = site.get(url), site.ask("HEAD", url)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["Content-Length"]) == len(got.content)
        moving = {"Date", "Connection"}
        assert {k: v for k, v in head.headers.items() if k not in moving} == {
            k: v for k, v in got.headers.items() if k not in moving
        }


class TestRanges:
    def test_random_parts_of_an_encrypted_file(self, site: Site):
        body = site.wheel[1]
        choice = random.Random(3)
        edges = [0, 1, 65535, 65536, 65537, 262143, 262144, len(body) - 1]
        asked = [(a, b) for a in edges for b in edges if a <= b]
        asked += [tuple(sorted(choice.sample(range(len(body)), 2))) for _ in range(30)]
        with requests.Session() as session:
            session.headers.update(site.headers)
            for first, last in asked:
                answer = session.get(site.file, headers={"Range": f"bytes={first}-{last}"}, timeout=10)
                assert answer.status_code == 206
                assert answer.content == body[first : last + 1]
                assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(body)}"

    def test_forms_of_a_range(self, site: Site):
        body = site.wheel[1]
        assert site.get(site.file, Range="bytes=-1000").content == body[-1000:]
        assert site.get(site.file, Range=f"bytes={len(body) - 5}-").content == body[-5:]
        beyond = site.get(site.file, Range=f"bytes={len(body)}-")
        assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(body)}")
        several = site.get(site.file, Range="bytes=0-1,5-6")
        assert (several.status_code, several.content) == (200, body)

    def test_going_on_with_a_download_that_broke_off(self, site: Site):
        body = site.wheel[1]
        first = site.get(site.file, Range="bytes=0-999")
        for validator in (first.headers["ETag"], first.headers["Last-Modified"]):
            rest = site.get(site.file, Range="bytes=1000-", If_Range=validator)
            assert (rest.status_code, first.content + rest.content) == (206, body)
        changed = site.get(site.file, Range="bytes=1000-", If_Range='"another"')
        assert (changed.status_code, changed.content) == (200, body)


class TestRedirects:
    @pytest.mark.parametrize("asked", ["Large/", "LARGE", "large", "l_a.r-ge/", "l--a-r-g-e"])
    @pytest.mark.parametrize("prefix", ["", "/artifacts"])
    def test_to_the_normal_name_relative_and_below_a_proxys_prefix(self, site: Site, asked: str, prefix: str):
        name = "large" if asked.lower().startswith("large") else "l-a-r-ge" if "." in asked else "l-a-r-g-e"
        outside = f"https://proxy.example{prefix}/pypi/default/dev/simple/{asked}"
        answer = site.get(f"{site.server.index()}{asked}", X_Forwarded_Prefix=prefix, X_Forwarded_Host="proxy.example")
        assert answer.status_code == 301
        assert not urlsplit(answer.headers["Location"]).netloc
        assert urljoin(outside, answer.headers["Location"]) == (
            f"https://proxy.example{prefix}/pypi/default/dev/simple/{name}/"
        )

    def test_links_of_a_page_hold_below_a_prefix(self, site: Site):
        page = site.get(site.page, Accept=JSON, X_Forwarded_Prefix="/artifacts")
        outside = "https://proxy.example/artifacts/pypi/default/dev/simple/many/"
        for file in page.json()["files"]:
            assert urljoin(outside, file["url"]).startswith(
                "https://proxy.example/artifacts/pypi/default/dev/files/many/many-"
            )


class TestBodies:
    def upload(self, site: Site, name: str, headers: dict[str, str]) -> tuple[bytes, bytes]:
        return upload_request(site.server, site.token, name, packages.wheel(name, "1.0"), headers=headers)

    def test_chunks_without_a_length(self, site: Site):
        head, body = self.upload(site, "in-chunks", {"Transfer-Encoding": "chunked"})
        with connect(site.server) as connection:
            connection.sendall(head)
            for at in range(0, len(body), 700):
                piece = body[at : at + 700]
                connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            connection.sendall(b"0\r\n\r\n")
            assert read_answer(connection)[0] == 200
        assert site.get(file_url(site.server, "dev", "in-chunks", "in_chunks-1.0-py3-none-any.whl")).status_code == 200

    def test_chunks_that_break_off(self, site: Site):
        head, body = self.upload(site, "cut-chunks", {"Transfer-Encoding": "chunked"})
        with connect(site.server) as connection:
            connection.sendall(head + f"{len(body):x}\r\n".encode() + body[: len(body) // 2])
            connection.shutdown(1)
            status, _, text = read_answer(connection)
        assert status == 400, text
        assert self.is_absent(site, "cut-chunks")

    def test_a_body_that_ends_before_its_length(self, site: Site):
        head, body = self.upload(site, "cut-body", {"Content-Length": "100000"})
        with connect(site.server) as connection:
            connection.sendall(head + body)
            connection.shutdown(1)
            status, _, text = read_answer(connection)
        assert (status, text) == (400, f"incomplete body: {len(body)} of 100000 bytes arrived\n".encode())
        assert self.is_absent(site, "cut-body")

    def test_a_client_that_waits_to_be_told_to_go_on(self, site: Site):
        wheel = packages.wheel("waiting", "1.0")
        _, body = upload_request(site.server, site.token, "waiting", wheel)
        head, _ = self.upload(site, "waiting", {"Content-Length": str(len(body)), "Expect": "100-continue"})
        with connect(site.server) as connection:
            connection.sendall(head)
            # Not a byte of the body goes out before the server has said that it wants it.
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            boundary = head.partition(b"boundary=")[2].split(b"\r\n")[0]
            connection.sendall(body.replace(body[2 : 2 + len(boundary)], boundary))
            assert read_answer(connection)[0] == 200

    def is_absent(self, site: Site, name: str) -> bool:
        listed = site.get(site.server.index(), Accept=JSON).json()
        unfinished = list((site.server.data / "blobs" / "tmp").iterdir())
        return name not in [project["name"] for project in listed["projects"]] and unfinished == []


def test_a_stream_that_breaks_is_seen_by_the_client(tmp_path: Path):
    server = Server(tmp_path / "data", with_worker=False).start()
    try:
        token = server.token("admin")
        wheel = packages.wheel("damaged", "1.0", files={"damaged/data.bin": os.urandom(FILE_BYTES)})
        assert publish(server, token, "damaged", wheel=wheel).status_code == 200
        (body,) = [
            path for path in (server.data / "blobs").rglob("*") if path.is_file() and path.stat().st_size > FILE_BYTES
        ]
        with body.open("r+b") as file:  # one bit at the end of the disk's copy
            file.seek(-1000, os.SEEK_END)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
        url = file_url(server, "dev", "damaged", wheel[0])
        headers = {"Authorization": f"Bearer {token}"}
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match=r"Connection broken|IncompleteRead"):
            requests.get(url, headers=headers, timeout=20)
        with connect(server) as connection:
            connection.sendall(
                request_head("GET", urlsplit(url).path, {"Host": "localhost", **headers, "Connection": "keep-alive"})
            )
            status, answered, content = read_answer(connection)
            assert (status, int(answered["content-length"])) == (200, len(wheel[1]))
            assert len(content) < len(wheel[1])
            assert wheel[1].startswith(content)
            assert connection.recv(1) == b""  # closed: no later answer can be taken for the rest
        assert requests.get(url, headers={**headers, "Range": "bytes=0-99"}, timeout=20).content == wheel[1][:100]
        assert "damaged" in server.log_text().lower()
        assert server.fsck() != ""
    finally:
        server.kill()


def test_control_an_undamaged_stream_is_whole(site: Site):
    with connect(site.server) as connection:
        path = urlsplit(site.file).path
        connection.sendall(request_head("GET", path, {"Host": "localhost", **site.headers}))
        status, _, content = read_answer(connection)
    assert (status, content) == (200, site.wheel[1])


def stored_wheel(folder: Path, name: str, size_bytes: int) -> Path:
    """A wheel of ``size_bytes`` and a little, made on the disk: neither side may need it in memory."""
    block = random.Random(11).randbytes(1024 * 1024)
    blocks = size_bytes // len(block)
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(block)
    info = f"{name}-1.0.dist-info"
    texts = {
        f"{info}/METADATA": packages.metadata(name, "1.0"),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    known = {f"{name}/data.bin": digest, **{path: hashlib.sha256(text.encode()) for path, text in texts.items()}}
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(found.digest()).rstrip(b'=').decode()},"
        for path, found in known.items()
    ]
    texts[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(zipfile.ZipInfo(f"{name}/data.bin"), "w", force_zip64=True) as member:
            for _ in range(blocks):
                member.write(block)
        for member_name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(member_name), text)
    return path


@pytest.mark.slow
@pytest.mark.campaign
def test_large_files_pass_in_little_memory(tmp_path: Path):
    server = Server(tmp_path / "data").start()
    try:
        token = server.token("admin")
        headers = {"Authorization": f"Bearer {token}"}
        assert publish(server, token, "warm").status_code == 200
        path = stored_wheel(tmp_path, "huge", MEMORY_FILE_BYTES)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        assert server.process is not None
        pids = processes.descendants(server.process.pid)
        assert len(pids) >= 4
        with processes.MemoryWatch(pids) as watch, path.open("rb") as file:
            fields = {**form("huge", "1.0", b""), "sha256_digest": sha256, "content": (path.name, file)}
            encoder = MultipartEncoder(fields=fields)
            answer = requests.post(
                server.index(simple=False),
                data=encoder,
                headers={**headers, "Content-Type": encoder.content_type},
                timeout=600,
            )
            assert answer.status_code == 200, answer.text
            found = hashlib.sha256()
            with requests.get(
                file_url(server, "dev", "huge", path.name), headers=headers, stream=True, timeout=600
            ) as got:
                for piece in got.iter_content(1024 * 1024):
                    found.update(piece)
        assert found.hexdigest() == sha256
        assert all(map(processes.is_alive, pids))
        assert max(watch.growth_bytes.values()) < MEMORY_LIMIT_BYTES, watch.growth_bytes
        print(f"{path.stat().st_size >> 20} MiB up and down, at most {max(watch.growth_bytes.values()) >> 20} MiB more")
    finally:
        server.kill()


def test_control_memory_that_is_taken_is_seen():
    program = "import sys; sys.stdin.readline(); taken = b'x' * (80 << 20); print(len(taken), flush=True); sys.stdin.readline()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as taker:
        assert taker.stdin is not None
        assert taker.stdout is not None
        with processes.MemoryWatch([taker.pid]) as watch:
            taker.stdin.write(b"\n")
            taker.stdin.flush()
            assert taker.stdout.readline() == f"{80 << 20}\n".encode()
        taker.communicate(b"\n")
    assert watch.growth_bytes[taker.pid] > MEMORY_LIMIT_BYTES
