"""Whether a delivery comes from who has the hook's secret, by each forge's own rules. Pure.

Always over the bytes as they came, with SHA-256, and in a time that tells nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from registry.errors import Invalid, Unauthenticated

GITHUB, GITLAB, GITEA, GENERIC = PROVIDERS = ("github", "gitlab", "gitea", "generic")
TOLERANCE_SECONDS = 300
_LONGEST_ID = 64
_PREFIX = "whsec_"


def new_secret(provider: str) -> str:
    """32 random bytes, written as the provider's signatures want them."""
    raw = secrets.token_bytes(32)
    return _PREFIX + base64.b64encode(raw).decode() if provider == GENERIC else base64.urlsafe_b64encode(raw).decode()


@dataclass(frozen=True, slots=True)
class Delivery:
    """``keys`` are what a repetition would have in common with it: its id, and its body where the id is not signed."""

    event: str
    keys: tuple[str, ...]


def verify(provider: str, headers: Mapping[str, str], body: bytes, secret: str, now: datetime) -> Delivery:
    """Check a delivery; ``headers`` are looked up without regard to case. Raises Unauthenticated, Invalid."""
    check = {GITHUB: _github, GITLAB: _gitlab, GITEA: _gitea, GENERIC: _generic}[provider]
    return check({name.lower(): value for name, value in headers.items()}, body, secret, now)


def _github(headers: Mapping[str, str], body: bytes, secret: str, _now: datetime) -> Delivery:
    _require(headers.get("x-hub-signature-256", ""), "sha256=" + _hex(secret, body))
    return Delivery(headers.get("x-github-event", ""), _keys(headers.get("x-github-delivery", ""), body))


def _gitea(headers: Mapping[str, str], body: bytes, secret: str, _now: datetime) -> Delivery:
    _require(headers.get("x-gitea-signature", ""), _hex(secret, body))
    return Delivery(headers.get("x-gitea-event", ""), _keys(headers.get("x-gitea-delivery", ""), body))


def _gitlab(headers: Mapping[str, str], _body: bytes, secret: str, _now: datetime) -> Delivery:
    # GitLab sends the secret itself: who could forge an id could forge all, so that the id alone counts.
    _require(headers.get("x-gitlab-token", ""), secret)
    found = headers.get("idempotency-key") or headers.get("x-gitlab-event-uuid", "")
    return Delivery(headers.get("x-gitlab-event", ""), _keys(found, None))


def _generic(headers: Mapping[str, str], body: bytes, secret: str, now: datetime) -> Delivery:
    """Standard Webhooks 1.0.0: the id and the time are signed with the body."""
    identifier, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent_at.isascii() or not sent_at.isdigit() or len(sent_at) > 12:
        raise Unauthenticated("webhook-timestamp is missing, or is no number of seconds")
    if abs(now.timestamp() - int(sent_at)) > TOLERANCE_SECONDS:
        raise Unauthenticated(f"webhook-timestamp is more than {TOLERANCE_SECONDS} s away from this server's clock")
    signed = f"{identifier}.{sent_at}.".encode() + body
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
    fits = False
    for given in headers.get("webhook-signature", "").split()[:10]:
        fits |= hmac.compare_digest(given.encode(), expected)
    if not fits:
        raise Unauthenticated("the signature does not fit")
    return Delivery("push", _keys(identifier, None))


def _require(given: str, expected: str) -> None:
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise Unauthenticated("the signature does not fit")


def _hex(secret: str, body: bytes) -> str:
    return hmac.digest(secret.encode(), body, hashlib.sha256).hex()


def _keys(identifier: str, body: bytes | None) -> tuple[str, ...]:
    if not identifier or len(identifier) > _LONGEST_ID or not identifier.isprintable():
        raise Invalid("the delivery has no id")
    keys = [f"id:{identifier}"]
    if body is not None:
        keys.append(f"body:{hashlib.sha256(body).hexdigest()}")
    return tuple(keys)
