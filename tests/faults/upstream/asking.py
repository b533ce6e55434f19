"""How the tests here ask: limits, names and short forms of the client's calls."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network

from registry.upstream.client import DocumentAnswer, Limits, Upstream, UpstreamClient
from registry.upstream.guard import AddressPolicy
from tests.fakes.upstream import Fault, FaultyUpstream

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))
NAMES = {
    "index.test": ["127.0.0.1"],
    "files.test": ["127.0.0.1"],
    "inside.test": ["127.0.0.1", "10.0.0.1"],
    "metadata.google.internal": ["127.0.0.1"],
}
DOCUMENT = json.dumps({"files": ["x" * 50] * 20}).encode()
JSON = "application/json"

# Generous where an answer is expected, so that a busy machine passes; the slow faults get PATIENCE instead.
ROOMY = Limits(
    connect_seconds=10, head_seconds=10, idle_seconds=10, document_seconds=20, retries=0, breaker_failures=10**6
)
HASTY = replace(
    ROOMY,
    head_seconds=0.2,
    idle_seconds=0.2,
    document_seconds=0.4,
    file_grace_seconds=0.3,
    file_floor_bytes_per_second=10**6,
)
SLOW = {Fault.HELD, Fault.HELD_HEAD, Fault.SILENCE, Fault.SLOW_HEAD, Fault.SLOW_BODY, Fault.STALL_HALF, Fault.CONTINUES}


def resolve(host: str) -> list[str]:
    if host not in NAMES:
        raise OSError("no such name")
    return NAMES[host]


def connection(server: FaultyUpstream, **parts) -> Upstream:
    return Upstream(id=1, base_url=server.url, policy=LOOPBACK, **parts)


def get(
    client: UpstreamClient, to: Upstream, path: str, *, accept: str = JSON, limit_bytes: int = 10**6, **parts
) -> DocumentAnswer:
    return client.get_document(to, path, accept=accept, limit_bytes=limit_bytes, **parts)


def download(client: UpstreamClient, to: Upstream, url: str, **parts) -> bytes:
    with client.open_file(to, url, **parts) as stream:
        body = b"".join(stream.chunks(7000))
        assert stream.size_bytes in {None, len(body)}
    return body


def limits_for(fault: Fault) -> Limits:
    return HASTY if fault in SLOW else ROOMY
