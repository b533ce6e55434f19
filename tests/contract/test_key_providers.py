"""What every key provider does, whoever holds the master key; the services are real processes on loopback."""

import base64
import json
import secrets
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from storage.awskms import KmsProvider
from storage.errors import KeyUnavailable, ProviderAway, StorageError
from storage.keyfile import LocalKeyFile
from storage.keyring import KeyProvider, Keyring, WrappedKey
from storage.providers import Providers
from storage.transit import TransitLogin, TransitPlace, TransitProvider
from tests.harness.key_services import CREDENTIALS, Kms, OpenBao

PATIENCE_SECONDS = 1.0


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    running = OpenBao(tmp_path_factory.mktemp("bao")).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kms]:
    running = Kms(tmp_path_factory.mktemp("kms")).start()
    yield running
    running.stop()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def transit(bao: OpenBao, login: TransitLogin | None = None, **place: Any) -> TransitProvider:
    login = login or TransitLogin(role_id=bao.role_id, secret_id=bao.secret_id)
    wanted = {"key": "entrepot", "ca_bundle": str(bao.ca), "timeout_seconds": PATIENCE_SECONDS, **place}
    return TransitProvider(TransitPlace(bao.address, **wanted), login)


def of_kms(kms: Kms, key: str | None = None) -> KmsProvider:
    return KmsProvider(key or kms.key, endpoint_url=kms.address, timeout_seconds=PATIENCE_SECONDS)


@pytest.fixture(params=["file", "vault", "aws-kms", "several"])
def provider(request: pytest.FixtureRequest, tmp_path: Path, aws: None) -> KeyProvider:
    if request.param == "file":
        return LocalKeyFile.create(tmp_path / "master.json")
    if request.param == "aws-kms":
        return of_kms(request.getfixturevalue("kms"))
    vault = transit(request.getfixturevalue("bao"))
    return vault if request.param == "vault" else Providers(vault, [LocalKeyFile.create(tmp_path / "master.json")])


# --- the contract ----------------------------------------------------------------------------------------------------


def test_what_was_wrapped_comes_back(provider: KeyProvider) -> None:
    key = secrets.token_bytes(32)
    provider.check()
    wrapped = provider.wrap(key, "domain/1")
    assert provider.unwrap(wrapped, "domain/1") == key
    assert provider.wrap(key, "domain/1") != wrapped
    for form in (key, base64.b64encode(key), key.hex().encode()):
        assert form not in wrapped


def test_it_opens_in_its_own_context_only(provider: KeyProvider) -> None:
    wrapped = provider.wrap(bytes(32), "domain/1")
    for context in ("domain/2", "domain/11", ""):
        with pytest.raises(KeyUnavailable):
            provider.unwrap(wrapped, context)


def test_an_altered_one_does_not_open(provider: KeyProvider) -> None:
    wrapped = provider.wrap(bytes(32), "c")
    for altered in (
        wrapped[:-6] + b"AAAA" + wrapped[-2:],
        wrapped[:-9],
        wrapped[:12],
        b"",
        b"transit:",
        b"aws-kms:\0\x05",
    ):
        with pytest.raises(KeyUnavailable):
            provider.unwrap(altered, "c")


def test_it_names_the_master_key_that_wrapped(provider: KeyProvider) -> None:
    wrapped = provider.wrap(bytes(32), "c")
    assert provider.master_of(wrapped) == provider.current_id()
    assert provider.name in {"file", "vault", "aws-kms"}


def test_after_a_rotation_the_old_ones_open(provider: KeyProvider) -> None:
    key, before = secrets.token_bytes(32), provider.current_id()
    wrapped = provider.wrap(key, "c")
    after = provider.rotate()
    assert after == provider.current_id()
    # AWS renews the material of a key behind its name; the others name what they made.
    assert (after != before) == (provider.name != "aws-kms")
    assert provider.unwrap(wrapped, "c") == key
    assert provider.master_of(wrapped) == before
    assert provider.master_of(provider.wrap(key, "c")) == after


def test_another_providers_keys_are_not_taken_for_its_own(provider: KeyProvider, tmp_path: Path) -> None:
    for foreign in (b"transit:other:vault:v1:AAAA", b"aws-kms:\0\x03arnX", b"gcp:whatever"):
        if provider.master_of(foreign) is None:
            with pytest.raises(KeyUnavailable):
                provider.unwrap(foreign, "c")


def test_a_keyring_works_over_it(provider: KeyProvider) -> None:
    keyring = Keyring(provider, "domain/1")
    key = keyring.new_key()
    keyring.add(key)
    sealed = keyring.seal(b"secret", "field")
    started = Keyring(provider, "domain/1")
    started.add(key)
    assert started.check() == {}
    assert started.unseal(sealed, "field") == b"secret"
    other = Keyring(provider, "domain/2")
    other.add(WrappedKey(key.id, key.wrapped))
    with pytest.raises(KeyUnavailable):
        other.check()


def test_it_shows_no_secret(provider: KeyProvider) -> None:
    shown = repr(provider)
    for secret in (CREDENTIALS["AWS_SECRET_ACCESS_KEY"], "secret_id=", "token="):
        assert secret not in shown


# --- the services' own failures --------------------------------------------------------------------------------------


def refusal(unit: Callable[[], object], kind: type[StorageError]) -> str:
    """What is said, after checking that nothing of a secret is in it or in its traceback."""
    with pytest.raises(kind) as caught:
        unit()
    told = "".join(traceback.format_exception(caught.value))
    assert "s." not in [word[:2] for word in told.split() if len(word) > 20]
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in told
    return str(caught.value)


def test_transit_away_sealed_and_back(bao: OpenBao) -> None:
    provider = transit(bao)
    keyring = Keyring(provider, "domain/1")
    key = keyring.new_key()
    keyring.add(key)
    sealed = keyring.seal(b"kept", "f")
    fresh = Keyring(provider, "domain/1")
    fresh.add(key)
    bao.seal()
    try:
        assert "sealed" in refusal(lambda: provider.unwrap(key.wrapped, "c"), ProviderAway)
        assert keyring.unseal(sealed, "f") == b"kept"  # what is unwrapped works on
        refusal(lambda: fresh.unseal(sealed, "f"), ProviderAway)
    finally:
        bao.unseal()
    assert fresh.unseal(sealed, "f") == b"kept"
    bao.freeze()
    try:
        assert "cannot be asked" in refusal(provider.check, ProviderAway)
    finally:
        bao.thaw()
    provider.check()
    bao.stop()
    try:
        told = refusal(provider.check, ProviderAway)
        assert bao.address in told
        assert keyring.unseal(sealed, "f") == b"kept"
    finally:
        bao.start()
    provider.check()


def test_transit_tokens_are_had_anew_when_they_end(bao: OpenBao) -> None:
    now = [0.0]
    provider = TransitProvider(
        TransitPlace(bao.address, "entrepot", ca_bundle=str(bao.ca)),
        TransitLogin(role_id=bao.role_id, secret_id=bao.secret_id),
        clock=lambda: now[0],
    )
    wrapped = provider.wrap(bytes(32), "c")
    first = provider._session
    provider.unwrap(wrapped, "c")
    assert provider._session is first  # one sign-in serves many calls
    now[0] = 1000.0
    provider.unwrap(wrapped, "c")
    assert provider._session is not first
    # One that ended earlier than it said (revoked) is had anew as well.
    assert provider._session is not None
    bao.ask("POST", "auth/token/revoke", token=provider._session[0])
    assert provider.unwrap(wrapped, "c") == bytes(32)


def test_transit_token_from_a_file_is_read_anew(bao: OpenBao, tmp_path: Path) -> None:
    path = tmp_path / "token"
    provider = transit(bao, TransitLogin(token_file=str(path)))
    assert str(path) in refusal(provider.check, KeyUnavailable)
    path.write_text(bao.token("default") + "\n")
    assert "may not be used" in refusal(provider.check, KeyUnavailable)
    path.write_text(bao.token("entrepot") + "\n")
    provider.check()
    assert "is needed" in refusal(transit(bao, TransitLogin()).check, KeyUnavailable)


def test_transit_refusals_say_what_to_do(bao: OpenBao) -> None:
    root = TransitLogin(token=bao.root)
    wrong = TransitLogin(role_id=bao.role_id, secret_id="no-such-secret")
    assert "refuses the AppRole" in refusal(transit(bao, wrong).check, KeyUnavailable)
    assert "does not exist" in refusal(transit(bao, root, key="absent").check, KeyUnavailable)
    bao.ask("POST", "transit/keys/plain")
    assert "derived=true" in refusal(transit(bao, root, key="plain").check, KeyUnavailable)
    # Another key of the same name does not open what this one wrapped.
    bao.ask("POST", "transit/keys/one", derived=True)
    one = transit(bao, root, key="one")
    wrapped = one.wrap(bytes(32), "c")
    bao.ask("POST", "transit/keys/one/config", deletion_allowed=True)
    bao.ask("DELETE", "transit/keys/one")
    assert "does not exist" in refusal(lambda: one.unwrap(wrapped, "c"), KeyUnavailable)
    bao.ask("POST", "transit/keys/one", derived=True)
    assert "another key" in refusal(lambda: one.unwrap(wrapped, "c"), KeyUnavailable)


def test_transit_version_that_was_disabled(bao: OpenBao) -> None:
    bao.ask("POST", "transit/keys/old", derived=True)
    provider = transit(bao, TransitLogin(token=bao.root), key="old")
    wrapped = provider.wrap(bytes(32), "c")
    provider.rotate()
    bao.ask("POST", "transit/keys/old/config", min_decryption_version=2)
    assert "min_decryption_version" in refusal(lambda: provider.unwrap(wrapped, "c"), KeyUnavailable)
    provider.check()  # the current version is fine
    bao.ask("POST", "transit/keys/old/config", min_decryption_version=1)
    assert provider.unwrap(wrapped, "c") == bytes(32)


def test_transit_certificate_of_nobody_known(bao: OpenBao) -> None:
    assert "certificate" in refusal(transit(bao, ca_bundle="").check, ProviderAway).lower()


def test_kms_refusals_say_what_to_do(kms: Kms, aws: None) -> None:
    client = kms.client()
    key = kms.new_key()
    provider = of_kms(kms, key)
    wrapped = provider.wrap(bytes(32), "c")
    name = key.rsplit("/", 1)[1]  # the stand-in knows its keys by their ids alone
    client.disable_key(KeyId=name)
    assert "enable it" in refusal(provider.check, KeyUnavailable)
    client.enable_key(KeyId=name)
    provider.check()
    client.schedule_key_deletion(KeyId=name, PendingWindowInDays=7)
    assert "PendingDeletion" in refusal(provider.check, KeyUnavailable)
    client.cancel_key_deletion(KeyId=name)
    client.enable_key(KeyId=name)
    assert provider.unwrap(wrapped, "c") == bytes(32)
    absent = key[:-4] + "0000"
    assert "does not exist" in refusal(of_kms(kms, absent).check, KeyUnavailable)
    signing = str(client.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"])
    assert "symmetric" in refusal(of_kms(kms, signing).check, KeyUnavailable)


@pytest.mark.parametrize(
    ("code", "kind", "told"),
    [
        ("AccessDeniedException", KeyUnavailable, "kms:Decrypt"),
        ("DisabledException", KeyUnavailable, "enable it"),
        ("KMSInvalidStateException", KeyUnavailable, "deletion"),
        ("ExpiredTokenException", KeyUnavailable, "expired"),
        ("UnrecognizedClientException", KeyUnavailable, "credentials"),
        ("ThrottlingException", ProviderAway, "Throttling"),
        ("KMSInternalException", ProviderAway, "KMSInternal"),
    ],
)
def test_what_kms_answers_is_told(code: str, kind: type[StorageError], told: str, aws: None) -> None:
    """Answers in the shape of the service's documents; the stand-in gives none of these."""

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps({"__type": code, "message": "no"}).encode()
            self.send_response(500 if "Internal" in code else 400)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        provider = KmsProvider("alias/entrepot", endpoint_url=f"http://127.0.0.1:{running.server_port}")
        assert told in refusal(lambda: provider.wrap(bytes(32), "c"), kind)
        running.shutdown()


def test_kms_away_and_slow(kms: Kms, aws: None, tmp_path: Path) -> None:
    provider = of_kms(kms)
    kms.freeze()
    try:
        assert "cannot be asked" in refusal(provider.check, ProviderAway)
    finally:
        kms.thaw()
    gone = KmsProvider(kms.key, endpoint_url="http://127.0.0.1:9", timeout_seconds=PATIENCE_SECONDS)
    refusal(gone.check, ProviderAway)


def test_kms_without_credentials(kms: Kms, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    provider = KmsProvider(kms.key, region="eu-central-1", endpoint_url=kms.address)
    assert "credentials" in refusal(provider.check, KeyUnavailable).lower()


def test_boto3_is_imported_only_when_it_is_chosen() -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom config import wiring\nfrom config.settings import load\n"
        "wiring.key_providers(load(Path('/nonexistent'), {}))\n"
        "print([name for name in ('boto3', 'botocore') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []
