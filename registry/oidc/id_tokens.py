"""Checking ID tokens (OpenID Connect Core §3.1.3.7, RFC 8725). Pure: keys and the time are given.

Only what was configured counts: nothing in a token's head chooses the algorithm, names a place to fetch keys from or
brings a key along.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from registry.errors import Unauthenticated
from registry.oidc.provider import Provider

LONGEST_TOKEN_BYTES = 16 * 1024
LEEWAY_SECONDS = 60
LONGEST_SUBJECT = 255
_KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC"}


class UnknownKey(Unauthenticated):
    """The token is signed by a key that is not among those known: the provider may have a new one."""


def usable_keys(document: Any) -> KeySet:
    """The signature keys of a JWKS document (RFC 7517), all else left out. Raises Unauthenticated when it is none."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise Unauthenticated("the identity provider's keys cannot be read")
    usable = []
    for key in listed[:100]:
        if isinstance(key, dict) and key.get("kty") in _KEY_TYPES.values() and key.get("use", "sig") == "sig":
            # One that cannot be read (a curve nobody here knows) must not hide the others.
            with suppress(JoseError, ValueError, TypeError, KeyError):
                usable += KeySet.import_key_set({"keys": [key]}).keys
    return KeySet(usable)


def check(text: Any, keys: KeySet, provider: Provider, nonce: str, now: datetime) -> dict[str, Any]:
    """The claims of an ID token for us, or Unauthenticated saying which check it failed (UnknownKey for its key)."""
    head = _head(text)
    algorithm = head.get("alg")
    if not isinstance(algorithm, str) or algorithm not in provider.algorithms:
        raise _refusal("its algorithm is not one that is configured")
    if "crit" in head:
        raise _refusal("it has an extension that is not understood")
    chosen = [
        key
        for key in keys.keys
        if head.get("kid") in {None, key.kid}
        and key.key_type == _KEY_TYPES[algorithm[:2]]
        and key.get("alg", algorithm) == algorithm
    ]
    if not chosen or (head.get("kid") is None and len(chosen) != 1):
        raise UnknownKey("the identity provider's token is signed by an unknown key")
    try:
        signed = jws.deserialize_compact(text.encode("ascii"), chosen[0], algorithms=[algorithm])
        claims = json.loads(signed.payload)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise _refusal("its signature is wrong") from error
    if not isinstance(claims, dict):
        raise _refusal("it holds no claims")
    _check_claims(claims, provider, nonce, now.timestamp())
    return claims


def _head(text: Any) -> Mapping[str, Any]:
    if not isinstance(text, str) or not text.isascii() or len(text) > LONGEST_TOKEN_BYTES or text.count(".") != 2:
        raise _refusal("it is no signed token, or longer than 16 KiB")
    encoded = text.partition(".")[0]
    try:
        head = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _refusal("its head cannot be read") from error
    if not isinstance(head, dict):
        raise _refusal("its head cannot be read")
    return head


def _check_claims(claims: Mapping[str, Any], provider: Provider, nonce: str, now: float) -> None:
    if claims.get("iss") != provider.issuer:
        raise _refusal("it is from another issuer")
    audience = claims.get("aud")
    if (
        audience not in (provider.client_id, [provider.client_id])
        or claims.get("azp", provider.client_id) != provider.client_id
    ):
        raise _refusal("it is not for this server alone")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject.isprintable() or not 0 < len(subject) <= LONGEST_SUBJECT:
        raise _refusal("it does not say whom it is about")
    said = claims.get("nonce")
    if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
        raise _refusal("it is not for this sign-in")
    if not now < _moment(claims, "exp") + LEEWAY_SECONDS:
        raise _refusal("it is over")
    if _moment(claims, "iat") > now + LEEWAY_SECONDS:
        raise _refusal("it is from the future")
    if "nbf" in claims and _moment(claims, "nbf") > now + LEEWAY_SECONDS:
        raise _refusal("it does not count yet")


def _moment(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    # Not NaN, not infinite, not 1e300: what compares strangely must not be compared.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise _refusal(f"its {name} is no time")
    return float(value)


def authenticated_at(claims: Mapping[str, Any]) -> float | None:
    """When the provider last saw the person prove who they are (seconds since 1970), where it says so."""
    return _moment(claims, "auth_time") if "auth_time" in claims else None


def _refusal(reason: str) -> Unauthenticated:
    return Unauthenticated(f"the identity provider's token is not accepted: {reason}")
