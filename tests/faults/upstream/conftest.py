from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from registry.upstream.client import Limits, Upstream, UpstreamClient
from tests.fakes.upstream import FaultyUpstream
from tests.faults.upstream.asking import LOOPBACK, ROOMY, resolve


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as server:
        yield server


@pytest.fixture
def other() -> Iterator[FaultyUpstream]:
    """Another server: where nothing of the first one's may arrive."""
    with FaultyUpstream() as server:
        yield server


@pytest.fixture
def make_client() -> Iterator[Callable[..., UpstreamClient]]:
    clients: list[UpstreamClient] = []

    def make(limits: Limits = ROOMY, **parts) -> UpstreamClient:
        clients.append(UpstreamClient(limits=limits, resolver=resolve, **parts))
        return clients[-1]

    yield make
    for made in clients:
        made.close()


def certificate(directory: Path, *names: str, expired: bool = False) -> tuple[Path, Path]:
    """A self-signed certificate for ``names``; gives the files of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    now = dt.datetime.now(dt.UTC)
    until = now - dt.timedelta(days=1) if expired else now + dt.timedelta(days=1)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / f"{names[0]}.pem", directory / f"{names[0]}.key"
    certificate_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return certificate_file, key_file


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Callable[..., tuple[FaultyUpstream, Upstream]]]:
    """Start a TLS server; gives it and a connection to it as ``index.test`` that trusts its certificate."""
    servers: list[FaultyUpstream] = []

    def start(*names: str, expired: bool = False) -> tuple[FaultyUpstream, Upstream]:
        certificate_file, key_file = certificate(tmp_path, *names, expired=expired)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate_file, key_file)
        server = FaultyUpstream(tls=context)
        server.__enter__()
        servers.append(server)
        to = Upstream(1, f"https://index.test:{server.port}", LOOPBACK, ca_bundle=str(certificate_file))
        return server, to

    yield start
    for server in servers:
        server.__exit__()
