"""Publishing as the clients do it, in one request: the legacy upload form, also in slow pieces over a bare socket."""

import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

import requests
from urllib3.filepost import encode_multipart_formdata

from tests.harness import packages
from tests.harness.server import Server


def form(name: str, version: str, body: bytes) -> dict[str, str]:
    """The text fields of a wheel's upload."""
    return {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "name": name,
        "version": version,
        "filetype": "bdist_wheel",
        "pyversion": "py3",
        "sha256_digest": packages.sha256(body),
    }


def publish(
    server: Server, token: str, name: str, version: str = "1.0", *, wheel: tuple[str, bytes] | None = None
) -> requests.Response:
    """Upload a wheel, a small one if none is given, to ``dev``."""
    filename, body = wheel or packages.wheel(name, version)
    return requests.post(
        server.index(simple=False),
        data=form(name, version, body),
        files={"content": (filename, body)},
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    )


def file_url(server: Server, repository: str, name: str, filename: str) -> str:
    return f"{server.url}/pypi/default/{repository}/files/{name}/{filename}"


def upload_request(
    server: Server, token: str, name: str, wheel: tuple[str, bytes], *, headers: Mapping[str, str] | None = None
) -> tuple[bytes, bytes]:
    """Head and body of an upload as bytes. ``headers`` replaces Content-Length."""
    filename, content = wheel
    fields: dict[str, str | tuple[str, bytes]] = {**form(name, "1.0", content), "content": (filename, content)}
    body, content_type = encode_multipart_formdata(fields)
    lines = {
        "Host": urlsplit(server.url).netloc,
        "Authorization": f"Bearer {token}",
        "Content-Type": content_type,
        **({"Content-Length": str(len(body))} if headers is None else headers),
    }
    path = urlsplit(server.index(simple=False)).path
    return request_head("POST", path, lines), body


def request_head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def connect(server: Server, *, receive_buffer_bytes: int | None = None) -> socket.socket:
    """A bare connection; a small receive buffer makes the server wait for a slow reader soon."""
    connection = socket.socket()
    if receive_buffer_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", server.port))
    return connection


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower-case names) and all bytes until the announced length or the end of the connection."""
    with connection.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        headers: dict[str, str] = {}
        while line := stream.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        length = headers.get("content-length")
        return status, headers, stream.read(int(length)) if length is not None else stream.read()
