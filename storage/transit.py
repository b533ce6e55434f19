"""Master keys in the Transit engine of HashiCorp Vault or OpenBao, which speak the same HTTP interface.

The master key never leaves the engine: a domain key is sent to it over TLS, and comes back as ``vault:v3:<base64>``,
where 3 is the version of the master key. The key must be *derived*: the engine then makes each wrapping key out of the
master key and our context, so that what was wrapped for one domain does not open for another.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError

from storage.errors import KeyUnavailable, ProviderAway

_PREFIX = b"transit:"
_LIMIT_BYTES = 256 * 1024
_PART_OF_LEASE = 0.8  # a token is used for so much of its life, and then had anew


@dataclass(frozen=True, slots=True)
class TransitPlace:
    """Where the engine is, and which of its keys is the master key.

    ``address`` is ``https://HOST:PORT``; ``mount`` and ``key`` as in ``vault write <mount>/keys/<key> derived=true``.
    ``ca_bundle`` is a file in PEM that replaces the system's certificate authorities.
    """

    address: str
    key: str
    mount: str = "transit"
    namespace: str = ""
    ca_bundle: str = ""
    timeout_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class TransitLogin:
    """How to sign in: a token (as such, or in a file that is read for each call), or an AppRole."""

    token: str = field(default="", repr=False)
    token_file: str = ""
    role_id: str = ""
    secret_id: str = field(default="", repr=False)
    secret_id_file: str = ""
    auth_mount: str = "approle"


class TransitProvider:
    """A key provider over Transit. Safe for many threads."""

    name = "vault"

    def __init__(self, place: TransitPlace, login: TransitLogin, clock: Callable[[], float] = time.monotonic) -> None:
        self._place = place
        self._login = login
        self._clock = clock
        self._lock = threading.Lock()
        self._session: tuple[str, float] | None = None
        options: dict[str, Any] = {"ca_certs": place.ca_bundle} if place.ca_bundle else {}
        self._pool = urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(place.timeout_seconds), maxsize=4, **options
        )

    def __repr__(self) -> str:
        return f"TransitProvider({self._place.address!r}, {self._place.mount}/{self._place.key})"

    def wrap(self, key: bytes, context: str) -> bytes:
        """``key`` under the newest version of the master key."""
        sent = {"plaintext": _base64(key), "context": _base64(context.encode())}
        ciphertext = str(self._ask("POST", f"encrypt/{self._key_path}", sent).get("ciphertext", ""))
        if not ciphertext.startswith("vault:v"):
            raise ProviderAway(f"{self._where} gave no ciphertext for a key")
        return _PREFIX + self._place.key.encode() + b":" + ciphertext.encode("ascii")

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """What ``wrap`` was given."""
        name, ciphertext = _parts(wrapped)
        sent = {"ciphertext": ciphertext, "context": _base64(context.encode())}
        plain = self._ask("POST", f"decrypt/{quote(name, safe='')}", sent).get("plaintext")
        try:
            return base64.b64decode(str(plain), validate=True)
        except binascii.Error:
            pass  # raised below: the error carries the text, which may be a key's
        raise KeyUnavailable(f"{self._where} gave no key")

    def current_id(self) -> str:
        """``NAME vN`` with the newest version."""
        return f"{self._place.key} v{int(self._described().get('latest_version', 0))}"

    def master_of(self, wrapped: bytes) -> str | None:
        """``NAME vN``, of the version that wrapped."""
        if not wrapped.startswith(_PREFIX):
            return None
        name, ciphertext = _parts(wrapped)
        return f"{name} {ciphertext.split(':')[1]}"

    def rotate(self) -> str:
        """Have the engine make a new version; needs ``update`` on ``<mount>/keys/<key>/rotate``."""
        self._ask("POST", f"keys/{self._key_path}/rotate", {})
        return self.current_id()

    def check(self) -> None:
        """Sign in, look whether the key is fit, and wrap and unwrap with it."""
        described = self._described()
        if not described.get("derived"):
            raise KeyUnavailable(
                f"{self._where} is not a derived key, and would open what was wrapped for another purpose: make one with "
                f"'bao write -f {self._place.mount}/keys/{self._place.key} derived=true'"
            )
        probe = os.urandom(32)
        if self.unwrap(self.wrap(probe, "check"), "check") != probe:
            raise KeyUnavailable(f"{self._where} does not give back what it wrapped")

    @property
    def _where(self) -> str:
        return f"the key {self._place.mount}/{self._place.key} of {self._place.address}"

    @property
    def _key_path(self) -> str:
        return quote(self._place.key, safe="")

    def _described(self) -> Mapping[str, Any]:
        return self._ask("GET", f"keys/{self._key_path}", None)

    def _ask(self, method: str, path: str, sent: Mapping[str, str] | None) -> Mapping[str, Any]:
        """Ask the engine; a token that was refused is had anew, once."""
        full = f"{self._place.mount}/{path}"
        status, said = self._request(method, full, sent, self._token())
        if status == 403 and self._login.role_id:
            with self._lock:
                self._session = None
            status, said = self._request(method, full, sent, self._token())
        if status in {200, 204}:
            data = said.get("data")
            return data if isinstance(data, dict) else {}
        raise self._failure(status, said, f"{method} {full}")

    def _token(self) -> str:
        if not self._login.role_id:
            token = self._login.token or _secret(self._login.token_file, "keys.vault_token_file")
            if not token:
                raise KeyUnavailable("keys.vault_token_file, ENTREPOT_KEYS_VAULT_TOKEN or an AppRole is needed")
            return token
        with self._lock:
            if self._session is None or self._clock() >= self._session[1]:
                self._session = self._signed_in()
            return self._session[0]

    def _signed_in(self) -> tuple[str, float]:
        secret_id = self._login.secret_id or _secret(self._login.secret_id_file, "keys.vault_secret_id_file")
        path = f"auth/{self._login.auth_mount}/login"
        sent = {"role_id": self._login.role_id, "secret_id": secret_id}
        status, said = self._request("POST", path, sent, None)
        auth = said.get("auth")
        if status != 200 or not isinstance(auth, dict) or not isinstance(auth.get("client_token"), str):
            if status == 400:  # how the engine says that role or secret are not right
                raise KeyUnavailable(f"{self._place.address} refuses the AppRole: {_errors(said)}")
            raise self._failure(status, said, f"POST {path}")
        lease = auth.get("lease_duration")
        life = float(lease) if isinstance(lease, int) and lease > 0 else 3600.0
        return auth["client_token"], self._clock() + life * _PART_OF_LEASE

    def _request(
        self, method: str, path: str, sent: Mapping[str, str] | None, token: str | None
    ) -> tuple[int, Mapping[str, Any]]:
        headers = {"X-Vault-Request": "true"}
        if token is not None:
            headers["X-Vault-Token"] = token
        if self._place.namespace:
            headers["X-Vault-Namespace"] = self._place.namespace
        body = None if sent is None else json.dumps(sent).encode()
        url = f"{self._place.address.rstrip('/')}/v1/{path}"
        try:
            # Redirects (of a standby) are not followed: the token goes to the address of the settings alone.
            answer = self._pool.request(method, url, body=body, headers=headers, redirect=False, preload_content=False)
            try:
                text = answer.read(_LIMIT_BYTES)
            finally:
                answer.release_conn()
        except (HTTPError, OSError) as error:
            raise ProviderAway(
                f"the key provider {self._place.address} cannot be asked: {type(error).__name__}: {_one_line(error)}"
            ) from None
        try:
            document = json.loads(text) if text else {}
        except ValueError:
            document = {}
        return answer.status, document if isinstance(document, dict) else {}

    def _failure(self, status: int, said: Mapping[str, Any], asked: str) -> KeyUnavailable | ProviderAway:
        told = _errors(said)
        if status == 503 or "is sealed" in told:
            return ProviderAway(f"the key provider {self._place.address} is sealed or standing by: unseal it ({told})")
        if status == 403:
            return KeyUnavailable(f"{self._where} may not be used: the token's policy must allow {asked} ({told})")
        if status == 404 or "key not found" in told:
            return KeyUnavailable(f"{self._where} does not exist: make it, or correct keys.vault_key ({told})")
        if "version is disallowed" in told or "too old" in told:
            return KeyUnavailable(
                f"{self._where} does not open with the version that is needed any more: lower its "
                f"min_decryption_version again ({told})"
            )
        if status == 400:
            return KeyUnavailable(f"{self._where} does not open what was wrapped; is it another key? ({told})")
        return ProviderAway(f"the key provider {self._place.address} answered {status} ({told})")


def _parts(wrapped: bytes) -> tuple[str, str]:
    """(key name, Transit's own ciphertext). Raises KeyUnavailable for what this provider did not wrap."""
    try:
        name, ciphertext = wrapped.removeprefix(_PREFIX).decode("ascii").split(":", 1)
    except ValueError:
        name = ciphertext = ""
    if not wrapped.startswith(_PREFIX) or ciphertext.count(":") != 2:
        raise KeyUnavailable("a key of the Transit engine is expected, and this is none")
    return name, ciphertext


def _errors(said: Mapping[str, Any]) -> str:
    errors = said.get("errors")
    listed = errors if isinstance(errors, list) else []
    return " ".join("; ".join(str(each) for each in listed).split())[:300] or "no reason given"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _secret(path: str, setting: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyUnavailable(f"{setting}: {path} cannot be read: {type(error).__name__}") from None


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
