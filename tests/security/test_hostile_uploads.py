"""A1 to A6, B1 to B3, F4: uploads that lie, break off or explode are refused with a sentence, and nothing of them stays."""

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from registry.http import upload
from tests.functional.api_world import World
from tests.harness import packages
from tests.security.attack import (
    BOUNDARY,
    House,
    Stock,
    exchange,
    form_fields,
    measured_memory,
    multipart,
    nothing_stored,
    words,
)
from tests.unit.formats.pypi.forge import (
    INFO,
    METADATA,
    SDIST,
    WHEEL,
    TarMember,
    ZipMember,
    deflated,
    sdist,
    sdist_members,
    tar_header,
    wheel,
    wheel_files,
    write_tar,
    write_zip,
    zip_members,
)

MIB = 1024 * 1024
LARGEST_GROWTH_BYTES = 64 * MIB


def named(metadata: bytes) -> bytes:
    return write_zip(zip_members(wheel_files(metadata=metadata)))


def zeros(size_bytes: int, wbits: int, head: bytes = b"") -> bytes:
    """Packed zeros without packing them: after a full flush a block's packed form depends on nothing before it."""
    packer, block = zlib.compressobj(9, zlib.DEFLATED, wbits), zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = block.compress(bytes(16 * MIB)) + block.flush(zlib.Z_FULL_FLUSH)
    return start + packed * (size_bytes // (16 * MIB)) + deflated(b"") + (bytes(8) if wbits > 15 else b"")


def bomb_wheel() -> bytes:
    """10 GiB of zeros in three members (one cannot say more than 4 GiB without zip64), each declared truthfully."""
    size = 3 * 1024 * MIB + 512 * MIB
    packed, truth = zeros(size, -15), {"size": size}
    members = [ZipMember(f"demo/{n}", b"", packed=packed, local=truth, central=truth) for n in range(3)]
    return wheel(*members)


def lying_bomb_wheel() -> bytes:
    return wheel(ZipMember("demo/a", bytes(10), packed=zeros(1024 * MIB, -15)))


def bomb_sdist() -> bytes:
    member = tar_header(TarMember("demo-1.0/zeros", size=b"77777777777\0"))
    return zeros(10 * 1024 * MIB, 31, write_tar(sdist_members(), end=b"") + member)


def overlapping_wheel() -> bytes:
    return wheel(
        *(
            ZipMember(f"demo/{n}", bytes(MIB), packed=b"" if n else None, central={"offset": 0} if n else {})
            for n in range(50)
        )
    )


def two_metadata() -> bytes:
    members = zip_members(wheel_files())
    return write_zip([ZipMember(f"{INFO}/METADATA", METADATA.replace(b"1.0", b"6.6")), *members])


def _retold(old: bytes, new: bytes) -> list[TarMember]:
    return [replace(member, body=member.body.replace(old, new)) for member in sdist_members()]


ARCHIVES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "overlapping entries": (WHEEL, overlapping_wheel, "zip: member"),
    "two METADATA": (WHEEL, two_metadata, "is there twice"),
    "two dist-info folders": (
        WHEEL, lambda: wheel(ZipMember("evil-1.0.dist-info/METADATA", METADATA)), "there must be one .dist-info folder",
    ),
    "climbing member": (WHEEL, lambda: wheel(ZipMember("../evil.py", b"x")), "'..' part"),
    "climbing member in the middle": (WHEEL, lambda: wheel(ZipMember("demo/../../evil.py", b"x")), "'..' part"),
    "absolute member": (WHEEL, lambda: wheel(ZipMember("/etc/evil", b"x")), "is absolute"),
    "backslash member": (WHEEL, lambda: wheel(ZipMember("demo\\..\\evil", b"x")), "backslash"),
    "NUL member": (WHEEL, lambda: wheel(ZipMember("demo/a\0b", b"x")), "control character"),
    "drive member": (WHEEL, lambda: wheel(ZipMember("C:/evil", b"x")), "is absolute"),
    "METADATA names a path": (WHEEL, lambda: named(METADATA.replace(b"Name: demo", b"Name: ../demo")), "project name"),
    "METADATA names an escape": (WHEEL, lambda: named(METADATA.replace(b"Name: demo", b"Name: ..%2fdemo")), "project name"),
    "METADATA names a backslash": (WHEEL, lambda: named(METADATA.replace(b"Name: demo", b"Name: ..\\demo")), "project name"),
    "METADATA names a NUL": (WHEEL, lambda: named(METADATA.replace(b"Name: demo", b"Name: de\0mo")), "NUL"),
    "METADATA names a root": (WHEEL, lambda: named(METADATA.replace(b"Name: demo", b"Name: /demo")), "project name"),
    "METADATA names a fragment": (WHEEL, lambda: named(METADATA.replace(b"Name: demo", b"Name: demo#x")), "project name"),
    "METADATA names a query": (WHEEL, lambda: named(METADATA.replace(b"Name: demo", b"Name: demo?x")), "project name"),
    "METADATA of another name": (WHEEL, lambda: named(METADATA.replace(b"Name: demo", b"Name: other")), "METADATA says other 1.0"),
    "METADATA of another version": (WHEEL, lambda: named(METADATA.replace(b"1.0", b"6.6")), "METADATA says demo 6.6"),
    "a device": (SDIST, lambda: sdist(TarMember("demo-1.0/a", flag=b"3")), "is a device"),
    "a FIFO": (SDIST, lambda: sdist(TarMember("demo-1.0/a", flag=b"6")), "is a device"),
    "a symlink out": (SDIST, lambda: sdist(TarMember("demo-1.0/a", flag=b"2", target="/etc/passwd")), "leads"),
    "a hard link out": (SDIST, lambda: sdist(TarMember("demo-1.0/a", flag=b"1", target="/etc/passwd")), "absolute"),
    "PKG-INFO of another name": (
        SDIST, lambda: gzip.compress(write_tar(_retold(b"Name: demo", b"Name: other"))), "PKG-INFO says other 1.0, the file name says demo 1.0",
    ),
    "PKG-INFO of another version": (
        SDIST, lambda: gzip.compress(write_tar(_retold(b"Version: 1.0", b"Version: 6.6"))), "PKG-INFO says demo 6.6, the file name says demo 1.0",
    ),
    "a climbing sdist member": (SDIST, lambda: sdist(TarMember("demo-1.0/../../evil", b"x")), "'..' part"),
}  # fmt: skip
BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a wheel of 10 GiB": (WHEEL, bomb_wheel, "the archive's unpacked content is larger than the limit"),
    "a wheel that hides a GiB": (WHEEL, lying_bomb_wheel, "unpacks to more than its declared size"),
    "an sdist of 8 GiB": (SDIST, bomb_sdist, "the archive's unpacked content is larger than the limit"),
}
FORMS: dict[str, tuple[dict[str, object], str]] = {
    "another name in the form": ({"fields": {"name": "other"}}, "the form says name other, the file"),
    "another version in the form": ({"fields": {"version": "6.6"}}, "the form says version 6.6, the file"),
    "another name in the file name": ({"filename": "other-1.0-py3-none-any.whl"}, "belongs to another name or version than the file name"),
    "another version in the file name": ({"filename": "demo-6.6-py3-none-any.whl"}, "belongs to another name or version than the file name"),
    "form and file name against the archive (name)": (
        {"fields": {"name": "other"}, "filename": "other-1.0-py3-none-any.whl"}, "belongs to another name or version",
    ),
    "form and file name against the archive (version)": (
        {"fields": {"version": "6.6"}, "filename": "demo-6.6-py3-none-any.whl"}, "belongs to another name or version",
    ),
    "a wrong SHA-256": ({"fields": {"sha256_digest": "0" * 64}}, "sha256"),
    "a wrong BLAKE2": ({"fields": {"blake2_256_digest": "0" * 64}}, "blake2b_256"),
    **{
        f"form name {payload!a}": ({"fields": {"name": payload}}, said)
        for payload, said in {
            "../demo": "project name", "..%2fdemo": "project name", "de\0mo": "NUL", "..\\demo": "project name",
            "/demo": "project name", "demo#x": "project name", "demo?x": "project name", "d\u0435mo": "project name",
            "simple": "reserved",
        }.items()
    },
    **{
        f"form version {payload!a}": ({"fields": {"version": payload}}, said)
        for payload, said in {"../1.0": "version", "1.0\0": "NUL", "1.0#x": "version", "1.0?x": "version"}.items()
    },
    **{
        f"file name {payload!a}": ({"filename": payload}, "file name")
        for payload in (
            f"../{WHEEL}", f"..%2f{WHEEL}", f"..\\{WHEEL}", f"/{WHEEL}", f"demo-1.0-py3-none-any.whl#{WHEEL}",
            f"x?{WHEEL}", "demo-1.0-py3-none-any.exe",
        )
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("honest")
    bodies = {WHEEL: wheel(), SDIST: sdist()}
    for filename, body in bodies.items():
        (folder / filename).write_bytes(body)
    return {filename: folder / filename for filename in bodies}


def assert_refused(house: House, honest_file: Path, sentence: str, **lies: object) -> None:
    with nothing_stored(house.server):
        done = house.lying_twine(honest_file, **lies)
        output = words(done.output)
        assert done.returncode == 1, output
        assert "HTTPError: 4" in output, output
        assert sentence in output


@pytest.mark.parametrize("case", ARCHIVES)
def test_hostile_archives_are_refused_in_twines_own_output(
    house: House, honest: dict[str, Path], case: str, tmp_path: Path
) -> None:
    filename, build, sentence = ARCHIVES[case]
    (tmp_path / "evil").write_bytes(build())
    assert_refused(house, honest[filename], sentence, body=str(tmp_path / "evil"))


@pytest.mark.parametrize("case", FORMS)
def test_lying_forms_are_refused_in_twines_own_output(house: House, honest: dict[str, Path], case: str) -> None:
    lies, sentence = FORMS[case]
    assert_refused(house, honest[WHEEL], sentence, **lies)


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_are_refused_in_little_memory(house: House, honest: dict[str, Path], case: str, tmp_path: Path) -> None:
    filename, build, sentence = BOMBS[case]
    (tmp_path / "bomb").write_bytes(build())
    with measured_memory(house.server) as memory:
        assert_refused(house, honest[filename], sentence, body=str(tmp_path / "bomb"))
    assert memory["growth_bytes"] < LARGEST_GROWTH_BYTES


def test_the_memory_gauge_sees_what_a_server_takes(house: House) -> None:
    """The negative control: fields that a form may have are read into memory, and that much shows."""
    body = multipart([("description", "x" * (15 * MIB))], [])
    with measured_memory(house.server) as memory:
        assert house.post(body).status_code == 400
    assert 15 * MIB < memory["growth_bytes"] < LARGEST_GROWTH_BYTES


# --- what no client would send ---------------------------------------------------------------------------------------


def good_form() -> bytes:
    body = wheel()
    return multipart(form_fields(WHEEL, body), [("content", WHEEL.encode(), body)])


def head(house: House, *lines: str) -> bytes:
    sent = [
        "POST /pypi/default/dev/ HTTP/1.1", "Host: localhost", f"Authorization: Bearer {house.token}",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}", *lines,
    ]  # fmt: skip
    return ("\r\n".join(sent) + "\r\n\r\n").encode()


def chunked(body: bytes, size: int = 100) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"


TRUNCATED: dict[str, Callable[[House], bytes]] = {
    "a body shorter than announced": lambda house: head(house, f"Content-Length: {len(good_form()) + 1}") + good_form(),
    "half a body": lambda house: (
        head(house, f"Content-Length: {len(good_form())}") + good_form()[: len(good_form()) // 2]
    ),
    "the last byte missing": lambda house: head(house, f"Content-Length: {len(good_form())}") + good_form()[:-1],
    "no body": lambda house: head(house, f"Content-Length: {len(good_form())}"),
    "half a form of the announced length": lambda house: (
        head(house, f"Content-Length: {len(good_form()) // 2}") + good_form()[: len(good_form()) // 2]
    ),
    "a form without its closing line": lambda house: (
        head(house, f"Content-Length: {len(good_form()) - len(BOUNDARY) - 8}")
        + good_form()[: len(good_form()) - len(BOUNDARY) - 8]
    ),
    "chunks that break off": lambda house: (
        head(house, "Transfer-Encoding: chunked") + b"".join(list(chunked(good_form()))[:-2])
    ),
    "chunks without the last": lambda house: head(house, "Transfer-Encoding: chunked") + b"".join(chunked(good_form())),
    "half a form in whole chunks": lambda house: (
        head(house, "Transfer-Encoding: chunked") + b"".join(list(chunked(good_form()))[:5]) + b"0\r\n\r\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TRUNCATED)
def test_truncated_uploads_are_refused(house: House, case: str) -> None:
    with nothing_stored(house.server):
        answer = exchange(house.server.port, TRUNCATED[case](house), end=True)
        assert answer.status == 400, answer
        assert answer.reason not in {"", "Bad Request"}


BROKEN: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "no file": (lambda: multipart(form_fields(WHEEL, b""), []), 400, "the form has no file in its field 'content'"),
    "the file as text": (
        lambda: multipart([*form_fields(WHEEL, b"x"), ("content", "x")], []), 400, "the form has no file in its field 'content'",
    ),
    "two files": (
        lambda: multipart(form_fields(WHEEL, wheel()), [("content", WHEEL.encode(), wheel())] * 2), 400, "two files named 'content'",
    ),
    "five files": (
        lambda: multipart(form_fields(WHEEL, wheel()), [(f"f{n}", WHEEL.encode(), wheel()) for n in range(5)]), 400, "more than 4 files",
    ),
    "a README of 20 MB": (
        lambda: multipart([*form_fields(WHEEL, wheel()), ("description", "x" * 20_000_000)], [("content", WHEEL.encode(), wheel())]),
        413, "the form without its files is larger than the limit",
    ),
    "thirty texts of 10 MB": (
        lambda: multipart([*form_fields(WHEEL, wheel()), *[(f"t{n}", "x" * 10_000_000) for n in range(30)]], [("content", WHEEL.encode(), wheel())]),
        413, "the form without its files is larger than the limit",
    ),
    "30,000 parts": (
        lambda: multipart([*form_fields(WHEEL, wheel()), *[(f"f{n}", "1") for n in range(30_000)]], [("content", WHEEL.encode(), wheel())]),
        400, "more than 20000 parts",
    ),
    "the name twice": (
        lambda: multipart([*form_fields(WHEEL, wheel()), ("name", "other")], [("content", WHEEL.encode(), wheel())]), 400,
        "the form field name is there twice",
    ),
    "a NUL in the file name": (
        lambda: multipart(form_fields(WHEEL, wheel()), [("content", b"demo\0-1.0-py3-none-any.whl", wheel())]), 400, "file name",
    ),
    "no file name": (lambda: multipart(form_fields(WHEEL, wheel()), [("content", b"", wheel())]), 400, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_forms_are_refused(house: House, case: str) -> None:
    build, status, sentence = BROKEN[case]
    body = build()
    with measured_memory(house.server) as memory, nothing_stored(house.server):
        answer = house.post(body)
        assert (answer.status_code, sentence in answer.reason) == (status, True), answer.reason
    assert memory["growth_bytes"] < LARGEST_GROWTH_BYTES


@pytest.mark.parametrize(
    "content_type", ["application/json", "multipart/form-data", "application/x-www-form-urlencoded", ""]
)
def test_other_bodies_are_refused(house: House, content_type: str) -> None:
    with nothing_stored(house.server):
        assert house.post(good_form(), **{"Content-Type": content_type}).status_code == 400


def test_uv_says_why_it_was_refused_as_well(house: House, tmp_path: Path) -> None:
    evil = {
        SDIST: (sdist(TarMember("demo-1.0/a", flag=b"6")), "is a device"),
        WHEEL: (wheel(ZipMember("demo/\x7fevil.py", b"x")), "control character"),
    }
    for filename, (body, sentence) in evil.items():
        (tmp_path / filename).write_bytes(body)
        with nothing_stored(house.server):
            done = house.clients.uv_publish(house.upload_url, house.token, tmp_path / filename)
            assert done.returncode != 0
            assert sentence in words(done.output)


def test_a_large_upload_with_a_bad_token_hears_so(house: House, tmp_path: Path) -> None:
    """The refusal comes before the body is read, and still arrives."""
    (path,) = packages.save(tmp_path, packages.wheel("large", "1.0", files={"large/x": os.urandom(20 * MIB)}))
    with nothing_stored(house.server):
        done = house.clients.twine(house.upload_url, house.token[:-1] + "!", path)
        assert "401 Unauthorized" in words(done.output)
        assert "the token is unknown, expired or revoked" in words(done.output)


# --- the controls ----------------------------------------------------------------------------------------------------


def test_the_nearest_honest_uploads_are_accepted(house: House, honest: dict[str, Path], tmp_path: Path) -> None:
    """Last in this file on one server: from here on demo 1.0 exists."""
    before = Stock.of(house.server.data)
    house.lying_twine(honest[WHEEL]).ok()
    after = Stock.of(house.server.data)
    # The gauge that the refusals are held against sees an upload that is kept.
    assert {table for table in after.rows if after.rows[table] > before.rows[table]} >= {
        "package", "package_version", "asset", "blob", "event", "audit_entry",
    }  # fmt: skip
    assert len(after.files - before.files) == 2  # the wheel and its METADATA
    (tmp_path / "twin").write_bytes(sdist(TarMember("demo-1.0/a", flag=b"2", target="PKG-INFO")))
    house.lying_twine(honest[SDIST], body=str(tmp_path / "twin")).ok()
    # Plain file names that only look like escapes: nothing decodes or resolves them.
    odd = wheel(ZipMember("demo/..%2f#?.txt", b"x"))
    fields = form_fields("demo-1.0-py2-none-any.whl", odd, pyversion="py2")
    assert house.post(multipart(fields, [("content", b"demo-1.0-py2-none-any.whl", odd)])).status_code == 200
    whole = head(house, "Transfer-Encoding: chunked", "Connection: close")
    answer = exchange(house.server.port, whole + b"".join(chunked(good_form())) + b"0\r\n\r\n")
    assert (answer.status, answer.body) == (200, b"demo-1.0-py3-none-any.whl is here already\n")
    listed = requests.get(
        f"{house.server.index()}demo/", headers={"Authorization": f"Bearer {house.token}"}, timeout=10
    )
    assert hashlib.sha256(honest[WHEEL].read_bytes()).hexdigest() in listed.text


def test_without_the_count_a_truncated_upload_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the counting: what the server hands over at a hang-up is then taken for the body."""
    world = World(tmp_path)
    body = good_form()

    def ask() -> int:
        # As gunicorn does: the stream ends early, and nothing but the announced length tells of it.
        environ = {
            "wsgi.input": io.BytesIO(body),
            "wsgi.input_terminated": True,
            "CONTENT_LENGTH": str(len(body) + 9),
            "CONTENT_TYPE": f"multipart/form-data; boundary={BOUNDARY}",
            "HTTP_AUTHORIZATION": f"Bearer {world.tokens['admin']}",
        }
        return world.http.post("/pypi/default/dev/", environ_overrides=environ).status_code

    try:
        assert ask() == 400
        monkeypatch.setattr(upload.CountedBody, "check_complete", lambda _: None)
        assert ask() == 200
    finally:
        world.close()
