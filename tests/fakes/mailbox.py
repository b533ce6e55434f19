"""A real SMTP server in a process of its own, with a certificate and a password; what it took is in a folder.

with Mailbox(tmp_path, security="starttls", password="s3cret") as box:
    box.port, box.certificate …  box.mails()
"""

from __future__ import annotations

import email
import email.policy
import subprocess
import sys
import time
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Self

USER = "entrepot"


class Mailbox:
    """The process, as its user sees it. A recipient that begins with ``nobody`` is refused for good."""

    def __init__(self, folder: Path, *, security: str = "none", password: str = "") -> None:
        self._folder = folder / "mails"
        self._folder.mkdir()
        self._security = security
        self._password = password
        self.certificate = folder / "mail.pem"
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        if security != "none":
            make_certificate(self.certificate)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        command = [
            sys.executable, __file__, str(self._folder), str(self.port), self._security, self._password,
            str(self.certificate),
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def mails(self) -> list[EmailMessage]:
        found = sorted(self._folder.glob("*.eml"))
        return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in found]

    def wait(self, enough: Callable[[list[EmailMessage]], bool], seconds: float = 60) -> list[EmailMessage]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if enough(found := self.mails()):
                return found
            time.sleep(0.05)
        raise AssertionError(f"not mailed in {seconds} s: {[mail['Subject'] for mail in self.mails()]}")


def make_certificate(path: Path) -> None:
    """A key and its own certificate for ``localhost``, in one PEM file."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))


def main() -> None:
    """Serve until killed."""
    import asyncio
    import itertools
    import ssl

    from aiosmtpd.smtp import SMTP, AuthResult

    folder, port, security, password, certificate = sys.argv[1:]
    numbers = itertools.count(len(list(Path(folder).glob("*.eml"))))

    class Handler:
        async def handle_RCPT(self, _server, _session, envelope, address, _options):
            if address.startswith("nobody"):
                return "550 no such mailbox"
            envelope.rcpt_tos.append(address)
            return "250 OK"

        async def handle_DATA(self, _server, _session, envelope):
            path = Path(folder) / f"{next(numbers):06}.part"
            path.write_bytes(envelope.content)
            path.rename(path.with_suffix(".eml"))
            return "250 taken"

    def authenticate(_server, _session, _envelope, _mechanism, data):
        right = (data.login.decode(), data.password.decode()) == (USER, password)
        return AuthResult(success=right, handled=False)

    tls = None
    if security != "none":
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)

    def make() -> SMTP:
        return SMTP(
            Handler(),
            hostname="localhost",
            tls_context=tls if security == "starttls" else None,
            require_starttls=security == "starttls",
            auth_required=bool(password),
            auth_require_tls=security == "starttls",
            authenticator=authenticate if password else None,
        )

    async def serve() -> None:
        wrapped = tls if security == "tls" else None
        server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", int(port), ssl=wrapped)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
